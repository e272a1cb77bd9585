package sim

import (
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/heal"
	"autoheal.dev/autoheal/internal/journal"
)

// slack is how long an action may be on its way out: what was true when it was decided may have changed since.
const slack = time.Second

func intentFirst() checker {
	c := checker{name: "intent-first", says: "No action leaves without a durable intent of this life that says the same (behaviour G1)."}
	c.leaves = func(s *sim, h *healer, a autoheal.Action) {
		in, ok := s.book.intents[a.ID]
		s.check(c.name, ok && in.Action.Verb == a.Verb && in.Action.Target == a.Target && in.Action.Params.Attempt == a.Params.Attempt && a.Epoch == h.epoch,
			"%s %s %s leaves in epoch %d without its intent", a.ID, a.Verb, a.Target, a.Epoch)
	}
	return c
}

func epochRises() checker {
	c := checker{name: "epoch", says: "Nothing is carried out for a healer that was replaced."}
	highest := uint64(0)
	c.acted = func(s *sim, a autoheal.Action) {
		s.check(c.name, a.Epoch >= highest, "%s %s of epoch %d is carried out after epoch %d has acted", a.ID, a.Verb, a.Epoch, highest)
		highest = max(highest, a.Epoch)
	}
	return c
}

func rightGeneration() checker {
	c := checker{name: "generation", says: "An action on a node is carried out only in the boot that it was meant for; a start makes the next attempt."}
	c.acted = func(s *sim, a autoheal.Action) {
		if a.Verb == autoheal.Refresh { // it asks, and asking another boot does no harm
			return
		}
		if m := s.w.byID[autoheal.NodeID(a.Target.ID)]; m != nil && a.Target.Kind == autoheal.RefNode && a.Target.Generation != "" {
			now := bootName(m.id, s.w.drv.contacts[m.id].boot)
			s.check(c.name, a.Target.Generation == now, "%s %s meant for %s is carried out on %s", a.ID, a.Verb, a.Target.Generation, now)
		}
	}
	return c
}

// engines reports whether the healer does this by itself, and it is more than looking.
func engines(a autoheal.Action) bool {
	return a.Actor == autoheal.ActorEngine && a.Verb != autoheal.Refresh && a.Verb != autoheal.Collect
}

func freshEvidence() checker {
	c := checker{name: "fresh-evidence", says: "A node is cordoned, and a copy replaced, only while the node is silent or the copy has ended."}
	c.leaves = func(s *sim, h *healer, a autoheal.Action) {
		if !engines(a) || h != s.healer {
			return
		}
		switch a.Verb {
		case autoheal.Cordon:
			k := s.w.drv.contacts[autoheal.NodeID(a.Target.ID)]
			if i := s.book.incidents[a.Incident]; i != nil && i.kind != autoheal.NodeOffline {
				return // it is cordoned because of what it says, not because it says nothing
			}
			s.check(c.name, k.link != autoheal.LinkUp || s.q.now.Sub(k.since) < slack, "%s cordons %s, which has answered for %s", a.ID, a.Target.ID, s.q.now.Sub(k.since))
		case autoheal.Start:
			w := s.w.fleet.workloads[autoheal.WorkloadID(a.Target.ID)]
			if w == nil || a.Params.Attempt != w.attempt+1 || s.book.intents[a.ID].Try > 1 { // what was begun goes on
				return
			}
			o := w.current()
			if o == nil || o.node == "" || o.state.Ended() || o.sentAt.IsZero() || s.q.now.Sub(o.sentAt) < slack {
				return
			}
			k := s.w.drv.contacts[o.node]
			s.check(c.name, k.link != autoheal.LinkUp || s.q.now.Sub(k.since) < slack, "%s replaces %s, which runs on %s, a node that has answered for %s", a.ID, o.ref, o.node, s.q.now.Sub(k.since))
		}
	}
	return c
}

