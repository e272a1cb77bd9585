package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
)

// writeLog writes one file of an attempt's log.
func writeLog(t *testing.T, dir, name string, first int, records ...string) {
	t.Helper()
	text := fmt.Sprintf("#autoheal-log %d\n%s\n", first, strings.Join(records, "\n"))
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOutputIsHeardAcrossRotation(t *testing.T) {
	a, dir := bareAgent(t), t.TempDir()
	oom := func(n int) string {
		return fmt.Sprintf("%d000 e torch.OutOfMemoryError: CUDA out of memory. Tried to allocate %d.00 MiB", n, n)
	}
	o := a.newOutput(key{"wl-1", 1}, dir, nil)
	if lost := o.hear(-1); lost != 0 {
		t.Errorf("%d lines of no file are lost", lost)
	}
	writeLog(t, dir, "log.0", 0, "1000 o step 1", oom(1))
	o.hear(-1)
	writeLog(t, dir, "log.0", 0, "1000 o step 1", oom(1), "2000 o step 2", oom(2))
	o.hear(-1)
	// The rest of the file under its new name, then the next.
	writeLog(t, dir, "log.1", 0, "1000 o step 1", oom(1), "2000 o step 2", oom(2), oom(3))
	writeLog(t, dir, "log.0", 5, oom(4))
	if lost := o.hear(-1); lost != 0 {
		t.Errorf("%d lines are lost", lost)
	}
	if n := len(o.found()); n != 4 {
		t.Errorf("%d signals stand, want 4: each once", n)
	}
	// Lines 6 to 9 have rotated away, and the shim itself had to drop 7.
	if err := os.Remove(filepath.Join(dir, "log.1")); err != nil {
		t.Fatal(err)
	}
	writeLog(t, dir, "log.0", 10, "9000 d 7", oom(5))
	if lost := o.hear(-1); lost != 4+7 {
		t.Errorf("%d lines are lost, want 11", lost)
	}
	if n := len(o.found()); n != 5 {
		t.Errorf("%d signals stand, want 5", n)
	}
	if n := len(a.standing); n != 5 || a.standing[0].signal.Subject != (autoheal.Ref{Kind: autoheal.RefWorkload, ID: "wl-1", Generation: "1"}) {
		t.Errorf("%d are told in listings: %+v", n, a.standing)
	}
}

// One round takes no more than its budget, whatever is there; the next goes on where it ended.
func TestOutputHasABudget(t *testing.T) {
	a, dir := bareAgent(t), t.TempDir()
	var records []string
	for i := range 200_000 {
		records = append(records, fmt.Sprintf("%d o a healthy line that means nothing at all", i))
	}
	writeLog(t, dir, "log.0", 0, append(records, "1 e torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 MiB")...)
	o := a.newOutput(key{"wl-1", 1}, dir, nil)
	rounds := 0
	for rounds < 100 && len(o.found()) == 0 {
		o.hear(1 << 20)
		rounds++
	}
	if rounds < 8 || rounds > 12 {
		t.Errorf("10 MB took %d rounds of 1 MiB", rounds)
	}
}
