package sim

import (
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/heal"
	"autoheal.dev/autoheal/internal/journal"
)

// asksFirstHash names the configuration under which the healer asks first.
const asksFirstHash = "asks first"

// asksFirst has the healer ask for approval for a while. Of what it asks for, a person approves two in three, soon or late;
// the rest expires (behaviour D6).
func (s *sim) asksFirst(f Fault) {
	p := *s.inForce
	p.Autonomy = maps.Clone(p.Autonomy)
	if p.Autonomy == nil {
		p.Autonomy = map[string]autoheal.HealMode{}
	}
	p.Autonomy[string(autoheal.CrashLoop)], p.Autonomy[string(autoheal.NodeOffline)] = autoheal.HealApprove, autoheal.HealApprove
	s.putPolicy(heal.PolicyChange{Policy: &p, Hash: asksFirstHash, By: "ann"})
	s.later(f.For, func() { s.putPolicy(heal.PolicyChange{Policy: s.pol, Hash: "sim", By: "ann"}) })
}

// approves is a person who reads what is asked for.
func (s *sim) approves(n int, id string) {
	if n%3 == 2 {
		return
	}
	s.q.after(time.Duration(1+n%7)*100*time.Second, func() {
		s.ask("bea", "operator", autoheal.CmdApprove, autoheal.Ref{}, func(c *autoheal.Command) { c.Approval = id })
	})
}

// approvalsKept watches over what people approve.
func approvalsKept() checker {
	c := checker{name: "approvals", says: "An approval that was given in time is used once, for the verb, the target and the incident that it was asked for (behaviour D6)."}
	asked := map[string]journal.ApprovalAsked{}
	by := map[string]autoheal.IncidentID{}
	given := map[string]bool{}
	asks := false // the present life is known to ask first
	c.durable = func(s *sim, r journal.Record, step []journal.Record) {
		switch p := r.Data.(type) {
		case journal.EngineStarted:
			asks = false
		case journal.ConfigChanged:
			asks = p.ConfigHash == asksFirstHash
		case journal.Intent:
			i := s.book.incidents[r.Incident]
			if asks && p.Try == 1 && i != nil && (i.kind == autoheal.CrashLoop || i.kind == autoheal.NodeOffline) && p.Action.Verb != autoheal.Refresh {
				s.check(c.name, approvedIn(step, p.Action.ID), "%s %s %v is done without an approval", p.Action.ID, p.Action.Verb, p.Action.Target)
			}
		case journal.ApprovalAsked:
			asked[p.ID], by[p.ID] = p, r.Incident
			s.approves(len(asked), p.ID)
		case journal.ApprovalGiven:
			s.check(c.name, r.At.Before(asked[p.ID].Expires), "%s is given after it expired", p.ID)
			given[p.ID] = true
		case journal.ApprovalExpired:
			delete(given, p.ID)
		case journal.ApprovalUsed:
			s.check(c.name, given[p.ID], "%s is used and was not given, or is used again", p.ID)
			delete(given, p.ID)
			s.check(c.name, by[p.ID] == r.Incident, "%s was asked for by %q and is used for %q", p.ID, by[p.ID], r.Incident)
			for _, o := range step {
				if in, ok := o.Data.(journal.Intent); ok && in.Action.ID == p.Action {
					a := asked[p.ID]
					s.check(c.name, in.Action.Verb == a.Verb && in.Action.Target == a.Target, "%s is for %s %v and is used for %s %v", p.ID, a.Verb, a.Target, in.Action.Verb, in.Action.Target)
				}
			}
		}
	}
	return c
}

// approvedIn reports whether a step uses an approval for an action.
func approvedIn(step []journal.Record, id autoheal.ActionID) bool {
	return slices.ContainsFunc(step, func(r journal.Record) bool {
		used, ok := r.Data.(journal.ApprovalUsed)
		return ok && used.Action == id
	})
}
