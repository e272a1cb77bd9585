package signal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
)

// Catalogue is a compiled set of rules. It does not change, and may be used by many at once.
type Catalogue struct {
	rules  []*Rule // in order: the first that matches is taken
	byID   map[string]*Rule
	taken  map[string]bool // rules whose fields others take
	tables map[string]Table
	nvlink []nvlinkRow

	kernel, workload, mixed *words // by kind of log
}

// Overrides are what a user adds to the built-in catalogue.
type Overrides struct {
	// Rules are whole new rules, or changes to those with the same id: only the keys given are changed.
	Rules []map[string]any
	// Xid changes what single NVIDIA Xid numbers ask for.
	Xid map[int]autoheal.Advice
}

// RuleProblem is a problem of one of the given rules.
type RuleProblem struct {
	Index int // of the rule
	Problem
}

// RuleProblems are all problems of a list of rules.
type RuleProblems []RuleProblem

// Error returns one problem a line.
func (ps RuleProblems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = fmt.Sprintf("rules[%d].%s", p.Index, p.Problem)
	}
	return strings.Join(lines, "\n")
}

// With returns the catalogue with a user's rules before those of c. The error is RuleProblems.
func (c *Catalogue) With(o Overrides) (*Catalogue, error) {
	var problems RuleProblems
	rules := slices.Clone(c.rules)
	seen := map[string]int{}
	for i, raw := range o.Rules {
		id, _ := raw["id"].(string)
		r, bad := readRule(raw, c.byID[id])
		if first, twice := seen[r.ID]; twice {
			bad = append(bad, Problem{"id", fmt.Sprintf("%s is also rule %d of this list", r.ID, first), "keep one of them"})
		}
		seen[r.ID] = i
		bad = append(bad, c.checkLinks(&r)...)
		bad = append(bad, r.test()...)
		for _, p := range bad {
			problems = append(problems, RuleProblem{i, p})
		}
		if at := slices.IndexFunc(rules, func(have *Rule) bool { return have.ID == r.ID }); at >= 0 {
			rules[at] = &r
			continue
		}
		r.order = i - len(o.Rules) // before all others
		rules = append(rules, &r)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	tables := maps.Clone(c.tables)
	tables["xid"] = tables["xid"].withActions(o.Xid)
	return newCatalogue(rules, tables, c.nvlink), nil
}

// test runs a rule's own samples and look-alikes against it.
func (r *Rule) test() []Problem {
	var out []Problem
	for i, s := range r.Samples {
		got, ok := r.match([]byte(s.Text))
		if !ok {
			out = append(out, Problem{fmt.Sprintf("samples[%d]", i), "the rule does not match its own sample", "change the pattern, the words or the sample"})
			continue
		}
		for k, want := range s.Fields {
			if got[k] != want {
				out = append(out, Problem{fmt.Sprintf("samples[%d].fields.%s", i, k), fmt.Sprintf("the field is %q, want %q", got[k], want), "change the pattern or the sample"})
			}
		}
	}
	for i, s := range r.Lookalikes {
		if _, ok := r.match([]byte(s)); ok {
			out = append(out, Problem{fmt.Sprintf("lookalikes[%d]", i), "the rule matches what it must not", "make the pattern stricter"})
		}
	}
	slices.SortFunc(out, func(a, b Problem) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// checkLinks checks what a rule says of others.
func (c *Catalogue) checkLinks(r *Rule) []Problem {
	var out []Problem
	if _, ok := c.tables[r.Table]; r.Table != "" && !ok {
		out = append(out, Problem{"table", fmt.Sprintf("there is no table %q", r.Table), "use " + strings.Join(slices.Sorted(maps.Keys(c.tables)), " or ")})
	}
	for i, id := range r.Takes {
		if have := c.byID[id]; have == nil {
			out = append(out, Problem{fmt.Sprintf("takes[%d]", i), fmt.Sprintf("there is no rule %q", id), ""})
		}
	}
	return out
}

// newCatalogue compiles the search for the words of rules that were checked before.
func newCatalogue(rules []*Rule, tables map[string]Table, nvlink []nvlinkRow) *Catalogue {
	c := &Catalogue{rules: slices.Clone(rules), byID: map[string]*Rule{}, taken: map[string]bool{}, tables: tables, nvlink: nvlink}
	slices.SortStableFunc(c.rules, func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.order, b.order))
	})
	for _, r := range c.rules {
		c.byID[r.ID] = r
		for _, id := range r.Takes {
			c.taken[id] = true
		}
	}
	c.kernel, c.workload, c.mixed = newWords(c.rules, KindKernel), newWords(c.rules, KindWorkload), newWords(c.rules, KindAny)
	return c
}

