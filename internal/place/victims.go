package place

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// exactSize bounds the search for the smallest set of victims: up to that many units are tried in every combination, and
// more are chosen greedily and then pruned.
const exactSize = 3

// Victims returns the workloads that would have to stop for r to fit: preemptible ones whose priority is at least gap
// lower than r's and that candidates accepts; gangs whole; fewest workloads, then lowest priority, then least GPU-seconds
// (behaviour E7). The answer was verified by placing r without them. A refusal means that nobody is to be touched. It is
// empty when r fits as it is.
func (x *Index) Victims(r Request, gap int, candidates func(autoheal.WorkloadID) bool) ([]autoheal.WorkloadID, *Refusal) {
	return x.VictimsAll([]Request{r}, gap, candidates)
}

// VictimsAll is Victims for requests that have to fit together.
func (x *Index) VictimsAll(rs []Request, gap int, candidates func(autoheal.WorkloadID) bool) ([]autoheal.WorkloadID, *Refusal) {
	if len(rs) == 0 {
		return nil, nil
	}
	v := x.newVictimSearch(rs, gap, candidates)
	defer v.undo()
	for n, i := range largestFirst(rs) {
		spot, ok := x.fit(&rs[i])
		if !ok {
			spot, ok = v.makeRoom(&rs[i])
		}
		if !ok {
			v.undo()
			ref := x.refuseTogether(rs, i)
			ref.Detail = clip(fmt.Sprintf("stopping preemptible work would not make room: %s", ref.Detail), maxDetail)
			return nil, ref
		}
		v.place(x.trial(&rs[i], spot, n))
	}
	v.prune(rs)
	return v.workloads(), nil
}

// unit is what is stopped together: a gang, or all attempts of one workload.
type unit struct {
	id       string
	held     []*holding
	ids      []autoheal.WorkloadID
	priority int // the highest of its members
	seconds  float64
}

type victimSearch struct {
	x      *Index
	units  []*unit // in the order in which they are preferred as victims
	byNode map[autoheal.NodeID][]*unit
	chosen []*unit
	placed []*holding
}

func (x *Index) newVictimSearch(rs []Request, gap int, candidates func(autoheal.WorkloadID) bool) *victimSearch {
	v := &victimSearch{x: x, byNode: map[autoheal.NodeID][]*unit{}}
	own := map[autoheal.WorkloadID]bool{}
	lowest, now := rs[0].Priority, x.latest
	for i := range rs {
		own[rs[i].Workload] = true
		lowest = min(lowest, rs[i].Priority)
		if !rs[i].Now.IsZero() {
			now = rs[i].Now
		}
	}
	may := func(h *holding) bool {
		return !h.reservation && !own[h.id] && h.preemptible && h.priority <= lowest-gap && candidates(h.id)
	}
	for _, members := range x.allUnits() {
		if u := newUnit(members, may, now); u != nil {
			v.units = append(v.units, u)
		}
	}
	slices.SortFunc(v.units, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(len(a.ids), len(b.ids)), cmp.Compare(a.priority, b.priority),
			cmp.Compare(a.seconds, b.seconds), cmp.Compare(a.id, b.id))
	})
	for _, u := range v.units {
		seen := map[autoheal.NodeID]bool{}
		for _, h := range u.held {
			if !seen[h.node.id] {
				seen[h.node.id] = true
				v.byNode[h.node.id] = append(v.byNode[h.node.id], u)
			}
		}
	}
	return v
}

// allUnits groups what is held into gangs and single workloads; all attempts of a workload agree about its gang.
func (x *Index) allUnits() [][]*holding {
	out := make([][]*holding, 0, len(x.byID))
	gangs := map[autoheal.GangID][]*holding{}
	for _, first := range x.byID {
		var members []*holding
		for h := first; h != nil; h = h.next {
			members = append(members, h)
		}
		if first.gang == "" {
			out = append(out, members)
			continue
		}
		gangs[first.gang] = append(gangs[first.gang], members...)
	}
	return slices.AppendSeq(out, maps.Values(gangs))
}

