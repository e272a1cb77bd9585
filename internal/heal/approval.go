package heal

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// approvals returns those that were asked for a proposal: for its incident, or for the agent whose command it is with the
// very parameters of that command. One that another incident or another agent asked for is none of its business.
func (c *Core) approvals(p *proposal) []*approval {
	k := approvalKey{incident: incidentID(p.i), verb: p.verb, target: p.target}
	if p.i == nil {
		k.actor = p.actor
	}
	all := c.d.find.approvals[k]
	if p.i != nil {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(a *approval) bool { return a.Params == nil || !reflect.DeepEqual(*a.Params, p.params) })
}

// approvalFor asks for a person's yes (behaviour D6). One that nobody gave in time is not asked for again by itself: the
// step stays held, and a person was paged.
func (c *Core) approvalFor(p *proposal) verdict {
	v := verdict{Reason: autoheal.ReasonApprovalNeeded, Detail: fmt.Sprintf("%s %s needs approval", p.verb, p.target), On: "approval"}
	for _, a := range c.approvals(p) {
		id := a.ID
		switch inTime := active(a.Expires, c.now); {
		case a.Offer, a.Void != "":
		case a.State == approvalGiven && inTime, a.State == approvalUsed && p.again != "" && a.UsedBy == p.again:
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
	asked := journal.ApprovalAsked{
		ID: c.nextApproval(), Verb: p.verb, Target: p.target, Generation: p.target.Generation, Reason: p.reason, Expires: c.now.Add(c.pol.Approval.Expires),
	}
	if p.i == nil {
		params := p.params
		asked.Actor, asked.Params = p.actor, &params
		asked.Reason = cmp.Or(p.reason, "asked for by "+p.actor)
	}
	c.record(incidentID(p.i), asked)
	c.dirty[key{what: dutyApproval, w: autoheal.WorkloadID(asked.ID)}] = true
	c.alert(p.i, alertSpec{
		name: "approval-needed", severity: autoheal.SeverityWarning, dedup: asked.ID,
		text: fmt.Sprintf("%s %s waits for approval: %s. Approve with: autoheal approve %s", p.verb, p.target, asked.Reason, asked.ID),
	})
}

func (c *Core) nextApproval() string { return fmt.Sprintf("app-%06d", c.d.Counters.Approval+1) }

func (c *Core) useApproval(p *proposal, id autoheal.ActionID) {
	for _, a := range c.approvals(p) {
		if a.State == approvalGiven && !a.Offer {
			c.record(incidentID(p.i), journal.ApprovalUsed{ID: a.ID, Action: id})
			return
		}
	}
}

// voidApprovals ends what is still asked for by an incident that has ended: nothing waits for it any more.
func (c *Core) voidApprovals(i *incident) {
	for _, a := range c.d.find.asked {
		if a.Incident == i.ID && !a.Offer && (a.State == approvalAsked || a.State == approvalGiven) {
			c.record(i.ID, journal.ApprovalExpired{ID: a.ID, Reason: "the incident has ended"})
		}
	}
}

// stepApproval ends an approval that nobody gave, or used, in time. What waits for it in an incident is paged.
func (c *Core) stepApproval(id string) {
	a := c.d.Approvals[id]
	if a == nil || a.State != approvalAsked && a.State != approvalGiven {
		return
	}
	if a.Offer && a.State == approvalGiven {
		c.stepOffer(a)
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
	n, late, void := 0, "", ""
	for _, id := range slices.Sorted(maps.Keys(c.d.Approvals)) {
		a := c.d.Approvals[id]
		switch {
		case cmd.Approval != id && (cmd.Incident == "" || cmd.Incident != a.Incident):
		case a.State == approvalAsked && active(a.Expires, c.now):
			if why := c.voidOffer(a); why != "" {
				void = why
				c.record(a.Incident, journal.ApprovalExpired{ID: id, Reason: why})
				continue
			}
			c.record(a.Incident, journal.ApprovalGiven{ID: id, By: cmd.Actor})
			c.wake("approval/" + id)
			if a.Offer {
				c.dirty[key{what: dutyApproval, w: autoheal.WorkloadID(id)}] = true
			}
			reply.Incident = a.Incident
			n++
		case a.State == approvalExpired && a.Void != "":
			void = a.Void
		case a.State == approvalAsked || a.State == approvalExpired:
			late = id
		}
	}
	switch {
	case n > 0:
		reply.Message = fmt.Sprintf("%d approved", n)
	case void != "":
		refuse(reply, autoheal.ErrConflict, "nothing is done: %s", void)
	case late != "":
		refuse(reply, autoheal.ErrConflict, "%s has expired: autoheal heal asks again for what is still to be done", late)
	default:
		refuse(reply, autoheal.ErrNotFound, "nothing waits for this approval: %s%s", cmd.Approval, cmd.Incident)
	}
}
