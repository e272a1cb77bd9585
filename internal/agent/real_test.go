package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

func TestRealProcessRunsAndIsReported(t *testing.T) {
	n := startNode(t, testOptions(t))
	req := n.request("env", 1, "env")
	req.GPUs = []autoheal.GPUID{n.node.GPUs[1].UUID}
	req.Spec.Env = map[string]string{"MINE": "yes", "AUTOHEAL_NODE": "forged"}
	req.Gang, req.Rank, req.GangSize = "g1", 2, 4
	n.start(req)
	s := n.waitFor("env", 1, exited)
	if s.Exit.Reason != autoheal.ExitCompleted || s.Exit.Code != 0 || s.StartedMS == 0 || s.EndedMS == 0 {
		t.Errorf("status %+v, exit %+v", s, s.Exit)
	}
	out := n.output("env", 1)
	for _, want := range []string{
		"MINE=yes", "AUTOHEAL_NODE=n1", "AUTOHEAL_ATTEMPT=1", "CUDA_VISIBLE_DEVICES=1", "AUTOHEAL_GENERATION=env/1",
		"AUTOHEAL_GANG=g1", "RANK=2", "WORLD_SIZE=4", "AUTOHEAL_WORKLOAD=env", "descriptors 0 1 2",
	} {
		if !strings.Contains(out, " o "+want+"\n") {
			t.Errorf("output lacks %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "GOTRACEBACK") || strings.Contains(out, "forged") {
		t.Errorf("output shows an inherited or forged variable:\n%s", out)
	}
}

func TestRealStop(t *testing.T) {
	n := startNode(t, testOptions(t))
	for _, tc := range []struct {
		name, program string
		grace         int64
		signal        string
	}{{"obedient", "idle", 60_000, ""}, {"stubborn", "stubborn", 50, "SIGKILL"}, {"forced", "stubborn", 0, "SIGKILL"}} {
		t.Run(tc.name, func(t *testing.T) {
			n.startReady(n.request(tc.name, 1, tc.program))
			n.stop(tc.name, 1, nodeproto.StopRequest{GraceMS: tc.grace, Force: tc.grace == 0, Reason: autoheal.ExitPreempted})
			s := n.waitFor(tc.name, 1, exited)
			if s.Exit.Reason != autoheal.ExitPreempted || tc.signal != "" && s.Exit.Signal != tc.signal {
				t.Errorf("exit %+v", s.Exit)
			}
			if again, err := n.doStop(n.ctx, nodeproto.StopRequest{Epoch: 1, Workload: autoheal.WorkloadID(tc.name), Attempt: 1}); err != nil || !again.Repeated {
				t.Errorf("stopping what is stopped: %+v, %v", again, err)
			}
		})
	}
}

func TestRealExits(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, testOptions(t))
	for _, tc := range []struct {
		name    string
		command []string
		runtime int64
		want    autoheal.Exit
		detail  string
	}{
		{name: "fail", command: []string{n.opts.ShimCommand[0], "workload", "fail"}, want: autoheal.Exit{Code: 7, Reason: autoheal.ExitCrashed}},
		{name: "missing", command: []string{"no-such-program"}, want: autoheal.Exit{Code: -1, Reason: autoheal.ExitStartFailed}, detail: "not found in PATH"},
		{name: "not-executable", command: []string{plain}, want: autoheal.Exit{Code: -1, Reason: autoheal.ExitStartFailed}, detail: "permission denied"},
		{name: "max-runtime", command: []string{n.opts.ShimCommand[0], "workload", "idle"}, runtime: 1, want: autoheal.Exit{Code: -1, Reason: autoheal.ExitMaxRuntime}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := n.request(tc.name, 1)
			req.Spec.Command, req.Spec.MaxRuntimeSeconds = tc.command, tc.runtime
			n.start(req)
			got := n.waitFor(tc.name, 1, exited).Exit
			if got.Code != tc.want.Code && tc.runtime == 0 || got.Reason != tc.want.Reason || !strings.Contains(got.Detail, tc.detail) {
				t.Errorf("exit %+v, want %+v with %q", got, tc.want, tc.detail)
			}
		})
	}
}

func TestRealKernelOOM(t *testing.T) {
	opts := testOptions(t)
	opts.MemoryMB = 96
	n := startNode(t, opts)
	n.needGroups()
	for _, tc := range []struct {
		name  string
		limit int64
		want  autoheal.OOMKind
	}{{"own", 48, autoheal.OOMHostCgroup}, {"above", 4096, autoheal.OOMHostGlobal}} {
		t.Run(tc.name, func(t *testing.T) {
			req := n.request(tc.name, 1, "eat")
			req.Spec.MemoryMB = tc.limit
			n.start(req)
			s := n.waitFor(tc.name, 1, exited)
			if s.Exit.OOM != tc.want || s.Exit.Reason != autoheal.ExitCrashed || s.Exit.Signal != "SIGKILL" || s.PeakMB == 0 {
				t.Errorf("exit %+v, peak %d", s.Exit, s.PeakMB)
			}
		})
	}
}

