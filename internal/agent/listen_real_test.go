package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// gpuNode is an agent whose kernel's log is a file.
func gpuNode(t *testing.T) (n *testNode, say func(line string)) {
	t.Helper()
	opts := testOptions(t)
	opts.KernelLog = filepath.Join(t.TempDir(), "kern.log")
	n = startNode(t, opts)
	n.hearKernel() // the file is not there yet: whatever comes is new
	return n, func(line string) {
		f, err := os.OpenFile(opts.KernelLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(line + "\n"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *testNode) onGPU(id string, gpu int, args ...string) nodeproto.StartRequest {
	req := n.request(id, 1, args...)
	req.GPUs = []autoheal.GPUID{n.node.GPUs[gpu].UUID}
	return req
}

// A GPU that falls off the bus explains the end of what ran on it, and of nothing else.
func TestRealXidExplainsAnEnd(t *testing.T) {
	n, say := gpuNode(t)
	n.startReady(n.onGPU("hit", 0, "idle-then-fail"))
	n.startReady(n.onGPU("other", 1, "idle-then-fail"))
	say("[  100.000000] NVRM: Xid (PCI:0000:10:00): 79, pid=1234, name=python, GPU has fallen off the bus.")
	n.signalMain("hit")
	n.signalMain("other")
	hit, other := n.waitFor("hit", 1, exited), n.waitFor("other", 1, exited)
	v := hit.Exit.Verdict
	if v == nil || v.Failure != autoheal.FailureGPU || v.Xid == nil || *v.Xid != 79 || !hit.Exit.MachineFault() {
		t.Errorf("on the lost GPU: %+v", hit.Exit)
	}
	if other.Exit.MachineFault() {
		t.Errorf("on another GPU: %+v", other.Exit)
	}
	n.judgeGPUs()
	if a, b := n.health(0), n.health(1); a != autoheal.HealthFailed || b != autoheal.HealthOK {
		t.Errorf("the lost GPU is %s, the other one %s", a, b)
	}
	sig := n.standingSignal("nvidia/xid/79")
	if sig == nil || sig.Subject.Kind != autoheal.RefGPU || sig.Subject.ID != string(n.node.GPUs[0].UUID) || sig.Fields["index"] != "0" {
		t.Errorf("signal %+v", sig)
	}
}

// What a workload writes explains its end, but never clears it of it.
func TestRealOutputExplainsAnEnd(t *testing.T) {
	n, _ := gpuNode(t)
	quoted := "[  100.000000] NVRM: Xid (PCI:0000:10:00): 79, pid=1234, name=python, GPU has fallen off the bus."
	n.start(n.onGPU("liar", 0, "say", quoted))
	n.start(n.onGPU("oom", 1, "say", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB"))
	liar, oom := n.waitFor("liar", 1, exited), n.waitFor("oom", 1, exited)
	if liar.Exit.MachineFault() || liar.Exit.Verdict != nil && liar.Exit.Verdict.Failure == autoheal.FailureGPU {
		t.Errorf("a workload that quotes the kernel: %+v", liar.Exit.Verdict)
	}
	if oom.Exit.OOM != autoheal.OOMGPU || oom.Exit.Verdict == nil || oom.Exit.Verdict.Action != autoheal.AdviceReduceGPUMem {
		t.Errorf("out of GPU memory: %+v", oom.Exit)
	}
}

// The product description's literal query finds the kernel's line by what it means.
func TestRealKernelLogIsSearched(t *testing.T) {
	n, say := gpuNode(t)
	say("<3>[  100.000000] NVRM: Xid (PCI:0000:10:00): 48, pid=1234, name=python, DBE (Double Bit Error) ECC Error")
	say("<6>[  100.000000] some driver: no Xid error was found, and no GPU has fallen off")
	r, err := n.doLogs(context.Background(), nodeproto.LogsRequest{Kernel: true, Query: "Xid error OR GPU has fallen off"})
	if err != nil || len(r.Lines) != 1 || !strings.Contains(r.Lines[0].Message, "DBE") || len(r.Lines[0].Words) == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A listing repeats what still stands, for a healer that has just come.
func TestRealListingRepeatsSignals(t *testing.T) {
	n, say := gpuNode(t)
	say("NVRM: Xid (PCI:0000:10:00): 79, pid=1234, name=python, GPU has fallen off the bus.")
	n.hearKernel()
	r, err := n.doPoll(context.Background(), nodeproto.PollRequest{Epoch: 1})
	if err != nil || !r.Full || len(r.Standing) != 1 || r.Standing[0].Signal.Rule != "nvidia/xid/79" {
		t.Errorf("%+v, %v", r, err)
	}
}

func (n *testNode) health(gpu int) autoheal.Health {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node.GPUs[gpu].Health
}

func (n *testNode) standingSignal(rule string) *autoheal.Signal {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.standing {
		if c.signal.Rule == rule {
			return c.signal
		}
	}
	return nil
}

// signalMain has a program that idles fail.
func (n *testNode) signalMain(id string) {
	n.t.Helper()
	s := n.waitFor(id, 1, running)
	p, err := os.FindProcess(s.Pid)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := p.Signal(os.Interrupt); err != nil {
		n.t.Fatal(err)
	}
}

// A kill at the limit of a control group is told of the attempt that it hit; those of other people's groups are not.
func TestRealKilledGroupIsNamed(t *testing.T) {
	n, say := gpuNode(t)
	n.needGroups()
	n.startReady(n.request("wl-1", 1, "idle"))
	at := n.findAttempt("wl-1", 1)
	own := at.spec.Group.MemoryPath(at.spec.Host)
	for _, path := range []string{"/docker/stranger", own, own + "0"} {
		say("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=" + path + ",task_memcg=" + path + ",task=python,pid=7,uid=0")
	}
	n.hearKernel()
	n.mu.Lock()
	defer n.mu.Unlock()
	want := autoheal.Ref{Kind: autoheal.RefWorkload, ID: "wl-1", Generation: "1"}
	if len(n.standing) != 1 || n.standing[0].signal.Subject != want {
		t.Errorf("told: %+v", n.standing)
	}
}
