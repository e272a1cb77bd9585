package heal

import (
	"fmt"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// An incident with all the evidence that it keeps journals each further signal once, and not each time it is told again.
func TestToldAgainIsNoNews(t *testing.T) {
	s := settled(t, 2, 1, nil)
	w := *s.workload(0)
	w.State, w.EndedAt, w.Exit = autoheal.Failed, s.now, &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed}
	s.step(Input{Events: []autoheal.Event{s.workloadEvent(&w)}})
	tell := func(count int) int {
		var events []autoheal.Event
		for n := range 2 * keepEvidence {
			events = append(events, autoheal.Event{Kind: autoheal.EventSignal, At: s.now, Signal: &autoheal.Signal{
				Rule: "python/exception", Subject: w.Ref(), Excerpt: fmt.Sprint("line ", n), Count: count, At: s.now, SeenAt: s.now,
			}})
		}
		return len(s.step(Input{Events: events}).Records)
	}
	if n := tell(1); n != 2*keepEvidence {
		t.Fatalf("%d records of %d signals", n, 2*keepEvidence)
	}
	for count := 2; count < 5; count++ {
		s.now = s.now.Add(time.Millisecond)
		if n := tell(count); n != 0 {
			t.Errorf("%d records of signals that go on", n)
		}
	}
}
