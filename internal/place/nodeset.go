package place

import (
	"iter"
	"slices"
	"sort"
)

// entry is a node in a set, with what it is ordered by: a rank that the set gives it, and among equals its number, which
// follows its ID. All is here and nothing is looked up in the node, so that a search reads one piece of memory.
type entry struct {
	rank   int64
	number uint32
	slot   uint32 // of the node
}

func (e entry) before(o entry) bool {
	return e.rank < o.rank || e.rank == o.rank && e.number < o.number
}

// nodeSet is a set of nodes in the order of their entries. A node is taken out before what it is ordered by changes.
//
// It is a sorted list cut into blocks, so that an update moves a few dozen entries and not half of a large cluster.
type nodeSet struct {
	blocks [][]entry // none is empty
	last   []entry   // of each block, less than the first of the next
	size   int
}

const blockMost = 128 // entries; a fuller block is cut in two

func (s *nodeSet) add(e entry) {
	i, at := s.find(e)
	s.insert(i, at, e)
}

func (s *nodeSet) remove(e entry) {
	i, at := s.find(e)
	if i == len(s.blocks) || s.blocks[i][at] != e {
		return
	}
	s.size--
	s.blocks[i] = slices.Delete(s.blocks[i], at, at+1)
	s.merge(i)
}

// find returns block and position of the first entry that is not before e; behind the last block when all are.
func (s *nodeSet) find(e entry) (block, at int) {
	block = sort.Search(len(s.last), func(i int) bool { return !s.last[i].before(e) })
	if block == len(s.last) {
		return block, 0
	}
	b := s.blocks[block]
	return block, sort.Search(len(b)-1, func(i int) bool { return !b[i].before(e) })
}

// insert puts an entry where find said.
func (s *nodeSet) insert(block, at int, e entry) {
	s.size++
	switch {
	case len(s.blocks) == 0:
		s.blocks, s.last = append(s.blocks, []entry{e}), append(s.last, e)
		return
	case block == len(s.blocks):
		block--
		at = len(s.blocks[block])
	}
	b := slices.Insert(s.blocks[block], at, e)
	s.set(block, b)
	if len(b) > blockMost {
		half := len(b) / 2
		s.blocks, s.last = slices.Insert(s.blocks, block+1, nil), slices.Insert(s.last, block+1, entry{})
		s.set(block, slices.Clone(b[:half]))
		s.set(block+1, slices.Clone(b[half:]))
	}
}

func (s *nodeSet) set(block int, b []entry) {
	s.blocks[block], s.last[block] = b, b[len(b)-1]
}

// merge joins a block that got small with the one before or after it, so that their number follows that of the nodes.
func (s *nodeSet) merge(i int) {
	small := func(i int) bool {
		return i >= 0 && i+1 < len(s.blocks) && len(s.blocks[i])+len(s.blocks[i+1]) <= blockMost/2
	}
	b := s.blocks[i]
	switch {
	case len(b) == 0:
		s.cut(i)
	case small(i - 1):
		s.set(i-1, append(s.blocks[i-1], b...))
		s.cut(i)
	case small(i):
		s.set(i, append(b, s.blocks[i+1]...))
		s.cut(i + 1)
	default:
		s.set(i, b)
	}
}

func (s *nodeSet) cut(i int) {
	s.blocks, s.last = slices.Delete(s.blocks, i, i+1), slices.Delete(s.last, i, i+1)
}

// from yields the entries that are not before e, in order.
func (s *nodeSet) from(e entry) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for i, at := s.find(e); i < len(s.blocks); i, at = i+1, 0 {
			for _, e := range s.blocks[i][at:] {
				if !yield(e) {
					return
				}
			}
		}
	}
}
