package sim

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

func endedForReason() checker {
	c := checker{name: "ended-for-reason", says: "What runs on a node that answers is ended for its checks only while they fail, and for a fault only while its node reports one that is no shortage (behaviour E6, B7)."}
	c.leaves = func(s *sim, _ *healer, a autoheal.Action) {
		i, w := s.book.incidents[a.Incident], s.w.fleet.workloads[autoheal.WorkloadID(a.Target.ID)]
		if a.Verb != autoheal.Stop || i == nil || w == nil || a.Actor != autoheal.ActorEngine || a.Params.Attempt != w.attempt {
			return
		}
		at := w.current()
		switch {
		case at.state != autoheal.Running:
		case i.kind == autoheal.HealthCheck && i.recs[leadOf(s, w)] != nil && i.recs[leadOf(s, w)].step == autoheal.StepStopping && i.recs[leadOf(s, w)].try == 1:
			s.check(c.name, s.wasFailing(w), "%s ends %s, whose checks pass", a.ID, a.Target)
		case i.kind == autoheal.NodeFault:
			faults := (&autoheal.Node{Conditions: s.w.drv.contacts[at.node].conditions()}).Faults()
			hard := slices.ContainsFunc(faults, func(f string) bool { return !autoheal.IsPressure(f) })
			s.check(c.name, hard || len(faults) == 0, "%s ends %s on %s, which reports %v", a.ID, a.Target, at.node, faults)
		}
	}
	return c
}

// leadOf is the workload under which a recovery is kept.
func leadOf(s *sim, w *workload) autoheal.WorkloadID {
	lead := w
	for _, o := range s.w.fleet.order {
		if w.Gang != "" && o.Gang == w.Gang && o.Rank < lead.Rank {
			lead = o
		}
	}
	return lead.ID
}

// wasFailing reports whether the healer has been told that the checks of a workload, or of a rank beside it, fail; or a rank
// has gone already, and the others are ended with it.
func (s *sim) wasFailing(w *workload) bool {
	for _, o := range s.w.fleet.order {
		if o != w && (w.Gang == "" || o.Gang != w.Gang) {
			continue
		}
		if a := o.current(); a.failing != nil || o != w && a.state != autoheal.Running {
			return true
		}
	}
	return false
}

func hangsSeenTo() checker {
	c := checker{name: "hangs-seen-to", says: "What runs and fails its checks is being recovered, or waits for a person (behaviour E6)."}
	c.patrol = func(s *sim) {
		if s.book.storm != "" || !s.working(20*time.Minute) {
			return
		}
		for _, w := range s.w.fleet.order {
			a := w.current()
			if a == nil || a.failing == nil || a.state != autoheal.Running || w.desired != autoheal.DesiredRunning || w.paused != nil || w.isParent() ||
				s.w.wall().Sub(a.failing.Since) < 20*time.Minute || s.w.drv.contacts[a.node].link != autoheal.LinkUp {
				continue
			}
			seen := false
			for _, i := range s.book.incidents {
				rec := i.recs[leadOf(s, w)]
				seen = seen || rec != nil && (rec.step != autoheal.StepDone || i.phase == autoheal.Dismissed || rec.end == autoheal.EndEscalated)
			}
			s.check(c.name, seen, "%s has failed its checks since %s and nobody sees to it", w.ID, a.failing.Since)
		}
	}
	return c
}

func faultsKept() checker {
	c := checker{name: "faults-kept", says: "Nothing is placed on a node that has reported a fault for a minute; its incident lasts as long as the fault, and a shortage counts after 2 minutes (behaviour B7)."}
	c.begun = func(s *sim, m *machine, p *proc) {
		since := s.w.drv.contacts[m.id].faultSince
		a := p.w.attempts[p.n]
		s.check(c.name, since.IsZero() || s.q.now.Sub(since) < time.Minute || a == nil || a.acceptAt.Before(since), "%s begins on %s, which has reported %v since %s", p.ref, m.id, m.reports(), since)
	}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		p, ok := r.Data.(journal.IncidentPhase)
		i := s.book.incidents[r.Incident]
		if !ok || i == nil || i.kind != autoheal.NodeFault {
			return
		}
		con := s.w.drv.contacts[autoheal.NodeID(i.subject.ID)]
		faults := (&autoheal.Node{Conditions: con.conditions()}).Faults()
		if p.To == autoheal.Recovered && p.From == autoheal.Recovering {
			merged := i.phase.Ended()
			s.check(c.name, merged || len(faults) == 0 || s.q.now.Sub(con.faultSince) < time.Minute, "%s is over while %s reports %v", r.Incident, i.subject, faults)
		}
		only := len(faults) > 0 && !slices.ContainsFunc(faults, func(f string) bool { return !autoheal.IsPressure(f) })
		if p.To == autoheal.Recovering && only && !con.hard {
			s.check(c.name, r.At.Sub(i.opened) >= 2*time.Minute, "%s counts %s after it began, for a shortage alone", r.Incident, r.At.Sub(i.opened))
		}
	}
	return c
}

// lasts reports whether an incident has nothing left to do but to wait for the end of its node's fault.
func (i *noted) lasts() bool {
	if i.kind != autoheal.NodeFault {
		return false
	}
	for _, rec := range i.recs {
		if rec.step != autoheal.StepDone {
			return false
		}
	}
	return true
}
