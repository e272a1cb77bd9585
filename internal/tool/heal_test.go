package tool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
	"autoheal.dev/autoheal/internal/tool/tooltest"
)

// healed ends both open incidents of the sample: train moved to n3, crash restarted where it was.
func healed(w *tooltest.World) {
	for i := range w.History {
		inc := &w.History[i]
		if inc.Phase.Ended() {
			continue
		}
		inc.Phase, inc.Held = autoheal.Recovered, nil
		for j := range inc.Recoveries {
			r := &inc.Recoveries[j]
			r.Step, r.End, r.Held, r.To = autoheal.StepDone, autoheal.EndRecovered, nil, r.From
			if inc.Kind == autoheal.NodeOffline {
				r.To = "n3"
			}
		}
	}
}

func moving(w *tooltest.World) {
	for i := range w.History {
		w.History[i].Held = nil
		for j := range w.History[i].Recoveries {
			w.History[i].Recoveries[j].Held = nil
		}
	}
}

// TestHealRunFollows runs the whole run in virtual time: it returns when the last incident has ended, not before, and
// reports as the product says.
func TestHealRunFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := tooltest.Sample()
		w.Change(autoheal.Change{}, moving)
		began := time.Now()
		go func() {
			time.Sleep(90 * time.Second)
			w.Change(autoheal.Change{Type: "incident_phase"}, healed)
		}()
		out := mustCall[tool.HealRunOut](t, w, "heal_run", `{}`)
		if took := time.Since(began); took != 90*time.Second {
			t.Errorf("it returned after %s, the incidents ended after 90s", took)
		}
		want := []string{"Cordoned 1 unhealthy node", "Migrated 1 workload", "Restarted 1 failed workload", "Recommend: Investigate n2 hardware", "Recommend: Power n2 off, then: autoheal fence confirm n2 --powered-off"}
		if !slices.Equal(out.Report, want) {
			t.Errorf("report:\n got %q\nwant %q", out.Report, want)
		}
		if out.Alert == nil || out.Alert.Name != "auto-heal-complete" || out.Alert.Severity != autoheal.SeverityInfo || out.Alert.Message != "Auto-heal: 1 nodes cordoned, 2 workloads restarted" {
			t.Errorf("alert: %+v", out.Alert)
		}
		if out.TimedOut || out.NeedsPerson {
			t.Errorf("timed out %t, needs person %t", out.TimedOut, out.NeedsPerson)
		}
		steps := make([]int, 0, len(out.Steps))
		for _, s := range out.Steps {
			steps = append(steps, s.Step)
		}
		if !slices.Equal(slices.Compact(slices.Clone(steps)), []int{1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("steps %v, want each of 1 to 7 in order", steps)
		}
	})
}

// TestHealRunMissedChange ends although nobody said that anything changed: a lost change delays and never hangs.
func TestHealRunMissedChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := tooltest.Sample()
		w.Change(autoheal.Change{}, moving)
		w.OnCommand = func(w *tooltest.World, c autoheal.Command) {
			if c.Verb == autoheal.CmdExamine {
				healed(w)
			}
		}
		out := mustCall[tool.HealRunOut](t, w, "heal_run", `{}`)
		if out.TimedOut || len(out.WorkloadsMigrated) != 1 {
			t.Errorf("%+v", out)
		}
	})
}

