package agent

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// TestRealAdoption restarts the agent under running, ended and forgotten attempts.
func TestRealAdoption(t *testing.T) {
	opts := testOptions(t)
	n := startNode(t, opts)
	n.startReady(n.request("stays", 1, "idle"))
	n.startReady(n.request("dies", 1, "idle"))
	n.startReady(n.request("orphaned", 1, "leave", "stay"))
	n.start(n.request("ended", 1, "fail"))
	n.start(n.request("forgotten", 1, "fail"))
	n.waitFor("forgotten", 1, exited)
	n.stop("forgotten", 1, nodeproto.StopRequest{Forget: true})
	n.stop("never", 3, nodeproto.StopRequest{})
	n.waitFor("ended", 1, exited)
	before := n.waitFor("stays", 1, running)
	dying, orphaned := n.waitFor("dies", 1, running), n.waitFor("orphaned", 1, running)
	n.halt()
	for _, pid := range []int{dying.Pid, orphaned.ShimPid} { // while no agent looks
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}

	again := startNode(t, opts)
	after := again.waitFor("stays", 1, running)
	if after.Pid != before.Pid || after.ShimPid != before.ShimPid {
		t.Errorf("adopted process %d of shim %d, was %d of %d", after.Pid, after.ShimPid, before.Pid, before.ShimPid)
	}
	if s := again.waitFor("dies", 1, exited); s.Exit.Signal != "SIGKILL" || s.Exit.Reason != autoheal.ExitCrashed || s.Exit.OOM != "" {
		t.Errorf("exit %+v", s.Exit)
	}
	if s := again.waitFor("orphaned", 1, exited); s.Exit.Reason != autoheal.ExitShimKilled {
		t.Errorf("exit %+v", s.Exit)
	}
	again.wantDead("orphaned")
	if s := again.waitFor("ended", 1, exited); s.Exit.Code != 7 || s.EndedMS < 1 {
		t.Errorf("ended %+v, exit %+v", s, s.Exit)
	}
	for id, attempt := range map[string]int{"forgotten": 1, "never": 3} {
		if _, err := again.doStart(again.ctx, again.request(id, attempt, "idle")); err == nil || !strings.HasPrefix(err.Error(), nodeproto.CodeInvalid) {
			t.Errorf("a start of %s that was given up: %v", id, err)
		}
	}
	if got, err := again.doStart(again.ctx, again.request("stays", 1, "idle")); err != nil || !got.Repeated {
		t.Errorf("a repeated start: %+v, %v", got, err)
	}
	again.stop("stays", 1, nodeproto.StopRequest{GraceMS: 60_000})
	if s := again.waitFor("stays", 1, exited); s.Exit.Reason != autoheal.ExitStopped {
		t.Errorf("exit %+v", s.Exit)
	}
}

func TestRealNothingIsAdoptedAfterReboot(t *testing.T) {
	opts := testOptions(t)
	n := startNode(t, opts)
	n.start(n.request("ended", 1, "fail"))
	n.waitFor("ended", 1, exited)
	n.halt()
	dir := n.attemptDir(key{"ended", 1})
	spec, err := shim.ReadSpec(dir)
	if err != nil {
		t.Fatal(err)
	}
	spec.BootID = "an-earlier-boot" // as if the machine had booted after spec.json, before exit.json
	if err := shim.WriteSpec(dir, spec); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/" + shim.ExitFile); err != nil {
		t.Fatal(err)
	}
	again := startNode(t, opts)
	s := again.waitFor("ended", 1, exited)
	if s.Exit.Reason != autoheal.ExitRebooted || s.EndedMS < 1 {
		t.Errorf("status %+v, exit %+v", s, s.Exit)
	}
	if _, err := shim.ReadExited(dir); err != nil {
		t.Errorf("the end is not written down: %v", err)
	}
}

func TestRealSecondAgentIsRefused(t *testing.T) {
	opts := testOptions(t)
	startNode(t, opts)
	opts, err := opts.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(opts); err == nil || !strings.Contains(err.Error(), "another agent runs on") {
		t.Errorf("a second agent: %v", err)
	}
}

// lastPoll makes the lease what a healer with a self-stop of d would.
func (n *testNode) contact(d time.Duration) {
	n.t.Helper()
	r, err := n.doPoll(n.ctx, nodeproto.PollRequest{Epoch: 1, SelfStopMS: d.Milliseconds()})
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.doPoll(n.ctx, nodeproto.PollRequest{Epoch: 1, Life: r.Life, Ack: r.N, After: r.Seq, SelfStopMS: d.Milliseconds()}); err != nil {
		n.t.Fatal(err)
	}
}

