package agent

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func checkedBy(health string) map[string]string {
	return map[string]string{
		autoheal.LabelHealth: health, autoheal.LabelHealthInterval: "200ms", autoheal.LabelHealthTimeout: "150ms", autoheal.LabelHealthFailures: "2",
	}
}

func isReady(s nodeproto.AttemptStatus) bool {
	return s.Checks != nil && s.Checks.Ready && s.Checks.Failing == ""
}

func fails(what autoheal.CheckOutcome) func(nodeproto.AttemptStatus) bool {
	return func(s nodeproto.AttemptStatus) bool { return s.Checks != nil && s.Checks.Failing == what }
}

func TestRealHealthHTTP(t *testing.T) {
	opts := testOptions(t)
	n := startNode(t, opts)
	port := freePort(t)
	req := n.request("wl-1", 1, "serve", port)
	req.Spec.Labels = checkedBy("http :" + port + "/healthz")
	n.start(req)
	s := n.waitFor("wl-1", 1, isReady)
	if s.Checks.ReadyMS == 0 {
		t.Errorf("when it was ready is not told: %+v", s.Checks)
	}
	if err := unix.Kill(s.Pid, unix.SIGUSR1); err != nil { // takes requests and answers none
		t.Fatal(err)
	}
	s = n.waitFor("wl-1", 1, fails(autoheal.Unhealthy))
	if s.Checks.Ready || s.Checks.Failures != 2 || !strings.Contains(s.Checks.Reason, "no answer within 150ms") {
		t.Errorf("a hang: %+v", s.Checks)
	}
	n.halt()
	n = startNode(t, opts) // another life knows what was found, and begins no new time to start
	if s := n.waitFor("wl-1", 1, running); s.Checks == nil || s.Checks.Failing != autoheal.Unhealthy || s.Checks.Ready {
		t.Errorf("after a restart of the agent: %+v", s.Checks)
	}
	if err := unix.Kill(s.Pid, unix.SIGUSR2); err != nil { // answers again
		t.Fatal(err)
	}
	n.waitFor("wl-1", 1, isReady)
}

func TestRealHealthStopped(t *testing.T) {
	n := startNode(t, testOptions(t))
	port := freePort(t)
	req := n.request("wl-1", 1, "serve", port)
	req.Spec.Labels = checkedBy("tcp :" + port)
	n.start(req)
	s := n.waitFor("wl-1", 1, isReady)
	if err := unix.Kill(s.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s = n.waitFor("wl-1", 1, fails(autoheal.Unhealthy)) // its kernel still takes connections
	if !strings.Contains(s.Checks.Reason, "is stopped") {
		t.Errorf("stopped: %+v", s.Checks)
	}
	got, err := n.doCollect(t.Context(), nodeproto.CollectRequest{Epoch: 1, Workload: "wl-1"})
	if err != nil || !strings.Contains(got.Texts["stacks"], fmt.Sprintf("process %d", s.Pid)) || !strings.Contains(got.Texts["stacks"], "state T") {
		t.Errorf("stacks of a stopped process: %v\n%s", err, got.Texts["stacks"])
	}
}

func TestRealHealthExec(t *testing.T) {
	n := startNode(t, testOptions(t))
	req := n.request("wl-1", 1, "idle")
	req.Spec.Env = map[string]string{"PROBE": "ours"}
	up := filepath.Join(t.TempDir(), "up")
	if err := os.WriteFile(up, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	script := `echo "$PROBE $AUTOHEAL_WORKLOAD $(pwd) $(cat /proc/self/cgroup | tr '\n' ' ')"; test -e ` + up
	req.Spec.Labels = checkedBy(fmt.Sprintf(`exec ["/bin/sh","-c",%q]`, script))
	req.Spec.Labels[autoheal.LabelHealthTimeout], req.Spec.Labels[autoheal.LabelHealthInterval] = "5s", "5s"
	req.Spec.Labels[autoheal.LabelHealthFailures] = "1"
	n.startReady(req)
	n.waitFor("wl-1", 1, isReady)
	if err := os.Remove(up); err != nil {
		t.Fatal(err)
	}
	s := n.waitFor("wl-1", 1, fails(autoheal.Unhealthy))
	if !strings.Contains(s.Checks.Reason, "exit status 1") || !strings.Contains(s.Checks.Output, "ours wl-1 "+filepath.Join(n.attemptDir(key{"wl-1", 1}), "work")) {
		t.Errorf("%+v", s.Checks)
	}
	if n.parent.Exists() && !strings.Contains(s.Checks.Output, "wl-1.1") {
		t.Errorf("it does not run in the control group: %s", s.Checks.Output)
	}
}

func TestRealHealthExecHangs(t *testing.T) {
	n := startNode(t, testOptions(t))
	req := n.request("wl-1", 1, "idle")
	req.Spec.Labels = checkedBy(`exec ["/bin/sh","-c","sleep 1000 & exec sleep 1000"]`)
	req.Spec.Labels[autoheal.LabelHealthStartup] = "1s"
	n.startReady(req)
	s := n.waitFor("wl-1", 1, fails(autoheal.Unhealthy))
	if !strings.Contains(s.Checks.Reason, "within its startup time of 1s") || !strings.Contains(s.Checks.Reason, "no answer within 150ms") {
		t.Errorf("%+v", s.Checks)
	}
	if procs := len(n.attempts[key{"wl-1", 1}].spec.Group.Procs()); n.parent.Exists() && procs > 4 { // itself and one check under way
		t.Errorf("%d processes in the group: checks that hang are left behind", procs)
	}
}

func TestRealProgress(t *testing.T) {
	opts := testOptions(t)
	n := startNode(t, opts)
	req := n.request("wl-1", 1, "step")
	req.Spec.Labels = map[string]string{autoheal.LabelProgress: `log ^step \d+`, autoheal.LabelProgressStall: "2s"}
	n.start(req)
	n.waitFor("wl-1", 1, func(s nodeproto.AttemptStatus) bool { return s.State == nodeproto.AttemptRunning && s.Checks != nil })
	n.waitMoved("wl-1")
	n.halt()
	n = startNode(t, opts)
	s := n.waitFor("wl-1", 1, running)
	n.waitMoved("wl-1")
	if got := n.attempts[key{"wl-1", 1}].view.checks; got.Progress.Reason != "" {
		t.Errorf("a restart of the agent reads as a stall: %+v", got)
	}
	if err := unix.Kill(s.Pid, unix.SIGUSR1); err != nil { // goes on, says something else
		t.Fatal(err)
	}
	s = n.waitFor("wl-1", 1, fails(autoheal.Stalled))
	if !s.Checks.Ready || !strings.Contains(s.Checks.Reason, `"^step \\d+" for 2s`) {
		t.Errorf("stalled: %+v", s.Checks)
	}
}

// waitMoved waits until the checks have seen progress.
func (n *testNode) waitMoved(id string) {
	n.t.Helper()
	n.waitFor(id, 1, func(nodeproto.AttemptStatus) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		at := n.attempts[key{autoheal.WorkloadID(id), 1}]
		return at != nil && at.checks != nil && at.checks.Moved
	})
}
