package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
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
