package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"autoheal.dev/autoheal/internal/store/storetest"
)

// A full disk stops the healing and nothing else: it is said where no disk is needed, what is asked for is refused, what
// is shown is shown, and when there is room again the healing goes on by itself (behaviour G1).
func TestRealDiskFull(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	disk := storetest.SmallDisk(t, 64<<20)
	c := newClusterAt(t, disk, "--ephemeral")
	c.start()
	b := c.beacon("steady")
	id := c.submit("steady", b.script+"exec sleep 1000")
	first := b.next()
	c.awaitState(id, "running")

	ballast := storetest.Fill(t, disk)
	if r := c.cli("cordon", "n2"); r.code != 1 {
		t.Errorf("cordon on a full disk: %s", r)
	} else {
		mustContain(t, "the refusal", r.stderr, "journal")
	}
	mustContain(t, "what up says", c.up.line("CRITICAL"), "journal_unwritable")
	storetest.Fill(t, disk) // the reserve made room
	if err := syscall.Kill(first.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, show := range [][]string{{"status"}, {"nodes"}, {"workloads"}, {"incidents"}, {"why", "n1"}, {"alerts"}} {
		if r := c.cli(show...); r.code != 0 || r.stdout == "" {
			t.Errorf("autoheal %s on a full disk: %s", strings.Join(show, " "), r)
		}
	}
	mustContain(t, "status on a full disk", c.cli("status").stdout, "journal_unwritable")
	for _, n := range c.nodes() {
		if len(n.CordonedBy) > 0 {
			t.Errorf("it was done without a record: %+v", n)
		}
	}
	b.quiet()

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	c.up.line("healing resumes")
	if again := b.next(); again.attempt != 2 {
		t.Errorf("it runs again as attempt %d, want 2", again.attempt)
	}
	if r := c.cli("cordon", "n2"); r.code != 0 {
		t.Errorf("cordon after the full disk: %s", r)
	}
	if info, err := os.Stat(filepath.Join(c.dir, "reserve")); err != nil || info.Size() != 16<<20 {
		t.Errorf("the reserve was not made again: %v, %v", info, err)
	}
	c.stop()
}

// A directory that cannot be written is named, and nothing is left half made.
func TestRealReadOnlyDirectory(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	disk := storetest.SmallDisk(t, 64<<20)
	c := newClusterAt(t, disk, "--ephemeral")
	c.start()
	c.stop()
	storetest.MakeReadOnly(t, disk)
	for _, dir := range []string{c.dir, filepath.Join(disk, "new")} {
		p := startProcess(t, append([]string{"up", "--data", dir}, c.flags...)...)
		if code := p.wait(); code != 1 {
			t.Errorf("up on %s ended with %d, want 1", dir, code)
		}
		mustContain(t, "the refusal", p.out.String(), dir, "read-only")
	}
	// It can still be looked at.
	if r := c.cli("journal", "show"); r.code != 0 || !strings.Contains(r.stdout, "engine_started") {
		t.Errorf("journal show: %s", r)
	}
}
