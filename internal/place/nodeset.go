package place

import (
	"cmp"
	"iter"
	"slices"
)

// nodeSet is a set of nodes in the order of less. Nodes are taken out before what they are ordered by changes.
//
// It is a sorted list cut into blocks, so that an update moves a few hundred entries and not half of a large cluster.
type nodeSet struct {
	less   func(a, b *nodeState) int
	blocks [][]*nodeState // none is empty, the last entry of each is less than the first of the next
	size   int
}

const blockMost = 512 // entries; a fuller block is cut in two

// block returns the position of the first block whose last entry is not less than n: the one that n belongs to.
func (s *nodeSet) block(n *nodeState) int {
	at, _ := slices.BinarySearchFunc(s.blocks, n, func(b []*nodeState, n *nodeState) int { return s.less(b[len(b)-1], n) })
	return at
}

func (s *nodeSet) add(n *nodeState) {
	s.size++
	if len(s.blocks) == 0 {
		s.blocks = append(s.blocks, []*nodeState{n})
		return
	}
	i := min(s.block(n), len(s.blocks)-1)
	at, _ := slices.BinarySearchFunc(s.blocks[i], n, s.less)
	b := slices.Insert(s.blocks[i], at, n)
	s.blocks[i] = b
	if len(b) > blockMost {
		half := len(b) / 2
		s.blocks[i] = b[:half:half]
		s.blocks = slices.Insert(s.blocks, i+1, slices.Clone(b[half:]))
	}
}

func (s *nodeSet) remove(n *nodeState) {
	i := s.block(n)
	if i == len(s.blocks) {
		return
	}
	at, ok := slices.BinarySearchFunc(s.blocks[i], n, s.less)
	if !ok {
		return
	}
	s.size--
	s.blocks[i] = slices.Delete(s.blocks[i], at, at+1)
	s.merge(i)
}

// merge joins a block that got small with the one before or after it, so that their number follows that of the nodes.
func (s *nodeSet) merge(i int) {
	small := func(i int) bool {
		return i >= 0 && i+1 < len(s.blocks) && len(s.blocks[i])+len(s.blocks[i+1]) <= blockMost/2
	}
	switch {
	case len(s.blocks[i]) == 0:
		s.blocks = slices.Delete(s.blocks, i, i+1)
		return
	case small(i - 1):
		i--
	case !small(i):
		return
	}
	s.blocks[i] = append(s.blocks[i], s.blocks[i+1]...)
	s.blocks = slices.Delete(s.blocks, i+1, i+2)
}

// all yields the nodes in order.
func (s *nodeSet) all() iter.Seq[*nodeState] { return s.from(0, 0) }

// withMemory yields the nodes with at least mb of free memory, for a set in the order lessMemory.
func (s *nodeSet) withMemory(mb int64) iter.Seq[*nodeState] {
	if mb == 0 {
		return s.all()
	}
	enough := func(n *nodeState, mb int64) int { return cmp.Or(cmp.Compare(n.free.MemoryMB, mb), 1) } // the first of equals
	i, _ := slices.BinarySearchFunc(s.blocks, mb, func(b []*nodeState, mb int64) int { return enough(b[len(b)-1], mb) })
	if i == len(s.blocks) {
		return func(func(*nodeState) bool) {}
	}
	at, _ := slices.BinarySearchFunc(s.blocks[i], mb, enough)
	return s.from(i, at)
}

func (s *nodeSet) from(block, at int) iter.Seq[*nodeState] {
	return func(yield func(*nodeState) bool) {
		for i := block; i < len(s.blocks); i++ {
			for _, n := range s.blocks[i][at:] {
				if !yield(n) {
					return
				}
			}
			at = 0
		}
	}
}
