package signal

import (
	"cmp"
	"slices"
)

// words is the search for the words of all rules that can be evidence in one kind of log. Each kind has its own: the
// words of the kernel are long, which lets the search skip far, and those of workloads, such as "Killed", cannot all be.
type words struct {
	*literals
	uses [][]int // word -> indexes of the rules that it triggers, the first to be tried first
}

// newWords takes the rules that count in a kind of log, of a list in the order in which they are tried.
func newWords(rules []*Rule, kind Kind) *words {
	w := &words{}
	ids := map[string]int{}
	var texts [][]byte
	for i, r := range rules {
		if !r.Kind.counts(kind) {
			continue
		}
		for _, t := range r.triggers() {
			id, ok := ids[t]
			if !ok {
				id = len(texts)
				ids[t] = id
				texts = append(texts, []byte(t))
				w.uses = append(w.uses, nil)
			}
			w.uses[id] = append(w.uses[id], i)
		}
	}
	w.literals = newLiterals(texts)
	return w
}

// candidates returns the indexes of the rules that words with the given ids trigger, first to be tried first.
func (w *words) candidates(ids, out []int) []int {
	for _, id := range ids {
		for _, i := range w.uses[id] {
			out = addID(out, i)
		}
	}
	slices.Sort(out)
	return out
}

// triggers are the words one of which must occur; where all must, the rarest to find is its longest.
func (r *Rule) triggers() []string {
	if len(r.Literals) > 0 {
		return r.Literals
	}
	return []string{slices.MaxFunc(r.All, func(a, b string) int { return cmp.Compare(len(a), len(b)) })}
}

// wordsIn returns the search for a kind of log. What a program logs beside the kernel is searched with the kernel's.
func (c *Catalogue) wordsIn(kind Kind) *words {
	switch kind {
	case KindKernel, kindProgram:
		return c.kernel
	case KindWorkload:
		return c.workload
	default:
		return c.mixed
	}
}
