package sim

import (
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/heal"
	"autoheal.dev/autoheal/internal/journal"
	plan "autoheal.dev/autoheal/internal/place"
)

func recordsInOrder() checker {
	c := checker{name: "records-in-order", says: "Records have no gaps, epochs do not go back, and neither does time within a life."}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		last := s.book.last
		s.check(c.name, r.Seq == last.Seq+1 && r.Epoch >= last.Epoch && (r.Epoch > last.Epoch || !r.At.Before(last.At)), "record %d of epoch %d at %s follows %d of epoch %d at %s", r.Seq, r.Epoch, r.At, last.Seq, last.Epoch, last.At)
	}
	return c
}

func legalOnly() checker {
	c := checker{name: "legal-only", says: "The core never tries an illegal transition."}
	c.stepped = func(s *sim, _ *healer, _ heal.Input, ready heal.Ready) {
		s.check(c.name, len(ready.Errors) == 0, "%v", ready.Errors)
	}
	return c
}

// How many Steps a core may take of its own accord at one instant, and of any kind within a minute: a retry every second for
// each of many things, with what comes of it.
const (
	mostAtOnce = 50
	busiest    = 20000
)

func workEnds() checker {
	c := checker{name: "work-ends", says: "The core comes to an end with what it takes in: it does not decide the same over and over."}
	var instant, minute time.Time
	atOnce, steps := 0, 0
	c.stepped = func(s *sim, _ *healer, in heal.Input, ready heal.Ready) {
		if len(ready.Records) == 0 {
			return
		}
		if s.q.now.Sub(minute) > time.Minute {
			minute, steps = s.q.now, 0
		}
		steps++
		last := ready.Records[len(ready.Records)-1]
		s.check(c.name, steps <= busiest, "%d Steps with records since %s, the last record: %s of %s", steps, minute, last.Type, last.Incident)
		if len(in.Events)+len(in.Results)+len(in.Commands) > 0 || !s.q.now.Equal(instant) {
			instant, atOnce = s.q.now, 0
			return
		}
		atOnce++
		s.check(c.name, atOnce <= mostAtOnce, "%d Steps with records and without news at %s, the last record: %s of %s", atOnce, instant, last.Type, last.Incident)
	}
	return c
}

func accountWritten() checker {
	c := checker{name: "account", says: "An incident that ends has its post-mortem in the same Step; one that is escalated, and a storm, has paged."}
	c.durable = func(s *sim, r journal.Record, step []journal.Record) {
		switch p := r.Data.(type) {
		case journal.IncidentPhase:
			if p.To.Ended() && p.To != autoheal.Cleared { // what came to nothing needs no account
				s.check(c.name, has[journal.PostMortem](step, r.Incident), "%s is %s without an account", r.Incident, p.To)
			}
			if p.To == autoheal.Escalated {
				s.check(c.name, has[journal.AlertQueued](step, r.Incident), "%s is escalated and nobody is told", r.Incident)
			}
		case journal.StormBegan:
			s.check(c.name, has[journal.AlertQueued](step, r.Incident), "a storm began and nobody is told")
		}
	}
	return c
}

func has[P journal.Payload](records []journal.Record, i autoheal.IncidentID) bool {
	for _, r := range records {
		if _, ok := r.Data.(P); ok && r.Incident == i {
			return true
		}
	}
	return false
}

// working reports whether the healer has been at work, undisturbed, for so long.
func (s *sim) working(d time.Duration) bool {
	h := s.healer
	return h.alive && !h.frozen && !h.stalled && !h.blocked && s.unsynced.IsZero() && s.w.drv.live && s.q.now.Sub(s.rested) > d && s.q.now.Sub(s.w.drv.born) > d
}

func pagedInTime() checker {
	c := checker{name: "paged", says: "A workload that is not back at its objective is paged for, whatever the phase (behaviour F2)."}
	c.patrol = func(s *sim) {
		if s.book.storm != "" || !s.working(10*time.Minute) {
			return
		}
		for _, id := range s.book.order {
			i := s.book.incidents[id]
			if i.phase.Ended() {
				continue
			}
			for _, w := range sortedKeys(i.recs) {
				rec := i.recs[w]
				if rec.step == autoheal.StepDone || rec.step == autoheal.StepVerifying || s.w.wall().Sub(rec.Deadline) < 10*time.Minute || s.w.wall().Sub(rec.at) < 10*time.Minute {
					continue
				}
				s.check(c.name, s.book.paged[id] > 0, "%s has been late since %s and nobody was told", w, rec.Deadline)
			}
		}
	}
	return c
}

