package signal

import (
	"bytes"
	"strings"

	"autoheal.dev/autoheal"
)

// Excerpt finds what the lines of a text mean, in order. It is Feed for whoever has the text at hand.
func (c *Catalogue) Excerpt(text []byte, kind Kind, inv *Inventory) []Found {
	s := NewStream(c, inv)
	var out []Found
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if f, ok := s.Feed(Line{Text: line, Kind: kind, Number: number}); ok {
			out = append(out, f)
		}
	}
	return out
}

// Signal returns a finding as the noun that travels through the cluster; the caller fills in the node or workload, and
// the time at which it was seen.
func (f Found) Signal() autoheal.Signal {
	source := "workload"
	if f.Origin == OriginKernel || f.Rule.Kind == KindKernel {
		source = "kmsg"
	}
	return autoheal.Signal{
		Rule: f.Code, Source: source, Failure: f.Failure, Subject: f.Subject, At: f.At, TTL: f.Rule.TTL, Count: 1,
		Clears: len(f.Rule.Clears) > 0, Conclusive: f.Rule.Kind == KindKernel && f.Severity == Critical,
		Action: f.Action, Fields: f.Fields, Excerpt: printable(f.Message),
	}
}

// Explain returns what a code means: that of a rule, or of an entry of a table such as "nvidia/xid/79".
func (c *Catalogue) Explain(code string) (Match, bool) {
	if r := c.byID[code]; r != nil {
		return Match{Rule: r, Code: code, Meaning: r.Meaning}, true
	}
	for _, r := range c.rules {
		number, ok := strings.CutPrefix(code, r.ID+"/")
		if entry, known := c.tables[r.Table][number]; ok && known {
			return Match{Rule: r, Code: code, Meaning: r.over(entry)}, true
		}
	}
	for _, r := range c.rules {
		if r.Code == code {
			return Match{Rule: r, Code: code, Meaning: r.Meaning}, true
		}
	}
	return Match{}, false
}
