package heal

import (
	"cmp"
	"slices"

	"autoheal.dev/autoheal"
)

// overdue gives a start that does not come up another try once its rung's deadline passed; one that waits for capacity
// stays, visibly, and is paged by the clock.
func (c *Core) overdue(i *incident, rec *recovery, k key) {
	by := rec.StepBy
	if a := c.lastStart(i, rec); a != nil {
		by = a.IntentAt.Add(c.pol.RungDeadline(rec.Objective))
	}
	p := &proposal{i: i, rec: rec, k: k, verb: autoheal.Start}
	if c.now.Before(by) {
		c.release(p) // every attempt is there: whatever held the start of one is over
		c.after(k, by)
		return
	}
	var unplaced *autoheal.Workload
	late := false
	for n, id := range rec.Members {
		w := c.v.cur[id]
		if w == nil || w.Attempt != rec.NewAttempts[n] {
			continue
		}
		node := c.v.nodes[w.Node]
		switch {
		case w.State == autoheal.Pending:
			unplaced = cmp.Or(unplaced, w)
		case c.startingUp(w, k):
		case live(w) && !w.Ready && node != nil && node.Link == autoheal.LinkUp:
			c.stopCopy(i, rec, w, "it did not come up in time")
			late = true
		}
	}
	switch {
	case late: // held or not, it is about a stop
	case unplaced != nil:
		c.holdPending(p, unplaced)
	default:
		c.release(p)
	}
}

// holdPending holds a recovery for want of room, in place of what may have held its start before the attempt was there: of
// a hold on anything else nobody would hear that there is room.
func (c *Core) holdPending(p *proposal, w *autoheal.Workload) {
	detail := "it waits for a place"
	if w.Detail != "" {
		detail = w.Detail
	}
	c.hold(p, "capacity", verdict{Reason: autoheal.ReasonNoCapacity, Detail: detail, On: "capacity"})
}

// outdated reports whether an accepted start waits for room only because it keeps off a suspect that is back in service.
func (c *Core) outdated(i *incident, rec *recovery) bool {
	k := key{inc: i.ID, w: rec.Workload}
	back := false
	for n, id := range rec.Members {
		a := c.ix.starts[id]
		if a == nil || a.Params.Attempt != rec.NewAttempts[n] || !c.accepted(a, id) {
			return false
		}
		if at := a.ResultAt.Add(c.pol.Node.ProbeInterval); c.now.Before(at) { // it may just not have been placed yet
			c.after(k, at)
			return false
		}
		back = back || slices.ContainsFunc(a.Params.Avoid, func(id autoheal.NodeID) bool { return slices.Contains(i.nodes(), id) && c.inService(id, k) })
	}
	if !back {
		return false
	}
	_, no := c.fitAll(c.needs(rec, c.avoid(i, rec)))
	return no == nil
}

// accepted reports whether a start was: by its answer or, when that was lost, by the attempt that is there.
func (c *Core) accepted(a *action, id autoheal.WorkloadID) bool {
	w := c.v.cur[id]
	return a.Outcome == autoheal.OutcomeDone || !a.pending() && w != nil && w.Attempt == a.Params.Attempt
}

// askAgain ends attempts that have no place, so that new ones are asked for with fewer nodes to keep off. They are stopped
// like any other: one of them may have been placed this moment.
func (c *Core) askAgain(i *incident, rec *recovery) {
	for _, id := range rec.Members {
		if w := c.v.cur[id]; w != nil && w.State == autoheal.Pending {
			c.stopCopy(i, rec, w, "there is room on a node that is back in service")
		}
	}
}
