package place

import (
	"cmp"
	"slices"

	"autoheal.dev/autoheal"
)

// Fit returns a place for r, or why there is none. It looks only at nodes that are ready, schedulable and up, and at GPUs
// that are neither failed nor quarantined. GPU work is packed: the node with the fewest GPUs left over, then the least
// memory, then the lowest ID. Work without GPUs keeps off nodes with GPUs where it can, and is spread.
func (x *Index) Fit(r Request) (Spot, *Refusal) {
	if spot, ok := x.fit(&r); ok {
		return spot, nil
	}
	return Spot{}, x.refuse(&r)
}

// FitAll places all of rs together or none, and returns the spots in the order of rs. It is exact for requests that are
// alike, as the ranks of a gang are; unlike ones are placed largest first.
func (x *Index) FitAll(rs []Request) ([]Spot, *Refusal) {
	spots, failed := x.tryAll(rs)
	if failed < 0 {
		return spots, nil
	}
	ref := x.refuseTogether(rs, failed)
	return nil, ref
}

// tryAll returns the spots, or the index of the first request that found no place beside the others.
func (x *Index) tryAll(rs []Request) (spots []Spot, failed int) {
	spots = make([]Spot, len(rs))
	var held []*holding
	defer func() {
		for _, h := range held {
			x.drop(h)
		}
	}()
	for n, i := range largestFirst(rs) {
		spot, ok := x.fit(&rs[i])
		if !ok {
			return nil, i
		}
		spots[i] = spot
		h := x.trial(&rs[i], spot, n)
		x.hold(h)
		held = append(held, h)
	}
	return spots, -1
}

// trial is a holding for the time of a search; its negative attempt number cannot meet a real one.
func (x *Index) trial(r *Request, spot Spot, n int) *holding {
	return &holding{
		id: r.Workload, attempt: -1 - n, node: x.state(spot.Node), need: r.Need, gpus: spot.GPUs,
	}
}

func largestFirst(rs []Request) []int {
	order := make([]int, len(rs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(
			cmp.Compare(rs[b].Need.GPUs, rs[a].Need.GPUs),
			cmp.Compare(rs[b].Need.MemoryMB, rs[a].Need.MemoryMB),
			cmp.Compare(rs[b].Need.CPUMilli, rs[a].Need.CPUMilli),
		)
	})
	return order
}

// fit tries the nominated node and reservations of the workload's own, then nodes away from its siblings, then theirs.
func (x *Index) fit(r *Request) (Spot, bool) {
	x.put()
	if spot, ok := x.fitReserved(r); ok {
		return spot, true
	}
	away := func(s *nodeState) bool { return !slices.Contains(r.SpreadFrom, s.id) }
	if spot, ok := x.search(r, away); ok {
		return spot, true
	}
	return x.fitAmongSiblings(r)
}

func (x *Index) fitReserved(r *Request) (Spot, bool) {
	tried := []autoheal.NodeID{}
	if r.Nominated != "" {
		tried = append(tried, r.Nominated)
	}
	for h := x.byID[r.Workload]; h != nil; h = h.next {
		if h.reservation && h.node.id != r.Nominated {
			tried = append(tried, h.node.id)
		}
	}
	if len(tried) > 1 {
		slices.Sort(tried[1:])
	}
	for _, id := range tried {
		if spot, ok := x.fitOn(r, id); ok {
			return spot, true
		}
	}
	return Spot{}, false
}

func (x *Index) fitOn(r *Request, id autoheal.NodeID) (Spot, bool) {
	s := x.node(id)
	if s == nil || !s.allowed(r) {
		return Spot{}, false
	}
	gpus, ok := s.pick(r, tierUnknown, x.reserved(r.Workload, s))
	return Spot{Node: id, GPUs: gpus}, ok
}

// fitAmongSiblings prefers the node with the fewest replicas of the same service.
func (x *Index) fitAmongSiblings(r *Request) (Spot, bool) {
	count := map[autoheal.NodeID]int{}
	for _, id := range r.SpreadFrom {
		count[id]++
	}
	ids := make([]autoheal.NodeID, 0, len(count))
	for id := range count {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b autoheal.NodeID) int {
		return cmp.Or(cmp.Compare(count[a], count[b]), cmp.Compare(a, b))
	})
	for _, id := range ids {
		if spot, ok := x.fitOn(r, id); ok {
			return spot, true
		}
	}
	return Spot{}, false
}

func (x *Index) search(r *Request, want func(*nodeState) bool) (Spot, bool) {
	if r.Need.GPUs == 0 {
		return x.searchPlain(r, want)
	}
	for tier := range tiers {
		if spot, ok := x.searchTier(r, tier, want); ok {
			return spot, true
		}
	}
	return Spot{}, false
}

func (x *Index) searchPlain(r *Request, want func(*nodeState) bool) (Spot, bool) {
	for _, set := range []*nodeSet{&x.plain, &x.fitted} {
		for s := range x.all(set) {
			if s.room()+nominalCap < r.Need.MemoryMB {
				break // no later node has more
			}
			if want(s) && s.allowed(r) && covers(s.free, r.Need) {
				return Spot{Node: s.id}, true
			}
		}
	}
	return Spot{}, false
}

// found is a candidate of searchTier with what candidates are compared by.
type found struct {
	spot     Spot
	leftover int
	memory   int64
}

func (f *found) better(o *found) bool {
	return o == nil || cmp.Or(
		cmp.Compare(f.leftover, o.leftover), cmp.Compare(f.memory, o.memory), cmp.Compare(f.spot.Node, o.spot.Node)) < 0
}

func (x *Index) searchTier(r *Request, tier int, want func(*nodeState) bool) (Spot, bool) {
	var best *found
	for _, key := range x.order {
		g := x.groups[key]
		if !g.matches(r) {
			continue
		}
		for n := r.Need.GPUs; n <= g.most; n++ {
			if best != nil && n-r.Need.GPUs > best.leftover {
				break
			}
			for _, c := range g.classes {
				if c.free[tier] != n {
					continue
				}
				if f := x.firstOf(c, r, tier, want); f != nil && f.better(best) {
					best = f
				}
			}
		}
	}
	if best == nil {
		return Spot{}, false
	}
	return best.spot, true
}

// firstOf returns the node of a class with the least free memory that r fits on.
func (x *Index) firstOf(c *class, r *Request, tier int, want func(*nodeState) bool) *found {
	nodes := x.all(&c.nodes)
	if r.Need.MemoryMB > 0 {
		nodes = x.atLeast(&c.nodes, r.Need.MemoryMB)
	}
	for s := range nodes {
		if !want(s) || !s.allowed(r) {
			continue
		}
		if gpus, ok := s.pick(r, tier, nil); ok {
			return &found{spot: Spot{Node: s.id, GPUs: gpus}, leftover: c.free[tier] - r.Need.GPUs, memory: s.free.MemoryMB}
		}
	}
	return nil
}
