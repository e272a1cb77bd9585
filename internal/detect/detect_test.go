package detect

import (
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// fakeView holds what the detectors look up.
type fakeView struct {
	on   map[autoheal.NodeID][]*autoheal.Workload
	gang map[autoheal.GangID][]*autoheal.Workload

	pending map[autoheal.WorkloadID]time.Time
	missing string
	node    map[autoheal.NodeID]*autoheal.Node
	said    map[autoheal.WorkloadID][]autoheal.Signal
}

func (v fakeView) Policy() *policy.Policy                        { return policy.Default() }
func (v fakeView) Node(id autoheal.NodeID) *autoheal.Node        { return v.node[id] }
func (v fakeView) Said(id autoheal.WorkloadID) []autoheal.Signal { return v.said[id] }
func (v fakeView) Catalogue() *Catalogue                         { return CatalogueOf(v.Policy()) }
func (v fakeView) Workload(id autoheal.WorkloadID) *autoheal.Workload {
	for _, ws := range v.gang {
		for _, w := range ws {
			if w.ID == id {
				return w
			}
		}
	}
	return nil
}
func (v fakeView) WorkloadsOn(n autoheal.NodeID) []*autoheal.Workload { return v.on[n] }
func (v fakeView) Gang(g autoheal.GangID) []*autoheal.Workload        { return v.gang[g] }
func (v fakeView) NodeOfGPU(autoheal.GPUID) *autoheal.Node            { return nil }
func (v fakeView) Xids(autoheal.GPUID) []Xid                          { return nil }
func (v fakeView) XidsOf(string) []Xid                                { return nil }

func (v fakeView) PendingSince(id autoheal.WorkloadID) time.Time { return v.pending[id] }
func (v fakeView) Missing([]*autoheal.Workload) string           { return v.missing }

func found(v View, c Change) []autoheal.Finding {
	var out []autoheal.Finding
	for _, d := range All() {
		out = append(out, d.Detect(v, c, time.Unix(1000, 0))...)
	}
	return out
}

func TestSilenceIsClaimedOnceAndWithdrawn(t *testing.T) {
	w := &autoheal.Workload{ID: "wl-1", Attempt: 2}
	v := fakeView{on: map[autoheal.NodeID][]*autoheal.Workload{"n1": {w}}}
	up := &autoheal.Node{ID: "n1", BootID: "b", Link: autoheal.LinkUp}
	silent := &autoheal.Node{ID: "n1", BootID: "b", Link: autoheal.LinkSilent, LastSeen: time.Unix(990, 0)}
	unknown := &autoheal.Node{ID: "n1", BootID: "b", Link: autoheal.LinkUnknown}

	fs := found(v, Change{NodeBefore: up, Node: silent})
	if len(fs) != 1 || fs[0].Kind != autoheal.NodeOffline || fs[0].Conclusive || !fs[0].Since.Equal(silent.LastSeen) {
		t.Fatalf("silence: %+v", fs)
	}
	if len(fs[0].Affected) != 1 || fs[0].Affected[0] != w.Ref() {
		t.Errorf("affected: %v", fs[0].Affected)
	}
	if fs := found(v, Change{NodeBefore: silent, Node: silent}); len(fs) != 0 {
		t.Errorf("the same silence twice: %+v", fs)
	}
	if fs := found(v, Change{NodeBefore: silent, Node: up}); len(fs) != 1 || !fs[0].Withdrawn {
		t.Errorf("contact: %+v", fs)
	}
	if fs := found(v, Change{NodeBefore: up, Node: unknown}); len(fs) != 0 {
		t.Errorf("an unknown link is neither sick nor well: %+v", fs)
	}
}

func TestWhichEndsAreFailures(t *testing.T) {
	ended := func(reason autoheal.ExitReason, change func(*autoheal.Workload)) *autoheal.Workload {
		w := &autoheal.Workload{ID: "wl-1", Attempt: 1, State: autoheal.Failed, Desired: autoheal.DesiredRunning, Exit: &autoheal.Exit{Code: 1, Reason: reason}}
		if change != nil {
			change(w)
		}
		return w
	}
	for _, c := range []struct {
		name string
		w    *autoheal.Workload
		want bool
	}{
		{"crash", ended(autoheal.ExitCrashed, nil), true},
		{"could not be started", ended(autoheal.ExitStartFailed, nil), true},
		{"its shim was killed", ended(autoheal.ExitShimKilled, nil), true},
		{"it stopped itself", ended(autoheal.ExitSelfStop, nil), true},
		{"the node booted", ended(autoheal.ExitRebooted, nil), true},
		{"drained", ended(autoheal.ExitDrained, nil), false},
		{"the cluster was stopped in order", ended(autoheal.ExitShutdown, nil), false},
		{"ran as long as it may", ended(autoheal.ExitMaxRuntime, nil), false},
		{"given up by us", ended(autoheal.ExitSuperseded, nil), false},
		{"its owner stopped it", ended(autoheal.ExitStopped, func(w *autoheal.Workload) { w.Desired = autoheal.DesiredCancelled }), false},
		{"paused", ended(autoheal.ExitCrashed, func(w *autoheal.Workload) { w.Paused = &autoheal.Mark{By: "ann"} }), false},
		{"somebody else's", ended(autoheal.ExitCrashed, func(w *autoheal.Workload) { w.Owner = &autoheal.Ref{Kind: autoheal.RefWorkload, ID: "argo"} }), false},
		{"heal off", ended(autoheal.ExitCrashed, func(w *autoheal.Workload) { w.Options.Heal = autoheal.HealOff }), false},
		{"completed", ended(autoheal.ExitCompleted, func(w *autoheal.Workload) { w.State = autoheal.Succeeded }), false},
	} {
		fs := found(fakeView{}, Change{Workload: c.w})
		if (len(fs) == 1) != c.want {
			t.Errorf("%s: %+v", c.name, fs)
		}
		if len(fs) == 1 && (!fs[0].Conclusive || fs[0].Subject != c.w.Ref()) {
			t.Errorf("%s: %+v", c.name, fs[0])
		}
	}
}

func TestAGangFailsAsOne(t *testing.T) {
	a := &autoheal.Workload{ID: "g-0", Gang: "g", Attempt: 3, State: autoheal.Failed, Desired: autoheal.DesiredRunning, Exit: &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed}}
	b := &autoheal.Workload{ID: "g-1", Gang: "g", Rank: 1, Attempt: 3, State: autoheal.Running, Desired: autoheal.DesiredRunning}
	fs := found(fakeView{gang: map[autoheal.GangID][]*autoheal.Workload{"g": {a, b}}}, Change{Workload: a})
	if len(fs) != 1 || fs[0].Subject.Kind != autoheal.RefGang || fs[0].Subject.ID != "g" || len(fs[0].Affected) != 2 {
		t.Fatalf("%+v", fs)
	}
}

