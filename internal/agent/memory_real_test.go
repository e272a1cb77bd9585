package agent

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// rssAnonKB is the private memory of a process.
func rssAnonKB(t *testing.T, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(readProc(filepath.Join("/proc", strconv.Itoa(pid), "status"))) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "RssAnon:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatalf("process %d has no RssAnon", pid)
	return 0
}

// TestRealShimStaysSmall measures a shim after it has worked: a rotated log, a hundred status requests. This test binary is
// larger than the shim's own needs, as the real one is.
func TestRealShimStaysSmall(t *testing.T) {
	opts := testOptions(t)
	opts.LogBytes, opts.LogRate = 256<<10, 4<<20
	n := startNode(t, opts)
	n.startReady(n.request("idle", 1, "idle"))
	n.startReady(n.request("flood", 1, "flood"))
	dir := n.attemptDir(key{"flood", 1})
	n.until("the logs have rotated", func() bool { _, err := os.Stat(filepath.Join(dir, "log.2")); return err == nil })
	for _, tc := range []struct {
		id    string
		limit int64
	}{{"idle", 8 << 10}, {"flood", 8 << 10}} {
		kb := rssAnonKB(t, n.waitFor(tc.id, 1, running).ShimPid)
		t.Logf("RssAnon of a shim (%s): %d KiB", tc.id, kb)
		if kb > tc.limit {
			t.Errorf("the shim of %s uses %d KiB, more than %d", tc.id, kb, tc.limit)
		}
	}
}

// TestRealAgentStaysSmall measures an agent in a process of its own, after it has joined, started a workload and been
// polled for a while. Killing that process is the death of its parent as well: everything ends.
func TestRealAgentStaysSmall(t *testing.T) {
	c := startCluster(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.opts.ShimCommand[0], "node", c.opts.Gateway, c.opts.TokenFile, c.opts.Data, c.opts.CgroupPrefix)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{r}, t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), cmd.Wait()); err != nil {
			t.Errorf("agent ended with %v", err)
		}
		removeGroups(t, c.opts)
	})
	c.awaitNode()
	c.poll()
	c.poll()
	if _, err := call[nodeproto.Accepted](c, nodeproto.CmdStart, nodeproto.StartRequest{
		Epoch: 1, Workload: "wl-1", Attempt: 1, AtMostOnce: true,
		Spec: autoheal.Spec{Name: "wl-1", Image: autoheal.ImageHost, Command: []string{c.opts.ShimCommand[0], "workload", "sit"}},
	}); err != nil {
		t.Fatal(err)
	}
	c.awaitState("wl-1", nodeproto.AttemptRunning)
	for range 200 {
		c.last = nil // a full listing each time
		c.poll()
	}
	kb := rssAnonKB(t, cmd.Process.Pid)
	t.Logf("RssAnon of an agent: %d KiB", kb)
	if kb > 20<<10 {
		t.Errorf("the agent uses %d KiB", kb)
	}
}
