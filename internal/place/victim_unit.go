package place

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// unit is what is stopped together: a gang, or one workload.
type unit struct {
	id       string
	held     []*holding
	ids      []autoheal.WorkloadID
	priority int // the highest of its members
	seconds  float64
	released bool
}

// unitOf returns the unit of a holding, or nil if it may not be stopped: because of another member of its gang, or because
// a workload has two copies that are still to be settled.
func (v *victimSearch) unitOf(h *holding) *unit {
	key := "w/" + string(h.id)
	if h.gang != "" {
		key = "g/" + string(h.gang)
	}
	u, known := v.units[key]
	if !known {
		u = v.newUnit(v.membersOf(h))
		v.units[key] = u
	}
	return u
}

// membersOf lists what stops together with a holding.
func (v *victimSearch) membersOf(h *holding) []*holding {
	var out []*holding
	if h.gang == "" {
		for h := v.x.byID[h.id]; h != nil; h = h.next {
			out = append(out, h)
		}
		return out
	}
	return v.gang(h.gang)
}

// gang lists what is held for a gang, as it was when the search began.
func (v *victimSearch) gang(id autoheal.GangID) []*holding {
	if v.gangs == nil {
		v.gangs = map[autoheal.GangID][]*holding{}
		for _, s := range v.x.nodes {
			for _, h := range s.held {
				if h.gang != "" {
					v.gangs[h.gang] = append(v.gangs[h.gang], h)
				}
			}
		}
	}
	return v.gangs[id]
}

// sizeOf is how many attempts of a gang hold something.
func (v *victimSearch) sizeOf(id autoheal.GangID) int { return len(v.gang(id)) }

// newUnit returns nil unless every member may be a victim: part of a gang is never taken.
func (v *victimSearch) newUnit(members []*holding) *unit {
	u := &unit{priority: -1, held: slices.Clone(members)}
	ids := map[autoheal.WorkloadID]bool{}
	now := v.now()
	for _, h := range members {
		if !v.may(h) || ids[h.id] || !v.asked(h.id) {
			return nil
		}
		ids[h.id] = true
		u.priority = max(u.priority, h.priority)
		u.seconds += h.seconds(now)
	}
	u.ids = slices.Sorted(maps.Keys(ids))
	u.id = string(u.ids[0])
	slices.SortFunc(u.held, func(a, b *holding) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.attempt, b.attempt)) })
	return u
}

// now is until when GPU-seconds count.
func (v *victimSearch) now() time.Time {
	for i := range v.rs {
		if !v.rs[i].Now.IsZero() {
			return v.rs[i].Now
		}
	}
	return v.x.latest
}

// seconds is what is lost if h ends.
func (h *holding) seconds(now time.Time) float64 {
	if h.started.IsZero() || !now.After(h.started) {
		return 0
	}
	return now.Sub(h.started).Seconds() * float64(len(h.gpus))
}

func (u *unit) on(s *nodeState) bool {
	return slices.ContainsFunc(u.held, func(h *holding) bool { return h.node == s })
}

func (u *unit) gpusOn(s *nodeState) (n int) {
	for _, h := range u.held {
		if h.node == s {
			n += len(h.gpus)
		}
	}
	return n
}

func (u *unit) memoryOn(s *nodeState) (mb int64) {
	for _, h := range u.held {
		if h.node == s {
			mb += h.need.MemoryMB
		}
	}
	return mb
}