func incidentsMove() checker {
	c := checker{name: "incidents-move", says: "An open incident goes on within its bound or is visibly held with a reason."}
	c.patrol = func(s *sim) {
		if !s.working(time.Hour) {
			return
		}
		for _, id := range s.book.order {
			i := s.book.incidents[id]
			if i.phase.Ended() || i.kind == autoheal.NodeOffline && s.silent(i) && s.handsTied() || i.lasts() {
				continue
			}
			quiet := s.w.wall().Sub(i.touched)
			s.check(c.name, len(i.holds()) > 0 || quiet < time.Hour, "%s (%s of %s, %s) has not moved for %s and nothing holds it", id, i.kind, i.subject, i.phase, quiet)
		}
	}
	return c
}

// mostIdle is how often the core may be woken within a second with nothing to take in and nothing to say.
const mostIdle = 50

func sleepsWell() checker {
	c := checker{name: "sleeps-well", says: "A healer that has nothing to do does not wake again and again."}
	var since time.Time
	idle := 0
	c.stepped = func(s *sim, _ *healer, in heal.Input, ready heal.Ready) {
		if len(in.Events)+len(in.Results)+len(in.Commands)+len(ready.Records) > 0 || in.Policy != nil || s.q.now.Sub(since) > time.Second {
			idle, since = 0, s.q.now
			return
		}
		idle++
		s.check(c.name, idle <= mostIdle, "it woke %d times since %s and did nothing", idle, since)
	}
	return c
}

// silent reports whether some node of an incident does not answer; what is about no node counts as such.
func (s *sim) silent(i *noted) bool {
	for _, n := range i.nodes() {
		if k := s.w.drv.contacts[n]; k == nil || k.link != autoheal.LinkUp {
			return true
		}
	}
	return len(i.nodes()) == 0
}

// handsTied reports whether a person or a storm keeps the healer from acting at all.
func (s *sim) handsTied() bool { return len(s.book.pauses) > 0 || s.book.storm != "" }

func marksReturn() checker {
	c := checker{name: "marks-return", says: "No healthy node stays marked by the healer, but one that failed again and again, of which a person is told (behaviour B3, B4)."}
	c.end = func(s *sim) {
		for _, m := range s.w.machines {
			for _, k := range s.w.fleet.marks[m.id] {
				if k.By == autoheal.ByAutoheal {
					s.check(c.name, s.quarantined(m) || s.dismissed(k.Incident), "%s has answered for %s and is still cordoned: %s", m.id, s.q.now.Sub(s.w.drv.contacts[m.id].since), k.Reason)
				}
			}
			s.check(c.name, true, "")
		}
	}
	return c
}

// quarantined reports whether a person was told that this node stays cordoned.
func (s *sim) quarantined(m *machine) bool { return s.offenders[m.id] }

func nothingLost() checker {
	c := checker{name: "nothing-lost", says: "Every workload that is wanted runs, waits for a place with a reason, or was handed to a person."}
	c.end = func(s *sim) {
		for _, w := range s.w.fleet.order {
			a := w.current()
			if w.isParent() || w.desired != autoheal.DesiredRunning || a == nil {
				continue
			}
			_, rec := s.book.recoveryOf(w.ID)
			lead := w.ID
			if w.Gang != "" {
				lead = s.leadOf(w)
			}
			ok := a.state == autoheal.Running && len(w.live()) == 1 || a.state == autoheal.Succeeded || a.state == autoheal.Pending && a.detail != "" ||
				a.state.Ended() && s.book.settled[w.ID] >= a.n || rec != nil && rec.held != nil || w.Gang != "" && s.gangSettled(w) || s.w.fleet.workloads[lead].desired != autoheal.DesiredRunning
			s.check(c.name, ok, "%s is wanted, and attempt %d is %s on %q (%s), %d copies run", w.ID, a.n, a.state, a.node, a.detail, len(w.live()))
		}
	}
	return c
}

