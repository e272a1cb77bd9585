package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Source is all that a configuration is made of. The caller has read the file and the environment.
type Source struct {
	Path  string            // of the file, for messages; "" when there is none
	Data  []byte            // of the file
	Env   map[string]string // variables; those that do not start with AUTOHEAL_ are ignored
	Flags map[string]string // dotted key to value; a flag beats the environment, which beats the file
}

// Loaded is a policy and where each of its settings comes from.
type Loaded struct {
	Policy *Policy

	origins map[string]origin
}

type origin struct {
	from      string // a path, OriginEnv, OriginFlag or OriginDefault
	line, col int
}

func (o origin) String() string {
	if o.line > 0 {
		return fmt.Sprintf("%s:%d:%d", o.from, o.line, o.col)
	}
	return o.from
}

// Load reads a configuration over the defaults: file, then environment, then flags. The error is Problems: everything
// that is wrong anywhere, at once.
func Load(src Source) (*Loaded, error) {
	r := &reader{policy: Default(), from: src.Path, origins: map[string]origin{}, broken: map[string]bool{}}
	if r.from == "" {
		r.from = "config"
	}
	r.file(src.Data)
	r.environment(src.Env)
	r.flags(src.Flags)
	r.driverDefaults()
	r.check()
	if len(r.problems) > 0 {
		r.problems.sort()
		return nil, r.problems
	}
	return &Loaded{Policy: r.policy, origins: r.origins}, nil
}

// Origin says where the setting of a dotted key comes from: "file.yaml:12:5", "flag", "env" or "default".
func (l *Loaded) Origin(key string) string {
	if o, ok := l.origins[key]; ok {
		return o.String()
	}
	return OriginDefault
}

// Hash identifies the effective configuration: equal policies have equal hashes, wherever their settings come from.
func (l *Loaded) Hash() string { return l.Policy.Hash() }

