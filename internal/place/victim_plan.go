package place

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"time"
)

// cost is what a plan is chosen by: fewest workloads, then lowest priority, then least GPU-seconds.
type cost struct {
	workloads  int
	highest    int // priority
	priorities int // their sum
	seconds    float64
	node       uint32 // its number: among equals the lowest ID
}

func (c cost) compare(o cost) int {
	return cmp.Or(cmp.Compare(c.workloads, o.workloads), cmp.Compare(c.highest, o.highest), cmp.Compare(c.priorities, o.priorities),
		cmp.Compare(c.seconds, o.seconds), cmp.Compare(c.node, o.node))
}

// plan is a way to make room on one node. Before it is worked out (units are nil) its cost is a bound from below.
type plan struct {
	node  *nodeState
	cost  cost
	units []*unit
	spot  Spot
	stale bool // its node is not any more as it assumes
}

// costOf is what it costs to stop a set of units for a place on node s.
func costOf(set []*unit, s *nodeState) cost {
	c := cost{node: s.number}
	for _, u := range set {
		c.workloads += len(u.ids)
		c.highest = max(c.highest, u.priority)
		c.priorities += u.priority * len(u.ids)
		c.seconds += u.seconds
	}
	return c
}

// planQueue holds a plan for every node where room can be made for one request, the cheapest first. Most of them are never
// worked out: a bound that is not below the best plan is passed over.
type planQueue struct {
	v     *victimSearch
	plans []*plan // a heap; stale ones are passed over
	of    map[*nodeState]*plan
	dirty map[*nodeState]bool
	spare bounds
}

func (v *victimSearch) newPlanQueue(r *Request) *planQueue {
	q := &planQueue{v: v, of: make(map[*nodeState]*plan, len(v.x.slots)), dirty: map[*nodeState]bool{}, spare: bounds{v: v, now: v.now()}}
	all := make([]plan, 0, len(v.x.slots))
	for _, s := range v.x.slots {
		if s == nil || len(s.held) == 0 || !s.couldHost(r) {
			continue
		}
		if c, ok := q.spare.of(s, r); ok {
			all = append(all, plan{node: s, cost: c})
			q.of[s] = &all[len(all)-1]
			q.plans = append(q.plans, q.of[s])
		}
	}
	heap.Init(q)
	return q
}

func (q *planQueue) Len() int           { return len(q.plans) }
func (q *planQueue) Less(a, b int) bool { return q.plans[a].cost.compare(q.plans[b].cost) < 0 }
func (q *planQueue) Swap(a, b int)      { q.plans[a], q.plans[b] = q.plans[b], q.plans[a] }
func (q *planQueue) Push(x any)         { q.plans = append(q.plans, x.(*plan)) }
func (q *planQueue) Pop() any {
	last := len(q.plans) - 1
	p := q.plans[last]
	q.plans = q.plans[:last]
	return p
}

// cheapest returns the best plan there is, or nil.
func (q *planQueue) cheapest(r *Request) *plan {
	q.refresh(r)
	for len(q.plans) > 0 {
		switch p := q.plans[0]; {
		case p.stale:
			heap.Pop(q)
		case p.units != nil:
			return p
		case q.v.workOut(p, r):
			heap.Fix(q, 0)
		default:
			heap.Pop(q)
		}
	}
	return nil
}

// refresh bounds anew what a choice has changed.
func (q *planQueue) refresh(r *Request) {
	for s := range q.dirty {
		if old := q.of[s]; old != nil {
			old.stale = true
			delete(q.of, s)
		}
		if !s.known || !s.couldHost(r) {
			continue
		}
		if c, ok := q.spare.of(s, r); ok {
			q.of[s] = &plan{node: s, cost: c}
			heap.Push(q, q.of[s])
		}
	}
	clear(q.dirty)
}

// bounds computes from below what it costs to make room on a node; its lists are used again and again.
type bounds struct {
	v          *victimSearch
	now        time.Time
	gpus       []int64
	memory     []int64
	cpu        []int64
	pids       []int64
	priorities []int64
	seconds    []float64
}

