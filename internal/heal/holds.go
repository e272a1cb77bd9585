package heal

import (
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// keepHolds is how many holds an incident remembers for its post-mortem; of the others only the number is kept.
const keepHolds = 64

// holdBegins notes for the post-mortem that a gate holds something. The same gate with another detail, as when room for a
// workload comes and goes, is one hold; the last detail is kept.
func (i *incident) holdBegins(p journal.Held, at time.Time) {
	for n := range i.Holds {
		h := &i.Holds[n]
		if h.To == nil && h.Target.Same(p.Target) {
			if h.Reason == p.Reason && h.Verb == p.Verb {
				h.Detail = p.Detail
				return
			}
			h.To = &at
		}
	}
	if len(i.Holds) >= keepHolds {
		i.HoldsMore++
		return
	}
	i.Holds = append(i.Holds, autoheal.Hold{Target: p.Target, Verb: p.Verb, Gate: p.Gate, Reason: p.Reason, Detail: p.Detail, From: at})
}

// holdEnds notes the end of what holds a target; without one, of everything that still does.
func (i *incident) holdEnds(target autoheal.Ref, at time.Time) {
	for n := range i.Holds {
		if h := &i.Holds[n]; h.To == nil && (target.IsZero() || h.Target.Same(target)) {
			h.To = &at
		}
	}
}
