package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"autoheal.dev/autoheal/internal/tool"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a specification file: an alias may repeat its anchor's nodes many times over.
const (
	maxNodes = 20000
	maxNest  = 32
)

// specDoc is one document of a specification file as the parameters of workload_submit.
type specDoc struct {
	raw json.RawMessage
	at  string // file:line:col of its beginning
}

// readSpecs reads YAML or JSON (which is YAML), one or several documents. Every mistake names file, line and column; the
// rules are those of the verb itself.
func readSpecs(name string, data []byte) ([]specDoc, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		if s, ok := errors.AsType[*yaml.SyntaxError](err); ok && s.Token != nil {
			return nil, fmt.Errorf("%s: %s", position(name, s.Token), s.Message)
		}
		return nil, fmt.Errorf("%s: not YAML", name)
	}
	var docs []specDoc
	for _, d := range file.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType || d.Body.Type() == ast.NullType {
			continue
		}
		doc, err := readSpec(name, d.Body)
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("%s: no workload in it", name)
	}
	return docs, nil
}

func readSpec(name string, body ast.Node) (specDoc, error) {
	r := specReader{file: name, anchors: map[string]ast.Node{}, where: map[string]string{}}
	r.where[""] = position(name, firstToken(body))
	if err := r.value(body, "", 0); err != nil {
		return specDoc{}, err
	}
	doc := specDoc{raw: bytes.Clone(r.out.Bytes()), at: r.where[""]}
	if err := tool.CheckSubmission(doc.raw); err != nil {
		return specDoc{}, r.locate(err)
	}
	return doc, nil
}

// firstToken is where a document begins; a mapping's own token is its first colon.
func firstToken(n ast.Node) *token.Token {
	switch v := n.(type) {
	case *ast.MappingNode:
		if len(v.Values) > 0 && !v.IsFlowStyle {
			return v.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return v.Key.GetToken()
	}
	return n.GetToken()
}

// locate puts the place of the parameter, or of what it would be part of, before the refusal.
func (r *specReader) locate(err error) error {
	p, ok := errors.AsType[*tool.ParamError](err)
	if !ok {
		return err
	}
	for path := p.Param; ; {
		if at, ok := r.where[path]; ok {
			return fmt.Errorf("%s: %w", at, err)
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

func position(name string, tk *token.Token) string {
	if tk == nil || tk.Position == nil {
		return name
	}
	return fmt.Sprintf("%s:%d:%d", name, tk.Position.Line, tk.Position.Column)
}

// specReader turns a YAML tree into JSON and notes where each parameter stands.
type specReader struct {
	file    string
	out     bytes.Buffer
	anchors map[string]ast.Node
	where   map[string]string // path of the parameter → file:line:col
	nodes   int
}

func (r *specReader) refuse(n ast.Node, format string, args ...any) error {
	return fmt.Errorf("%s: %s", position(r.file, n.GetToken()), fmt.Sprintf(format, args...))
}

func (r *specReader) value(n ast.Node, path string, depth int) error {
	if r.nodes++; r.nodes > maxNodes || depth > maxNest {
		return r.refuse(n, "too large: at most %d values, nested %d deep, aliases repeated", maxNodes, maxNest)
	}
	switch v := n.(type) {
	case *ast.MappingNode:
		return r.mapping(v.Values, path, depth)
	case *ast.MappingValueNode:
		return r.mapping([]*ast.MappingValueNode{v}, path, depth)
	case *ast.SequenceNode:
		return r.sequence(v, path, depth)
	case *ast.AnchorNode:
		r.anchors[v.Name.GetToken().Value] = v.Value
		return r.value(v.Value, path, depth+1)
	case *ast.AliasNode:
		target, ok := r.anchors[v.Value.GetToken().Value]
		if !ok {
			return r.refuse(n, "no anchor of that name before this alias")
		}
		return r.value(target, path, depth+1)
	}
	return r.scalar(n)
}

func (r *specReader) mapping(values []*ast.MappingValueNode, path string, depth int) error {
	r.out.WriteByte('{')
	for i, kv := range values {
		if kv.Key.IsMergeKey() {
			return r.refuse(kv.Key, "merge keys (<<) are not supported: write the keys out")
		}
		if i > 0 {
			r.out.WriteByte(',')
		}
		key := keyText(kv.Key)
		at := key
		if path != "" {
			at = path + "." + key
		}
		r.where[at] = position(r.file, kv.Key.GetToken())
		if err := r.json(key); err != nil {
			return r.refuse(kv.Key, "%v", err)
		}
		r.out.WriteByte(':')
		if err := r.value(kv.Value, at, depth+1); err != nil {
			return err
		}
	}
	r.out.WriteByte('}')
	return nil
}

func keyText(key ast.MapKeyNode) string {
	if s, ok := key.(*ast.StringNode); ok {
		return s.Value
	}
	return key.GetToken().Value
}

func (r *specReader) sequence(v *ast.SequenceNode, path string, depth int) error {
	r.out.WriteByte('[')
	for i, e := range v.Values {
		if i > 0 {
			r.out.WriteByte(',')
		}
		at := path + "[" + strconv.Itoa(i) + "]"
		r.where[at] = position(r.file, e.GetToken())
		if err := r.value(e, at, depth+1); err != nil {
			return err
		}
	}
	r.out.WriteByte(']')
	return nil
}

func (r *specReader) scalar(n ast.Node) error {
	switch v := n.(type) {
	case *ast.StringNode:
		return r.json(v.Value)
	case *ast.LiteralNode:
		return r.json(v.Value.Value)
	case *ast.IntegerNode:
		return r.json(v.Value)
	case *ast.FloatNode:
		return r.json(v.Value)
	case *ast.BoolNode:
		return r.json(v.Value)
	case *ast.NullNode:
		return r.json(nil)
	case *ast.TagNode:
		return r.refuse(n, "tags (!…) are not supported")
	}
	return r.refuse(n, "expected a text, a number, true or false, a list or a map")
}

func (r *specReader) json(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.out.Write(raw)
	return nil
}
