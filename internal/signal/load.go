package signal

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// Problem is one thing that is wrong with a rule. Path leads to it from the rule, such as "samples[2].text"; "" is the
// rule as a whole.
type Problem struct{ Path, Detail, Remedy string }

// String returns "PATH: DETAIL (REMEDY)".
func (p Problem) String() string {
	s := p.Detail
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Remedy != "" {
		s += " (" + p.Remedy + ")"
	}
	return s
}

// defaultTTL is how long a signal holds whose rule does not say.
const defaultTTL = time.Hour

// maxPattern bounds a user's regular expression; RE2 runs in linear time whatever it says.
const maxPattern = 2000

// fields reads the keys of a rule one by one and remembers what was wrong.
type fields struct {
	raw      map[string]any
	used     map[string]bool
	problems []Problem
}

func (f *fields) bad(path, detail, remedy string) {
	f.problems = append(f.problems, Problem{path, detail, remedy})
}

func (f *fields) complained(path string) bool {
	return slices.ContainsFunc(f.problems, func(p Problem) bool { return p.Path == path })
}

func (f *fields) take(key string) (any, bool) {
	f.used[key] = true
	v, ok := f.raw[key]
	return v, ok && v != nil
}

func (f *fields) text(key string, into *string) {
	v, ok := f.take(key)
	if !ok {
		return
	}
	s, ok := v.(string)
	if !ok {
		f.bad(key, fmt.Sprintf("want text, got %v", v), "write it in quotes")
		return
	}
	*into = s
}

func (f *fields) flag(key string, into *bool) {
	v, ok := f.take(key)
	if !ok {
		return
	}
	b, ok := v.(bool)
	if !ok {
		f.bad(key, fmt.Sprintf("want true or false, got %v", v), "write true or false")
		return
	}
	*into = b
}

func (f *fields) whole(key string, into *int) {
	v, ok := f.take(key)
	if !ok {
		return
	}
	switch n := v.(type) {
	case int64:
		*into = int(n)
	case uint64:
		*into = int(n)
	default:
		f.bad(key, fmt.Sprintf("want a whole number, got %v", v), "write a number such as 10")
	}
}

func (f *fields) duration(key string, into *time.Duration) {
	var s string
	f.text(key, &s)
	if s == "" {
		return
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		f.bad(key, fmt.Sprintf("want a duration, got %q", s), "write it like 1h or 30m")
		return
	}
	*into = d
}

func (f *fields) list(key string, into *[]string) {
	v, ok := f.take(key)
	if !ok {
		return
	}
	items, ok := v.([]any)
	if !ok {
		f.bad(key, fmt.Sprintf("want a list of texts, got %v", v), `write it like ["a", "b"]`)
		return
	}
	out := []string{}
	for i, item := range items {
		s, ok := item.(string)
		if !ok || s == "" {
			f.bad(fmt.Sprintf("%s[%d]", key, i), fmt.Sprintf("want text, got %v", item), "write it in quotes")
			continue
		}
		out = append(out, s)
	}
	*into = out
}

func (f *fields) samples(key string, into *[]Sample) {
	v, ok := f.take(key)
	if !ok {
		return
	}
	items, ok := v.([]any)
	if !ok {
		f.bad(key, "want a list", "write lines, or maps of text and fields")
		return
	}
	for i, item := range items {
		path := fmt.Sprintf("%s[%d]", key, i)
		switch s := item.(type) {
		case string:
			*into = append(*into, Sample{Text: s})
		case map[string]any:
			sub := &fields{raw: s, used: map[string]bool{}}
			var one Sample
			sub.text("text", &one.Text)
			if m, ok := sub.take("fields"); ok {
				one.Fields = sub.textMap("fields", m)
			}
			sub.unknown()
			for _, p := range sub.problems {
				f.bad(path+"."+p.Path, p.Detail, p.Remedy)
			}
			*into = append(*into, one)
		default:
			f.bad(path, fmt.Sprintf("want text or a map, got %v", item), "write the line in quotes")
		}
	}
}

func (f *fields) textMap(path string, v any) map[string]string {
	m, ok := v.(map[string]any)
	if !ok {
		f.bad(path, "want a map", "write it like {pci: \"0000:05:00\"}")
		return nil
	}
	out := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out[k] = fmt.Sprint(m[k])
	}
	return out
}

// unknown reports the keys that nobody took.
func (f *fields) unknown() {
	for _, k := range slices.Sorted(maps.Keys(f.raw)) {
		if !f.used[k] {
			f.bad(k, "unknown key", "keys here are "+strings.Join(slices.Sorted(maps.Keys(f.used)), ", "))
		}
	}
}

