package tool_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
	"autoheal.dev/autoheal/internal/tool/tooltest"
)

// recoveredIn is a recovery that took so long to run again.
func recoveredIn(class autoheal.Class, gpus int, took, objective time.Duration) autoheal.Recovery {
	ran, lost, within := autoheal.Seconds(took), float64(gpus)*took.Seconds(), took <= objective
	return autoheal.Recovery{
		Workload: "wl-x", Class: class, Step: autoheal.StepDone, End: autoheal.EndRecovered, GPUs: gpus, ObjectiveSeconds: autoheal.Seconds(objective),
		TimeToSafeSeconds: &ran, TimeToRunningSeconds: &ran, WithinObjective: &within, GPUSecondsLost: &lost,
	}
}

// TestReport: percentiles by nearest rank, what was given up outside its objective, what was saved against the baseline, with
// what took longer counted against it, and holds added up.
func TestReport(t *testing.T) {
	w := tooltest.Sample()
	w.History = nil
	at := tooltest.Now.Add(-time.Hour)
	for n := range 20 { // 1 to 20 minutes
		w.History = append(w.History, autoheal.Incident{
			ID: autoheal.IncidentID(fmt.Sprintf("inc-%06d", n+1)), Kind: autoheal.NodeOffline, Phase: autoheal.Recovered, Subject: autoheal.NodeRef("n2"), OpenedAt: at,
			Recoveries: []autoheal.Recovery{recoveredIn(autoheal.High, 8, time.Duration(n+1)*time.Minute, 5*time.Minute)},
		})
	}
	lost, late := 3600.0, false
	w.History[0].Recoveries = append(w.History[0].Recoveries,
		autoheal.Recovery{Class: autoheal.High, End: autoheal.EndEscalated, GPUs: 1, ObjectiveSeconds: autoheal.Seconds(5 * time.Minute), WithinObjective: &late, GPUSecondsLost: &lost},
		autoheal.Recovery{Class: autoheal.High, End: autoheal.EndLeftAlone, GPUs: 1, ObjectiveSeconds: autoheal.Seconds(5 * time.Minute), GPUSecondsLost: new(float64)})
	for n, lasted := range []time.Duration{time.Minute, 3 * time.Minute} {
		w.History[n].Holds = []autoheal.Hold{{Reason: autoheal.ReasonNoCapacity, Verb: "start", Detail: fmt.Sprint(n), From: at, To: new(at.Add(lasted))}}
	}
	w.History[2].Holds = []autoheal.Hold{{Reason: autoheal.ReasonPaused, Verb: "start", From: tooltest.Now.Add(-10 * time.Minute)}} // goes on
	w.History = append(w.History, autoheal.Incident{ID: "inc-000099", Kind: autoheal.CrashLoop, Phase: autoheal.Cleared, MergedInto: "inc-000001", Subject: autoheal.WorkloadRef("wl-x"), OpenedAt: at})

	got := mustCall[tool.ReportOut](t, w, "report_get", `{"since":"24h","baseline":"15m"}`)
	if len(got.Recoveries) != 1 {
		t.Fatalf("groups: %+v", got.Recoveries)
	}
	r := got.Recoveries[0]
	if r.Recovered != 20 || r.GivenUp != 1 || r.NotMeasured != 1 || r.Within != 5 || math.Abs(*r.WithinShare-5.0/21) > 1e-9 {
		t.Errorf("counts: %+v, share %v", r, *r.WithinShare)
	}
	for name, x := range map[string]struct {
		got  *autoheal.Seconds
		want time.Duration
	}{"p50": {r.Running.P50Seconds, 10 * time.Minute}, "p95": {r.Running.P95Seconds, 19 * time.Minute}, "max": {r.Running.MaxSeconds, 20 * time.Minute}} {
		if x.got == nil || time.Duration(*x.got) != x.want {
			t.Errorf("%s is %v, want %s", name, x.got, x.want)
		}
	}
	// Lost: 8 GPUs × (1 + … + 20) minutes, and an hour of what was given up. Saved: 8 × (20 × 15 - 210) minutes.
	if g := got.GPUHours; math.Abs(g.Lost-(8*210.0/60+1)) > 1e-9 || math.Abs(g.Saved-8*90.0/60) > 1e-9 || g.Counted != 20 || g.StillCounting != 1 {
		t.Errorf("GPU-hours: %+v", g)
	}
	if h := got.Held; len(h) != 2 || h[0].Reason != autoheal.ReasonPaused || time.Duration(h[0].TotalSeconds) != 10*time.Minute || h[1].Times != 2 ||
		h[1].Incidents != 2 || time.Duration(h[1].TotalSeconds) != 4*time.Minute || h[1].Longest != "inc-000002" || h[1].Detail != "1" {
		t.Errorf("held: %+v", h)
	}
	if o := got.Offenders; len(o) != 1 || o[0].Incidents != 20 || o[0].Score == nil || *o[0].Score != 0.5 {
		t.Errorf("offenders: %+v", o)
	}
}

// TestReportOfNothing: no incident is no failure, and none of its numbers is invented.
func TestReportOfNothing(t *testing.T) {
	w := tooltest.Sample()
	w.History = nil
	got := mustCall[tool.ReportOut](t, w, "report_get", `{}`)
	if got.Incidents != 0 || len(got.Recoveries) != 0 || got.GPUHours.Saved != 0 || tooltest.Now.Sub(got.Since) != 30*24*time.Hour {
		t.Errorf("got %+v", got)
	}
	for _, in := range []string{`{"since":"2030-01-01T00:00:00Z"}`, `{"since":"soon"}`, `{"baseline":"0s"}`} {
		if _, err := call(t, w, "report_get", in); autoheal.KindOf(err) != autoheal.ErrInvalid {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// TestPausedOverAShutdown: what a person paused, and a shutdown of the cluster ended, is neither failed nor makes the cluster
// unhealthy; what crashed is and does.
func TestPausedOverAShutdown(t *testing.T) {
	for reason, failed := range map[autoheal.ExitReason]int{autoheal.ExitShutdown: 0, autoheal.ExitCrashed: 1} {
		w := tooltest.Sample()
		w.History, w.NodeList = nil, w.NodeList[:1]
		w.Running = w.Running[:1]
		w.Running[0].State, w.Running[0].Paused, w.Running[0].Exit = autoheal.Failed, &autoheal.Mark{By: "ann"}, &autoheal.Exit{Code: -1, Signal: "SIGTERM", Reason: reason}
		st := mustCall[tool.ClusterStatusOut](t, w, "cluster_status", `{}`)
		if st.Workloads.Failed != failed || st.Healthy == (failed > 0) {
			t.Errorf("%s: %+v", reason, st)
		}
		list := mustCall[tool.WorkloadListOut](t, w, "workload_list", `{}`)
		if said := strings.Contains(list.Workloads[0].Detail, "paused by ann, and ended in order since"); said == (failed > 0) {
			t.Errorf("%s: %q", reason, list.Workloads[0].Detail)
		}
	}
}
