package store_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/leakcheck"
	"autoheal.dev/autoheal/internal/store"
)

type fixedClock struct{}

func (fixedClock) Now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

var lockDir = flag.String("store.lockdir", "", "hold the lock of this directory until standard input ends")

// TestMain lets the test program be the other process of TestRealLockOfAnotherProcess.
func TestMain(m *testing.M) {
	flag.Parse()
	if *lockDir == "" {
		os.Exit(m.Run())
	}
	if _, err := store.LockDir(*lockDir, fixedClock{}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("locked")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

func TestRealLockOfAnotherProcess(t *testing.T) {
	leakcheck.Start(t)
	dir := filepath.Join(t.TempDir(), "data")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-store.lockdir="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	_, err = store.LockDir(dir, fixedClock{})
	want := fmt.Sprintf("data directory %s is in use by autoheal process %d since 2026-01-02T03:04:05Z", dir, cmd.Process.Pid)
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), want) {
		t.Errorf("error = %v, want ErrInUse with %q", err, want)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	l, err := store.LockDir(dir, fixedClock{})
	if err != nil {
		t.Fatalf("lock after the other process was killed: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestLockTwiceInOneProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	l, err := store.LockDir(dir, fixedClock{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.LockDir(dir, fixedClock{}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("second lock: error = %v, want ErrInUse", err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.NextEpoch(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("epoch without the lock: error = %v, want ErrClosed", err)
	}
}

func TestLockNamesNobodyItCannotName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	l, err := store.LockDir(dir, fixedClock{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = store.LockDir(dir, fixedClock{})
	if !errors.Is(err, store.ErrInUse) || !strings.HasSuffix(err.Error(), "in use by another autoheal process") {
		t.Errorf("error = %v", err)
	}
}

func next(t *testing.T, l *store.Lock, want uint64, seen ...uint64) {
	t.Helper()
	if got, err := l.NextEpoch(seen...); err != nil || got != want {
		t.Errorf("epoch %d, want %d (%v)", got, want, err)
	}
}

func TestEpochOnlyGrows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	l, err := store.LockDir(dir, fixedClock{})
	if err != nil {
		t.Fatal(err)
	}
	next(t, l, 1)
	next(t, l, 2)
	next(t, l, 3, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = store.LockDir(dir, fixedClock{}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	next(t, l, 4)
	next(t, l, 10, 2, 9)
	next(t, l, 11)
	if err := os.Remove(filepath.Join(dir, "epoch")); err != nil {
		t.Fatal(err)
	}
	next(t, l, 12)
	for _, damage := range []string{"", "0\n", "-3", "12x", strings.Repeat("9", 40)} {
		if err := os.WriteFile(filepath.Join(dir, "epoch"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := l.NextEpoch(); err == nil || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("epoch from %q: %d, error = %v", damage, n, err)
		}
	}
}

func TestEpochsDiffer(t *testing.T) {
	l, err := store.LockDir(filepath.Join(t.TempDir(), "data"), fixedClock{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			n, err := l.NextEpoch()
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[n] {
				t.Errorf("epoch %d twice, or %v", n, err)
			}
			seen[n] = true
		})
	}
	wg.Wait()
	if len(seen) != 20 || !seen[20] {
		t.Errorf("20 calls gave %d epochs", len(seen))
	}
}
