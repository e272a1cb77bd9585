package claw

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// withPrograms starts another life of the driver with other programs of the site.
func (f *fleet) withPrograms(t *testing.T, p Programs) {
	t.Helper()
	if err := f.Driver.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := driverOptions(f.gw, f.db, 8)
	o.Programs = func() Programs { return p }
	f.Driver = startDriver(t, o)
	settle(time.Second)
}

func (f *fleet) act(t *testing.T, a autoheal.Action) autoheal.Result {
	t.Helper()
	a.Epoch, a.Actor, a.Reason = 8, autoheal.ActorEngine, "test"
	return f.Do(t.Context(), a)
}

func sh(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script}, args...)
}

// A site without programs offers what needs none: a reset, by the node's own tool.
func TestWithoutPrograms(t *testing.T) {
	inFleet(t, 1, 1, func(t *testing.T, f *fleet) {
		f.withPrograms(t, Programs{})
		n := f.viewOf("n1")
		for v, want := range map[autoheal.Verb]bool{autoheal.ResetGPU: true, autoheal.Test: false, autoheal.Reboot: false, autoheal.Fence: false} {
			if got := slices.Contains(f.Capabilities().Verbs, v); got != want || n.Supports(v) != want {
				t.Errorf("%s: offered %v, on the node %v", v, got, n.Supports(v))
			}
		}
		if r := f.act(t, autoheal.Action{ID: "inc-1/1", Verb: autoheal.Fence, Target: autoheal.NodeRef("n1")}); r.Err == nil || r.Err.Kind != autoheal.ErrUnsupported {
			t.Errorf("%+v", r)
		}
	})
}

func (f *fleet) viewOf(id autoheal.NodeID) *autoheal.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.viewLocked(f.nodes[id])
}

// A power-off that is not confirmed is tried three times, proves nothing and quotes the program; one that cannot be started
// certainly did nothing.
func TestFenceIsNotConfirmed(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		tries := filepath.Join(t.TempDir(), "tries")
		f.withPrograms(t, Programs{Fence: sh(`cat >>"$0"; echo; echo "BMC of gpu-7: 401"; exit 1`, tries)})
		r := f.act(t, autoheal.Action{ID: "inc-1/1", Incident: "inc-1", Verb: autoheal.Fence, Target: autoheal.NodeRef("n1")})
		if r.Outcome != autoheal.OutcomeUnknown || r.Proof != "" || r.Err == nil || !strings.Contains(r.Err.Error(), "BMC of gpu-7: 401") || !strings.Contains(r.Err.Error(), "exit status 1") {
			t.Errorf("%+v, %v", r, r.Err)
		}
		told, err := os.ReadFile(tries)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(told), `"verb":"fence","node":"n1","bootId":"n1-boot-1"`); n != fenceTries {
			t.Errorf("tried %d times: %s", n, told)
		}
		f.withPrograms(t, Programs{Fence: []string{"/no/such/program"}})
		r = f.act(t, autoheal.Action{ID: "inc-1/2", Verb: autoheal.Fence, Target: autoheal.NodeRef("n1")})
		if r.Outcome != autoheal.OutcomeNotSent || r.Err == nil || !strings.Contains(r.Err.Error(), "cannot be started") {
			t.Errorf("%+v, %v", r, r.Err)
		}
	})
}

// A node is kept empty for its reboot, and takes work again when the program fails; a silent one cannot be asked.
func TestRebootHoldsItsNode(t *testing.T) {
	inFleet(t, 2, 0, func(t *testing.T, f *fleet) {
		f.withPrograms(t, Programs{Reboot: sh("exit 3"), RebootTime: time.Minute})
		reboot := autoheal.Action{ID: "inc-1/1", Verb: autoheal.Reboot, Target: autoheal.Ref{Kind: autoheal.RefNode, ID: "n1", Generation: "n1-boot-1"}}
		if r := f.act(t, reboot); r.Outcome != autoheal.OutcomeUnknown || r.Err == nil {
			t.Errorf("%+v", r)
		}
		if got, want := f.agents["n1"].holds, []int64{(time.Minute + rebootHold).Milliseconds(), 0}; !slices.Equal(got, want) {
			t.Errorf("asked to stay empty for %v ms, want %v", got, want)
		}
		f.gw.isolate(f.agents["n2"], true)
		settle(30 * time.Second)
		f.opts.Programs = func() Programs { return Programs{Reboot: sh("exit 0"), RebootTime: time.Minute} }
		reboot.ID, reboot.Target = "inc-1/2", autoheal.Ref{Kind: autoheal.RefNode, ID: "n2", Generation: "n2-boot-1"}
		if r := f.act(t, reboot); r.Outcome != autoheal.OutcomeDone || len(f.agents["n2"].holds) != 0 {
			t.Errorf("of a silent and empty node: %+v", r)
		}
	})
}

