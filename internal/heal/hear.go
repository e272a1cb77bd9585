package heal

import (
	"fmt"
	"slices"
	"strconv"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// hear takes in a signal: whoever watches sees it, and what is being recovered on its subject gets it as evidence. What
// it means for what is not broken yet is the detectors' to say. That a signal goes on, which is told again and again with
// a larger count, is news only where it is missing and there is a place for it.
func (c *Core) hear(s *autoheal.Signal) {
	c.out.Seen = append(c.out.Seen, Sighting{Signal: s})
	if s.Clears || c.hearNetwork(s) {
		return
	}
	c.countXid(s)
	var told []autoheal.IncidentID
	for _, r := range append([]autoheal.Ref{s.Subject}, s.Also...) {
		told = append(told, c.ix.open[r.String()])
		if r.Kind == autoheal.RefWorkload {
			told = append(told, c.ix.recOf[autoheal.WorkloadID(r.ID)].inc)
		}
		if s.Subject.Kind == autoheal.RefWorkload {
			break // what a workload writes says nothing of its node
		}
	}
	slices.Sort(told)
	for _, id := range slices.Compact(told) {
		if i := c.d.Incidents[id]; i != nil && !i.Phase.Ended() && !i.knows(s) && !(s.Count > 1 && len(i.Evidence) >= keepEvidence) {
			e := journal.EvidenceAdded{Count: max(s.Count, 1)}
			if len(i.Evidence) < keepEvidence {
				e.Signal = s
			}
			c.record(id, e)
		}
	}
}

// knows reports whether a signal is among the evidence already: that it goes on is no news.
func (i *incident) knows(s *autoheal.Signal) bool {
	return slices.ContainsFunc(i.Evidence, func(e autoheal.Signal) bool {
		return e.Rule == s.Rule && e.Subject == s.Subject && e.Excerpt == s.Excerpt
	})
}

// describeSignal says in one line what a signal means. The excerpt is quoted, because it is untrusted.
func describeSignal(s *autoheal.Signal) string {
	text := fmt.Sprintf("%s on %s", s.Rule, s.Subject)
	switch {
	case s.Clears:
		return text + " is over"
	case s.Count > 1:
		text += " × " + strconv.Itoa(s.Count)
	}
	return text + fmt.Sprintf(": %q", clip(s.Excerpt, 200))
}