func TestHealRunEnds(t *testing.T) {
	for _, tc := range []struct {
		name        string
		prepare     func(*tooltest.World)
		in          string
		after       time.Duration
		timedOut    bool
		needsPerson bool
		alerts      int
	}{
		{"timeout", moving, `{"timeoutSeconds":60}`, time.Minute, true, false, 1},
		{"all held", func(w *tooltest.World) {
			w.History[2].Held = &autoheal.Held{Reason: autoheal.ReasonNoCapacity, On: "capacity"}
			w.History[2].Recoveries[0].Held = w.History[2].Held
		}, `{}`, 0, false, true, 1},
		{"one moves while another is held", func(*tooltest.World) {}, `{"timeoutSeconds":30}`, 30 * time.Second, true, true, 1},
		{"held until a time is followed", func(w *tooltest.World) {
			moving(w)
			w.History = w.History[2:]
			w.History[0].Held = &autoheal.Held{Reason: autoheal.ReasonBackoff, Until: tooltest.Now.Add(time.Second)}
			w.History[0].Recoveries[0].Held = w.History[0].Held
		}, `{"timeoutSeconds":10}`, 10 * time.Second, true, false, 0},
		{"nothing to do", func(w *tooltest.World) { w.History = nil }, `{}`, 0, false, false, 0},
		{"nothing to do, always alert", func(w *tooltest.World) { w.History = nil }, `{"alwaysAlert":true}`, 0, false, false, 1},
		{"healer paused", func(w *tooltest.World) {
			moving(w)
			w.Hold[autoheal.CmdExamine] = autoheal.Held{Reason: autoheal.ReasonPaused, On: "person"}
		}, `{}`, 0, true, true, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := tooltest.Sample()
				tc.prepare(w)
				began, before := time.Now(), len(w.Raised)
				out := mustCall[tool.HealRunOut](t, w, "heal_run", tc.in)
				if took := time.Since(began); took != tc.after {
					t.Errorf("it took %s, want %s", took, tc.after)
				}
				if out.TimedOut != tc.timedOut || out.NeedsPerson != tc.needsPerson || len(w.Raised)-before != tc.alerts {
					t.Errorf("timed out %t, needs person %t, %d alerts; want %t, %t, %d", out.TimedOut, out.NeedsPerson, len(w.Raised)-before, tc.timedOut, tc.needsPerson, tc.alerts)
				}
				if len(out.Report) == 0 {
					t.Error("no report")
				}
			})
		})
	}
}

// TestHealPlanChangesNothing looks at every command that a dry run sends.
func TestHealPlanChangesNothing(t *testing.T) {
	for _, name := range []string{"heal_plan", "heal_run"} {
		w := tooltest.Sample()
		in := `{}`
		if name == "heal_run" {
			in = `{"dryRun":true}`
		}
		out := mustCall[tool.HealRunOut](t, w, name, in)
		cmds := w.Commands()
		if len(cmds) != 1 || cmds[0].Verb != autoheal.CmdPlan || !cmds[0].DryRun {
			t.Errorf("%s sent %+v", name, cmds)
		}
		if len(out.Plan) != 2 || len(out.Plan[0].Held) != 2 || !out.Plan[0].WouldHold || out.Plan[1].WouldHold || out.Alert != nil {
			t.Errorf("%s: plan %+v", name, out.Plan)
		}
	}
}

// TestHealRunCancelled ends at once with its caller.
func TestHealRunCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := tooltest.Sample()
		w.Change(autoheal.Change{}, moving)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(3*time.Second, cancel)
		tl, err := tool.Find("heal_run")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = tl.Call(ctx, w.Env(), nil)
		if err == nil || time.Since(began) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		if len(w.Raised) != 2 {
			t.Error("a run that was broken off raised an alert")
		}
	})
}

// TestDrainWaits counts the workloads that left while the verb waited.
func TestDrainWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := tooltest.Sample()
		go func() {
			time.Sleep(7 * time.Second)
			w.Change(autoheal.Change{Type: autoheal.ChangeWorkload}, func(w *tooltest.World) { w.Running[3].Node = "n3" })
		}()
		began := time.Now()
		out := mustCall[tool.NodeDrainOut](t, w, "node_drain", `{"nodeId":"n1","gracePeriodSeconds":5,"force":true}`)
		if time.Since(began) != 7*time.Second || out.MigratedWorkloads != 1 || out.Remaining != 0 || out.Message != "Node n1 drained: 1 workload moved" {
			t.Errorf("after %s: %+v", time.Since(began), out)
		}
		c := w.Commands()[0]
		if c.Params.Grace != 5*time.Second || !c.Params.Force || c.Actor != "alice" || c.Role != "admin" || c.Target.Generation != "boot-1" {
			t.Errorf("command %+v", c)
		}
	})
}

