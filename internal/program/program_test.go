package program

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

const patience = time.Minute

func sh(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script}, args...)
}

// A program gets its arguments as they are, the input as one line of JSON, and nothing of our environment.
func TestRunHandsOver(t *testing.T) {
	t.Setenv("AUTOHEAL_SECRET", "hunter2")
	r := Run(t.Context(), clock.Real{}, Call{
		Argv: sh(`cat; echo "$0|$AUTOHEAL_GPU|$AUTOHEAL_SECRET|$(pwd)"`, "$HOME `id` ; x"), Env: []string{"AUTOHEAL_GPU=GPU-1"},
		Input: map[string]any{"node": "n1"}, Timeout: patience,
	})
	if want := "{\"node\":\"n1\"}\n$HOME `id` ; x|GPU-1||/"; r.Err != nil || r.Output != want {
		t.Errorf("%v, %q", r.Err, r.Output)
	}
}

func TestRunFails(t *testing.T) {
	r := Run(t.Context(), clock.Real{}, Call{Argv: sh("echo no such GPU >&2; exit 3"), Timeout: patience})
	if r.Err == nil || !strings.Contains(r.Err.Error(), "exit status 3") || r.Output != "no such GPU" {
		t.Errorf("%v, %q", r.Err, r.Output)
	}
	for _, argv := range [][]string{nil, {filepath.Join(t.TempDir(), "absent")}} {
		if r := Run(t.Context(), clock.Real{}, Call{Argv: argv, Timeout: patience}); !errors.Is(r.Err, ErrStart) {
			t.Errorf("%q: %v", argv, r.Err)
		}
	}
}

// A program that does not end is killed with all that it started; what it had written until then is kept.
func TestRunTimeout(t *testing.T) {
	written := filepath.Join(t.TempDir(), "pid")
	r := Run(t.Context(), clock.Real{}, Call{Argv: sh(`sleep 1000 & echo $! >"$0"; echo begun; wait`, written), Timeout: 300 * time.Millisecond})
	if !errors.Is(r.Err, ErrTimeout) || r.Output != "begun" {
		t.Fatalf("%v, %q", r.Err, r.Output)
	}
	pid, err := os.ReadFile(written)
	if err != nil {
		t.Fatal(err)
	}
	gone := func() bool {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ") // a zombie waits for its new parent only
	}
	for deadline := time.After(patience); !gone(); {
		select {
		case <-deadline:
			t.Fatalf("process %s lives on", pid)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// One that leaves a child behind which holds its outputs has ended all the same.
func TestRunLeftBehind(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	r := Run(t.Context(), clock.Real{}, Call{Argv: sh(`sleep 30 & echo $! >"$0"; echo done`, pid), Timeout: patience})
	if r.Err != nil || r.Output != "done" {
		t.Errorf("%v, %q", r.Err, r.Output)
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	if r := Run(t.Context(), clock.Real{}, Call{Argv: []string{"/bin/kill", "-9", strings.TrimSpace(string(text))}, Timeout: patience}); r.Err != nil {
		t.Error(r.Err, r.Output)
	}
}

func TestTail(t *testing.T) {
	long := &tail{}
	for range 3000 {
		if n, err := long.Write([]byte("a line\n")); n != 7 || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := long.text(); len(got) > keepOutput || len(got) < keepOutput-20 || !strings.HasPrefix(got, "a line\n") || !strings.HasSuffix(got, "\na line") {
		t.Errorf("%d bytes: %.40q", len(got), got)
	}
	one := &tail{}
	_, _ = one.Write([]byte(strings.Repeat("x", 3*keepOutput))) // it never fails
	if got := one.text(); got != strings.Repeat("x", keepOutput) {
		t.Errorf("%d bytes", len(got))
	}
	odd := &tail{}
	_, _ = odd.Write([]byte("a\x1b[31mb\x00\xff\tc\r\nd\n"))
	if got, want := odd.text(), "a.[31mb..\tc.\nd"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
