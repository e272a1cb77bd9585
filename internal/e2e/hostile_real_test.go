package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// hostile is one cluster for all hostile workloads: after each, it is healthy and a peaceful neighbour was not touched.
func hostile(t *testing.T) (*cluster, func()) {
	t.Helper()
	c := newCluster(t, "--ephemeral", "--nodes", "1")
	c.start()
	b := c.beacon("neighbour")
	id := c.submit("neighbour", b.script+"exec sleep 1000")
	b.next()
	c.awaitState(id, "running")
	return c, func() {
		t.Helper()
		b.quiet()
		if w := c.workload(id); w.State != "running" || w.Attempt != 1 {
			t.Errorf("the neighbour was touched: %+v", w)
		}
		if r := c.cli("status", "-o", "json"); r.code != 0 || !json.Valid([]byte(r.stdout)) {
			t.Errorf("status: %s", r)
		}
		for _, n := range c.nodes() {
			if n.Status != "ready" {
				t.Errorf("node %+v", n)
			}
		}
	}
}

// logs returns what `autoheal logs` shows, after checks that hold for every output of every workload.
func (c *cluster) logs(id string) string {
	c.t.Helper()
	r := c.cli("logs", id)
	if r.code != 0 {
		c.t.Fatalf("logs: %s", r)
	}
	if !utf8.ValidString(r.stdout) {
		c.t.Error("logs prints bytes that are no text")
	}
	for _, ch := range r.stdout {
		if ch < ' ' && ch != '\n' && ch != '\t' || ch == 0x7f {
			c.t.Errorf("logs prints control character %q", ch)
			break
		}
	}
	if len(r.stdout) > 1<<20 {
		c.t.Errorf("logs prints %d bytes", len(r.stdout))
	}
	if j := c.cli("logs", id, "-o", "json"); j.code != 0 || !json.Valid([]byte(j.stdout)) {
		c.t.Errorf("logs -o json ends with %d and prints no JSON: %.300s %s", j.code, j.stdout, j.stderr)
	}
	return r.stdout
}

// logBytes is what an attempt keeps on disk.
func (c *cluster) logBytes(id string, attempt int) int64 {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "agents", "*", "wl", id, strconv.Itoa(attempt), "log.*"))
	if err != nil || len(files) == 0 {
		c.t.Fatalf("no log files of %s: %v", id, err)
	}
	var sum int64
	for _, f := range files {
		if info, err := os.Stat(f); err == nil { // else it was rotated away
			sum += info.Size()
		}
	}
	return sum
}

func TestRealWorkloadIgnoresSIGTERM(t *testing.T) {
	c, healthy := hostile(t)
	b := c.beacon("stubborn")
	id := c.submit("stubborn", "trap '' TERM; "+b.script+"while :; do sleep 1000; done")
	process := handle(t, b.next().pid)
	c.awaitState(id, "running")
	if r := c.cli("stop", id, "--grace", "1"); r.code != 0 {
		t.Fatalf("stop: %s", r)
	}
	awaitEnd(t, process)
	w := c.awaitState(id, "cancelled")
	if x := w.Lineage[0].Exit; x == nil || x.Signal != "SIGKILL" || x.Reason != "stopped" {
		t.Errorf("it ended with %+v", x)
	}
	healthy()
	c.untouched()
	c.stop()
}

// A workload is its group, not its first process: what forks and exits takes along what it left.
func TestRealWorkloadForksAndExits(t *testing.T) {
	c, healthy := hostile(t)
	b := c.beacon("child")
	id := c.submit("forks", "(trap '' HUP TERM; "+strings.Replace(b.script, "$$", "$(sh -c 'echo $PPID')", 1)+"exec sleep 1000) & read x </dev/zero & sleep 0.2; exit 0")
	child := handle(t, b.next().pid)
	c.awaitState(id, "succeeded")
	awaitEnd(t, child)
	healthy()
	c.untouched()
	c.stop()
}

