package policy

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"autoheal.dev/autoheal"
)

// object reads the entries of a small map by name; it reports unknown names and what is missing of need.
func (r *reader) object(key string, n *node, names, need []string, example string, set func(name, at string, v *node) bool) bool {
	if n.shape != isMap {
		r.want(n, key, "a map", "for example "+example)
		return false
	}
	good := true
	for _, e := range n.entries {
		if !slices.Contains(names, e.key) {
			r.unknown(e, key, names, "keys here are "+strings.Join(names, ", "))
			good = false
			continue
		}
		good = set(e.key, key+"."+e.key, e.value) && good
	}
	for _, name := range need {
		if n.get(name) == nil {
			r.bad(n, key, name+" is missing", "for example "+example)
			good = false
		}
	}
	return good
}

func checkGlob(s string) (string, string) {
	if s == "" {
		return "an empty pattern matches nothing", `for example "llm-*"`
	}
	if _, err := path.Match(s, ""); err != nil {
		return strconv.Quote(s) + " is not a pattern", "use * for any text, ? for one character, [a-z] for one of several"
	}
	return "", ""
}

var matchCodec = codec[Match]{
	name: "map {labels, namespace, name}",
	write: func(m Match) string {
		var parts []string
		if len(m.Labels) > 0 {
			parts = append(parts, "labels: "+quote(joinLabels(m.Labels)))
		}
		if m.Namespace != "" {
			parts = append(parts, "namespace: "+quote(m.Namespace))
		}
		if m.Name != "" {
			parts = append(parts, "name: "+quote(m.Name))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	},
	schema: func() *jsonschema.Schema {
		return &jsonschema.Schema{
			Type: "object", AdditionalProperties: falseSchema(), MinProperties: new(1), PropertyOrder: []string{"labels", "namespace", "name"},
			Properties: map[string]*jsonschema.Schema{
				"labels": {Type: "string", Description: "k=v,k=v; all must hold"}, "namespace": {Type: "string", Description: "a glob"}, "name": {Type: "string", Description: "a glob"},
			},
		}
	},
	read: func(r *reader, key string, n *node) (Match, bool) {
		var m Match
		glob := textCodec("a pattern", checkGlob)
		good := r.object(key, n, []string{"labels", "namespace", "name"}, nil, `{labels: "app=vllm", name: "llm-*"}`, func(name, at string, v *node) (ok bool) {
			switch name {
			case "labels":
				m.Labels, ok = readLabels(r, at, v)
			case "namespace":
				m.Namespace, ok = glob.read(r, at, v)
			case "name":
				m.Name, ok = glob.read(r, at, v)
			}
			return ok
		})
		if good && len(m.Labels) == 0 && m.Namespace == "" && m.Name == "" {
			r.bad(n, key, "this would match every workload", `say which, for example {labels: "app=vllm"}`)
			return m, false
		}
		return m, good
	},
}

func joinLabels(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ",")
}

func readLabels(r *reader, key string, n *node) (map[string]string, bool) {
	text, ok := textCodec("labels", nil).read(r, key, n)
	if !ok {
		return nil, false
	}
	out := map[string]string{}
	for term := range strings.SplitSeq(text, ",") {
		k, v, found := strings.Cut(term, "=")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		if _, twice := out[k]; !found || k == "" || twice {
			r.bad(n, key, fmt.Sprintf("%s: %q is not k=v, or its key stands twice", n.describe(), term), `write k=v,k=v, for example "app=vllm,tier=prod"`)
			return nil, false
		}
		out[k] = v
	}
	return out, true
}

var autonomyModes = []autoheal.HealMode{autoheal.HealObserve, autoheal.HealSuggest, autoheal.HealApprove, autoheal.HealAct}

// autonomyCodec reads autonomy by kind, step or verb, or KIND.STEP.
var autonomyCodec = mapCodec("map of kind, step, verb or KIND.STEP to observe, suggest, approve or act", enumCodec(autonomyModes...),
	pattern(`^[a-z_]+(\.[a-z_]+)?$`),
	func(r *reader, key string, n *node, text string) (string, bool) {
		kinds := words(autoheal.FailureKinds())
		steps := autonomyNames()
		kind, step, both := strings.Cut(text, ".")
		switch {
		case isAlert(Step(text)), both && isAlert(Step(step)):
			r.bad(n, key, "an alert waits for nobody", "use autoHeal.alerts.notifyOnRecovery and notifyOnFailure")
		case both && slices.Contains(kinds, kind) && slices.Contains(steps, step):
			return text, true
		case !both && (slices.Contains(kinds, text) || slices.Contains(steps, text)):
			return text, true
		case both && !slices.Contains(kinds, kind):
			r.bad(n, key, fmt.Sprintf("%q is no kind of failure", kind), suggest(kind, kinds, "kinds are "+strings.Join(kinds, ", ")))
		case both:
			r.bad(n, key, fmt.Sprintf("%q is neither a step nor a verb", step), suggest(step, steps, "use one of "+strings.Join(steps, ", ")))
		default:
			all := append(kinds, steps...)
			r.bad(n, key, fmt.Sprintf("%q is neither a kind, a step nor a verb", text), suggest(text, all, "use one of "+strings.Join(all, ", ")))
		}
		return "", false
	})

