package heal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// TestNewestAction finds, in an incident with many actions, what looking at all of them finds.
func TestNewestAction(t *testing.T) {
	c := NewCore(Life{}, actPolicy(t))
	i := &incident{ID: "inc-000001"}
	verbs := []autoheal.Verb{autoheal.Start, autoheal.Cordon, autoheal.Uncordon}
	for n := range 3 * fewActions {
		a := &action{}
		a.ID = autoheal.ActionID(fmt.Sprintf("%s/%d", i.ID, n+1))
		a.Verb, a.Target = verbs[n%3], autoheal.NodeRef(autoheal.NodeID(fmt.Sprint("n", n*n%7)))
		i.Actions = append(i.Actions, a)
		for _, verb := range verbs {
			for m := range 8 {
				target := autoheal.NodeRef(autoheal.NodeID(fmt.Sprint("n", m)))
				if got, want := c.newestAction(i, verb, target), i.lookThrough(verb, target); got != want {
					t.Fatalf("after %d actions: the newest %s of %s is %v, want %v", n+1, verb, target, got, want)
				}
			}
		}
	}
}

// TestPostMortemOfThousands tells of what is not back, and counts the rest.
func TestPostMortemOfThousands(t *testing.T) {
	began := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	i := &incident{
		ID: "inc-000001", Kind: autoheal.NodeOffline, Subject: autoheal.Ref{Kind: autoheal.RefDomain, ID: "zone/z1"}, Since: began, Opened: began,
		Recoveries: map[autoheal.WorkloadID]*recovery{},
	}
	for n := range 3 * mostRows {
		rec := &recovery{Step: autoheal.StepDone, End: autoheal.EndRecovered}
		rec.Attempts = []int{1}
		rec.Workload = autoheal.WorkloadID(fmt.Sprintf("wl-%04d", n))
		i.Order, i.Recoveries[rec.Workload] = append(i.Order, rec.Workload), rec
		i.Timeline = append(i.Timeline, autoheal.Moment{At: began, Type: "held", Text: "a moment"})
	}
	i.Recoveries["wl-2999"].End = autoheal.EndEscalated
	text := postMortem(i)
	if n := strings.Count(text, "And 2000 more."); n != 2 {
		t.Errorf("%d of two lists say that there are 2000 more", n)
	}
	if !strings.Contains(text, "| wl-2999 |") {
		t.Error("the one that needs a person is left out")
	}
	if n := strings.Count(text, "\n"); n > 2*mostRows+100 {
		t.Errorf("it has %d lines", n)
	}
}
