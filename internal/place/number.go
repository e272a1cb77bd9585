package place

import (
	"iter"
	"math"
	"sort"
)

// Known nodes are numbered in the order of their IDs, with room between the numbers, so that sets that order equals by ID
// compare numbers and never text. Numbers depend on the history, their order does not.
const numberGap = 1 << 12

// enter gives a new node its slot, and its number between those of its neighbours by ID.
func (x *Index) enter(s *nodeState) {
	if n := len(x.vacant); n > 0 {
		s.slot, x.vacant = x.vacant[n-1], x.vacant[:n-1]
		x.slots[s.slot] = s
	} else {
		s.slot = uint32(len(x.slots))
		x.slots = append(x.slots, s)
	}
	i, at := x.byName(s)
	before, after := x.names.around(i, at)
	switch {
	case x.names.size == 0:
		s.number = math.MaxUint32 / 2
	case after == math.MaxUint32:
		s.number = before + min(numberGap, (after-before)/2)
	case before == 0:
		s.number = after - min(numberGap, after/2)
	default:
		s.number = before + (after-before)/2
	}
	x.names.insert(i, at, s.entry(0))
	if s.number == before || s.number == after {
		x.renumber()
	}
}

// leave gives up the slot of a node that is no longer known.
func (x *Index) leave(s *nodeState) {
	x.names.remove(s.entry(0))
	x.slots[s.slot] = nil
	x.vacant = append(x.vacant, s.slot)
}

// byName returns where a new node belongs in the set of names.
func (x *Index) byName(s *nodeState) (block, at int) {
	notBefore := func(e entry) bool { return x.slots[e.slot].id >= s.id }
	block = sort.Search(len(x.names.last), func(i int) bool { return notBefore(x.names.last[i]) })
	if block == len(x.names.last) {
		return block, 0
	}
	b := x.names.blocks[block]
	return block, sort.Search(len(b)-1, func(i int) bool { return notBefore(b[i]) })
}

// around returns the numbers before and at a position.
func (s *nodeSet) around(block, at int) (before, after uint32) {
	after = math.MaxUint32
	if block < len(s.blocks) {
		after = s.blocks[block][at].number
	}
	switch {
	case at > 0:
		before = s.blocks[block][at-1].number
	case block > 0:
		before = s.last[block-1].number
	}
	return before, after
}

// renumber spreads the numbers evenly, when too many nodes came between the same two. It changes the order of nothing.
func (x *Index) renumber() {
	gap := uint32(math.MaxUint32) / uint32(x.names.size+1)
	n := uint32(0)
	for s := range x.all(&x.names) {
		n += gap
		s.number = n
	}
	for _, set := range x.sets() {
		for i, b := range set.blocks {
			for at := range b {
				b[at].number = x.slots[b[at].slot].number
			}
			set.set(i, b)
		}
	}
}

// sets returns every set of nodes.
func (x *Index) sets() []*nodeSet {
	out := []*nodeSet{&x.names, &x.plain, &x.fitted, &x.byAlloc, &x.barred}
	for _, g := range x.groups {
		for _, c := range g.classes {
			out = append(out, &c.nodes)
		}
	}
	return out
}

// entry is what a set holds of a node.
func (s *nodeState) entry(rank int64) entry { return entry{rank, s.number, s.slot} }

// all yields the nodes of a set in order.
func (x *Index) all(s *nodeSet) iter.Seq[*nodeState] { return x.atLeast(s, math.MinInt64) }

// atLeast yields the nodes of that rank and of higher ones.
func (x *Index) atLeast(s *nodeSet, rank int64) iter.Seq[*nodeState] {
	return func(yield func(*nodeState) bool) {
		for e := range s.from(entry{rank: rank}) {
			if !yield(x.slots[e.slot]) {
				return
			}
		}
	}
}