func graceKept() checker {
	c := checker{name: "grace", says: "A node counts as offline only after its grace, and no silence of a time counts in which the healer was not looking (behaviour B2, D0)."}
	lastSeen := map[string]time.Time{}
	c.saw = func(_ *sim, _ *healer, e autoheal.Event) {
		if e.Kind == autoheal.EventNode {
			lastSeen[string(e.Node.ID)] = time.Time{}
			if e.Node.Link == autoheal.LinkSilent {
				lastSeen[string(e.Node.ID)] = e.Node.LastSeen
			}
		}
	}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		p, ok := r.Data.(journal.IncidentPhase)
		i := s.book.incidents[r.Incident]
		if !ok || i == nil || len(i.nodes()) == 0 || p.From != autoheal.Suspected || p.To != autoheal.Recovering {
			return
		}
		var from time.Time // of a domain the node that was heard of first
		for _, n := range i.nodes() {
			if at := lastSeen[string(n)]; !at.IsZero() && (from.IsZero() || at.Before(from)) {
				from = at
			}
		}
		if from.IsZero() {
			return // it answers again
		}
		if v := s.w.wallAt(s.looking); !s.looking.IsZero() && v.After(from) {
			from = v
		}
		s.check(c.name, r.At.Sub(from) >= s.pol.Node.OfflineGracePeriod-5*time.Millisecond, "%s counts as offline after %s of silence that counts", i.subject.ID, r.At.Sub(from))
	}
	return c
}

func syncedOnly() checker {
	c := checker{name: "synced-only", says: "Nothing is done while the cluster's state is not known."}
	c.leaves = func(s *sim, h *healer, a autoheal.Action) {
		if !engines(a) || h != s.healer {
			return
		}
		d := s.w.drv
		s.check(c.name, d.connected || s.q.now.Sub(d.lostAt) < slack, "%s %s leaves though the driver is blind since %s", a.ID, a.Verb, s.q.now.Sub(d.lostAt))
		s.check(c.name, s.unsynced.IsZero() || s.q.now.Sub(s.unsynced) < slack, "%s %s leaves though nothing is known since %s", a.ID, a.Verb, s.q.now.Sub(s.unsynced))
	}
	return c
}

// silenced is an intent that rests on nothing but that a node does not answer.
type silenced struct {
	i    *noted
	rec  *notedRec // nil for a cordon
	node autoheal.NodeID
}

func (s *sim) onSilence(r journal.Record) (silenced, bool) {
	in, ok := r.Data.(journal.Intent)
	i := s.book.incidents[r.Incident]
	if !ok || !engines(in.Action) || in.Try > 1 || i == nil || len(i.nodes()) == 0 {
		return silenced{}, false
	}
	switch in.Action.Verb {
	case autoheal.Cordon:
		return silenced{i: i, node: autoheal.NodeID(in.Action.Target.ID)}, true
	case autoheal.Start:
		rec := i.recs[in.Workload]
		if rec != nil && rec.try == 1 && rec.proof != autoheal.ProofExitObserved && !rec.begun && !s.anyEnded(rec) {
			return silenced{i, rec, rec.From}, true
		}
	}
	return silenced{}, false
}

// anyEnded reports whether the end of one of the copies that a recovery replaces was seen.
func (s *sim) anyEnded(rec *notedRec) bool {
	for n, id := range rec.Members {
		w := s.w.fleet.workloads[id]
		a := w.attempts[rec.Attempts[n]]
		if a == nil || a.state.Ended() && a.exit != nil && a.exit.Reason != autoheal.ExitSuperseded {
			return true
		}
	}
	return false
}

func stormHolds() checker {
	c := checker{name: "storm-holds", says: "While the healer suspects its own view, nothing is done for a silence, but slowly for critical workloads that may run twice (behaviour D1, D2)."}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		x, ok := s.onSilence(r)
		if !ok || s.book.storm == "" {
			return
		}
		began := s.book.incidents[s.book.storm].opened
		free := x.rec != nil && x.rec.Class == autoheal.Critical && !x.rec.AtMostOnce && r.At.Sub(began) >= 10*time.Minute
		s.check(c.name, free || s.book.words[x.node], "%s: %s during the storm %s", x.i.id, brief(r), s.book.storm)
	}
	return c
}

func settles() checker {
	c := checker{name: "settles", says: "Nothing is done for a silence within 2 s of another new silence in the same domain (behaviour D0)."}
	silent, last, first := map[autoheal.NodeID]bool{}, map[autoheal.Domain]time.Time{}, map[autoheal.Domain]time.Time{}
	var core *heal.Core
	fell := func(s *sim, n *autoheal.Node) {
		for _, d := range n.Domains {
			if s.q.now.Sub(last[d]) > 5*s.pol.Node.Settle {
				first[d] = s.q.now
			}
			last[d] = s.q.now
		}
	}
	// A silence is new when the loop takes it in: what came while it stood still, all at once.
	c.stepped = func(s *sim, h *healer, in heal.Input, _ heal.Ready) {
		if h != s.healer {
			return
		}
		if h.core != core { // a core that was built anew sees every silence for the first time
			core = h.core
			clear(silent)
			clear(last)
			clear(first)
		}
		for _, e := range in.Events {
			if e.Kind != autoheal.EventNode {
				continue
			}
			is := e.Node.Link == autoheal.LinkSilent
			if is && !silent[e.Node.ID] {
				fell(s, e.Node)
			}
			silent[e.Node.ID] = is
		}
	}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		x, ok := s.onSilence(r)
		if !ok {
			return
		}
		for _, d := range s.w.byID[x.node].domains {
			since := s.q.now.Sub(last[d])
			s.check(c.name, since >= s.pol.Node.Settle-100*time.Millisecond || s.q.now.Sub(first[d]) >= 5*s.pol.Node.Settle-5*time.Millisecond,
				"%s acts %s after another silence in %s", x.i.id, since, d)
		}
	}
	return c
}