func TestRealMeasuredLimit(t *testing.T) {
	opts := testOptions(t)
	opts.CgroupPrefix = "none"
	n := startNode(t, opts)
	if len(n.node.Warnings) != 1 || !strings.HasPrefix(n.node.Cgroups, "none") {
		t.Errorf("cgroups %q, warnings %v", n.node.Cgroups, n.node.Warnings)
	}
	req := n.request("hold", 1, "hold")
	req.Spec.MemoryMB = 64
	n.start(req)
	s := n.waitFor("hold", 1, exited)
	if s.Exit.OOM != autoheal.OOMHostCgroup || !strings.Contains(s.Exit.Detail, "measured") {
		t.Errorf("exit %+v", s.Exit)
	}
	n.startReady(n.request("stubborn", 1, "stubborn"))
	n.stop("stubborn", 1, nodeproto.StopRequest{Force: true})
	n.waitFor("stubborn", 1, exited)
}

// TestRealNothingIsLeftBehind covers programs that leave children in another session, with and without control groups.
func TestRealNothingIsLeftBehind(t *testing.T) {
	for _, prefix := range []string{"", "none"} {
		t.Run("prefix="+prefix, func(t *testing.T) {
			opts := testOptions(t)
			if prefix != "" {
				opts.CgroupPrefix = prefix
			}
			n := startNode(t, opts)
			n.start(n.request("leave", 1, "leave"))
			s := n.waitFor("leave", 1, exited)
			if s.Exit.Code != 0 {
				t.Errorf("exit %+v", s.Exit)
			}
			n.wantDead("leave")

			n.startReady(n.request("orphan", 1, "leave", "stay"))
			s = n.waitFor("orphan", 1, running)
			if err := unix.Kill(s.ShimPid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			s = n.waitFor("orphan", 1, exited)
			if s.Exit.Reason != autoheal.ExitShimKilled {
				t.Errorf("exit %+v", s.Exit)
			}
			n.wantDead("orphan")
			if alive(s.Pid) {
				t.Errorf("process %d outlived its shim", s.Pid)
			}
		})
	}
}

func TestRealForkBombIsBounded(t *testing.T) {
	opts := testOptions(t)
	opts.PidsLimit = 100
	n := startNode(t, opts)
	n.needGroups()
	n.startReady(n.request("bomb", 1, "bomb"))
	n.stop("bomb", 1, nodeproto.StopRequest{Force: true})
	n.waitFor("bomb", 1, exited)
	for _, dir := range n.parent.Child("bomb.1").Dirs {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("control group %s is left", dir)
		}
	}
}

func TestRealFloodIsBoundedAndCounted(t *testing.T) {
	opts := testOptions(t)
	opts.LogBytes, opts.LogRate = 64<<10, 1<<20
	n := startNode(t, opts)
	n.startReady(n.request("flood", 1, "flood"))
	dir := n.attemptDir(key{"flood", 1})
	n.until("the logs have rotated", func() bool { _, err := os.Stat(filepath.Join(dir, "log.3")); return err == nil })
	n.stop("flood", 1, nodeproto.StopRequest{Force: true})
	n.waitFor("flood", 1, exited)
	var size int64
	files, _ := filepath.Glob(filepath.Join(dir, "log.*"))
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if len(files) != shim.LogFiles || size > shim.LogFiles*(64<<10+200<<10) {
		t.Errorf("%d files of %d bytes", len(files), size)
	}
	r, err := n.doLogs(n.ctx, nodeproto.LogsRequest{Workload: "flood", Limit: 10})
	if err != nil || len(r.Lines) != 10 || !r.Truncated || r.Lost == 0 || !strings.HasPrefix(r.Lines[0].Message, "flood flood") {
		t.Errorf("%d lines, truncated %v, lost %d, %v", len(r.Lines), r.Truncated, r.Lost, err)
	}
}

