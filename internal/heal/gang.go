package heal

import (
	"maps"
	"math"
	"slices"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/place"
)

// reservedAttempt is the number under which the index holds a place that is reserved for a start to come.
const reservedAttempt = math.MinInt32

// survivor reports whether a member of a recovery runs where it can be stopped.
func (c *Core) survivor(id autoheal.WorkloadID) bool {
	w := c.v.cur[id]
	if !live(w) {
		return false
	}
	n := c.v.nodes[w.Node]
	return n != nil && n.Link == autoheal.LinkUp
}

// roomFirst lets nothing that runs be stopped before there is a place for the whole gang (behaviour D7, E8): it finds one
// without the suspect, in which the places that the gang has now count as free, and reserves it.
func (c *Core) roomFirst(p *proposal) ([]autoheal.NodeID, bool) {
	if !slices.ContainsFunc(p.rec.Members, c.survivor) {
		return nil, true
	}
	need := c.needs(p.rec, c.avoid(p.i, p.rec))
	for n := range need {
		if w := c.v.cur[need[n].Workload]; c.inPlace(p.i, p.rec) && live(w) {
			need[n].Nominated = w.Node
		}
	}
	spots, no := c.fitAll(need)
	if no != nil {
		c.hold(p, "capacity", verdict{Reason: no.Reason, On: "capacity", Detail: "nothing of it is stopped before all of it has a place: " + no.Detail})
		return nil, false
	}
	c.reserve(need, spots)
	nodes := make([]autoheal.NodeID, len(spots))
	for n := range spots {
		nodes[n] = spots[n].Node
	}
	return nodes, true
}

// fitAll looks for a place for all, as if what is to be replaced were gone.
func (c *Core) fitAll(need []place.Request) ([]place.Spot, *place.Refusal) {
	var lifted []*autoheal.Workload
	for _, r := range need {
		if w := c.v.cur[r.Workload]; live(w) {
			c.v.index.RemoveWorkload(w.ID, w.Attempt)
			lifted = append(lifted, w)
		}
	}
	spots, no := c.v.index.FitAll(need)
	for _, w := range lifted {
		c.v.index.SetWorkload(w)
	}
	return spots, no
}

// reserve keeps places from being planned for anybody else until the starts that they are meant for are placed.
func (c *Core) reserve(need []place.Request, spots []place.Spot) {
	for n, r := range need {
		c.v.index.SetWorkload(&autoheal.Workload{
			ID: r.Workload, Attempt: reservedAttempt, State: autoheal.Pending, Node: spots[n].Node, GPUs: spots[n].GPUs, Request: r.Need,
		})
		c.reserved[r.Workload] = true
	}
}

func (c *Core) unreserve(id autoheal.WorkloadID) {
	if c.reserved[id] {
		delete(c.reserved, id)
		c.v.index.RemoveWorkload(id, reservedAttempt)
		c.wake("capacity")
	}
}

// reserveAgain reserves, after a listing, what recoveries under way had reserved.
func (c *Core) reserveAgain() {
	for _, id := range slices.Sorted(maps.Keys(c.ix.openIDs)) {
		i := c.d.Incidents[id]
		for _, w := range i.Order {
			rec := i.Recoveries[w]
			if len(rec.Spots) == 0 || rec.Step != autoheal.StepStopping && rec.Step != autoheal.StepStarting {
				continue
			}
			need := c.needs(rec, c.avoid(i, rec))
			if len(need) != len(rec.Spots) {
				continue // one of them is not known any more
			}
			for n := range need {
				need[n].Nominated = rec.Spots[n]
			}
			if spots, no := c.fitAll(need); no == nil {
				c.reserve(need, spots)
			}
		}
	}
	c.reserveRooms()
}

// wantedAgain looks at the whole gang of a rank that is wanted again: what failed of it while it was paused is recovered
// once the last of its ranks is.
func (c *Core) wantedAgain(ch detect.Change) {
	w, b := ch.Workload, ch.WorkloadBefore
	if w == nil || b == nil || w.Gang == "" || detect.Wanted(b) || !detect.Wanted(w) || !c.v.synced {
		return
	}
	for _, m := range c.v.Gang(w.Gang) {
		if m.ID != w.ID {
			c.detect(detect.Change{Workload: m})
		}
	}
}
