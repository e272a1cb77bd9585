package heal

import (
	"fmt"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/place"
)

// planRoomFor says what would be stopped for a recovery that waits for room, or why nothing is; false if it waits for none.
func (c *Core) planRoomFor(i *incident, rec *recovery) (autoheal.Planned, bool) {
	at, wants, _ := c.wantsRoom(rec.Workload)
	if at != i || wants != rec {
		return autoheal.Planned{}, false
	}
	out := autoheal.Planned{Incident: i.ID, Verb: "preempt", Target: autoheal.WorkloadRef(rec.Workload), Held: []autoheal.Held{}}
	rm := c.d.Rooms[rec.Workload]
	need := c.needs(rec, c.avoid(i, rec))
	switch {
	case rm != nil && !rm.Begun.IsZero():
		out.Verb, out.Text = rm.Step, "under way: "+rm.Text
		return out, true
	case rm == nil:
		plan, no := c.planRoom(i, rec, need)
		if plan == nil {
			out.Text = no.Detail
			out.Held = append(out.Held, autoheal.Held{Reason: no.Reason, Detail: no.Detail, Since: c.now, Until: no.Until, On: no.On})
			return out, true
		}
		rm = &room{RoomPlanned: *plan}
	}
	out.Verb, out.Text = rm.Step, rm.Text
	out.Held = c.askAll(c.roomProposal(i, rm, key{w: rec.Workload, what: dutyRoom}))
	return out, true
}

// whyRoom says who would give way to a workload that fits nowhere, and for whom it would.
func (c *Core) whyRoom(w *autoheal.Workload, req place.Request, out *autoheal.Why) {
	if !slices.Contains(c.pol.Preemption.ForClasses, w.Class) || !c.pol.Preemption.Enabled {
		return
	}
	var made place.Room
	var no *place.Refusal
	none := &incident{}
	c.lifted([]place.Request{req}, func() {
		made, no = c.v.index.MakeRoom([]place.Request{req}, c.pol.Preemption.MinPriorityGap, func(id autoheal.WorkloadID) bool { return c.mayStop(none, id) })
	})
	if no != nil {
		out.Text = append(out.Text, "Nobody may be stopped for it so that it would fit.")
		return
	}
	var ids []string
	for _, id := range made.Victims {
		ids = append(ids, string(id))
	}
	out.Text = append(out.Text, fmt.Sprintf("After waiting for %s, this would give way to it: %s.", c.pol.Preemption.PendingFor, strings.Join(ids, ", ")))
}

// givesWay says that a workload may be stopped for a more important one.
func (c *Core) givesWay(w *autoheal.Workload, out *autoheal.Why) {
	switch {
	case !w.Preemptible:
	case c.protected(w.ID):
		out.Text = append(out.Text, "It gave way to a more important workload within the last hour and is safe from that for now.")
	default:
		out.Text = append(out.Text, fmt.Sprintf("It may be stopped for a workload of priority %d or more that fits nowhere else; it then waits for a place again.", w.Priority+c.pol.Preemption.MinPriorityGap))
	}
}
