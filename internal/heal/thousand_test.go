package heal

import (
	"fmt"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// TestBrokenImageOfAThousand: behaviour E4. A broken image is rolled out to a thousand workloads at once: one incident and one
// alert, no counter rises after that, nothing is paused, all come back when it is mended. The same cluster as the
// transcripts', without folding its journal after each step.
func TestBrokenImageOfAThousand(t *testing.T) {
	const all = 1000
	w := newWorld(t)
	w.quick = true
	for n := range 50 {
		w.node(fmt.Sprintf("n%02d", n), map[string]string{"mem": "65536"})
	}
	for n := range all {
		w.run(fmt.Sprintf("wl-%04d", n), map[string]string{"on": fmt.Sprintf("n%02d", n%50), "image": "app:2", "mem": "100", "class": "medium"})
	}
	w.sync()
	broken := true
	crash := func() { // whatever of it runs ends
		var evs []autoheal.Event
		for id := range w.work {
			if a := w.current(string(id)); broken && a.State == autoheal.Running {
				a.State, a.Ready, a.EndedAt, a.Exit = autoheal.Failed, false, w.now, &autoheal.Exit{Code: 127, Reason: autoheal.ExitStartFailed}
				evs = append(evs, w.workloadEvent(a))
			}
		}
		w.step(Input{Events: evs})
	}
	for end := w.now.Add(20 * time.Minute); w.now.Before(end); {
		crash()
		w.advance("5s")
	}
	broken = false
	w.advance("20m")
	opened, alerts, pauses := map[autoheal.RefKind]int{}, map[string]int{}, 0
	for _, r := range w.log {
		switch p := r.Data.(type) {
		case journal.IncidentOpened:
			opened[p.Subject.Kind]++
		case journal.AlertQueued:
			alerts[p.Name]++
		case journal.Intent:
			if p.Action.Verb == autoheal.Pause {
				pauses++
			}
		case journal.RestartCounted:
			if p.Count > 1 {
				t.Errorf("%d crashes are counted against %s", p.Count, p.Workload)
			}
		}
	}
	if opened[autoheal.RefImage] != 1 || opened[autoheal.RefWorkload] >= commonMost+commonLeast || pauses != 0 {
		t.Errorf("incidents %v, %d pauses", opened, pauses)
	}
	if alerts["common-cause"] != 1 || alerts["objective-missed"] != 1 || alerts["needs-a-person"] != 0 || alerts["crash-loop"] > commonMost {
		t.Errorf("alerts %v", alerts)
	}
	for id := range w.work {
		if a := w.current(string(id)); a.State != autoheal.Running {
			t.Errorf("%s is %s", id, a.State)
		}
	}
	if n := len(w.core.ix.openIDs); n != 0 {
		t.Errorf("%d incidents are open", n)
	}
	if most := policy.Default().LongestRestartWait(); most != 5*time.Minute {
		t.Errorf("the longest backoff is %s", most)
	}
}
