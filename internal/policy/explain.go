package policy

import "strings"

// Setting is one setting with its effective value and where that comes from.
type Setting struct {
	Key    string `json:"key"`    // dotted
	Value  string `json:"value"`  // as a YAML scalar or in flow style; secrets are hidden
	Origin string `json:"origin"` // "file.yaml:12:5", "flag", "env" or "default"
	Doc    string `json:"doc"`
	Env    string `json:"env"` // the variable that sets it
}

// Explain returns every setting in document order.
func (l *Loaded) Explain() []Setting {
	out := make([]Setting, len(fields))
	for i := range fields {
		f := &fields[i]
		out[i] = Setting{Key: f.key, Value: f.show(l.Policy), Origin: l.Origin(f.key), Doc: f.doc, Env: f.env()}
	}
	return out
}

// YAML writes the whole policy as a file that loads to the same policy. Secrets are not hidden in it: show people
// Explain.
func (p *Policy) YAML() []byte {
	var b strings.Builder
	var open []string
	for i := range fields {
		path := strings.Split(fields[i].key, ".")
		sections := path[:len(path)-1]
		same := 0
		for same < len(open) && same < len(sections) && open[same] == sections[same] {
			same++
		}
		for depth := same; depth < len(sections); depth++ {
			b.WriteString(strings.Repeat("  ", depth) + sections[depth] + ":\n")
		}
		open = sections
		b.WriteString(strings.Repeat("  ", len(sections)) + path[len(path)-1] + ": " + fields[i].text(p) + "\n")
	}
	return []byte(b.String())
}

// Change is one setting that differs between two policies.
type Change struct {
	Key  string `json:"key"`
	From string `json:"from"` // as YAML; secrets are hidden, so both sides can look alike
	To   string `json:"to"`
}

// Changes returns what differs in next, in document order: what a reload changes.
func (p *Policy) Changes(next *Policy) []Change {
	var out []Change
	for i := range fields {
		if f := &fields[i]; f.text(p) != f.text(next) {
			out = append(out, Change{Key: f.key, From: f.show(p), To: f.show(next)})
		}
	}
	return out
}