// of says false if room cannot be made on s whoever stops.
func (b *bounds) of(s *nodeState, r *Request) (cost, bool) {
	b.gpus, b.memory, b.cpu, b.pids, b.priorities, b.seconds = b.gpus[:0], b.memory[:0], b.cpu[:0], b.pids[:0], b.priorities[:0], b.seconds[:0]
	smallest := math.MaxInt
	for _, h := range s.held {
		if !b.v.may(h) {
			continue
		}
		if h.gang == "" {
			smallest = 1
		} else if smallest > 1 {
			smallest = min(smallest, b.v.sizeOf(h.gang))
		}
		b.gpus, b.memory, b.cpu = append(b.gpus, int64(len(h.gpus))), append(b.memory, h.need.MemoryMB), append(b.cpu, h.need.CPUMilli)
		b.pids, b.priorities = append(b.pids, h.need.Pids), append(b.priorities, int64(h.priority))
		b.seconds = append(b.seconds, h.seconds(b.now))
	}
	most := 1
	for _, x := range []struct {
		held       []int64
		need, free int64
	}{
		{b.gpus, int64(r.Need.GPUs), int64(s.freeGPUs[tierUnknown])},
		{b.memory, r.Need.MemoryMB, s.free.MemoryMB},
		{b.cpu, r.Need.CPUMilli, s.free.CPUMilli},
		{b.pids, r.Need.Pids, s.free.Pids},
	} {
		n, ok := fewest(x.held, x.need, x.free)
		if !ok {
			return cost{}, false
		}
		most = max(most, n)
	}
	if most > len(b.priorities) {
		return cost{}, false
	}
	c := cost{workloads: max(most, smallest), node: s.number}
	slices.Sort(b.priorities)
	slices.Sort(b.seconds)
	for i := range most {
		c.highest = int(b.priorities[i])
		c.priorities += int(b.priorities[i])
		c.seconds += b.seconds[i]
	}
	return c, true
}

// fewest is the least number of holdings that give what is missing.
func fewest(held []int64, need, free int64) (int, bool) {
	missing := need - free
	if need == 0 || missing <= 0 {
		return 0, true
	}
	slices.SortFunc(held, func(a, b int64) int { return cmp.Compare(b, a) })
	for i, n := range held {
		if missing -= n; missing <= 0 {
			return i + 1, true
		}
	}
	return 0, false
}

// workOut finds the cheapest set of units whose end makes r fit on the plan's node; false if there is none.
func (v *victimSearch) workOut(p *plan, r *Request) bool {
	units := v.remaining(p.node)
	own := v.x.reserved(r.Workload, p.node)
	fits := func(set []*unit) (Spot, bool) {
		gpus, ok := p.node.pick(r, tierUnknown, releasedOn(p.node, own, set))
		return Spot{Node: p.node.id, GPUs: gpus}, ok
	}
	if _, ok := fits(units); !ok {
		return false // whoever stops
	}
	if p.units = exact(units, p.cost.workloads, fits); p.units == nil {
		p.units = greedy(p.node, units, fits)
	}
	p.spot, _ = fits(p.units)
	p.cost = costOf(p.units, p.node)
	return true
}

func (v *victimSearch) remaining(s *nodeState) []*unit {
	var out []*unit
	for _, h := range s.held {
		if !v.may(h) {
			continue
		}
		if u := v.unitOf(h); u != nil && !u.released && !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	slices.SortFunc(out, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(len(a.ids), len(b.ids)), cmp.Compare(a.priority, b.priority),
			cmp.Compare(a.seconds, b.seconds), cmp.Compare(a.id, b.id))
	})
	return out
}

func releasedOn(s *nodeState, own []*holding, set []*unit) []*holding {
	out := slices.Clone(own)
	for _, u := range set {
		for _, h := range u.held {
			if h.node == s {
				out = append(out, h)
			}
		}
	}
	return out
}

// exactTries bounds how many sets are tried on one node; more are chosen greedily.
const exactTries = 20_000

// exact tries every set, the smaller ones first, and returns the cheapest; nil when there are too many of them. No set of
// fewer than least workloads does.
func exact(units []*unit, least int, fits func([]*unit) (Spot, bool)) []*unit {
	var best []*unit
	var lowest cost
	tries := 0
	for size := sizeFor(units, least); size <= len(units); size++ {
		if best != nil && size > lowest.workloads {
			break // a larger set cannot be fewer workloads; a gang counts as all its members
		}
		if tries += choose(len(units), size); tries > exactTries {
			break
		}
		combinations(units, size, func(set []*unit) {
			c := costOf(set, nowhere)
			if c.workloads < least || best != nil && lowest.compare(c) <= 0 {
				return
			}
			if _, ok := fits(set); ok {
				best, lowest = slices.Clone(set), c
			}
		})
	}
	return best
}

// nowhere stands for a node where it does not matter which.
var nowhere = &nodeState{}

// sizeFor is how many units it takes at least to be so many workloads. Units are in order of size.
func sizeFor(units []*unit, workloads int) int {
	n := 0
	for _, u := range slices.Backward(units) {
		n++
		if workloads -= len(u.ids); workloads <= 0 {
			break
		}
	}
	return max(n, 1)
}

// choose is n over k, bounded.
func choose(n, k int) int {
	out := 1
	for i := range min(k, n-k) {
		if out = out * (n - i) / (i + 1); out > exactTries {
			return exactTries
		}
	}
	return out
}

// greedy takes the units that hold most of what is asked for until r fits, then gives back what was not needed.
func greedy(s *nodeState, units []*unit, fits func([]*unit) (Spot, bool)) []*unit {
	order := slices.Clone(units)
	slices.SortStableFunc(order, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(b.gpusOn(s), a.gpusOn(s)), cmp.Compare(b.memoryOn(s), a.memoryOn(s)))
	})
	n := 1
	for ; n < len(order); n++ {
		if _, ok := fits(order[:n]); ok {
			break
		}
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
	return set
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