func budgetKept() checker {
	c := checker{name: "budget", says: "No more than max(1, 5 %) of the nodes are disrupted at once, and no more than max(2, 10 %) in any hour (behaviour D4)."}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		p, ok := r.Data.(journal.BudgetSpent)
		if !ok || p.Key != "disrupt" {
			return
		}
		open, hour := map[string]bool{p.Target.ID: true}, map[string]bool{p.Target.ID: true}
		for _, o := range s.book.open["disrupt"] {
			open[o.node] = true
		}
		for _, o := range s.book.window["disrupt"] {
			if r.At.Sub(o.at) < time.Hour && !r.At.Before(o.at) {
				hour[o.node] = true
			}
		}
		all := len(s.w.machines)
		s.check(c.name, len(open) <= max(1, all/20), "%d of %d nodes are disrupted at once", len(open), all)
		s.check(c.name, len(hour) <= max(2, all/10), "%d of %d nodes were disrupted within an hour", len(hour), all)
	}
	return c
}

func ownMarksOnly() checker {
	c := checker{name: "own-marks", says: "The healer removes no mark but its own (behaviour B6)."}
	c.unmarked = func(s *sim, a autoheal.Action, m *machine, before, after []autoheal.Mark) {
		if a.Actor != autoheal.ActorEngine {
			return
		}
		foreign := func(ms []autoheal.Mark) (n int) {
			for _, k := range ms {
				if k.By != autoheal.ByAutoheal {
					n++
				}
			}
			return n
		}
		s.check(c.name, foreign(before) == foreign(after), "%s removed somebody else's mark from %s", a.ID, m.id)
	}
	return c
}

func handsOff() checker {
	c := checker{name: "hands-off", says: "A paused healer does nothing, and nothing is done to what is under a veto or in maintenance."}
	c.leaves = func(s *sim, h *healer, a autoheal.Action) {
		if !engines(a) || h != s.healer {
			return
		}
		now := s.w.wall()
		node := a.Target.String()
		inForce := func(p pauseNote, ok bool) bool {
			return ok && now.Sub(p.at) > slack && (p.until.IsZero() || now.Before(p.until))
		}
		p, ok := s.book.pauses[""]
		s.check(c.name, !inForce(p, ok), "%s %s %s leaves while the healer is paused", a.ID, a.Verb, a.Target)
		v, ok := s.book.vetoes[node]
		s.check(c.name, !inForce(v, ok), "%s %s %s leaves under a veto", a.ID, a.Verb, a.Target)
		m, ok := s.book.pauses[node]
		s.check(c.name, !inForce(m, ok), "%s %s %s leaves during maintenance", a.ID, a.Verb, a.Target)
	}
	return c
}

func restartsBounded() checker {
	c := checker{name: "restarts-bounded", says: "A workload that crashes again and again is paused when its restarts are used up (behaviour E3)."}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		if p, ok := r.Data.(journal.RestartCounted); ok {
			s.check(c.name, p.Count <= s.pol.Workload.MaxRestarts+1 || s.movedOff(p.Workload, p.Attempt),
				"%s crashed for the %d. time and was restarted all the same", p.Workload, p.Count)
		}
	}
	return c
}

// movedOff reports whether an attempt was made because a node failed: it is no restart of a crash. A workload that could
// not be paused moves with its node like any other.
func (s *sim) movedOff(w autoheal.WorkloadID, n int) bool {
	for _, in := range s.book.intents {
		i := s.book.incidents[in.Action.Incident]
		if a := in.Action; a.Verb == autoheal.Start && a.Params.Attempt == n && i != nil && i.kind == autoheal.NodeOffline && (a.Target.ID == string(w) || in.Workload == w) {
			return true
		}
	}
	return false
}
