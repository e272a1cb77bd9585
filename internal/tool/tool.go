package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	"autoheal.dev/autoheal"
	"github.com/google/jsonschema-go/jsonschema"
)

// Tool is one verb. It is made by New and is a plain value.
type Tool struct {
	Name   string
	Doc    string
	Effect autoheal.Effect
	// Role is the least role that may call it.
	Role Role

	in, out reflect.Type
	call    func(context.Context, *Env, json.RawMessage) (any, error)
}

// New defines a verb from a function. In and Out are structs; a field of In without omitempty is required. The tags
// jsonschema (description) and check (see fieldRules) complete the schema.
func New[In, Out any](name, doc string, effect autoheal.Effect, fn func(context.Context, *Env, In) (Out, error)) Tool {
	t := Tool{
		Name: name, Doc: doc, Effect: effect, Role: RoleOperator,
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
	}
	if effect == autoheal.EffectRead {
		t.Role = RoleViewer
	}
	t.call = func(ctx context.Context, env *Env, raw json.RawMessage) (any, error) {
		var in In
		if err := decode(raw, &in); err != nil {
			return nil, err
		}
		return fn(ctx, env, in)
	}
	return t
}

// needs returns the verb with another least role.
func (t Tool) needs(r Role) Tool {
	t.Role = r
	return t
}

// Disruptive reports whether a surface must announce that the verb can keep work away or end something that runs.
func (t Tool) Disruptive() bool {
	return t.Effect == autoheal.EffectContain || t.Effect == autoheal.EffectDisrupt
}

// Call checks the caller's role and the parameters, runs the verb and returns its result as JSON. An empty raw means no
// parameters.
func (t Tool) Call(ctx context.Context, env *Env, raw json.RawMessage) (json.RawMessage, error) {
	if roleRank[env.Caller.Role] < roleRank[t.Role] {
		return nil, &autoheal.Error{
			Kind: autoheal.ErrDenied, Op: t.Name,
			Detail: fmt.Sprintf("%q has the role %q and this verb needs %q", env.Caller.Name, env.Caller.Role, t.Role),
		}
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	out, err := t.call(ctx, env, raw)
	if err != nil {
		return nil, err
	}
	return Encode(out)
}

// InputSchema returns the JSON schema of the parameters.
func (t Tool) InputSchema() (*jsonschema.Schema, error) { return inputSchema(t.in) }

// OutputSchema returns the JSON schema of the result.
func (t Tool) OutputSchema() (*jsonschema.Schema, error) { return outputSchema(t.out) }

// Spec describes a verb to programs.
type Spec struct {
	Name         string             `json:"name"`
	Doc          string             `json:"description"`
	Effect       autoheal.Effect    `json:"effect"`
	Disruptive   bool               `json:"disruptive"`
	Role         Role               `json:"role"`
	InputSchema  *jsonschema.Schema `json:"inputSchema"`
	OutputSchema *jsonschema.Schema `json:"outputSchema"`
}

// Spec returns the description of t.
func (t Tool) Spec() (Spec, error) {
	in, err := t.InputSchema()
	if err != nil {
		return Spec{}, fmt.Errorf("schema of %s: %w", t.Name, err)
	}
	out, err := t.OutputSchema()
	if err != nil {
		return Spec{}, fmt.Errorf("schema of the result of %s: %w", t.Name, err)
	}
	return Spec{
		Name: t.Name, Doc: t.Doc, Effect: t.Effect, Disruptive: t.Disruptive(), Role: t.Role, InputSchema: in, OutputSchema: out,
	}, nil
}

// byName is built once: All is fixed at compile time.
var byName = sync.OnceValue(func() map[string]Tool {
	m := map[string]Tool{}
	for _, t := range All() {
		m[t.Name] = t
	}
	return m
})

// Find returns the verb of that name.
func Find(name string) (Tool, error) {
	t, ok := byName()[name]
	if !ok {
		return Tool{}, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: fmt.Sprintf("Tool not found: %s", short(name))}
	}
	return t, nil
}
