package heal

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchdog hangs the loop for a while: it is told once, after 30 s, and again for the next stall.
func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t)
		told := make(chan time.Time, 10)
		s.opt.Stalled = func(d time.Duration) {
			if d != 30*time.Second {
				t.Errorf("stalled for %s", d)
			}
			told <- now()
		}
		s.start()
		defer s.stop()
		elapse(10 * time.Minute)
		if len(told) != 0 {
			t.Fatal("told of a stall of a loop that runs")
		}
		for _, hang := range []time.Duration{25 * time.Second, 40 * time.Second, 5 * time.Minute} {
			began := now()
			_, _ = query(context.Background(), s.engine, func(*Core) (int, error) { time.Sleep(hang); return 0, nil })
			elapse(2 * time.Second)
			switch {
			case hang < 30*time.Second && len(told) > 0:
				t.Errorf("told of a hang of %s", hang)
			case hang > 30*time.Second && len(told) != 1:
				t.Errorf("told %d times of a hang of %s, want once", len(told), hang)
			case hang > 30*time.Second:
				if after := (<-told).Sub(began); after < 29*time.Second || after > 32*time.Second {
					t.Errorf("told after %s", after)
				}
			}
		}
	})
}

// TestWatchdogBlockedJournal: an engine that waits for its journal is well, it has not stalled.
func TestWatchdogBlockedJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t)
		s.opt.Stalled = func(time.Duration) { t.Error("told of a stall while the journal cannot be written") }
		s.start()
		defer s.stop()
		elapse(10 * time.Second)
		s.store.FailRecover(errDisk)
		s.store.FailNextAppend(errDisk)
		s.cluster.crash("wl-1")
		elapse(10 * time.Minute)
		if s.status().Blocked == nil {
			t.Error("the journal was to be blocked")
		}
	})
}