// TestUnknownOutcome is no success: it may or may not have happened.
func TestUnknownOutcome(t *testing.T) {
	unknown := autoheal.OutcomeUnknown
	w := tooltest.Sample()
	h := healerWith{w, autoheal.Reply{Action: &autoheal.ActionView{ID: "cmd-000001/1", Outcome: &unknown}}}
	env := w.Env()
	env.Healer = h
	tl, err := tool.Find("workload_stop")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := tl.Call(context.Background(), env, json.RawMessage(`{"workloadId":"wl-llm"}`))
	if err != nil {
		t.Fatal(err)
	}
	var out tool.WorkloadChanged
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	if out.Success || out.Message != "cmd-000001/1: unknown: whether it happened will be seen; look again before asking again" {
		t.Errorf("%+v", out)
	}
}

type healerWith struct {
	*tooltest.World
	reply autoheal.Reply
}

func (h healerWith) Command(context.Context, autoheal.Command) (autoheal.Reply, error) {
	return h.reply, nil
}

// TestSubmitTwice: the same request is one workload, another specification under its ID is refused.
func TestSubmitTwice(t *testing.T) {
	w := tooltest.Sample()
	in := `{"name":"x","image":"host","requestId":"r1"}`
	a, b := mustCall[tool.WorkloadSubmitOut](t, w, "workload_submit", in), mustCall[tool.WorkloadSubmitOut](t, w, "workload_submit", in)
	if a.Workload.ID != b.Workload.ID {
		t.Errorf("%s and %s", a.Workload.ID, b.Workload.ID)
	}
	_, err := call(t, w, "workload_submit", `{"name":"x","image":"host","gpus":1,"requestId":"r1"}`)
	if autoheal.KindOf(err) != autoheal.ErrConflict {
		t.Errorf("another specification under the same ID: %v", err)
	}
	c := mustCall[tool.WorkloadSubmitOut](t, w, "workload_submit", `{"name":"x","image":"host"}`)
	d := mustCall[tool.WorkloadSubmitOut](t, w, "workload_submit", `{"name":"x","image":"host"}`)
	if fmt.Sprint(c.Workload.ID) == fmt.Sprint(a.Workload.ID) || c.Workload.GPUs != 0 || d.Message == "" {
		t.Errorf("%+v", c)
	}
}

// TestHiddenSpecRoundTrip: an agent that sends back the specification it was shown would wipe out the secrets.
func TestHiddenSpecRoundTrip(t *testing.T) {
	w := tooltest.Sample()
	got := mustCall[struct{ Spec json.RawMessage }](t, w, "workload_get", `{"workloadId":"llm"}`)
	_, err := call(t, w, "workload_submit", `{"spec":`+string(got.Spec)+`}`)
	if err == nil || err.Error() != "Wrong value for parameter spec.env.API_TOKEN: it is the stand-in for a hidden value; give the value itself" {
		t.Errorf("%v", err)
	}
}

// TestAmbiguousName names the candidates.
func TestAmbiguousName(t *testing.T) {
	w := tooltest.Sample()
	w.Running[0].Name = "llm"
	_, err := call(t, w, "workload_get", `{"workloadId":"llm"}`)
	if err == nil || err.Error() != "Workload name llm is not unique: use one of wl-big, wl-llm" || autoheal.KindOf(err) != autoheal.ErrConflict {
		t.Errorf("%v", err)
	}
	w.Running[0].State = autoheal.Failed // one that has ended gives way
	if out := mustCall[tool.WorkloadGetOut](t, w, "workload_get", `{"workloadId":"llm"}`); out.ID != "wl-llm" {
		t.Errorf("%s", out.ID)
	}
}
