package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// TestProcessNames: the name of a process may hold anything, also what ends it in stat.
func TestProcessNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "42"), 0o700); err != nil {
		t.Fatal(err)
	}
	stat := "42 (a) b) S 7 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 1000 256 0 0\n"
	if err := os.WriteFile(filepath.Join(dir, "42", "stat"), []byte(stat), 0o600); err != nil {
		t.Fatal(err)
	}
	got := readProcesses(dir)
	if got.err != nil {
		t.Fatal(got.err)
	}
	if p := got.all[42]; p.state != "S" || p.parent != 7 {
		t.Errorf("state %q of parent %d, want S of 7", p.state, p.parent)
	}
}