// A bomb goes off inside of its limit: the neighbour and the node notice nothing, and it can be stopped.
func TestRealWorkloadForkBomb(t *testing.T) {
	c, healthy := hostile(t)
	b := c.beacon("bomb")
	gate := filepath.Join(filepath.Dir(c.dir), "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	id := c.submit("bomb", b.script+"read go <"+gate+"; (while :; do sleep 1000 & done) 2>/dev/null; "+b.script+"exec sleep 1000")
	first := handle(t, b.next().pid)
	c.awaitState(id, "running")
	group := ""
	for _, pattern := range []string{"/sys/fs/cgroup/pids/", "/sys/fs/cgroup/"} {
		if dir := pattern + c.run.CgroupPrefix + "c/n1/" + id + ".1"; exists(dir) {
			group = dir
		}
	}
	if group == "" {
		t.Skip("nothing bounds the number of processes here: it needs the right to control groups")
	}
	if max := strings.TrimSpace(readFile(t, filepath.Join(group, "pids.max"))); max != "16384" {
		t.Errorf("its processes are bounded by %q", max)
	}
	// The whole limit would take the memory of this machine.
	writeFile(t, filepath.Join(group, "pids.max"), "200", 0o644)
	writeFile(t, gate, "go\n", 0o600)
	b.next() // no more processes were to be had
	if n, err := strconv.Atoi(strings.TrimSpace(readFile(t, filepath.Join(group, "pids.current")))); err != nil || n < 190 || n > 200 {
		t.Errorf("it runs %d processes, its limit is 200 (%v)", n, err)
	}
	healthy()
	if r := c.cli("stop", id, "--force"); r.code != 0 {
		t.Fatalf("stop: %s", r)
	}
	awaitEnd(t, first)
	c.awaitState(id, "cancelled")
	if exists(group) {
		c.await("its group to be removed", func() bool { return !exists(group) })
	}
	healthy()
	c.untouched()
	c.stop()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestRealWorkloadFloods(t *testing.T) {
	c, healthy := hostile(t)
	b := c.beacon("flood")
	// It goes on when it has written 300 MB: it was never blocked for good.
	id := c.submit("flood", "yes flood-flood-flood-flood | head -c 300000000; "+b.script+"exec sleep 1000")
	b.next()
	c.awaitState(id, "running")
	if n := c.logBytes(id, 1); n > 20<<20 {
		t.Errorf("it keeps %d bytes of logs", n)
	}
	if out := c.logs(id); !strings.Contains(out, "flood-flood") {
		t.Errorf("logs: %.300s", out)
	}
	healthy()
	c.untouched()
	c.stop()
}

func TestRealWorkloadWritesGarbage(t *testing.T) {
	c, healthy := hostile(t)
	b := c.beacon("garbage")
	id := c.submit("garbage", `head -c 2000000 /dev/urandom; printf '\033[2J\033]0;owned\007\r\n'; printf '%0100000d\n' 7; `+b.script+"while :; do echo the end; sleep 0.2; done")
	b.next()
	c.awaitState(id, "running")
	// A burst may lose lines, which are counted then; what is written slowly is kept.
	c.await("the end to be logged", func() bool { return strings.Contains(c.cli("logs", id).stdout, "the end") })
	c.logs(id)
	search := c.cli("logs", "--query", "end", "-o", "json")
	if search.code != 0 || !json.Valid([]byte(search.stdout)) {
		t.Errorf("a search over garbage ends with %d: %.300s %s", search.code, search.stdout, search.stderr)
	}
	healthy()
	c.untouched()
	c.stop()
}

func TestRealWorkloadClosesItsPipes(t *testing.T) {
	c, healthy := hostile(t)
	b := c.beacon("closed")
	id := c.submit("closed", "exec >&- 2>&- <&-; "+b.script+"exec sleep 1000")
	process := handle(t, b.next().pid)
	c.awaitState(id, "running")
	if out := c.logs(id); out != "" && !strings.Contains(out, "No log lines") {
		t.Errorf("logs: %s", out)
	}
	if w := c.workload(id); w.State != "running" || w.Attempt != 1 {
		t.Errorf("closing its pipes ended it: %+v", w)
	}
	if r := c.cli("stop", id); r.code != 0 {
		t.Errorf("stop: %s", r)
	}
	awaitEnd(t, process)
	c.awaitState(id, "cancelled")
	healthy()
	c.untouched()
	c.stop()
}