// autonomyNames lists the steps and verbs that autonomy can be set for: all that touch something.
func autonomyNames() []string {
	var out []string
	for _, s := range Steps() {
		if !isAlert(s) {
			out = append(out, string(s))
		}
	}
	for _, v := range autoheal.Verbs() {
		if !slices.Contains(out, string(v)) {
			out = append(out, string(v))
		}
	}
	return out
}

var maintenanceCodec = codec[Maintenance]{
	name: "map {nodes, from, to}",
	write: func(m Maintenance) string {
		return fmt.Sprintf("{nodes: %s, from: '%s', to: '%s'}", quote(m.Nodes), m.From.Format(time.RFC3339Nano), m.To.Format(time.RFC3339Nano))
	},
	schema: func() *jsonschema.Schema {
		return &jsonschema.Schema{
			Type: "object", AdditionalProperties: falseSchema(), Required: []string{"nodes", "from", "to"}, PropertyOrder: []string{"nodes", "from", "to"},
			Properties: map[string]*jsonschema.Schema{
				"nodes": {Type: "string", Description: "a node's name, a glob, or k=v on labels or domains"},
				"from":  {Type: "string", Format: "date-time"}, "to": {Type: "string", Format: "date-time"},
			},
		}
	},
	read: func(r *reader, key string, n *node) (Maintenance, bool) {
		var m Maintenance
		const example = `{nodes: "rack=r1", from: "2026-01-31T22:00:00Z", to: "2026-02-01T02:00:00Z"}`
		names := []string{"nodes", "from", "to"}
		good := r.object(key, n, names, names, example, func(name, at string, v *node) (ok bool) {
			switch name {
			case "nodes":
				m.Nodes, ok = textCodec("nodes", checkNodes).read(r, at, v)
			case "from":
				m.From, ok = readTime(r, at, v)
			case "to":
				m.To, ok = readTime(r, at, v)
			}
			return ok
		})
		if good && !m.To.After(m.From) {
			r.bad(n, key, fmt.Sprintf("it ends at %s, not after its start at %s", m.To.Format(time.RFC3339), m.From.Format(time.RFC3339)), "swap from and to")
			return m, false
		}
		return m, good
	},
}

func checkNodes(s string) (string, string) {
	if k, v, ok := strings.Cut(s, "="); ok {
		if k == "" || v == "" {
			return strconv.Quote(s) + " has an empty side", `for example "rack=r1"`
		}
		return "", ""
	}
	return checkGlob(s)
}

func readTime(r *reader, key string, n *node) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, n.text)
	if n.shape != isText || err != nil || t.Year() < 1970 || t.Year() > 9000 {
		r.want(n, key, "a time", "write it with its zone, for example 2026-01-31T22:00:00Z")
		return time.Time{}, false
	}
	return t.UTC(), true
}

var refKinds = []autoheal.RefKind{autoheal.RefCluster, autoheal.RefDomain, autoheal.RefNode, autoheal.RefGPU, autoheal.RefGang, autoheal.RefWorkload}

var refCodec = codec[autoheal.Ref]{
	name: "KIND/ID", write: func(r autoheal.Ref) string { return quote(r.String()) },
	schema: pattern(`^(cluster|domain|node|gpu|gang|workload)/.+$`),
	read: func(r *reader, key string, n *node) (autoheal.Ref, bool) {
		text, ok := textCodec("KIND/ID", nil).read(r, key, n)
		if !ok {
			return autoheal.Ref{}, false
		}
		kind, id, _ := strings.Cut(text, "/")
		if !slices.Contains(refKinds, autoheal.RefKind(kind)) || id == "" {
			r.bad(n, key, n.describe()+" names no subject", "write KIND/ID, for example node/n1; kinds are "+strings.Join(words(refKinds), ", "))
			return autoheal.Ref{}, false
		}
		return autoheal.Ref{Kind: autoheal.RefKind(kind), ID: id}, true
	},
}
