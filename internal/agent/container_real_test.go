package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

func startWithEngine(t *testing.T) (*testNode, *fakeEngine) {
	t.Helper()
	e := startEngine(t)
	opts := testOptions(t)
	opts.Engines = []string{"/nonexistent/docker.sock", e.socket}
	n := startNode(t, opts)
	if len(n.node.Runtimes) != 1 || n.node.Runtimes[0] != "docker:"+e.socket {
		t.Fatalf("runtimes %v", n.node.Runtimes)
	}
	return n, e
}

func (n *testNode) image(id, image string) nodeproto.StartRequest {
	req := n.request(id, 1)
	req.Spec.Image, req.Spec.Command, req.Spec.Args = image, nil, []string{"serve"}
	return req
}

func TestRealContainerRuns(t *testing.T) {
	n, e := startWithEngine(t)
	req := n.image("ok", "ok")
	req.Spec.MemoryMB, req.Spec.Env = 256, map[string]string{"MINE": "yes"}
	n.start(req)
	s := n.waitFor("ok", 1, exited)
	if s.Exit.Reason != autoheal.ExitCompleted || s.StartedMS == 0 {
		t.Errorf("status %+v, exit %+v", s, s.Exit)
	}
	r, err := n.doLogs(n.ctx, nodeproto.LogsRequest{Workload: "ok"})
	if err != nil || len(r.Lines) != 2 || r.Lines[0].Stream != "stderr" || r.Lines[1].Message != "hello" {
		t.Errorf("logs %+v, %v", r, err)
	}
	host := e.created[0]["HostConfig"].(map[string]any)
	if host["Memory"] != float64(256<<20) || host["MemorySwap"] != host["Memory"] {
		t.Errorf("host config %v", host)
	}
	env := fmt.Sprint(e.created[0]["Env"])
	if !strings.Contains(env, "MINE=yes") || !strings.Contains(env, "AUTOHEAL_GENERATION=ok/1") || strings.Contains(env, "PATH=") {
		t.Errorf("environment %s", env)
	}
	if e.names() != 0 || len(e.pulled) != 0 {
		t.Errorf("%d containers are left, pulled %v", e.names(), e.pulled)
	}
}

func TestRealContainerEnds(t *testing.T) {
	n, e := startWithEngine(t)
	for _, tc := range []struct {
		image string
		stop  *nodeproto.StopRequest
		want  autoheal.Exit
	}{
		{"oom", nil, autoheal.Exit{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostCgroup, Reason: autoheal.ExitCrashed}},
		{"broken", nil, autoheal.Exit{Code: -1, Reason: autoheal.ExitStartFailed}},
		{"missing", nil, autoheal.Exit{Code: -1, Reason: autoheal.ExitStartFailed}},
		{"stays", &nodeproto.StopRequest{GraceMS: 60_000}, autoheal.Exit{Code: -1, Signal: "SIGTERM", Reason: autoheal.ExitStopped}},
		{"stubborn", &nodeproto.StopRequest{GraceMS: 20, Reason: autoheal.ExitDrained}, autoheal.Exit{Code: -1, Signal: "SIGKILL", Reason: autoheal.ExitDrained}},
		{"slow", &nodeproto.StopRequest{GraceMS: 60_000}, autoheal.Exit{Code: -1, Reason: autoheal.ExitStopped}},
	} {
		t.Run(tc.image, func(t *testing.T) {
			n.start(n.image(tc.image, tc.image+":1"))
			if tc.image == "slow" {
				<-e.pulling
			} else if tc.stop != nil {
				n.waitFor(tc.image, 1, running)
			}
			if tc.stop != nil {
				n.stop(tc.image, 1, *tc.stop)
			}
			got := *n.waitFor(tc.image, 1, exited).Exit
			got.Detail = ""
			if got != tc.want {
				t.Errorf("exit %+v, want %+v", got, tc.want)
			}
			if e.names() != 0 {
				t.Errorf("%d containers are left", e.names())
			}
		})
	}
}

// TestRealContainerOfDeadShimIsRemoved: the engine is the parent, so the agent has to end it.
func TestRealContainerOfDeadShimIsRemoved(t *testing.T) {
	n, e := startWithEngine(t)
	n.start(n.image("stays", "stays:1"))
	s := n.waitFor("stays", 1, running)
	if err := unix.Kill(s.ShimPid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if s := n.waitFor("stays", 1, exited); s.Exit.Reason != autoheal.ExitShimKilled || e.names() != 0 {
		t.Errorf("exit %+v, %d containers", s.Exit, e.names())
	}
}

func TestRealContainerSelfStops(t *testing.T) {
	n, _ := startWithEngine(t)
	n.contact(4 * time.Second)
	req := n.image("stubborn", "stubborn:1")
	req.AtMostOnce = true
	n.start(req)
	if s := n.waitFor("stubborn", 1, exited); s.Exit.Reason != autoheal.ExitSelfStop || s.Exit.Signal != "SIGKILL" {
		t.Errorf("exit %+v", s.Exit)
	}
}

func TestRealWithoutEngineTheSocketsAreNamed(t *testing.T) {
	opts := testOptions(t)
	opts.Engines = []string{"/nonexistent/docker.sock"}
	n := startNode(t, opts)
	_, err := n.doStart(n.ctx, n.image("any", "any"))
	if err == nil || !strings.HasPrefix(err.Error(), nodeproto.CodeUnsupported) || !strings.Contains(err.Error(), "/nonexistent/docker.sock") {
		t.Errorf("start: %v", err)
	}
}
