package heal

import (
	"fmt"
	"maps"
	"slices"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// approvalFor asks for a person's yes (behaviour D6). One that nobody gave in time is not asked for again by itself: the
// step stays held, and a person was paged.
func (c *Core) approvalFor(p *proposal) verdict {
	v := verdict{Reason: autoheal.ReasonApprovalNeeded, Detail: fmt.Sprintf("%s %s needs approval", p.verb, p.target), On: "approval"}
	for _, a := range c.d.find.approvals[approvalKey{p.verb, p.target}] {
		id := a.ID
		switch inTime := active(a.Expires, c.now); {
		case a.State == approvalGiven && inTime:
			return pass
		case a.State == approvalAsked && inTime:
			v.Detail, v.Until, v.On = fmt.Sprintf("%s %s needs approval: autoheal approve %s", p.verb, p.target, id), a.Expires, "approval/"+id
			return v
		case a.State != approvalUsed && p.command == "" && !c.askedToLook:
			v.Detail, v.On = fmt.Sprintf("%s %s needs approval, and nobody gave it within %s: autoheal heal asks again", p.verb, p.target, policy.FormatDuration(a.Expires.Sub(a.At))), "person"
		}
	}
	return v
}

// askApproval asks a person, once.
func (c *Core) askApproval(p *proposal, v verdict) {
	id := fmt.Sprintf("app-%06d", c.d.Counters.Approval+1)
	c.record(incidentID(p.i), journal.ApprovalAsked{
		ID: id, Verb: p.verb, Target: p.target, Generation: p.target.Generation, Reason: p.reason, Expires: c.now.Add(c.pol.Approval.Expires),
	})
	c.dirty[key{what: dutyApproval, w: autoheal.WorkloadID(id)}] = true
	c.alert(p.i, alertSpec{
		name: "approval-needed", severity: autoheal.SeverityWarning, dedup: id,
		text: fmt.Sprintf("%s %s waits for approval: %s. Approve with: autoheal approve %s", p.verb, p.target, p.reason, id),
	})
}

func (c *Core) useApproval(p *proposal, id autoheal.ActionID) {
	for _, a := range c.d.find.approvals[approvalKey{p.verb, p.target}] {
		if a.State == approvalGiven {
			c.record(incidentID(p.i), journal.ApprovalUsed{ID: a.ID, Action: id})
			return
		}
	}
}

// stepApproval ends an approval that nobody gave, or used, in time. What waits for it in an incident is paged.
func (c *Core) stepApproval(id string) {
	a := c.d.Approvals[id]
	if a == nil || a.State != approvalAsked && a.State != approvalGiven {
		return
	}
	if active(a.Expires, c.now) {
		c.after(key{what: dutyApproval, w: autoheal.WorkloadID(id)}, a.Expires)
		return
	}
	c.record(a.Incident, journal.ApprovalExpired{ID: id})
	c.wake("approval/" + id)
	i := c.d.Incidents[a.Incident]
	if i == nil || i.Phase.Ended() {
		return
	}
	c.alert(i, alertSpec{
		name: "approval-expired", severity: autoheal.SeverityCritical, dedup: id + " expired",
		text: fmt.Sprintf("%s %s is held: nobody approved it within %s (%s). autoheal heal asks again; autoheal dismiss %s leaves it as it is",
			a.Verb, a.Target, policy.FormatDuration(a.Expires.Sub(a.At)), a.Reason, i.ID),
	})
}

func (c *Core) approve(cmd autoheal.Command, reply *autoheal.Reply) {
	n, late := 0, ""
	for _, id := range slices.Sorted(maps.Keys(c.d.Approvals)) {
		a := c.d.Approvals[id]
		switch {
		case cmd.Approval != id && (cmd.Incident == "" || cmd.Incident != a.Incident):
		case a.State == approvalAsked && active(a.Expires, c.now):
			c.record(a.Incident, journal.ApprovalGiven{ID: id, By: cmd.Actor})
			c.wake("approval/" + id)
			reply.Incident = a.Incident
			n++
		case a.State == approvalAsked || a.State == approvalExpired:
			late = id
		}
	}
	switch {
	case n > 0:
		reply.Message = fmt.Sprintf("%d approved", n)
	case late != "":
		refuse(reply, autoheal.ErrConflict, "%s has expired: autoheal heal asks again for what is still to be done", late)
	default:
		refuse(reply, autoheal.ErrNotFound, "nothing waits for this approval: %s%s", cmd.Approval, cmd.Incident)
	}
}
