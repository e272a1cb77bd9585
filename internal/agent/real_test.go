package agent

import (
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

func TestProcessRunsAndIsReported(t *testing.T) {
	n := startNode(t, testOptions(t))
	req := n.request("env", 1, "env")
	req.GPUs = []autoheal.GPUID{n.node.GPUs[1].UUID}
	req.Spec.Env = map[string]string{"MINE": "yes", "AUTOHEAL_NODE": "forged"}
	n.start(req)
	s := n.waitFor("env", 1, exited)
	if s.Exit.Reason != autoheal.ExitCompleted || s.Exit.Code != 0 || s.StartedMS == 0 || s.EndedMS == 0 {
		t.Errorf("status %+v, exit %+v", s, s.Exit)
	}
	out := n.output("env", 1)
	for _, want := range []string{"MINE=yes", "AUTOHEAL_NODE=n1", "AUTOHEAL_ATTEMPT=1", "CUDA_VISIBLE_DEVICES=1", "AUTOHEAL_GENERATION=env/1"} {
		if !strings.Contains(out, " o "+want+"\n") {
			t.Errorf("output lacks %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "GOTRACEBACK") || strings.Contains(out, "forged") {
		t.Errorf("output shows an inherited or forged variable:\n%s", out)
	}
}

func TestStop(t *testing.T) {
	n := startNode(t, testOptions(t))
	for _, tc := range []struct {
		name, program string
		grace         int64
		signal        string
	}{{"obedient", "idle", 60_000, ""}, {"stubborn", "stubborn", 50, "SIGKILL"}} {
		t.Run(tc.name, func(t *testing.T) {
			n.startReady(n.request(tc.name, 1, tc.program))
			_, err := n.doStop(n.ctx, nodeproto.StopRequest{Epoch: 1, Workload: autoheal.WorkloadID(tc.name), Attempt: 1, GraceMS: tc.grace, Reason: autoheal.ExitPreempted})
			if err != nil {
				t.Fatal(err)
			}
			s := n.waitFor(tc.name, 1, exited)
			if s.Exit.Reason != autoheal.ExitPreempted || tc.signal != "" && s.Exit.Signal != tc.signal {
				t.Errorf("exit %+v", s.Exit)
			}
		})
	}
}

func TestKernelOOMAtOwnLimit(t *testing.T) {
	n := startNode(t, testOptions(t))
	if !n.parent.Exists() {
		t.Skip(n.node.Cgroups)
	}
	req := n.request("eat", 1, "eat")
	req.Spec.MemoryMB = 64
	n.start(req)
	s := n.waitFor("eat", 1, exited)
	if s.Exit.OOM != autoheal.OOMHostCgroup || s.Exit.Reason != autoheal.ExitCrashed || s.Exit.Signal != "SIGKILL" {
		t.Errorf("exit %+v", s.Exit)
	}
}
