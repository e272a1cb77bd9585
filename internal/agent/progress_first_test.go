package agent

import (
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// The first line of an attempt can be older than the note of its start, and is progress of it all the same.
func TestFirstStepBeforeTheNoteOfTheStart(t *testing.T) {
	v := &view{state: nodeproto.AttemptExited}
	v.status.Started = int64(10 * time.Second)
	at := &attempt{view: v, checks: &checkView{}, dir: t.TempDir()}
	p := &autoheal.ProgressSpec{Kind: autoheal.CheckLog, Pattern: "step", Stall: 5 * time.Second, Startup: 10 * time.Minute}
	a := &Agent{}
	a.judgeProgress(at, p, 16*time.Second, 10*time.Second-time.Millisecond, 0, nil)
	if at.checks.Progress.Reason == "" {
		t.Error("a stall after the first step is not found")
	}
}
