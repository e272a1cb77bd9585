package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

// patience is how long a test waits for what must come. Nothing asserts how fast it came.
const patience = 60 * time.Second

// testNode is an agent without a gateway: tests call its commands.
type testNode struct {
	*Agent
	t      testing.TB
	opts   Options
	lock   *os.File
	cancel context.CancelCauseFunc
}

func testOptions(t testing.TB) Options {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(t.Name()))
	return Options{
		Name: "n1", Data: t.TempDir(), ShimCommand: []string{exe, "shim"}, SimulateGPUs: "2:H100",
		CgroupPrefix: fmt.Sprintf("autoheal-test-%d-%x", os.Getpid(), h.Sum32()),
	}
}

// startNode starts an agent on the options' folder; it and all it started end with the test.
func startNode(t testing.TB, opts Options) *testNode {
	t.Helper()
	opts, err := opts.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	a, lock, err := open(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	a.ctx = ctx
	n := &testNode{Agent: a, t: t, opts: opts, lock: lock, cancel: cancel}
	if err := a.adoptAll(); err != nil {
		t.Fatal(err)
	}
	a.startWatchers(cancel)
	t.Cleanup(n.destroy)
	return n
}

// halt ends the agent as its death would: the shims go on.
func (n *testNode) halt() {
	n.cancel(nil)
	n.wg.Wait()
	if err := n.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		n.t.Error(err)
	}
}

// destroy leaves nothing behind.
func (n *testNode) destroy() {
	n.halt()
	if err := n.stopEverything(); err != nil {
		n.t.Errorf("stop everything: %v", err)
	}
}

func (n *testNode) request(id string, attempt int, args ...string) nodeproto.StartRequest {
	return nodeproto.StartRequest{
		Epoch: 1, Workload: autoheal.WorkloadID(id), Attempt: attempt, Generation: fmt.Sprintf("%s/%d", id, attempt),
		Spec: autoheal.Spec{Name: id, Image: autoheal.ImageHost, Command: append([]string{n.opts.ShimCommand[0], "workload"}, args...)},
	}
}

func (n *testNode) start(req nodeproto.StartRequest) {
	n.t.Helper()
	got, err := n.doStart(n.ctx, req)
	if err != nil || !got.Accepted {
		n.t.Fatalf("start: %+v, %v", got, err)
	}
}

// startReady starts a program and returns once it says that it is ready.
func (n *testNode) startReady(req nodeproto.StartRequest) {
	n.t.Helper()
	fifo := filepath.Join(n.t.TempDir(), "ready")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		n.t.Fatal(err)
	}
	if req.Spec.Env == nil {
		req.Spec.Env = map[string]string{}
	}
	req.Spec.Env["READY"] = fifo
	n.start(req)
	if _, err := os.ReadFile(fifo); err != nil { // opens when the program does
		n.t.Fatal(err)
	}
	n.waitFor(string(req.Workload), req.Attempt, running)
}

// waitFor returns the attempt's status once ok says so.
func (n *testNode) waitFor(id string, attempt int, ok func(nodeproto.AttemptStatus) bool) nodeproto.AttemptStatus {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		n.mu.Lock()
		changed := n.changed
		var s nodeproto.AttemptStatus
		if at := n.attempts[key{autoheal.WorkloadID(id), attempt}]; at != nil {
			s = *at.view.render(n.boot(), n.bootID, n.clk)
		}
		n.mu.Unlock()
		if ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-deadline:
			log, _ := os.ReadFile(filepath.Join(n.attemptDir(key{autoheal.WorkloadID(id), attempt}), "shim.log"))
			n.t.Fatalf("attempt %s/%d stays %+v\nshim: %s", id, attempt, s, log)
		}
	}
}

func running(s nodeproto.AttemptStatus) bool { return s.State == nodeproto.AttemptRunning }
func exited(s nodeproto.AttemptStatus) bool  { return s.State == nodeproto.AttemptExited }

func (n *testNode) output(id string, attempt int) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.attemptDir(key{autoheal.WorkloadID(id), attempt}), shim.LogFile+".0"))
	if err != nil {
		n.t.Fatal(err)
	}
	return string(data)
}

func invoke(command, params string) openclaw.InvokeRequest {
	return openclaw.InvokeRequest{Command: command, Params: json.RawMessage(params)}
}

func dup(f *os.File) (int, error) { return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3) }

// removeGroups removes what an agent leaves that ends with nothing running.
func removeGroups(t *testing.T, opts Options) {
	t.Helper()
	host := cgroup.Detect()
	for _, mount := range host.Mounts {
		top := filepath.Join(mount, opts.CgroupPrefix)
		_ = unix.Rmdir(filepath.Join(top, opts.Name)) // a throw-away cluster has done it itself
		if err := unix.Rmdir(top); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}

func benchNode(b *testing.B) *testNode {
	b.Helper()
	return startNode(b, testOptions(b))
}