// Hash returns the SHA-256 of all settings, in hexadecimal.
func (p *Policy) Hash() string {
	h := sha256.New()
	for i := range fields {
		fmt.Fprintf(h, "%s: %s\n", fields[i].key, fields[i].text(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// reader applies one source after the other to a policy and collects problems.
type reader struct {
	policy   *Policy
	from     string
	origins  map[string]origin
	broken   map[string]bool // keys whose value was refused: checks across keys skip them
	problems Problems
}

func (r *reader) report(line, col int, key, detail, remedy string) {
	r.problems = append(r.problems, Problem{File: r.from, Line: line, Column: col, Key: key, Detail: detail, Remedy: remedy})
}

func (r *reader) bad(n *node, key, detail, remedy string) {
	r.report(n.line, n.col, key, detail, remedy)
}

// unknown reports a key that is not among names.
func (r *reader) unknown(e entry, parent string, names []string, otherwise string) {
	r.report(e.line, e.col, join(parent, e.key), "unknown key", suggest(e.key, names, otherwise))
}

func join(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

func (r *reader) file(data []byte) {
	root := parseTree(data, func(line, col int, detail, remedy string) { r.report(line, col, "", detail, remedy) })
	if root == nil || root.shape == isNull {
		return
	}
	r.section("", root)
}

// section reads a map of settings and sections.
func (r *reader) section(path string, n *node) {
	if n.shape == isNull {
		return // a section whose keys are all commented out
	}
	names := children(path)
	if n.shape != isMap {
		r.want(n, path, "a map of settings", "keys here are "+strings.Join(names, ", "))
		r.breakAll(path)
		return
	}
	for _, e := range n.entries {
		key := join(path, e.key)
		switch {
		case !slices.Contains(names, e.key):
			r.unknown(e, path, names, elsewhere(e.key, names))
		case fieldAt(key) != nil:
			r.assign(fieldAt(key), e)
		default:
			r.section(key, e.value)
		}
	}
}

func (r *reader) assign(f *field, e entry) {
	if !f.set(r, f.key, e.value, r.policy) {
		r.broken[f.key] = true
		return
	}
	r.origins[f.key] = origin{from: r.from, line: e.line, col: e.col}
}

func (r *reader) breakAll(path string) {
	for i := range fields {
		if path == "" || strings.HasPrefix(fields[i].key, path+".") {
			r.broken[fields[i].key] = true
		}
	}
}

// children returns the keys below a section, in document order.
func children(path string) []string {
	var out []string
	for i := range fields {
		rest := fields[i].key
		if path != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(rest, path+"."); !ok {
				continue
			}
		}
		name, _, _ := strings.Cut(rest, ".")
		if len(out) == 0 || out[len(out)-1] != name {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// elsewhere says where a key belongs that exists in another section.
func elsewhere(name string, here []string) string {
	var places []string
	for i := range fields {
		parts := strings.Split(fields[i].key, ".")
		for j, p := range parts {
			place := strings.Join(parts[:j+1], ".")
			if p == name && !slices.Contains(places, place) {
				places = append(places, place)
			}
		}
	}
	if len(places) > 0 && len(places) <= 3 {
		return "it belongs at " + strings.Join(places, " or ")
	}
	return "keys here are " + strings.Join(here, ", ")
}

func fieldAt(key string) *field {
	for i := range fields {
		if fields[i].key == key {
			return &fields[i]
		}
	}
	return nil
}

func (r *reader) flags(flags map[string]string) {
	r.from = OriginFlag
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		if f := fieldAt(key); f != nil {
			r.override(f, key, flags[key])
			continue
		}
		if f, name := entryOf(key); f != nil {
			n := r.scalarTree(key, flags[key], false)
			if n == nil || !f.extend(r, f.key, &node{shape: isMap, entries: []entry{{key: name, value: n}}}, r.policy) {
				r.broken[f.key] = true
				continue
			}
			r.origins[f.key] = origin{from: OriginFlag}
			continue
		}
		if below := children(key); len(below) > 0 {
			r.report(0, 0, key, "a section has no value", "set one of its keys: "+strings.Join(below, ", "))
			continue
		}
		r.report(0, 0, key, "unknown key", suggest(key, keys(), "autoheal config show lists all keys"))
	}
}

// entryOf splits the key of one entry of a map setting: autoHeal.autonomy.reboot.
func entryOf(key string) (*field, string) {
	for i := range fields {
		if name, ok := strings.CutPrefix(key, fields[i].key+"."); ok && fields[i].extend != nil && name != "" {
			return &fields[i], name
		}
	}
	return nil, ""
}

func keys() []string {
	out := make([]string, len(fields))
	for i := range fields {
		out[i] = fields[i].key
	}
	return out
}

// override sets one setting from the environment or a flag; named is what the user wrote.
func (r *reader) override(f *field, named, text string) {
	n := r.scalarTree(named, text, f.raw)
	if n == nil {
		r.broken[f.key] = true
		return
	}
	if !f.set(r, named, n, r.policy) {
		r.broken[f.key] = true
		return
	}
	// A good value from a stronger source does not heal a broken file: the file's problem is reported all the same.
	r.origins[f.key] = origin{from: r.from}
}

// scalarTree reads a value from one line of text. Its places mean nothing to the user and are dropped.
func (r *reader) scalarTree(key, text string, raw bool) *node {
	if raw {
		return &node{shape: isText, text: text}
	}
	good := true
	n := parseTree([]byte(text), func(_, _ int, detail, remedy string) {
		good = false
		r.report(0, 0, key, detail, remedy)
	})
	if !good {
		return nil
	}
	if n == nil {
		return &node{shape: isNull}
	}
	n.forgetPlaces()
	return n
}

func (n *node) forgetPlaces() {
	n.line, n.col = 0, 0
	for i := range n.entries {
		n.entries[i].line, n.entries[i].col = 0, 0
		n.entries[i].value.forgetPlaces()
	}
	for _, i := range n.items {
		i.forgetPlaces()
	}
}

// driverDefaults applies the one default that depends on another setting (behaviour C4).
func (r *reader) driverDefaults() {
	if _, said := r.origins["autoHeal.fence.trustSelfStop"]; !said && r.policy.Cluster.Driver == DriverOpenClaw {
		r.policy.Fence.TrustSelfStop = false
	}
}

// check runs the checks across keys whose keys were all understood, and says where the value stands that was written.
func (r *reader) check() {
	for _, p := range r.policy.Validate() {
		if slices.ContainsFunc(p.keys, func(k string) bool { return r.broken[k] }) {
			continue
		}
		p.File = OriginDefault
		for _, k := range p.keys {
			if o, ok := r.origins[k]; ok {
				p.File, p.Line, p.Column, p.Key = o.from, o.line, o.col, k
				break
			}
		}
		r.problems = append(r.problems, p)
	}
}