func TestRealSelfStop(t *testing.T) {
	n := startNode(t, testOptions(t))
	once := n.request("once", 1, "stubborn")
	once.AtMostOnce = true
	if _, err := n.doPoll(n.ctx, nodeproto.PollRequest{Epoch: 1, SelfStopMS: 1000}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.doStart(n.ctx, once); err == nil || !strings.HasPrefix(err.Error(), nodeproto.CodeLeaseExpired) {
		t.Fatalf("started without proven contact: %v", err)
	}
	n.contact(4 * time.Second)
	n.startReady(once)
	n.startReady(n.request("twice", 1, "idle"))
	n.halt() // no agent, no contact
	again := startNode(t, n.opts)
	s := again.waitFor("once", 1, exited)
	if s.Exit.Reason != autoheal.ExitSelfStop || s.Exit.Signal != "SIGKILL" {
		t.Errorf("exit %+v", s.Exit)
	}
	again.waitFor("twice", 1, running)
}

func TestRealSelfStopIsSwitchedByPolls(t *testing.T) {
	n := startNode(t, testOptions(t))
	n.contact(0)
	req := n.request("once", 1, "idle")
	req.AtMostOnce = true
	n.startReady(req)
	selfStop := func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.node.SelfStop
	}
	if selfStop() {
		t.Error("self-stop is reported though it is off")
	}
	n.contact(time.Hour)
	n.until("the shim confirms", selfStop)
	n.contact(0)
	n.until("it is off", func() bool { return !selfStop() })
	n.waitFor("once", 1, running)
}

func TestRealLateStartRunsNothing(t *testing.T) {
	n := startNode(t, testOptions(t))
	n.contact(time.Hour)
	req := n.request("late", 1, "idle")
	req.AtMostOnce = true
	n.mu.Lock()
	n.lease.deadline = n.boot() + 1 // valid when the agent looks, over when the shim does
	spec, err := n.specLocked(&req, nil)
	n.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	k := key{"late", 1}
	if err := n.prepareFolder(n.attemptDir(k), spec); err != nil {
		t.Fatal(err)
	}
	if err := n.spawn(k, n.attemptDir(k), spec); err != nil {
		t.Fatal(err)
	}
	s := n.waitFor("late", 1, exited)
	if s.Exit.Reason != autoheal.ExitSelfStop || s.StartedMS != 0 || !strings.Contains(s.Exit.Detail, "nothing was run") {
		t.Errorf("status %+v, exit %+v", s, s.Exit)
	}
}

func TestRealGPUsAreNeverDoubleBooked(t *testing.T) {
	n := startNode(t, testOptions(t))
	id := n.node.GPUs[0].UUID
	first := n.request("first", 1, "idle")
	first.GPUs = []autoheal.GPUID{id}
	n.startReady(first)
	second := n.request("second", 1, "idle")
	second.GPUs = []autoheal.GPUID{n.node.GPUs[1].UUID, id}
	if _, err := n.doStart(n.ctx, second); err == nil || !strings.HasPrefix(err.Error(), nodeproto.CodeGPUBusy) {
		t.Errorf("double booked: %v", err)
	}
	second.GPUs = []autoheal.GPUID{"GPU-unknown"}
	if _, err := n.doStart(n.ctx, second); err == nil || !strings.HasPrefix(err.Error(), nodeproto.CodeInvalid) {
		t.Errorf("unknown GPU: %v", err)
	}
	n.stop("first", 1, nodeproto.StopRequest{Force: true})
	n.waitFor("first", 1, exited)
	second.GPUs = []autoheal.GPUID{id}
	n.startReady(second)
}

func TestRealStartRefuses(t *testing.T) {
	n := startNode(t, testOptions(t))
	for name, change := range map[string]func(*nodeproto.StartRequest){
		"path":      func(r *nodeproto.StartRequest) { r.Workload = "../x" },
		"attempt":   func(r *nodeproto.StartRequest) { r.Attempt = 0 },
		"command":   func(r *nodeproto.StartRequest) { r.Spec.Command = nil },
		"nul":       func(r *nodeproto.StartRequest) { r.Spec.Args = []string{"a\x00b"} },
		"variable":  func(r *nodeproto.StartRequest) { r.Spec.Env = map[string]string{"A=B": "c"} },
		"negative":  func(r *nodeproto.StartRequest) { r.Spec.MemoryMB = -1 },
		"container": func(r *nodeproto.StartRequest) { r.Spec.Image = "busybox:latest" },
	} {
		req := n.request("refused", 1, "idle")
		change(&req)
		if got, err := n.doStart(n.ctx, req); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := n.attempts; len(got) != 0 {
		t.Errorf("%d attempts are listed", len(got))
	}
}

// TestRealHungShimIsKilled stops the shim itself, as a debugger or a fault might.
func TestRealHungShimIsKilled(t *testing.T) {
	opts := testOptions(t)
	opts.Clock = hurried{}
	n := startNode(t, opts)
	n.startReady(n.request("hung", 1, "leave", "stay"))
	s := n.waitFor("hung", 1, running)
	if err := unix.Kill(s.ShimPid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	n.stop("hung", 1, nodeproto.StopRequest{Force: true})
	if s := n.waitFor("hung", 1, exited); s.Exit.Reason != autoheal.ExitShimKilled {
		t.Errorf("exit %+v", s.Exit)
	}
	n.wantDead("hung")
}

// hurried waits a hundredth of the time.
type hurried struct{ clock.Real }

func (hurried) NewTimer(d time.Duration) clock.Timer { return clock.Real{}.NewTimer(d / 100) }
