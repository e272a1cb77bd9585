package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"autoheal.dev/autoheal"
)

// listCodec reads a list of what item reads. An empty list is nil, so that equal policies compare equal.
func listCodec[T any](item codec[T]) codec[[]T] {
	show, secret := item.show, item.show != nil
	if !secret {
		show = item.write
	}
	return codec[[]T]{
		name: "list of " + item.name, write: listWriter(item.write), show: listWriter(show),
		schema: func() *jsonschema.Schema { return &jsonschema.Schema{Type: "array", Items: item.schema()} },
		read: func(r *reader, key string, n *node) ([]T, bool) {
			if n.shape == isNull {
				return nil, true
			}
			if n.shape != isList {
				if secret { // what stands here must not get into a log
					n = &node{shape: n.shape, text: "…", line: n.line, col: n.col}
				}
				r.want(n, key, "a list", "write [a, b], or one entry a line after a dash")
				return nil, false
			}
			var out []T
			good := true
			for i, e := range n.items {
				v, ok := item.read(r, fmt.Sprintf("%s[%d]", key, i), e)
				good = good && ok
				out = append(out, v)
			}
			return out, good
		},
	}
}

func listWriter[T any](write func(T) string) func([]T) string {
	return func(vs []T) string {
		parts := make([]string, len(vs))
		for i, v := range vs {
			parts[i] = write(v)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
}

// mapCodec reads a map whose keys readKey checks.
func mapCodec[K cmp.Ordered, V any](name string, item codec[V], keys func() *jsonschema.Schema,
	readKey func(r *reader, key string, n *node, text string) (K, bool),
) codec[map[K]V] {
	return codec[map[K]V]{
		name: name,
		write: func(m map[K]V) string {
			var parts []string
			for _, k := range slices.Sorted(maps.Keys(m)) {
				parts = append(parts, quoteKey(fmt.Sprint(k))+": "+item.write(m[k]))
			}
			return "{" + strings.Join(parts, ", ") + "}"
		},
		schema: func() *jsonschema.Schema {
			return &jsonschema.Schema{Type: "object", PropertyNames: keys(), AdditionalProperties: item.schema()}
		},
		extend: func(old, add map[K]V) map[K]V {
			out := maps.Clone(old)
			maps.Copy(out, add)
			return out
		},
		read: func(r *reader, key string, n *node) (map[K]V, bool) {
			out := map[K]V{}
			if n.shape == isNull {
				return out, true
			}
			if n.shape != isMap {
				r.want(n, key, "a map", "write {name: value}, or one name: value a line")
				return nil, false
			}
			good := true
			for _, e := range n.entries {
				sub := key + "." + e.key
				k, ok := readKey(r, sub, &node{shape: isText, text: e.key, line: e.line, col: e.col}, e.key)
				if !ok {
					good = false
					continue
				}
				v, ok := item.read(r, sub, e.value)
				good = good && ok
				out[k] = v
			}
			return out, good
		},
	}
}

func quoteKey(s string) string {
	if s != "" && strings.Trim(s, "0123456789") == "" {
		return `"` + s + `"`
	}
	return quote(s)
}

var backoffCodec = codec[Backoff]{
	name:  "exponential, constant, none, or a map {kind, initial, factor, max}",
	write: Backoff.String,
	schema: func() *jsonschema.Schema {
		words := anys([]string{BackoffExponential, BackoffConstant, BackoffNone})
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "string", Enum: words},
			{Type: "object", AdditionalProperties: falseSchema(), Properties: map[string]*jsonschema.Schema{
				"kind":    {Type: "string", Enum: words},
				"initial": durationCodec(0).schema(), "max": durationCodec(0).schema(), "factor": {Type: "number", Minimum: new(1.0), Maximum: new(100.0)},
			}},
		}}
	},
	read: readBackoff,
}

func falseSchema() *jsonschema.Schema { return &jsonschema.Schema{Not: &jsonschema.Schema{}} }

func readBackoff(r *reader, key string, n *node) (Backoff, bool) {
	kinds := enumCodec(BackoffExponential, BackoffConstant, BackoffNone)
	if n.shape != isMap {
		kind, ok := kinds.read(r, key, n)
		return backoffOf(kind), ok
	}
	b := backoffOf(BackoffExponential)
	good := true
	if k := n.get("kind"); k != nil {
		kind, ok := kinds.read(r, key+".kind", k)
		good, b = ok, backoffOf(kind)
	}
	allowed := []string{"kind", "initial", "factor", "max"}
	switch b.Kind {
	case BackoffConstant:
		allowed = allowed[:2]
	case BackoffNone:
		allowed = allowed[:1]
	}
	for _, e := range n.entries {
		ok := true
		switch {
		case !slices.Contains(allowed, e.key):
			r.unknown(e, key, allowed, fmt.Sprintf("a %s backoff takes %s", b.Kind, strings.Join(allowed, ", ")))
			ok = false
		case e.key == "initial":
			b.Initial, ok = durationCodec(time.Millisecond).read(r, key+".initial", e.value)
		case e.key == "factor":
			b.Factor, ok = numberCodec(1, 100, "2").read(r, key+".factor", e.value)
		case e.key == "max":
			b.Max, ok = durationCodec(time.Millisecond).read(r, key+".max", e.value)
		}
		good = good && ok
	}
	if b.Kind == BackoffConstant {
		b.Max = b.Initial
	}
	if good && b.Max < b.Initial {
		r.bad(n, key, fmt.Sprintf("max %s is less than initial %s", FormatDuration(b.Max), FormatDuration(b.Initial)), "write a max of at least "+FormatDuration(b.Initial))
		return b, false
	}
	return b, good
}