func (s *sim) leadOf(w *workload) autoheal.WorkloadID {
	for _, o := range s.w.fleet.order {
		if o.Gang == w.Gang && o.Rank == 0 {
			return o.ID
		}
	}
	return w.ID
}

// gangSettled reports whether the gang of w was handed to a person.
func (s *sim) gangSettled(w *workload) bool {
	for _, o := range s.w.fleet.order {
		if o.Gang == w.Gang && (o.desired != autoheal.DesiredRunning || s.book.settled[o.ID] >= o.attempt) {
			return true
		}
	}
	return false
}

func comesToRest() checker {
	c := checker{name: "comes-to-rest", says: "Once faults stop, the cluster converges: every node answers and no incident is open but for want of room or of a person."}
	c.end = func(s *sim) {
		for _, m := range s.w.machines {
			k := s.w.drv.contacts[m.id]
			s.check(c.name, k.link == autoheal.LinkUp, "%s is %s", m.id, k.link)
		}
		for _, id := range s.book.order {
			i := s.book.incidents[id]
			if i.phase.Ended() {
				continue
			}
			waits := false
			for _, h := range i.holds() {
				waits = waits || h.Reason == autoheal.ReasonNoCapacity || h.Reason == autoheal.ReasonApprovalNeeded
				contained := h.Reason == autoheal.ReasonBudgetConcurrent || h.Reason == autoheal.ReasonBudgetDomain
				waits = waits || contained && i.kind == autoheal.GPUFailure // what a person has to mend keeps its share
			}
			var why strings.Builder
			for _, h := range i.holds() {
				why.WriteString(" " + string(h.Reason))
			}
			s.check(c.name, waits, "%s (%s of %s) is still %s, held:%s", id, i.kind, i.subject, i.phase, why.String())
			for _, w := range sortedKeys(i.recs) {
				s.check(c.name, !s.hasRoom(i.recs[w]), "%s is held for want of room, and there is room", w)
			}
		}
	}
	return c
}

// hasRoom reports whether a workload that is held for want of room could have a place. Gangs are left to themselves.
func (s *sim) hasRoom(rec *notedRec) bool {
	w := s.w.fleet.workloads[rec.Workload]
	if rec.held == nil || rec.held.Reason != autoheal.ReasonNoCapacity || rec.step == autoheal.StepDone || rec.Gang != "" || w == nil {
		return false
	}
	a := w.current()
	if a == nil || a.state == autoheal.Pending { // it is the registry that waits
		return false
	}
	r := plan.RequestOf(w.view(a))
	r.Avoid, r.Need.MemoryMB = rec.avoid, max(r.Need.MemoryMB, rec.memory)
	_, no := s.w.fleet.index.Fit(r)
	return no == nil
}

func bookIsTrue() checker {
	c := checker{name: "book-is-true", says: "When all is quiet the registry says of every attempt what is so."}
	c.end = func(s *sim) {
		for _, w := range s.w.fleet.order {
			for _, p := range w.live() {
				a := w.attempts[p.p.n]
				s.check(c.name, a != nil && !a.state.Ended() && a.node == p.m.id, "%s runs on %s, and the registry does not know", p.p.ref, p.m.id)
				kept := !w.AtMostOnce && w.current().state != autoheal.Running // the only copy that works (behaviour C5)
				s.check(c.name, p.p.n == w.attempt || kept, "%s still runs on %s beside attempt %d", p.p.ref, p.m.id, w.attempt)
			}
		}
	}
	return c
}

func awayIsHarmless() checker {
	c := checker{name: "away-is-harmless", says: "While the healer is away on the embedded gateway, no workload is stopped on a node that is well (behaviour C4)."}
	c.selfStopped = func(s *sim, m *machine, p *proc) {
		well := m.healthy() && m.nominal() && m.shims == 0
		s.check(c.name, !(s.w.gone && s.w.embedded && well && m.refused), "%s is stopped on %s for want of a healer", p.ref, m.id)
	}
	return c
}