// newUnit returns nil unless every member may be a victim: part of a gang is never taken.
func newUnit(members []*holding, may func(*holding) bool, now time.Time) *unit {
	u := &unit{priority: -1, held: members}
	ids := map[autoheal.WorkloadID]bool{}
	for _, h := range members {
		if !may(h) {
			return nil
		}
		ids[h.id] = true
		u.priority = max(u.priority, h.priority)
		if !h.started.IsZero() && now.After(h.started) {
			u.seconds += now.Sub(h.started).Seconds() * float64(len(h.gpus))
		}
	}
	u.ids = slices.Sorted(maps.Keys(ids))
	u.id = string(u.ids[0])
	slices.SortFunc(u.held, func(a, b *holding) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.attempt, b.attempt)) })
	return u
}

// plan is a way to make room on one node.
type plan struct {
	units []*unit
	spot  Spot
}

func (p *plan) cost() (workloads, highest, priorities int, seconds float64) {
	for _, u := range p.units {
		workloads += len(u.ids)
		highest = max(highest, u.priority)
		priorities += u.priority * len(u.ids)
		seconds += u.seconds
	}
	return workloads, highest, priorities, seconds
}

func (p *plan) better(o *plan) bool {
	if o == nil {
		return true
	}
	an, ah, ap, as := p.cost()
	bn, bh, bp, bs := o.cost()
	return cmp.Or(cmp.Compare(an, bn), cmp.Compare(ah, bh), cmp.Compare(ap, bp), cmp.Compare(as, bs),
		cmp.Compare(p.spot.Node, o.spot.Node)) < 0
}

// makeRoom finds the cheapest plan over all nodes and carries it out in the index.
func (v *victimSearch) makeRoom(r *Request) (Spot, bool) {
	var best *plan
	for _, id := range slices.Sorted(maps.Keys(v.byNode)) {
		s := v.x.node(id)
		if s == nil || !s.couldHost(r) {
			continue
		}
		if p := v.planOn(s, r, best); p != nil && p.better(best) {
			best = p
		}
	}
	if best == nil {
		return Spot{}, false
	}
	for _, u := range best.units {
		v.release(u)
	}
	return best.spot, true
}

// planOn returns the cheapest set of units whose end makes r fit on s, or nil. Sets larger than best are not tried.
func (v *victimSearch) planOn(s *nodeState, r *Request, best *plan) *plan {
	units := v.remaining(s.id)
	limit := exactFor(len(units))
	if best != nil {
		most, _, _, _ := best.cost()
		limit = min(limit, most)
	}
	var found *plan
	for size := 1; size <= min(limit, len(units)); size++ {
		if found != nil {
			if most, _, _, _ := found.cost(); size > most {
				break // a larger set cannot be fewer workloads; a gang counts as all its members
			}
		}
		combinations(units, size, func(set []*unit) {
			if gpus, ok := s.pick(r, tierUnknown, v.releasedOn(s.id, r, set)); ok {
				p := &plan{units: slices.Clone(set), spot: Spot{Node: s.id, GPUs: gpus}}
				if p.better(found) {
					found = p
				}
			}
		})
	}
	if found != nil || best != nil || len(units) <= limit {
		return found
	}
	return v.greedyOn(s, r, units)
}

// exactFor bounds the number of combinations on one node to some ten thousand.
func exactFor(units int) int {
	switch {
	case units <= 32:
		return exactSize
	case units <= 128:
		return exactSize - 1
	}
	return 1
}