var ladderCodec = codec[map[autoheal.FailureKind][]Step]{
	name: "map of kind to list of steps",
	write: func(m map[autoheal.FailureKind][]Step) string {
		var parts []string
		for _, k := range autoheal.FailureKinds() {
			if l, ok := m[k]; ok {
				parts = append(parts, string(k)+": "+listWriter(func(s Step) string { return string(s) })(l))
			}
		}
		return "{" + strings.Join(parts, ", ") + "}"
	},
	schema: func() *jsonschema.Schema {
		s := &jsonschema.Schema{Type: "object", AdditionalProperties: falseSchema(), Properties: map[string]*jsonschema.Schema{}}
		for _, k := range autoheal.FailureKinds() {
			s.PropertyOrder = append(s.PropertyOrder, string(k))
			s.Properties[string(k)] = &jsonschema.Schema{
				Type: "array", MinItems: new(1), UniqueItems: true,
				Items: &jsonschema.Schema{Type: "string", Enum: anys(words(fittingSteps[k]))},
			}
		}
		return s
	},
	extend: func(old, add map[autoheal.FailureKind][]Step) map[autoheal.FailureKind][]Step {
		out := maps.Clone(old)
		maps.Copy(out, add)
		return out
	},
	read: readLadders,
}

func words[T ~string](in []T) []string {
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = string(v)
	}
	return out
}

func readLadders(r *reader, key string, n *node) (map[autoheal.FailureKind][]Step, bool) {
	out := map[autoheal.FailureKind][]Step{}
	if n.shape == isNull {
		return out, true
	}
	if n.shape != isMap {
		r.want(n, key, "a map of kind to steps", "for example {crash_loop: [restart, pause, alert]}")
		return nil, false
	}
	kinds := words(autoheal.FailureKinds())
	good := true
	for _, e := range n.entries {
		if !slices.Contains(kinds, e.key) {
			r.unknown(e, key, kinds, "kinds are "+strings.Join(kinds, ", "))
			good = false
			continue
		}
		steps, ok := readLadder(r, key+"."+e.key, autoheal.FailureKind(e.key), e.value)
		good = good && ok
		out[autoheal.FailureKind(e.key)] = steps
	}
	return out, good
}

func readLadder(r *reader, key string, kind autoheal.FailureKind, n *node) ([]Step, bool) {
	if n.shape != isList || len(n.items) == 0 {
		r.want(n, key, "a list of at least one step",
			fmt.Sprintf("the default is %s; to only watch, set autoHeal.autonomy.%s: observe", listWriter(func(s Step) string { return string(s) })(defaultLadders[kind]), kind))
		return nil, false
	}
	all, fitting := words(Steps()), words(fittingSteps[kind])
	var out []Step
	good := true
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", key, i)
		step := Step(item.text)
		switch {
		case item.shape != isText || !slices.Contains(all, item.text):
			r.want(item, at, "a step", suggest(item.text, all, "steps of "+string(kind)+" are "+strings.Join(fitting, ", ")))
		case !slices.Contains(fitting, item.text):
			r.bad(item, at, fmt.Sprintf("the step %s means nothing for %s", step, kind), "its steps are "+strings.Join(fitting, ", "))
		case slices.Contains(out, step):
			r.bad(item, at, fmt.Sprintf("the step %s stands twice", step), "name each step once; how often a rung is tried is autoHeal.rung.attempts")
		case slices.Contains(repairs, step) && !slices.Contains(out, StepMigrate) && !slices.Contains(out, StepDrain):
			r.bad(item, at, fmt.Sprintf("%s before anything was moved away", step), "put migrate or drain before it")
		default:
			out = append(out, step)
			continue
		}
		good = false
	}
	return out, good
}

var xidCodec = mapCodec("map of Xid number to advice",
	enumCodec(autoheal.AdviceRestartApp, autoheal.AdviceResetGPU, autoheal.AdviceRebootNode, autoheal.AdviceReplaceHW,
		autoheal.AdviceIncreaseMemory, autoheal.AdviceReduceGPUMem, autoheal.AdviceCheckNetwork, autoheal.AdviceFreeDisk,
		autoheal.AdviceFixCode, autoheal.AdviceContactSupport, autoheal.AdviceNone),
	pattern(`^[0-9]{1,6}$`),
	func(r *reader, key string, n *node, text string) (int, bool) {
		v, err := strconv.Atoi(text)
		if err != nil || v < 0 || v > 999_999 || strconv.Itoa(v) != text {
			r.bad(n, key, strconv.Quote(text)+" is not an Xid number", `for example "31"`)
			return 0, false
		}
		return v, true
	})
