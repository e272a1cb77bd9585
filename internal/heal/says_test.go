package heal

import (
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// TestWhyNot: what is not wanted is not said to be started again.
func TestWhyNot(t *testing.T) {
	for name, tc := range map[string]struct {
		w    autoheal.Workload
		want string
	}{
		"runs":      {autoheal.Workload{State: autoheal.Running}, ""},
		"crashed":   {autoheal.Workload{State: autoheal.Failed}, ""},
		"succeeded": {autoheal.Workload{State: autoheal.Succeeded}, "ended: there is nothing to heal"},
		"stopped":   {autoheal.Workload{State: autoheal.Running, Desired: autoheal.DesiredCancelled}, "stopped for good"},
		"paused":    {autoheal.Workload{ID: "wl-7", State: autoheal.Running, Paused: &autoheal.Mark{By: "ann"}}, "paused by ann: no new attempt is started, whatever happens to it, until autoheal workloads resume wl-7"},
		"off":       {autoheal.Workload{State: autoheal.Running, Options: autoheal.WorkloadOptions{Heal: autoheal.HealOff}}, "left alone"},
	} {
		if tc.w.Desired == "" {
			tc.w.Desired = autoheal.DesiredRunning
		}
		got := whyNot(&tc.w)
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestThenMovedCounts(t *testing.T) {
	for n, want := range []string{"no workload that would be moved", "its 1 workload is moved", "its 2 workloads are moved"} {
		if got := thenMoved(n); !strings.Contains(got, want) {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

// TestPostMortemOfWhatIsUnderWay: read before the end, it neither says that nobody was affected nor that nothing is to do,
// and no time in it is finer than a millisecond.
func TestPostMortemOfWhatIsUnderWay(t *testing.T) {
	overlap := 85*time.Second + 309472445*time.Nanosecond
	i := &incident{
		Kind: autoheal.CrashLoop, Subject: autoheal.WorkloadRef("wl-1"), ID: "inc-000002", Phase: autoheal.Recovering,
		Order: []autoheal.WorkloadID{"wl-1"}, Recoveries: map[autoheal.WorkloadID]*recovery{
			"wl-1": {RecoveryOpened: journal.RecoveryOpened{Workload: "wl-1", Members: []autoheal.WorkloadID{"wl-1"}, Attempts: []int{1}}, Step: autoheal.StepStopping, Overlap: &overlap},
		},
	}
	got := postMortem(i)
	for _, want := range []string{"Of what had ended before its time: 1 under way.", "| under way |", "copy 1m25.309s.", "Watch whether it stays up: `autoheal incidents show inc-000002 --watch`"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	for _, lie := range []string{"that had ended was to be", "nobody is needed"} {
		if strings.Contains(got, lie) {
			t.Errorf("it says %q:\n%s", lie, got)
		}
	}
}

// TestUsualStart: the median of the last five starts of an image, once there are five; what is older is forgotten.
func TestUsualStart(t *testing.T) {
	c := NewCore(Life{}, policy.Default())
	w := &autoheal.Workload{Name: "llm", Image: "vllm:1", Class: autoheal.Critical}
	for n, took := range []time.Duration{time.Hour, 10 * time.Second, 50 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second} {
		if usual, known := c.usualStart(w); known != (n >= 5) {
			t.Errorf("after %d starts: %s, %v", n, usual, known)
		}
		c.d.countStart(journal.Running{Like: startedLike(w), Took: took})
	}
	usual, _ := c.usualStart(w)
	if usual != 30*time.Second {
		t.Errorf("the median is %s", usual)
	}
	if _, known := c.usualStart(&autoheal.Workload{Name: "llm", Image: "host"}); known {
		t.Error("a process of the node is taken for the image")
	}
	w.AtMostOnce = false
	if got := c.pol.StartWarnings(w, usual); len(got) != 0 { // grace 30 s and 30 s to start are the minute
		t.Errorf("warned without reason: %q", got)
	}
	if got := c.pol.StartWarnings(w, usual+time.Second); len(got) != 1 || !strings.Contains(got[0], "median of the last 5 starts of its like is 31s") {
		t.Errorf("got %q", got)
	}
}

// TestPostMortemSaysTheCauseOnce: in a section of its own; what follows says what else there was.
func TestPostMortemSaysTheCauseOnce(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{"config autoHeal.workload.maxRestarts=0", "nodes n1", "run wl-a on=n1", "sync", "exit wl-a code=7"} {
		w.do(line)
	}
	got := postMortem(w.core.d.Incidents["inc-000001"])
	if n := strings.Count(got, "exit code 7"); n != 1 {
		t.Errorf("the cause is said %d times:\n%s", n, got)
	}
	for _, want := range []string{"paused: 1 crash, and at most 0 restarts are allowed |", "alert needs-a-person (critical)\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}

// TestNextOfWhatIsLeft: what a person dismissed is not said to be well, and a symptom leads to its cause.
func TestNextOfWhatIsLeft(t *testing.T) {
	i := &incident{ID: "inc-000003", Kind: autoheal.NodeOffline, Subject: autoheal.NodeRef("n1"), Phase: autoheal.Dismissed, Ended: time.Unix(1, 0)}
	if got := nextSteps(i); len(got) != 1 || !strings.Contains(got[0].Do, "a person dismissed it") || len(recommend(i)) != 0 {
		t.Errorf("dismissed: %v, %v", got, recommend(i))
	}
	i.Phase, i.MergedInto = autoheal.Cleared, "inc-000001"
	if got := nextSteps(i); len(got) != 1 || got[0].Command != "autoheal incidents show inc-000001" {
		t.Errorf("a symptom: %v", got)
	}
	i.MergedInto, i.Phase = "", autoheal.Recovering
	i.Held = &autoheal.Held{Reason: autoheal.ReasonBudgetConcurrent, Detail: "1 of at most 1", On: "budget/contain"}
	i.Holds = []autoheal.Hold{{Target: i.Subject, Verb: "cordon"}}
	if got := nextSteps(i); len(got) != 2 || got[1].Command != "autoheal cordon n1" {
		t.Errorf("held by a budget: %v", got)
	}
}

// TestGateSteps: every reason leads to something to do, and none to a command that lacks its target.
func TestGateSteps(t *testing.T) {
	i := &incident{ID: "inc-000001", Kind: autoheal.GPUFailure, Subject: autoheal.Ref{Kind: autoheal.RefGPU, ID: "GPU-1"}, Holds: []autoheal.Hold{{Target: autoheal.WorkloadRef("wl-a"), Verb: "start"}}}
	for reason, want := range map[autoheal.Reason]string{
		autoheal.ReasonPaused: "autoheal resume", autoheal.ReasonApprovalNeeded: "autoheal approve app-000001", autoheal.ReasonFenceUnproven: "autoheal fence confirm n1 --powered-off",
		autoheal.ReasonObserverSuspect: "autoheal release inc-000009", autoheal.ReasonNoCapacity: "autoheal nodes", autoheal.ReasonBudgetRate: "autoheal workloads resume wl-a",
		autoheal.ReasonAutonomySuggest: "autoheal workloads resume wl-a", autoheal.ReasonSettling: "autoheal incidents show inc-000001 --watch", autoheal.ReasonForeignOwner: "",
	} {
		on := map[autoheal.Reason]string{autoheal.ReasonApprovalNeeded: "approval/app-000001", autoheal.ReasonFenceUnproven: "node/n1"}[reason]
		got := gateStep(i, autoheal.WorkloadRef("wl-a"), "so that wl-a gets off the failed GPU", autoheal.Held{Reason: reason, On: on, Detail: "confirm with autoheal release inc-000009"})
		if got.Command != want || !strings.Contains(got.Do, "so that wl-a gets off the failed GPU") {
			t.Errorf("%s: %q, %q", reason, got.Do, got.Command)
		}
	}
}
