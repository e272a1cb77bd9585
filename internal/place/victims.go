package place

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
)

// Room is a way to make room: who would have to stop, and the places that there are then, in the order of the requests.
type Room struct {
	Victims []autoheal.WorkloadID
	Spots   []Spot
}

// MakeRoom returns who would have to stop for all of rs to fit together: preemptible workloads whose priority is at least
// gap lower than that of rs and that candidates accepts; gangs whole; fewest workloads, then lowest priority, then least
// GPU-seconds (behaviour E7). It is exact for one request where few hold a node, and else near to it: nobody in the answer
// is superfluous. The answer was verified by placing rs without them. A refusal means that nobody is to be touched; no
// victims mean that rs fit as it is.
func (x *Index) MakeRoom(rs []Request, gap int, candidates func(autoheal.WorkloadID) bool) (Room, *Refusal) {
	if len(rs) == 0 {
		return Room{}, nil
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
			ref.Detail = clip("stopping preemptible work would not make room: "+ref.Detail, maxDetail)
			return Room{}, ref
		}
		v.place(trial{x.trial(&rs[i], spot, n), i})
	}
	v.prune()
	return v.room(), nil
}

// trial is a place that the search has given to a request.
type trial struct {
	held    *holding
	request int
}

type victimSearch struct {
	x      *Index
	rs     []Request
	may    func(*holding) bool // be stopped, by what is cheap to ask
	asked  func(autoheal.WorkloadID) bool
	units  map[string]*unit // as far as they were needed; nil = may not be stopped
	gangs  map[autoheal.GangID][]*holding
	chosen []*unit
	placed []trial
	queue  *planQueue // for the request of shape
	shape  *Request
}

func (x *Index) newVictimSearch(rs []Request, gap int, candidates func(autoheal.WorkloadID) bool) *victimSearch {
	v := &victimSearch{x: x, rs: rs, asked: candidates, units: map[string]*unit{}}
	own := map[autoheal.WorkloadID]bool{}
	lowest := rs[0].Priority
	for i := range rs {
		own[rs[i].Workload] = true
		lowest = min(lowest, rs[i].Priority)
	}
	v.may = func(h *holding) bool {
		return h.preemptible && !h.reservation && h.priority <= lowest-gap && !own[h.id]
	}
	return v
}

// makeRoom finds the cheapest plan over all nodes and carries it out in the index.
func (v *victimSearch) makeRoom(r *Request) (Spot, bool) {
	if v.shape == nil || !alike(v.shape, r) {
		v.shape, v.queue = r, v.newPlanQueue(r)
	}
	best := v.queue.cheapest(r)
	if best == nil {
		return Spot{}, false
	}
	for _, u := range best.units {
		v.release(u)
	}
	return best.spot, true
}

// alike reports whether what makes room for a makes it for b, as for the ranks of a gang.
func alike(a, b *Request) bool {
	return a.Need == b.Need && slices.Equal(a.Avoid, b.Avoid) && slices.Equal(a.AvoidGPUs, b.AvoidGPUs) &&
		selectorText(a.Selector) == selectorText(b.Selector)
}

func (v *victimSearch) release(u *unit) {
	u.released = true
	v.chosen = append(v.chosen, u)
	for _, h := range u.held {
		v.touched(h.node)
		v.x.drop(h)
	}
}

func (v *victimSearch) place(t trial) {
	v.touched(t.held.node)
	v.x.hold(t.held)
	v.placed = append(v.placed, t)
}

// touched says that what was planned for a node does not hold any more.
func (v *victimSearch) touched(s *nodeState) {
	if v.queue != nil {
		v.queue.dirty[s] = true
	}
}

// undo puts the index back as it was. It may be called twice.
func (v *victimSearch) undo() {
	for _, t := range v.placed {
		v.x.drop(t.held)
	}
	v.placed = nil
	for _, u := range v.chosen {
		v.restore(u)
	}
	v.chosen = nil
}

func (v *victimSearch) restore(u *unit) {
	for _, h := range u.held {
		if h.at == notHeld {
			v.x.hold(h)
		}
	}
}

// prune gives back victims that turn out not to be needed once all requests have found a place: most valuable first.
func (v *victimSearch) prune() {
	order := slices.Clone(v.chosen)
	slices.SortStableFunc(order, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(len(b.ids), len(a.ids)))
	})
	for _, u := range order {
		var moved []int // trials on the nodes of u: only they lose their place if u stays
		for n, t := range v.placed {
			if u.on(t.held.node) {
				moved = append(moved, n)
				v.x.drop(t.held)
			}
		}
		v.restore(u)
		if v.again(moved) {
			v.chosen = slices.DeleteFunc(v.chosen, func(c *unit) bool { return c == u })
			continue
		}
		for _, h := range u.held {
			v.x.drop(h)
		}
		for _, n := range moved {
			v.x.hold(v.placed[n].held)
		}
	}
}

// again finds other places for some trials, or for none of them.
func (v *victimSearch) again(moved []int) bool {
	found := make([]*holding, 0, len(moved))
	for _, n := range moved {
		r := &v.rs[v.placed[n].request]
		spot, ok := v.x.fit(r)
		if !ok {
			for _, h := range found {
				v.x.drop(h)
			}
			return false
		}
		h := v.x.trial(r, spot, n)
		v.x.hold(h)
		found = append(found, h)
	}
	for at, n := range moved {
		v.placed[n].held = found[at]
	}
	return true
}

func (v *victimSearch) room() Room {
	var out Room
	slices.SortFunc(v.chosen, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.seconds, b.seconds), strings.Compare(a.id, b.id))
	})
	for _, u := range v.chosen {
		out.Victims = append(out.Victims, u.ids...)
	}
	out.Spots = make([]Spot, len(v.rs))
	for _, t := range v.placed {
		out.Spots[t.request] = Spot{Node: t.held.node.id, GPUs: t.held.gpus}
	}
	return out
}

// Shortage says what rs need, what is free for them and what the largest free block is.
func (x *Index) Shortage(rs []Request) string {
	if len(rs) == 0 {
		return ""
	}
	x.put()
	r := &rs[largestFirst(rs)[0]]
	need := describe(r)
	if len(rs) > 1 {
		need = fmt.Sprintf("%d × (%s) at once", len(rs), need)
	}
	if r.Need.GPUs == 0 {
		return fmt.Sprintf("needs %s: %s", need, x.misses(r))
	}
	free, all, largest := 0, 0, 0
	for _, s := range x.slots {
		if s == nil || !s.allowed(r) {
			continue
		}
		here := 0
		for i := range s.gpus {
			if g := &s.gpus[i]; g.rank < unusable && g.matches(r) {
				all++
				if g.users == 0 {
					here++
				}
			}
		}
		free, largest = free+here, max(largest, here)
	}
	return fmt.Sprintf("needs %s, largest free block %d, %d of %d free", need, largest, free, all)
}
