package sim

import (
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

func hedgesKept() checker {
	c := checker{name: "hedge", says: "An extra copy is made only of a critical workload that may run twice, 10 s after the last contact, and of a share of the class at a time (behaviour B2h)."}
	lastSeen := map[autoheal.NodeID]time.Time{}
	c.saw = func(_ *sim, _ *healer, e autoheal.Event) {
		if e.Kind == autoheal.EventNode {
			lastSeen[e.Node.ID] = e.Node.LastSeen
		}
	}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		p, ok := r.Data.(journal.RecoveryStep)
		i := s.book.incidents[r.Incident]
		if !ok || !p.Hedge || i == nil || i.recs[p.Workload] == nil {
			return
		}
		rec := i.recs[p.Workload]
		s.check(c.name, rec.Class == autoheal.Critical && !rec.AtMostOnce && rec.Gang == "", "%s is hedged: class %s, at most once %t, gang %q", p.Workload, rec.Class, rec.AtMostOnce, rec.Gang)
		s.check(c.name, s.book.storm == "", "%s is hedged during the storm %s", p.Workload, s.book.storm)
		if at := lastSeen[rec.From]; !at.IsZero() {
			s.check(c.name, r.At.Sub(at) >= s.pol.Node.Hedge.After, "%s is hedged %s after the last contact with %s", p.Workload, r.At.Sub(at), rec.From)
		}
		open, all := 1+s.book.hedged(rec.Class, rec), 0
		for _, w := range s.w.fleet.order {
			if w.Class == rec.Class {
				all++
			}
		}
		s.check(c.name, open <= max(1, all/10), "%d of %d workloads of class %s are hedged at once", open, all, rec.Class)
	}
	return c
}

// hedged counts the extra copies of a class that are under way, but for one.
func (b *book) hedged(class autoheal.Class, but *notedRec) int {
	n := 0
	for _, i := range b.incidents {
		for _, rec := range i.recs {
			if rec != but && rec.hedged && rec.Class == class && rec.step != autoheal.StepDone {
				n++
			}
		}
	}
	return n
}
