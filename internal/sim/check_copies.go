package sim

import (
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

func oneCopy() checker {
	c := checker{name: "one-copy", says: "At most one copy of an at-most-once workload runs, but for the documented holes, which are counted, and then until the healer has had the time to end one (behaviour C1, C2)."}
	c.copies = func(s *sim, w *workload) {
		if !w.AtMostOnce {
			return
		}
		live := w.live()
		s.check(c.name, len(live) <= 1 || s.excused(live), "%d copies of %s run: %s", len(live), w.ID, where(live))
	}
	c.patrol = func(s *sim) {
		if !s.working(overstay) || s.handsTied() || len(s.book.vetoes) > 0 {
			return
		}
		for _, w := range s.w.fleet.order {
			if live := w.live(); w.AtMostOnce && len(live) > 1 && s.reached(live, overstay) {
				s.check(c.name, false, "%d copies of %s run, long after what excused them:%s", len(live), w.ID, where(live))
			}
		}
	}
	return c
}

// overstay is for how long a healer that works may let be what a hole has let happen.
const overstay = 15 * time.Minute

// reached reports whether the nodes of copies have answered for so long.
func (s *sim) reached(ps []place, d time.Duration) bool {
	for _, p := range ps {
		if k := s.w.drv.contacts[p.m.id]; !p.m.healthy() || k.link != autoheal.LinkUp || s.q.now.Sub(k.since) < d {
			return false
		}
	}
	return true
}

func where(ps []place) string {
	var out strings.Builder
	for _, p := range ps {
		out.WriteString(" " + p.p.ref.String() + " on " + string(p.m.id))
	}
	return out.String()
}

func proofHolds() checker {
	c := checker{name: "proof-holds", says: "When a new copy of an at-most-once workload is asked for with a proof, the old one is really gone (behaviour C1)."}
	c.acted = func(s *sim, a autoheal.Action) {
		w := s.w.fleet.workloads[autoheal.WorkloadID(a.Target.ID)]
		if a.Verb != autoheal.Start || a.Actor != autoheal.ActorEngine || w == nil || !w.AtMostOnce || a.Params.Attempt != w.attempt {
			return
		}
		var older []place
		for _, p := range w.live() {
			if p.p.n < a.Params.Attempt {
				older = append(older, p)
			}
		}
		s.check(c.name, len(older) == 0 || s.excuse(ref{w.ID, a.Params.Attempt}, older), "%s starts attempt %d of %s with the proof %q while there runs%s", a.ID, a.Params.Attempt, w.ID, a.Params.Proof, where(older))
	}
	return c
}

func startsOnce() checker {
	c := checker{name: "starts-once", says: "An attempt begins at most once, wherever: actions that are repeated or late change nothing."}
	c.begun = func(s *sim, m *machine, p *proc) {
		s.check(c.name, p.starts == 1, "%s began %d times on %s", p.ref, p.starts, m.id)
		for _, o := range p.w.places {
			s.check(c.name, o.p == p || o.p.ref != p.ref, "%s began on %s and on %s", p.ref, o.m.id, m.id)
		}
	}
	return c
}

func oneGeneration() checker {
	c := checker{name: "one-generation", says: "The ranks of a gang that run are of one generation; none begins beside an older one (behaviour E8)."}
	c.begun = func(s *sim, m *machine, p *proc) {
		if p.w.Gang == "" || !p.w.AtMostOnce {
			return
		}
		for _, w := range s.w.fleet.order {
			if w.Gang != p.w.Gang || w == p.w {
				continue
			}
			for _, o := range w.live() {
				// A rank that came up a moment ago is of the same placement; the healer evens the numbers out.
				ok := o.p.n == p.n || s.q.now.Sub(o.p.started) <= time.Minute || s.excuse(p.ref, []place{o})
				s.check(c.name, ok, "%s begins on %s while %s runs on %s", p.ref, m.id, o.p.ref, o.m.id)
			}
		}
	}
	return c
}

func gangWhole() checker {
	c := checker{name: "gang-whole", says: "A rank of a gang begins only when every rank of its generation has a place: a gang starts whole or not at all."}
	c.begun = func(s *sim, m *machine, p *proc) {
		if p.w.Gang == "" || p.n != p.w.attempt {
			return
		}
		placed := 0
		for _, w := range s.w.fleet.order {
			if a := w.current(); w.Gang == p.w.Gang && a != nil && a.n >= p.n && (a.node != "" || a.state.Ended()) {
				placed++
			}
		}
		s.check(c.name, placed == p.w.GangSize, "%s begins on %s while %d of %d ranks have a place", p.ref, m.id, placed, p.w.GangSize)
	}
	return c
}