func TestDescribeExit(t *testing.T) {
	w := func(e autoheal.Exit) *autoheal.Workload {
		return &autoheal.Workload{Request: autoheal.Resources{MemoryMB: 100}, Exit: &e}
	}
	for want, e := range map[string]autoheal.Exit{
		"exit code 3": {Code: 3, Reason: autoheal.ExitCrashed},
		`exit code 1, its last line was "ValueError: bad \x1b[31mshape"`:                      {Code: 1, Reason: autoheal.ExitCrashed, Detail: "Traceback\n  File\nValueError: bad \x1b[31mshape\n"},
		"out of memory at its own limit of 100 MiB (killed by SIGKILL)":                       {Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostCgroup, Reason: autoheal.ExitCrashed, Detail: "killed by the kernel"},
		"killed because the node ran out of memory, not at its own limit (killed by SIGKILL)": {Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostGlobal, Reason: autoheal.ExitCrashed},
		"could not be started: no such file":                                                  {Code: -1, Reason: autoheal.ExitStartFailed, Detail: "no such file"},
		"could not be started: exec /x: no such file":                                         {Code: -1, Reason: autoheal.ExitStartFailed, Detail: "program could not be started: exec /x: no such file"},
		"its machine was rebooted":                                                            {Code: -1, Reason: autoheal.ExitRebooted},
		"the shim that owned it was killed, and it with it (killed by SIGKILL)":               {Code: -1, Signal: "SIGKILL", Reason: autoheal.ExitShimKilled},
		"it stopped itself: its deadline passed without contact (exit code 1)":                {Code: 1, Reason: autoheal.ExitSelfStop},
		"ended by superseded": {Code: -1, Reason: autoheal.ExitSuperseded},
	} {
		if got := DescribeExit(w(e)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	long := DescribeExit(w(autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed, Detail: strings.Repeat("é", 500)}))
	if len(long) > 260 {
		t.Errorf("%d bytes", len(long))
	}
}

// A warning of the kernel proves something only where it asks for no more than that the application starts anew.
func TestProven(t *testing.T) {
	gpu, node := autoheal.Ref{Kind: autoheal.RefGPU, ID: "GPU-1"}, autoheal.NodeRef("n1")
	for _, c := range []struct {
		s    autoheal.Signal
		want bool
	}{
		{autoheal.Signal{Source: "kmsg", Subject: gpu, Action: autoheal.AdviceResetGPU, Conclusive: true}, true},
		{autoheal.Signal{Source: "kmsg", Subject: gpu, Action: autoheal.AdviceRestartApp}, true},
		{autoheal.Signal{Source: "kmsg", Subject: gpu, Action: autoheal.AdviceResetGPU}, false},
		{autoheal.Signal{Source: "kmsg", Subject: node, Action: autoheal.AdviceRestartApp}, false},
		{autoheal.Signal{Source: "workload", Subject: gpu, Action: autoheal.AdviceRestartApp}, false},
	} {
		if got := Proven(&c.s); got != c.want {
			t.Errorf("%+v: %v", c.s, got)
		}
	}
}