// Rules lists the rules in the order in which they are tried.
func (c *Catalogue) Rules() []*Rule { return slices.Clone(c.rules) }

// Rule returns the rule of an ID, or nil.
func (c *Catalogue) Rule(id string) *Rule { return c.byID[id] }

// NextLine returns the bounds of the first whole line at or after from that contains words of any rule that counts in a
// log of this kind; from must be the begin of a line. ok is false if there is none. Nothing is allocated, and lines
// without such words are never split.
func (c *Catalogue) NextLine(text []byte, from int, kind Kind) (begin, end int, ok bool) {
	at, _ := c.wordsIn(kind).next(text, from)
	if at < 0 {
		return 0, 0, false
	}
	begin = from + bytes.LastIndexByte(text[from:at], '\n') + 1
	end = len(text)
	if n := bytes.IndexByte(text[at:], '\n'); n >= 0 {
		end = at + n
	}
	return begin, end, true
}

// Match returns what a line means. The message is that of a frame (Unframe), and kind that of the log that it came from.
func (c *Catalogue) Match(message []byte, kind Kind) (Match, bool) {
	var space [32]int
	words := c.wordsIn(kind)
	ids := words.all(message, space[:0])
	if len(ids) == 0 {
		return Match{}, false
	}
	var more [32]int
	for _, i := range words.candidates(ids, more[:0]) {
		r := c.rules[i]
		if !r.Kind.counts(kind) {
			continue
		}
		if f, ok := r.match(message); ok {
			return c.meaning(r, f), true
		}
	}
	return Match{}, false
}

// counts says whether a line of kind k is evidence in a log of kind in.
func (k Kind) counts(in Kind) bool { return k == KindAny || in == KindAny || k == in }

// match returns the named fields of a line that the rule matches.
func (r *Rule) match(message []byte) (map[string]string, bool) {
	if len(r.Literals) > 0 && !slices.ContainsFunc(r.Literals, func(l string) bool { return bytes.Contains(message, []byte(l)) }) {
		return nil, false
	}
	for _, l := range r.All {
		if !bytes.Contains(message, []byte(l)) {
			return nil, false
		}
	}
	if r.Exception {
		text, ok := exceptionText(message)
		if !ok {
			return nil, false
		}
		message = text
	}
	if r.re == nil {
		return nil, true
	}
	at := r.re.FindSubmatchIndex(message)
	if at == nil {
		return nil, false
	}
	fields := map[string]string{}
	for i, name := range r.names {
		if name != "" && at[2*i] >= 0 && fields[name] == "" {
			fields[name] = string(message[at[2*i]:at[2*i+1]])
		}
	}
	return fields, true
}

// errNoRules is what a catalogue without rules would be.
var errNoRules = errors.New("the catalogue has no rules")

// MatchNaively is Match by asking every rule for its pattern alone, without looking for words first: the measure of what
// the search saves, and the proof that it loses nothing.
func (c *Catalogue) MatchNaively(message []byte, kind Kind) (Match, bool) {
	for _, r := range c.rules {
		if !r.Kind.counts(kind) || r.re != nil && !r.Exception && !r.re.Match(message) {
			continue
		}
		if f, ok := r.match(message); ok {
			return c.meaning(r, f), true
		}
	}
	return Match{}, false
}
