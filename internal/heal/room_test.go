package heal

import (
	"slices"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
)

// TestWhoWouldGiveWay: a dry run and why say who would be stopped, for whom, and what holds it, and nothing is done.
func TestWhoWouldGiveWay(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{
		"config autoHeal.autonomy.preempt=approve", "nodes n1 n2 gpus=2", "run wl-batch on=n1 gpus=2 prio=20 preemptible=1",
		"run wl-other on=n2 gpus=2 prio=30 preemptible=1", "run wl-llm on=n2 class=critical kind=service twice=1 prio=95", "sync",
		"wait wl-vip class=critical kind=service twice=1 gpus=2 prio=95", "advance 11s",
	} {
		w.do(line)
	}
	before := len(w.log)
	r := w.core.Step(Input{Now: w.now, Commands: []autoheal.Command{{ID: "p", Verb: autoheal.CmdPlan, Actor: "ann"}}})
	if len(r.Records) != 0 || len(r.Actions) != 0 || len(w.log) != before {
		t.Fatalf("a dry run did something: %v %v", r.Records, r.Actions)
	}
	at := slices.IndexFunc(r.Replies[0].Plan, func(p autoheal.Planned) bool { return p.Verb == "preempt" })
	if at < 0 {
		t.Fatalf("the plan says nothing of preemption: %+v", r.Replies[0].Plan)
	}
	p := r.Replies[0].Plan[at]
	held := slices.ContainsFunc(p.Held, func(h autoheal.Held) bool { return h.Reason == autoheal.ReasonApprovalNeeded })
	if p.Target.ID != "wl-vip" || p.Text != "stop wl-batch (2 GPUs) for wl-vip on n1" || !held {
		t.Errorf("planned: %+v", p)
	}
	for id, want := range map[autoheal.WorkloadID]string{
		"wl-vip": "this would give way to it: wl-batch", "wl-batch": "It may be stopped for a workload of priority 30 or more",
	} {
		why, err := w.core.why(autoheal.WorkloadRef(id))
		if err != nil || !strings.Contains(strings.Join(why.Text, "\n"), want) {
			t.Errorf("why %s does not say %q (%v): %q", id, want, err, why.Text)
		}
	}
}

// TestServeAsksBeforeItPreempts: the profile of serve asks a person, that of up does not (behaviour D6).
func TestServeAsksBeforeItPreempts(t *testing.T) {
	for profile, want := range map[string]bool{"act": true, "serve": false} {
		w := newWorld(t)
		w.pol = w.pol.WithProfile(profile)
		w.core = NewCore(w.core.life, w.pol)
		for _, line := range []string{
			"nodes n1 gpus=2", "run wl-batch on=n1 gpus=2 prio=20 preemptible=1", "sync",
			"wait wl-vip class=critical kind=service twice=1 gpus=2 prio=95", "advance 11s",
		} {
			w.do(line)
		}
		if got := w.current("wl-vip").State == autoheal.Running; got != want {
			t.Errorf("%s: the urgent one runs: %v", profile, got)
		}
		if asked := len(w.core.d.Approvals) > 0; asked == want {
			t.Errorf("%s: approvals asked for: %v", profile, w.core.d.Approvals)
		}
	}
}
