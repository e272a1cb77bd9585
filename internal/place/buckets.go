package place

import (
	"cmp"
	"slices"

	"autoheal.dev/autoheal"
)

func byNodeID(a, b *nodeState) int { return cmp.Compare(a.id, b.id) }

// lessMemory is the order of best fit: the node with the least memory to spare first.
func lessMemory(a, b *nodeState) int {
	return cmp.Or(cmp.Compare(a.free.MemoryMB, b.free.MemoryMB), byNodeID(a, b))
}

// moreRoom is the order of spreading.
func moreRoom(a, b *nodeState) int { return cmp.Or(cmp.Compare(b.room(), a.room()), byNodeID(a, b)) }

func moreAllocatable(a, b *nodeState) int {
	return cmp.Or(cmp.Compare(b.allocatable.MemoryMB, a.allocatable.MemoryMB), byNodeID(a, b))
}

// group holds the usable nodes that have the same models of GPU, by tier and number of free ones.
type group struct {
	size  int
	kinds []gpuState              // one of each model
	byN   [tiers]map[int]*nodeSet // n free GPUs of the tier -> nodes
	most  int                     // the largest number of GPUs of a node ever seen here
}

func (x *Index) group(s *nodeState) *group {
	g := x.groups[s.signature]
	if g != nil {
		return g
	}
	g = &group{}
	for t := range g.byN {
		g.byN[t] = map[int]*nodeSet{}
	}
	for i := range s.gpus {
		same := func(k gpuState) bool { return k.model == s.gpus[i].model && k.memory == s.gpus[i].memory }
		if !slices.ContainsFunc(g.kinds, same) {
			g.kinds = append(g.kinds, s.gpus[i])
		}
	}
	x.groups[s.signature] = g
	at, _ := slices.BinarySearch(x.order, s.signature)
	x.order = slices.Insert(x.order, at, s.signature)
	return g
}

func (g *group) set(tier, n int) *nodeSet {
	s := g.byN[tier][n]
	if s == nil {
		s = &nodeSet{less: lessMemory}
		g.byN[tier][n] = s
	}
	return s
}

func (g *group) matches(r *Request) bool {
	return slices.ContainsFunc(g.kinds, func(k gpuState) bool { return k.matches(r) })
}

// link puts a node into the sets that its present state belongs to.
func (x *Index) link(s *nodeState) {
	if s.refusal != "" {
		x.barred.add(s)
		return
	}
	x.byAlloc.add(s)
	if s.signature == "" {
		x.plain.add(s)
		return
	}
	x.fitted.add(s)
	g := x.group(s)
	g.size++
	g.most = max(g.most, len(s.gpus))
	for t := range tiers {
		g.set(t, s.freeGPUs[t]).add(s)
	}
}

// unlink takes a node out of the sets that link put it into.
func (x *Index) unlink(s *nodeState) {
	if s.refusal != "" {
		x.barred.remove(s)
		return
	}
	x.byAlloc.remove(s)
	if s.signature == "" {
		x.plain.remove(s)
		return
	}
	x.fitted.remove(s)
	g := x.groups[s.signature]
	for t := range tiers {
		set := g.set(t, s.freeGPUs[t])
		set.remove(s)
		if set.size == 0 {
			delete(g.byN[t], s.freeGPUs[t])
		}
	}
	if g.size--; g.size == 0 {
		delete(x.groups, s.signature)
		if at, ok := slices.BinarySearch(x.order, s.signature); ok {
			x.order = slices.Delete(x.order, at, at+1)
		}
	}
}

// reservations returns what pending attempts of id reserve, which is free for id itself.
func (x *Index) reservations(id autoheal.WorkloadID, node autoheal.NodeID) []*holding {
	var out []*holding
	for _, h := range x.byID[id] {
		if h.reservation && h.node == node {
			out = append(out, h)
		}
	}
	return out
}