// What a node is asked for is of the GPU, of what it concerns, or of all that runs there; captures are bounded by bytes.
func TestEvidenceIsAskedForAndBounded(t *testing.T) {
	inFleet(t, 1, 1, func(t *testing.T, f *fleet) {
		gpu := autoheal.Ref{Kind: autoheal.RefGPU, ID: "n1-g0"}
		f.do(t, autoheal.Action{ID: "inc-4/1", Incident: "inc-4", Verb: autoheal.Collect, Target: gpu, Params: autoheal.ActionParams{For: "wl-1", Force: true}})
		if got, want := f.agents["n1"].asked, (nodeproto.CollectRequest{Epoch: 7, Action: "inc-4/1", Workload: "wl-1", GPU: "n1-g0", Dump: true}); got != want {
			t.Errorf("asked %+v, want %+v", got, want)
		}
		f.do(t, autoheal.Action{ID: "inc-4/2", Incident: "inc-4", Verb: autoheal.Collect, Target: autoheal.NodeRef("n1")})
		if got := f.agents["n1"].asked; !got.Whole || got.GPU != "" {
			t.Errorf("asked %+v", got)
		}
		got, err := f.Captures(t.Context(), "inc-4")
		if err != nil || len(got) != 2 || got[0].Target != gpu || got[0].Parts[0] != (autoheal.Part{Name: "gpu", Text: "report"}) || got[1].Parts[1].Name != "kernel" {
			t.Fatalf("%+v, %v", got, err)
		}
		half := map[string]string{"kernel": strings.Repeat("x", keepEvidenceBytes/2)}
		for i := range 3 {
			a := autoheal.Action{ID: autoheal.ActionID(fmt.Sprintf("inc-5/%d", i)), Incident: "inc-5"}
			if err := f.saveLocked(t.Context(), keepCapture(a, "n1", half, time.Now())...); err != nil {
				t.Fatal(err)
			}
		}
		old, err := f.Captures(t.Context(), "inc-4")
		now, err2 := f.Captures(t.Context(), "inc-5")
		if err != nil || err2 != nil || len(old) != 0 || len(now) != 1 || now[0].Action != "inc-5/2" {
			t.Errorf("%d and %d captures are left (%v, %v)", len(old), len(now), err, err2)
		}
	})
}

// gpu_health is 1, 0.5 or 0, under the label keys that the tools' contract names; what is unknown has no sample.
func TestGPUHealthMetric(t *testing.T) {
	inFleet(t, 2, 4, func(t *testing.T, f *fleet) {
		a := f.agents["n1"]
		a.mu.Lock()
		for i, h := range []autoheal.Health{autoheal.HealthOK, autoheal.HealthDegraded, autoheal.HealthFailed, autoheal.HealthUnknown} {
			a.status.GPUs[i].Health = h
		}
		a.changeLocked(nodeproto.Change{Node: &a.status})
		a.mu.Unlock()
		settle(time.Second)
		got := map[string]float64{}
		for s, err := range f.Metrics(t.Context(), autoheal.MetricQuery{Metric: "gpu_health", Labels: map[string]string{"node_id": "n1"}}) {
			if err != nil || len(s.Points) != 1 || s.Labels["simulated"] != "true" {
				t.Fatalf("%+v, %v", s, err)
			}
			got[s.Labels["gpu"]] = s.Points[0].Value
		}
		if want := map[string]float64{"n1-g0": 1, "n1-g1": 0.5, "n1-g2": 0}; !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}
