package sim

import (
	"time"

	"autoheal.dev/autoheal"
)

func selectionNamed() checker {
	c := checker{name: "selection", says: "Every action names one thing that exists, in the generation that is meant: an empty or stale selection means nothing, never everything."}
	c.leaves = func(s *sim, h *healer, a autoheal.Action) {
		if h != s.healer {
			return
		}
		s.check(c.name, s.names(a), "%s %s leaves for %q (attempt %d)", a.ID, a.Verb, a.Target, a.Params.Attempt)
	}
	return c
}

// names reports whether an action says what it is for.
func (s *sim) names(a autoheal.Action) bool {
	switch a.Target.Kind {
	case autoheal.RefCluster:
		return a.Verb == autoheal.Refresh
	case autoheal.RefNode:
		return s.w.byID[autoheal.NodeID(a.Target.ID)] != nil && (!engines(a) || a.Target.Generation != "")
	case autoheal.RefGPU:
		known := s.w.allGPUs[autoheal.GPUID(a.Target.ID)] // one that was taken out is released by its name alone
		return known && (!engines(a) || a.Target.Generation != "" || a.Verb == autoheal.ReleaseGPU)
	case autoheal.RefWorkload:
		known := s.w.fleet.workloads[autoheal.WorkloadID(a.Target.ID)] != nil
		attempt := a.Params.Attempt > 0 || a.Verb != autoheal.Start && a.Verb != autoheal.Stop || a.Params.Final
		return known && (!engines(a) || attempt)
	}
	return false
}

// together is how long the stops of one gang may lie apart.
const together = 10 * time.Minute

func preemptsWhole() checker {
	c := checker{name: "preemption", says: "Only what is preemptible is preempted, whole gangs at a time, and what took somebody's place is not preempted in turn (behaviour E7)."}
	taken := map[autoheal.WorkloadID]time.Time{} // preempted, since
	winners := map[autoheal.WorkloadID]bool{}    // for whom somebody was
	victims := map[autoheal.GangID]time.Time{}   // when the first rank of it was
	then := map[autoheal.WorkloadID]int{}        // the attempts of its ranks at that time
	c.acted = func(s *sim, a autoheal.Action) {
		w := s.w.fleet.workloads[autoheal.WorkloadID(a.Target.ID)]
		if a.Verb != autoheal.Stop || a.Params.For == "" || w == nil {
			return
		}
		s.check(c.name, w.Preemptible, "%s preempts %s, which is not preemptible", a.ID, w.ID)
		s.check(c.name, !winners[w.ID], "%s preempts %s, for which others were preempted", a.ID, w.ID)
		_, cascades := taken[a.Params.For]
		s.check(c.name, !cascades, "%s preempts %s for %s, which was preempted itself", a.ID, w.ID, a.Params.For)
		taken[w.ID], winners[a.Params.For] = s.q.now, true
		if _, ok := victims[w.Gang]; w.Gang != "" && !ok {
			victims[w.Gang] = s.q.now
			for _, o := range s.w.fleet.gang(w.Gang) {
				then[o.ID] = o.attempt
			}
		}
	}
	c.patrol = func(s *sim) {
		for _, g := range sortedKeys(victims) {
			if s.q.now.Sub(victims[g]) < together {
				continue
			}
			for _, w := range s.w.fleet.order {
				if w.Gang == g {
					_, all := taken[w.ID]
					s.check(c.name, all || !s.runsOn(w, then[w.ID]), "%s was preempted in part: %s was not", g, w.ID)
				}
			}
			delete(victims, g)
		}
	}
	return c
}

// runsOn reports whether an attempt of a workload runs where it can be stopped, and nobody is about to: a rank that was out
// of reach when its gang gave way is restarted with the others.
func (s *sim) runsOn(w *workload, attempt int) bool {
	a := w.current()
	if a == nil || a.n != attempt || a.state != autoheal.Running || s.w.drv.contacts[a.node].link != autoheal.LinkUp {
		return false
	}
	_, rec := s.book.recoveryOf(w.ID)
	return rec == nil || rec.step == autoheal.StepDone
}
