package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ExitStalled is the exit code of a process that ends itself because its healer stalled (EX_TEMPFAIL): start it again.
const ExitStalled = 75

// How stalls are treated (behaviour G2).
const (
	stallWindow = 10 * time.Minute
	stallMost   = 3               // so many within the window: the next life does nothing by itself
	stallTell   = 2 * time.Second // for the last words; what stalled the healer may hold them up too
)

// stalled ends this process at once, without an orderly stop: agents and workloads live on and are adopted by the next
// life, and an orderly stop would wait for the very loop that hangs.
func (u *up) stalled(after time.Duration) {
	told := make(chan struct{}, 2)
	go func() {
		_ = noteStall(u.stallFile(), u.clock.Now())
		told <- struct{}{}
	}()
	go func() {
		fmt.Fprintf(u.opt.Out, "CRITICAL: healer_stalled: the healer's loop has not come round for %s: this process ends itself; agents and workloads live on and are adopted when it is started again\n", after)
		told <- struct{}{}
	}()
	most := u.clock.NewTimer(stallTell)
	defer most.Stop()
	for n := 0; n < cap(told); n++ {
		select {
		case <-told:
		case <-most.C():
			n = cap(told)
		}
	}
	u.opt.Exit(ExitStalled)
}

// tooManyStalls reports whether lives before this one stalled so often that this one must not act.
func (u *up) tooManyStalls() bool {
	n, err := recentStalls(u.stallFile(), u.clock.Now())
	if err != nil {
		fmt.Fprintf(u.opt.Out, "notice: the stalls of earlier lives cannot be read: %v\n", err)
	}
	if n < stallMost {
		return false
	}
	fmt.Fprintf(u.opt.Out, "CRITICAL: healer_stalled: %d stalls within %s: the healer watches, records and alerts, and does nothing by itself; find the cause (disk, memory), then start it again %s after the last stall\n", n, stallWindow, stallWindow)
	return true
}

func (u *up) stallFile() string { return filepath.Join(u.opt.Data, "stalls") }

// noteStall adds a line with the time of a stall to file.
func noteStall(file string, at time.Time) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("note stall: %w", err)
	}
	_, err = fmt.Fprintln(f, at.UTC().Format(time.RFC3339))
	return errors.Join(err, f.Sync(), f.Close())
}

// recentStalls counts the stalls of the window before now.
func recentStalls(file string, now time.Time) (int, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if at, err := time.Parse(time.RFC3339, strings.TrimSpace(line)); err == nil && now.Sub(at) <= stallWindow {
			n++
		}
	}
	return n, err
}