func TestRealGarbageBecomesText(t *testing.T) {
	n := startNode(t, testOptions(t))
	n.start(n.request("garbage", 1, "garbage"))
	if s := n.waitFor("garbage", 1, exited); s.Exit.Code != 0 {
		t.Fatalf("exit %+v", s.Exit)
	}
	r, err := n.doLogs(n.ctx, nodeproto.LogsRequest{Workload: "garbage", Limit: maxLogLines})
	if err != nil || len(r.Lines) == 0 {
		t.Fatalf("%d lines, %v", len(r.Lines), err)
	}
	for _, l := range r.Lines {
		if !utf8.ValidString(l.Message) || len(l.Message) > shim.MaxLine {
			t.Fatalf("a line of %d bytes, valid %v", len(l.Message), utf8.ValidString(l.Message))
		}
	}
}

func TestRealClosedPipesEndNothing(t *testing.T) {
	n := startNode(t, testOptions(t))
	n.startReady(n.request("mute", 1, "mute"))
	n.stop("mute", 1, nodeproto.StopRequest{GraceMS: 60_000})
	if s := n.waitFor("mute", 1, exited); s.Exit.Reason != autoheal.ExitStopped {
		t.Errorf("exit %+v", s.Exit)
	}
}

// alive reports whether a process runs: one that only waits to be reaped by whoever inherited it does not.
func alive(pid int) bool {
	_, rest, ok := strings.Cut(readProc(filepath.Join("/proc", strconv.Itoa(pid), "stat")), ") ")
	return ok && rest[0] != 'Z' && rest[0] != 'X'
}

// wantDead checks the child that the program noted in its working directory.
func (n *testNode) wantDead(id string) {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.attemptDir(key{autoheal.WorkloadID(id), 1}), shim.WorkDir, "child"))
	if err != nil {
		n.t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		n.t.Fatal(err)
	}
	if alive(pid) {
		n.t.Errorf("child %d of %s was left behind", pid, id)
	}
}

func (n *testNode) stop(id string, attempt int, req nodeproto.StopRequest) {
	n.t.Helper()
	req.Epoch, req.Workload, req.Attempt = 1, autoheal.WorkloadID(id), attempt
	if got, err := n.doStop(n.ctx, req); err != nil || !got.Accepted {
		n.t.Fatalf("stop: %+v, %v", got, err)
	}
}

func (n *testNode) needGroups() {
	n.t.Helper()
	if !n.parent.Exists() {
		n.t.Skip("needs control groups: " + n.node.Cgroups)
	}
}

// until waits for what nobody announces.
func (n *testNode) until(what string, ok func() bool) {
	n.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			n.t.Fatalf("still waiting until %s", what)
		}
	}
}

// TestRealWorkloadUser runs a program as somebody else, who must reach its working directory and nothing beside it.
func TestRealWorkloadUser(t *testing.T) {
	opts := testOptions(t)
	opts.WorkloadUser = "nobody"
	if os.Geteuid() != 0 {
		if _, _, err := open(opts); err == nil || !strings.Contains(err.Error(), "only root may") {
			t.Errorf("without the right: %v", err)
		}
		t.Skip("running as another user needs root")
	}
	// The test's own folder is closed to others; its way is opened as an installer would.
	for _, dir := range []string{opts.Data, filepath.Dir(opts.Data)} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.ReadFile(opts.ShimCommand[0])
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(opts.Data, "program")
	if err := os.WriteFile(program, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, opts)
	req := n.request("id", 1)
	req.Spec.Command = []string{program, "workload", "id"}
	n.start(req)
	s := n.waitFor("id", 1, exited)
	r, err := n.doLogs(n.ctx, nodeproto.LogsRequest{Workload: "id"})
	if err != nil || s.Exit.Code != 0 || len(r.Lines) != 1 || strings.HasPrefix(r.Lines[0].Message, "uid 0") {
		t.Errorf("exit %+v, lines %+v, %v", s.Exit, r, err)
	}
	for _, secret := range []string{n.dir, n.attemptDir(key{"id", 1})} {
		if info, err := os.Stat(secret); err != nil || info.Mode().Perm()&0o044 != 0 {
			t.Errorf("%s can be listed by others: %v, %v", secret, info.Mode(), err)
		}
	}
}

// TestRealNodeLimitCanBeRaised restarts an agent with more and with less memory on the group that is there.
func TestRealNodeLimitCanBeRaised(t *testing.T) {
	opts := testOptions(t)
	for _, mb := range []int64{96, 192, 64} {
		opts.MemoryMB = mb
		n := startNode(t, opts)
		if strings.HasPrefix(n.node.Cgroups, "none") {
			if mb == 96 {
				t.Skip(n.node.Cgroups)
			}
			t.Errorf("%d MiB: %s", mb, n.node.Cgroups)
		}
		if n.node.Capacity.MemoryMB != mb {
			t.Errorf("capacity %+v", n.node.Capacity)
		}
		n.halt()
	}
}