// greedyOn takes the units that hold most of what is asked for until r fits, then gives back what was not needed.
func (v *victimSearch) greedyOn(s *nodeState, r *Request, units []*unit) *plan {
	order := slices.Clone(units)
	slices.SortStableFunc(order, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(b.gpusOn(s.id), a.gpusOn(s.id)), cmp.Compare(b.memoryOn(s.id), a.memoryOn(s.id)))
	})
	fits := func(set []*unit) ([]autoheal.GPUID, bool) {
		return s.pick(r, tierUnknown, v.releasedOn(s.id, r, set))
	}
	n := 1
	for ; n <= len(order); n++ {
		if _, ok := fits(order[:n]); ok {
			break
		}
	}
	if n > len(order) {
		return nil
	}
	set := slices.Clone(order[:n])
	slices.SortStableFunc(set, func(a, b *unit) int { return cmp.Compare(b.priority, a.priority) })
	for i := 0; i < len(set); {
		without := slices.Delete(slices.Clone(set), i, i+1)
		if _, ok := fits(without); ok {
			set = without
			continue
		}
		i++
	}
	gpus, _ := fits(set)
	return &plan{units: set, spot: Spot{Node: s.id, GPUs: gpus}}
}

func (u *unit) gpusOn(id autoheal.NodeID) (n int) {
	for _, h := range u.held {
		if h.node.id == id {
			n += len(h.gpus)
		}
	}
	return n
}

func (u *unit) memoryOn(id autoheal.NodeID) (mb int64) {
	for _, h := range u.held {
		if h.node.id == id {
			mb += h.need.MemoryMB
		}
	}
	return mb
}

func (v *victimSearch) remaining(id autoheal.NodeID) []*unit {
	var out []*unit
	for _, u := range v.byNode[id] {
		if !slices.Contains(v.chosen, u) {
			out = append(out, u)
		}
	}
	return out
}

func (v *victimSearch) releasedOn(id autoheal.NodeID, r *Request, set []*unit) []*holding {
	out := v.x.reserved(r.Workload, v.x.nodes[id])
	for _, u := range set {
		for _, h := range u.held {
			if h.node.id == id {
				out = append(out, h)
			}
		}
	}
	return out
}

func (v *victimSearch) release(u *unit) {
	v.chosen = append(v.chosen, u)
	for _, h := range u.held {
		v.x.drop(h)
	}
}

func (v *victimSearch) place(h *holding) {
	v.x.hold(h)
	v.placed = append(v.placed, h)
}

// undo puts the index back as it was. It may be called twice.
func (v *victimSearch) undo() {
	for _, h := range v.placed {
		v.x.drop(h)
	}
	v.placed = nil
	for _, u := range v.chosen {
		v.restore(u)
	}
}

func (v *victimSearch) restore(u *unit) {
	for _, h := range u.held {
		if h.at == notHeld {
			v.x.hold(h)
		}
	}
}

// prune gives back victims that, after all requests have found a place, turn out not to be needed: most valuable first.
func (v *victimSearch) prune(rs []Request) {
	for _, h := range v.placed {
		v.x.drop(h)
	}
	v.placed = nil
	order := slices.Clone(v.chosen)
	slices.SortStableFunc(order, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(len(b.ids), len(a.ids)))
	})
	for _, u := range order {
		v.restore(u)
		if _, failed := v.x.tryAll(rs); failed < 0 {
			v.chosen = slices.DeleteFunc(v.chosen, func(c *unit) bool { return c == u })
			continue
		}
		for _, h := range u.held {
			v.x.drop(h)
		}
	}
}

func (v *victimSearch) workloads() []autoheal.WorkloadID {
	var out []autoheal.WorkloadID
	order := slices.Clone(v.chosen)
	slices.SortFunc(order, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.seconds, b.seconds), strings.Compare(a.id, b.id))
	})
	for _, u := range order {
		out = append(out, u.ids...)
	}
	return out
}

// combinations calls try with every set of size units, in order.
func combinations(units []*unit, size int, try func([]*unit)) {
	set := make([]*unit, 0, size)
	var rec func(from int)
	rec = func(from int) {
		if len(set) == size {
			try(set)
			return
		}
		for i := from; i <= len(units)-(size-len(set)); i++ {
			set = append(set, units[i])
			rec(i + 1)
			set = set[:len(set)-1]
		}
	}
	rec(0)
}
