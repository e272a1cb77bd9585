package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// groupOf is the control group that an attempt was given.
func (n *testNode) groupOf(id string) cgroup.Group {
	n.t.Helper()
	spec, err := shim.ReadSpec(n.attemptDir(key{autoheal.WorkloadID(id), 1}))
	if err != nil {
		n.t.Fatal(err)
	}
	return spec.Group
}

// TestRealStrangerInGroup has somebody else's process where an attempt's control group is to be: it is left alone, and
// the attempt runs in another group.
func TestRealStrangerInGroup(t *testing.T) {
	n := startNode(t, testOptions(t))
	n.needGroups()
	usual := n.parent.Child("wl-1.1")
	if err := usual.Create(cgroup.Limits{}); err != nil {
		t.Fatal(err)
	}
	stranger := exec.Command("/bin/sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the node's own end, which would find it in its folder
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
		if err := usual.RemoveSoon(n.clk); err != nil {
			t.Error(err)
		}
	})
	for _, dir := range usual.Dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(stranger.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	n.startReady(n.request("wl-1", 1, "idle"))
	s, got := n.waitFor("wl-1", 1, running), n.groupOf("wl-1")
	if pids := got.Procs(); !slices.Equal(pids, []int{s.Pid}) {
		t.Errorf("its group %v holds processes %v, want %d alone", got.Dirs, pids, s.Pid)
	}
	n.stop("wl-1", 1, nodeproto.StopRequest{Force: true})
	n.waitFor("wl-1", 1, exited)
	if got.Present() {
		t.Errorf("its group %v is left", got.Dirs)
	}
	if !alive(stranger.Process.Pid) {
		t.Error("the stranger was killed")
	}
}

// TestRealGroupOfEarlierLife loses the agent's folder under a running attempt, as somebody does who begins anew: what is
// left of it is ended before the same attempt begins in the same group.
func TestRealGroupOfEarlierLife(t *testing.T) {
	opts := testOptions(t)
	n := startNode(t, opts)
	n.needGroups()
	n.startReady(n.request("wl-1", 1, "leave", "stay"))
	old, usual := n.waitFor("wl-1", 1, running), n.groupOf("wl-1")
	left := usual.Procs()
	n.halt()
	if err := os.RemoveAll(filepath.Join(opts.Data, "agents")); err != nil {
		t.Fatal(err)
	}

	again := startNode(t, opts)
	again.startReady(again.request("wl-1", 1, "idle"))
	s, got := again.waitFor("wl-1", 1, running), again.groupOf("wl-1")
	for _, pid := range append(left, old.ShimPid) {
		if alive(pid) {
			t.Errorf("process %d of the earlier life is left", pid)
		}
	}
	if pids := got.Procs(); !slices.Equal(pids, []int{s.Pid}) || !slices.Equal(got.Procs(), usual.Procs()) {
		t.Errorf("its group %v, before %v, holds %v, want %d alone", got.Dirs, usual.Dirs, pids, s.Pid)
	}
}

// TestRealClustersDoNotMix has two nodes of one name in two folders: the end of one's shim is none of the other's.
func TestRealClustersDoNotMix(t *testing.T) {
	a, b := testOptions(t), testOptions(t)
	a.CgroupPrefix, b.CgroupPrefix = "none", "none"
	mine, other := startNode(t, a), startNode(t, b)
	for _, n := range []*testNode{mine, other} {
		n.startReady(n.request("wl-1", 1, "leave", "stay"))
	}
	s := mine.waitFor("wl-1", 1, running)
	process, err := os.FindProcess(s.ShimPid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	mine.waitFor("wl-1", 1, exited)
	mine.wantDead("wl-1")
	if s := other.waitFor("wl-1", 1, running); !alive(s.Pid) {
		t.Error("the other cluster's workload was killed")
	}
}
