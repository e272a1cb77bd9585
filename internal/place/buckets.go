package place

import "slices"

// group holds the usable nodes that have the same models of GPU.
type group struct {
	kinds   []gpuState // one of each model
	classes []*class   // by what is free
	most    int        // the largest number of GPUs of a node ever seen here
}

// class holds the nodes of a group that have the same number of free GPUs in each tier, least free memory first. It stays
// when the last node leaves it: there are few.
type class struct {
	free  [tiers]int
	nodes nodeSet
}

func (x *Index) group(s *nodeState) *group {
	g := x.groups[s.signature]
	if g != nil {
		return g
	}
	g = &group{}
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

func (g *group) class(free [tiers]int) *class {
	at, ok := slices.BinarySearchFunc(g.classes, free, func(c *class, free [tiers]int) int { return slices.Compare(c.free[:], free[:]) })
	if !ok {
		g.classes = slices.Insert(g.classes, at, &class{free: free})
	}
	return g.classes[at]
}

func (g *group) matches(r *Request) bool {
	return slices.ContainsFunc(g.kinds, func(k gpuState) bool { return k.matches(r) })
}

// link puts a node into the sets that its present state belongs to.
func (x *Index) link(s *nodeState) {
	if s.refusal != "" {
		x.barred.add(s.entry(0))
		return
	}
	x.byAlloc.add(s.entry(-s.allocatable.MemoryMB))
	x.settle(s)
}

// unlink takes a node out of the sets that link put it into.
func (x *Index) unlink(s *nodeState) {
	x.put()
	if s.refusal != "" {
		x.barred.remove(s.entry(0))
		return
	}
	x.byAlloc.remove(s.entry(-s.allocatable.MemoryMB))
	x.lift(s)
}

// settle puts a usable node into the sets that depend on what is free on it; lift takes it out, before that changes.
func (x *Index) settle(s *nodeState) {
	if s.signature == "" {
		x.plain.add(s.entry(-s.room()))
		return
	}
	x.fitted.add(s.entry(-s.room()))
	if s.class == nil || s.class.free != s.freeGPUs {
		g := x.group(s)
		g.most = max(g.most, len(s.gpus))
		s.class = g.class(s.freeGPUs)
	}
	s.class.nodes.add(s.entry(s.free.MemoryMB))
}

func (x *Index) lift(s *nodeState) {
	if s.signature == "" {
		x.plain.remove(s.entry(-s.room()))
		return
	}
	x.fitted.remove(s.entry(-s.room()))
	s.class.nodes.remove(s.entry(s.free.MemoryMB))
}
