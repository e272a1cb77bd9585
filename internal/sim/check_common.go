package sim

import (
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// isCommon reports whether an incident is about what workloads have in common.
func (i *noted) isCommon() bool {
	switch i.subject.Kind {
	case autoheal.RefImage, autoheal.RefSpec, autoheal.RefDependency:
		return true
	}
	return false
}

// inCommon returns the open incident with a cause in common that recovers a workload, or nil.
func (b *book) inCommon(w autoheal.WorkloadID) *noted {
	for _, i := range b.incidents {
		if rec := i.recs[w]; i.isCommon() && !i.phase.Ended() && rec != nil && rec.step != autoheal.StepDone {
			return i
		}
	}
	return nil
}

func causesShared() checker {
	c := checker{name: "common-cause", says: "Crash loops of 5 workloads of one image within 5 minutes are one incident, in which no counter rises and nothing is paused (behaviour E4)."}
	type loop struct {
		image string
		at    time.Time
	}
	loops, grown := map[autoheal.WorkloadID]loop{}, map[autoheal.WorkloadID]int{}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		switch p := r.Data.(type) {
		case journal.Intent:
			i := s.book.incidents[r.Incident]
			if i != nil && i.isCommon() && engines(p.Action) && p.Action.Verb == autoheal.Pause {
				s.check(c.name, grown[p.Workload] > 0, "%s pauses %s though others share its cause", r.Incident, p.Action.Target)
			}
		case journal.RestartReset:
			delete(loops, p.Workload)
			delete(grown, p.Workload)
		case journal.RestartCounted:
			memory := p.OOMSteps > grown[p.Workload]
			grown[p.Workload] = p.OOMSteps
			w := s.w.fleet.workloads[p.Workload]
			if memory || w == nil {
				return
			}
			i := s.book.inCommon(p.Workload)
			s.check(c.name, i == nil, "a crash is counted against %s, whose cause others share", p.Workload)
			if p.Count < 2 {
				return
			}
			loops[p.Workload] = loop{w.Image, r.At}
			n := 0
			for _, l := range loops {
				if l.image == w.Image && !r.At.Before(l.at) && r.At.Sub(l.at) <= 5*time.Minute {
					n++
				}
			}
			s.check(c.name, n < 5, "%d workloads of %s are in a crash loop, each for itself", n, w.Image)
		}
	}
	return c
}
