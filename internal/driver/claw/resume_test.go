package claw

import (
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// TestPausedOverAShutdown: what a person paused stays down after a shutdown, and starts again when it is resumed, a gang with
// one number.
func TestPausedOverAShutdown(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *fleet) {
		a := f.submit(t, "c/1", service("web"))
		g0, g1 := f.submit(t, "c/2", spec("g-0", autoheal.LabelGang, "g", autoheal.LabelGangSize, "2", autoheal.LabelRank, "0")), f.submit(t, "c/3", spec("g-1", autoheal.LabelGang, "g", autoheal.LabelGangSize, "2", autoheal.LabelRank, "1"))
		all := []autoheal.WorkloadID{a, g0, g1}
		settle(time.Second)
		for _, id := range []autoheal.WorkloadID{a, g0} {
			f.mustRun(t, id, 1)
			f.do(t, autoheal.Action{Verb: autoheal.Pause, Target: autoheal.WorkloadRef(id), Actor: "ann"})
		}
		if err := f.Shutdown(t.Context(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		f.restart(t, 8)
		settle(2 * time.Second)
		for _, id := range all {
			if w := f.last(t, id); w.Attempt != 1 || w.State != autoheal.Failed || w.Paused == nil {
				t.Errorf("%s is attempt %d, %s, paused %v", id, w.Attempt, w.State, w.Paused)
			}
		}
		for _, id := range []autoheal.WorkloadID{a, g0} {
			f.do(t, autoheal.Action{Verb: autoheal.Resume, Target: autoheal.WorkloadRef(id), Actor: "ann"})
		}
		settle(2 * time.Second)
		for _, id := range all {
			f.mustRun(t, id, 2)
		}
	})
}
