package agent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

// jobEnded waits for the end of a job, as the node tells it.
func (n *testNode) jobEnded(id autoheal.ActionID) nodeproto.JobStatus {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		n.mu.Lock()
		changed := n.changed
		var found nodeproto.JobStatus
		for _, j := range n.nodeLocked(n.boot()).Jobs {
			if j.Action == id {
				found = j
			}
		}
		n.mu.Unlock()
		if found.State == autoheal.JobPassed || found.State == autoheal.JobFailed {
			return found
		}
		select {
		case <-changed:
		case <-deadline:
			n.t.Fatalf("job %s stays %+v", id, found)
		}
	}
}

func (n *testNode) gpu(i int) autoheal.GPU {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node.GPUs[i]
}

// healthOf waits until a GPU has a health.
func (n *testNode) awaitHealth(i int, want autoheal.Health) {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		n.mu.Lock()
		changed, got := n.changed, n.node.GPUs[i].Health
		n.mu.Unlock()
		if got == want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			n.t.Fatalf("GPU %d stays %s, want %s", i, got, want)
		}
	}
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*openclaw.Error](err); ok {
		return string(e.Code)
	}
	return ""
}

// A GPU that the kernel calls broken is reset when nobody holds it, once, by the site's program; then it is good again and
// what was said of it is taken back. Said again, it is new.
func TestRealReset(t *testing.T) {
	n, say := gpuNode(t)
	g := n.gpu(0)
	xid := "NVRM: Xid (PCI:" + g.PCI[:len(g.PCI)-2] + "): 119, pid=1234, name=python3, Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL) (0x20801702 0x4)."
	say(xid)
	n.awaitHealth(0, autoheal.HealthFailed)

	told := filepath.Join(t.TempDir(), "told")
	req := nodeproto.ResetRequest{Epoch: 1, Action: "inc-1/1", BootID: n.bootID, GPU: g.UUID, Program: nodeproto.Program{
		Argv: []string{"/bin/sh", "-c", `cat >>"$0"; echo "$AUTOHEAL_GPU $AUTOHEAL_SIMULATED"`, told}, TimeoutMS: patience.Milliseconds(),
	}}
	held := n.request("wl-1", 1, "idle")
	held.GPUs = []autoheal.GPUID{g.UUID}
	n.startReady(held)
	if _, err := n.doReset(t.Context(), req); codeOf(err) != nodeproto.CodeInUse || !strings.Contains(err.Error(), "attempt 1 of wl-1") {
		t.Fatalf("of a GPU that is held: %v", err)
	}
	if _, err := n.doStop(t.Context(), nodeproto.StopRequest{Epoch: 1, Workload: "wl-1", Attempt: 1, Force: true}); err != nil {
		t.Fatal(err)
	}
	n.waitFor("wl-1", 1, exited)

	if got, err := n.doReset(t.Context(), req); err != nil || !got.Accepted || got.Repeated {
		t.Fatalf("%+v, %v", got, err)
	}
	if j := n.jobEnded(req.Action); j.State != autoheal.JobPassed || !j.Simulated || j.Output != string(g.UUID)+" 1" || j.Target.ID != string(g.UUID) || j.EndedMS < 1 {
		t.Fatalf("job %+v", j)
	}
	n.awaitHealth(0, autoheal.HealthOK)
	if got, err := n.doReset(t.Context(), req); err != nil || !got.Repeated {
		t.Fatalf("again: %+v, %v", got, err)
	}
	var in programInput
	if data, err := os.ReadFile(told); err != nil || json.Unmarshal(data, &in) != nil || in.GPU == nil || in.GPU.UUID != g.UUID || in.Verb != autoheal.ResetGPU || in.Action != req.Action || !in.Simulated {
		t.Errorf("the program was told %+v, once (%v)", in, err)
	}
	say(xid)
	n.awaitHealth(0, autoheal.HealthFailed)
}