// oneOf reads a text that must be one of a closed set.
func oneOf[T ~string](f *fields, key string, into *T, set ...T) {
	s := string(*into)
	f.text(key, &s)
	if s == "" || slices.Contains(set, T(s)) {
		*into = T(s)
		return
	}
	names := make([]string, len(set))
	for i, v := range set {
		names[i] = string(v)
	}
	f.bad(key, fmt.Sprintf("want one of %s, got %q", strings.Join(names, ", "), s), "")
}

// meaning reads the keys that a rule shares with the entries of a table, over what is already in m.
func (f *fields) meaning(m *Meaning) {
	f.text("name", &m.Name)
	oneOf(f, "failure", &m.Failure, autoheal.Failures()...)
	oneOf(f, "scope", &m.Scope, ScopeGPU, ScopeNode, ScopeWorkload, ScopeFabric)
	oneOf(f, "path", &m.Path, PathLink, PathPeers)
	oneOf(f, "action", &m.Action, autoheal.Advices()...)
	oneOf(f, "severity", &m.Severity, Critical, Error, Warning, Info)
	f.flag("transient", &m.Transient)
	f.flag("consequence", &m.Consequence)
	f.list("follows", &m.Follows)
	f.flag("yields", &m.Yields)
	f.flag("benign", &m.Benign)
	f.flag("stated", &m.Stated)
	f.text("because", &m.Because)
	f.text("source", &m.Source)
}

// readRule reads a rule over base: a user's rule with the ID of a known one changes only what it says.
func readRule(raw map[string]any, base *Rule) (Rule, []Problem) {
	r := Rule{Kind: KindAny, TTL: defaultTTL}
	if base != nil {
		r = *base
		r.re, r.names = nil, nil
	}
	f := &fields{raw: raw, used: map[string]bool{}}
	f.text("id", &r.ID)
	f.meaning(&r.Meaning)
	oneOf(f, "kind", &r.Kind, KindKernel, KindWorkload, KindAny)
	f.list("literals", &r.Literals)
	f.list("all", &r.All)
	f.text("pattern", &r.Pattern)
	f.flag("exception", &r.Exception)
	f.text("code", &r.Code)
	f.text("table", &r.Table)
	f.text("by", &r.By)
	f.list("clears", &r.Clears)
	f.flag("context", &r.Context)
	f.list("takes", &r.Takes)
	oneOf(f, "traceback", &r.Traceback, tracebackChained, tracebackIgnored)
	f.whole("priority", &r.Priority)
	f.duration("ttl", &r.TTL)
	f.duration("settle", &r.Settle)
	f.whole("flaps", &r.Flaps)
	f.samples("samples", &r.Samples)
	f.list("lookalikes", &r.Lookalikes)
	f.unknown()
	r.complete(f)
	return r, f.problems
}

var idForm = regexp.MustCompile(`^[a-z0-9_]+(/[a-z0-9_]+)+$`)

// complete checks a rule as a whole and compiles it.
func (r *Rule) complete(f *fields) {
	if !idForm.MatchString(r.ID) {
		f.bad("id", fmt.Sprintf("want FILE/NAME in small letters, digits and _, got %q", r.ID), "write it like site/my_rule")
	}
	if len(r.Literals)+len(r.All) == 0 {
		f.bad("literals", "a rule needs words to look for", "name at least one text that every such line contains")
	}
	for _, list := range []struct {
		key   string
		texts []string
	}{{"literals", r.Literals}, {"all", r.All}} {
		for i, t := range list.texts {
			if len(t) < minLiteral || strings.Contains(t, "\n") {
				f.bad(fmt.Sprintf("%s[%d]", list.key, i), fmt.Sprintf("%q cannot be looked for", t), fmt.Sprintf("use at least %d characters of one line", minLiteral))
			}
		}
	}
	r.compile(f)
	if r.Benign || r.Context {
		r.Failure, r.Action = autoheal.FailureNone, autoheal.AdviceNone
	}
	if r.Scope == "" {
		r.Scope = ScopeNode
	}
	if r.Severity == "" {
		r.Severity = Error
	}
	if r.Failure == "" && !f.complained("failure") {
		f.bad("failure", "is missing", "say what the line means")
	}
	if r.Action == "" && !f.complained("action") {
		f.bad("action", "is missing", "say what it asks for; none if nothing")
	}
	if r.Table != "" && !slices.Contains(r.names, r.By) {
		f.bad("by", fmt.Sprintf("the pattern has no field %q", r.By), "name a field (?P<…>) of the pattern")
	}
}

func (r *Rule) compile(f *fields) {
	if r.Pattern == "" {
		return // the words alone decide
	}
	if len(r.Pattern) > maxPattern {
		f.bad("pattern", fmt.Sprintf("longer than %d characters", maxPattern), "make two rules of it")
		return
	}
	re, err := regexp.Compile(r.Pattern)
	if err != nil {
		f.bad("pattern", err.Error(), "write a regular expression as RE2 knows them")
		return
	}
	r.re, r.names = re, re.SubexpNames()
}
