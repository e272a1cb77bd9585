package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeProc makes a folder like /proc with processes and what they have open.
func fakeProc(t *testing.T, open map[string][]string) string {
	t.Helper()
	dir := t.TempDir()
	for who, files := range open { // "PID NAME"
		pid, name, _ := strings.Cut(who, " ")
		fds := filepath.Join(dir, pid, "fd")
		if err := os.MkdirAll(fds, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, pid, "comm"), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			if err := os.Symlink(f, filepath.Join(fds, fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestHolders(t *testing.T) {
	proc := fakeProc(t, map[string][]string{
		"10 python3":         {"/dev/null", "/dev/nvidiactl", "/dev/nvidia3", "/dev/nvidia3"},
		"11 trainer":         {"/dev/nvidia1", "/dev/nvidia-uvm"},
		"12 nvidia-persiste": {"/dev/nvidia1", "/dev/nvidia3"},
		"13 nv-hostengine":   {"/dev/nvidia3"},
		"14 sh":              {"/dev/nvidia30", "/dev/nvidiactl", "/data/dev/nvidia3"},
	})
	for minor, want := range map[int][]string{
		3: {"process 10 (python3)"}, 1: {"process 11 (trainer)"}, 2: nil, 30: {"process 14 (sh)"},
		-1: {"process 10 (python3)", "process 11 (trainer)", "process 14 (sh)"},
	} {
		if got := holders(proc, "/dev/nvidia", minor); !slices.Equal(got, want) {
			t.Errorf("%d is held by %q, want %q", minor, got, want)
		}
	}
}

func TestCatches(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tjava\nSigCgt:\t2000000181005ccf\n": true, "Name:\tsleep\nSigCgt:\t0000000000000000\n": false,
		"Name:\tx\nSigCgt:\t0000000000000004\n": true, "Name:\tx\n": false, "SigCgt:\tzz\n": false, "": false,
	} {
		if got := catches(status, unix.SIGQUIT); got != want {
			t.Errorf("%q: %v", status, got)
		}
	}
}
