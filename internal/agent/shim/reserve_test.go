package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
)

// TestReserve: the end of an attempt fits into the place that was kept for it, once.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	x := &Exited{Exit: autoheal.Exit{Code: 7, Reason: autoheal.ExitCrashed, Detail: strings.Repeat("x", 1<<10)}, Ended: 5}
	if err := writeReserved(dir, x); err == nil {
		t.Error("without a reserve it was written")
	}
	if err := Reserve(dir); err != nil {
		t.Fatal(err)
	}
	if err := writeReserved(dir, &Exited{Exit: autoheal.Exit{Detail: strings.Repeat("x", reserveSize)}}); err == nil {
		t.Error("more than was kept was written")
	}
	if err := writeReserved(dir, x); err != nil {
		t.Fatal(err)
	}
	got, err := ReadExited(dir)
	if err != nil || *got != *x {
		t.Errorf("read back %+v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(dir, reserveFile)); err == nil {
		t.Error("the reserve is still there")
	}
}