// A simulated GPU that fell off the bus does not come back by a reset that is simulated, too.
func TestRealResetOfTheLost(t *testing.T) {
	n, say := gpuNode(t)
	g := n.gpu(1)
	say("NVRM: Xid (PCI:" + g.PCI[:len(g.PCI)-2] + "): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
	n.awaitHealth(1, autoheal.HealthFailed)
	if _, err := n.doReset(t.Context(), nodeproto.ResetRequest{Epoch: 1, Action: "inc-1/1", GPU: g.UUID}); err != nil {
		t.Fatal(err)
	}
	if j := n.jobEnded("inc-1/1"); j.State != autoheal.JobFailed || !strings.Contains(j.Detail, "nvidia/xid/79") || n.gpu(1).Health != autoheal.HealthFailed {
		t.Errorf("job %+v, health %s", j, n.gpu(1).Health)
	}
	for code, req := range map[string]nodeproto.ResetRequest{
		nodeproto.CodeNotFound:   {Epoch: 1, Action: "inc-1/2", GPU: "GPU-elsewhere"},
		nodeproto.CodeOtherBoot:  {Epoch: 1, Action: "inc-1/3", GPU: g.UUID, BootID: "another"},
		nodeproto.CodeInvalid:    {Epoch: 1, GPU: g.UUID},
		nodeproto.CodeStaleEpoch: {Epoch: 0, Action: "inc-1/4", GPU: g.UUID},
	} {
		if _, err := n.doReset(t.Context(), req); codeOf(wireError(err)) != code {
			t.Errorf("%+v: %v, want %s", req, err, code)
		}
	}
}

// A test tells how it ended, whatever that is; while it runs nothing is started on its GPU, and an agent that is restarted
// meanwhile knows that it took it on.
func TestRealTest(t *testing.T) {
	n := startNode(t, testOptions(t))
	g := n.gpu(0)
	req := func(id string, target autoheal.Ref, script string, args ...string) nodeproto.TestRequest {
		return nodeproto.TestRequest{Epoch: 1, Action: autoheal.ActionID(id), Target: target, Program: nodeproto.Program{
			Argv: append([]string{"/bin/sh", "-c", script}, args...), TimeoutMS: patience.Milliseconds(),
		}}
	}
	node, gpu := autoheal.Ref{Kind: autoheal.RefNode, ID: "n1"}, autoheal.Ref{Kind: autoheal.RefGPU, ID: string(g.UUID)}
	for _, c := range []struct {
		req    nodeproto.TestRequest
		state  autoheal.JobState
		detail string
		output string
	}{
		{req("a/1", gpu, `echo "memory of $AUTOHEAL_GPU_INDEX is good"`), autoheal.JobPassed, "status 0", "memory of 0 is good"},
		{req("a/2", node, `echo "[$AUTOHEAL_GPU]"; exit 4`), autoheal.JobFailed, "exit status 4", "[]"},
		{nodeproto.TestRequest{Epoch: 1, Action: "a/3", Target: node, Program: nodeproto.Program{Argv: []string{"/no/such/test"}, TimeoutMS: 1000}}, autoheal.JobFailed, "cannot be started", ""},
		{nodeproto.TestRequest{Epoch: 1, Action: "a/4", Target: node, Program: nodeproto.Program{Argv: []string{"/bin/sleep", "1000"}, TimeoutMS: 50}}, autoheal.JobFailed, "did not end in time", ""},
	} {
		if _, err := n.doTest(t.Context(), c.req); err != nil {
			t.Fatal(err)
		}
		if j := n.jobEnded(c.req.Action); j.State != c.state || !strings.Contains(j.Detail, c.detail) || j.Output != c.output {
			t.Errorf("%s: %+v", c.req.Action, j)
		}
	}

	began := filepath.Join(t.TempDir(), "began")
	if err := unix.Mkfifo(began, 0o600); err != nil {
		t.Fatal(err)
	}
	slow := req("a/5", gpu, `echo >"$0"; exec sleep 1000`, began)
	if _, err := n.doTest(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(began); err != nil {
		t.Fatal(err)
	}
	start := n.request("wl-1", 1, "idle")
	start.GPUs = []autoheal.GPUID{g.UUID}
	if _, err := n.doStart(t.Context(), start); codeOf(err) != nodeproto.CodeGPUBusy {
		t.Errorf("a start on a GPU that is being tested: %v", err)
	}
	if _, err := n.doReboot(t.Context(), nodeproto.RebootRequest{Epoch: 1, Action: "a/6", HoldMS: 1000}); codeOf(err) != nodeproto.CodeInUse {
		t.Errorf("a reboot while a test runs: %v", err)
	}
	n.halt()
	next := startNode(t, n.opts)
	if j := next.jobEnded("a/5"); j.State != autoheal.JobFailed || !strings.Contains(j.Detail, "agent") && !strings.Contains(j.Detail, "context") {
		t.Errorf("after the agent's restart: %+v", j)
	}
	if got, err := next.doTest(t.Context(), slow); err != nil || !got.Repeated {
		t.Errorf("the same test again: %+v, %v", got, err)
	}
	if _, err := next.doStart(t.Context(), start); err != nil {
		t.Errorf("a start after the test: %v", err)
	}
}

// A node that is about to be rebooted is empty and takes nothing on.
func TestRealReboot(t *testing.T) {
	n := startNode(t, testOptions(t))
	n.startReady(n.request("wl-1", 1, "idle"))
	req := nodeproto.RebootRequest{Epoch: 1, Action: "a/1", BootID: n.bootID, HoldMS: 60_000}
	if _, err := n.doReboot(t.Context(), req); codeOf(err) != nodeproto.CodeInUse || !strings.Contains(err.Error(), "attempt 1 of wl-1") {
		t.Fatalf("with a workload: %v", err)
	}
	if _, err := n.doStart(t.Context(), n.request("wl-2", 1, "idle")); err != nil {
		t.Fatalf("a refused reboot keeps nothing out: %v", err)
	}
	for _, id := range []autoheal.WorkloadID{"wl-1", "wl-2"} {
		if _, err := n.doStop(t.Context(), nodeproto.StopRequest{Epoch: 1, Workload: id, Attempt: 1, Force: true}); err != nil {
			t.Fatal(err)
		}
		n.waitFor(string(id), 1, exited)
	}
	if got, err := n.doReboot(t.Context(), req); err != nil || !got.Accepted {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := n.doStart(t.Context(), n.request("wl-3", 1, "idle")); codeOf(err) != nodeproto.CodeNodeFault {
		t.Errorf("a start before the reboot: %v", err)
	}
	req.Action, req.HoldMS = "a/2", 0 // whoever asked has given up
	if _, err := n.doReboot(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := n.doStart(t.Context(), n.request("wl-3", 1, "idle")); err != nil {
		t.Errorf("after the hold: %v", err)
	}
}

// Evidence has the stacks of what runs and the end of its log, says who is who, and keeps what is secret.
func TestRealCollect(t *testing.T) {
	n, say := gpuNode(t)
	say("a line of the kernel")
	req := n.request("wl-1", 1, "idle", "--token", "visible")
	req.GPUs = []autoheal.GPUID{n.gpu(0).UUID}
	req.Spec.Env = map[string]string{"API_KEY": "hunter2-hunter2", "N": "1"}
	n.startReady(req)
	say("the key hunter2-hunter2 got into the log, 1 time")
	got, err := n.doCollect(t.Context(), nodeproto.CollectRequest{Epoch: 1, Action: "a/1", GPU: n.gpu(0).UUID, Workload: "wl-1", Dump: false})
	if err != nil {
		t.Fatal(err)
	}
	for part, want := range map[string][]string{
		"kernel":    {"a line of the kernel\n", "the key [API_KEY] got into the log, 1 time"},
		"gpu":       {"SIMULATED GPUs", string(n.gpu(0).UUID)},
		"processes": {" wl-1 ", "workload idle --token visible", "arguments)"},
		"stacks":    {"of attempt 1 of wl-1, state ", "thread "},
		"log":       nil,
	} {
		text, there := got.Texts[part]
		if !there {
			t.Errorf("no %s", part)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s lacks %q:\n%.2000s", part, w, text)
			}
		}
	}
	for part, text := range got.Texts {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s holds a secret", part)
		}
	}
	other, err := n.doCollect(t.Context(), nodeproto.CollectRequest{Epoch: 1, Action: "a/2", GPU: n.gpu(1).UUID})
	if err != nil || strings.Contains(other.Texts["stacks"], "wl-1") || other.Texts["log"] != "" {
		t.Errorf("of the other GPU: %v\n%s", err, other.Texts["stacks"])
	}
}

// A process that catches SIGQUIT writes its stacks where that is asked for; one that does not is left alone, and so are all
// where it is not.
func TestRealDump(t *testing.T) {
	n := startNode(t, testOptions(t))
	catching := n.request("wl-1", 1)
	catching.Spec.Command = []string{"/bin/sh", "-c", `trap 'echo "my stack"' QUIT; : >"$READY"; while :; do sleep 0.05; done`}
	n.startReady(catching)
	plain := n.request("wl-2", 1)
	plain.Spec.Command = []string{"/bin/sh", "-c", `echo up >"$READY"; exec sleep 1000`}
	n.startReady(plain)
	collect := func(id autoheal.ActionID, dump bool) map[string]string {
		t.Helper()
		got, err := n.doCollect(t.Context(), nodeproto.CollectRequest{Epoch: 1, Action: id, Whole: true, Dump: dump, Workload: "wl-1"})
		if err != nil {
			t.Fatal(err)
		}
		return got.Texts
	}
	if quiet := collect("a/1", false); strings.Contains(quiet["stacks"], "SIGQUIT") || strings.Contains(quiet["log"], "my stack") {
		t.Errorf("nobody asked:\n%s\n%s", quiet["stacks"], quiet["log"])
	}
	asked := collect("a/2", true)
	if strings.Count(asked["stacks"], "by SIGQUIT") != 1 || !strings.Contains(asked["log"], "my stack") {
		t.Errorf("stacks:\n%.800s\nlog: %q", asked["stacks"], asked["log"])
	}
	for _, id := range []string{"wl-1", "wl-2"} {
		if s := n.waitFor(id, 1, running); s.Exit != nil {
			t.Errorf("%s has ended: %+v", id, s.Exit)
		}
	}
}
