package app

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// hung is a terminal that takes nothing.
type hung struct{ until chan struct{} }

func (h hung) Write(p []byte) (int, error) { <-h.until; return len(p), nil }

// TestStalled ends lives by stalls: each is told and noted, and the fourth life must not act, for ten minutes.
func TestStalled(t *testing.T) {
	var out bytes.Buffer
	code := 0
	u := &up{clock: clock.NewSteady(), opt: UpOptions{Data: t.TempDir(), Out: &out, Exit: func(c int) { code = c }}}
	for life := 1; life <= stallMost; life++ {
		if u.tooManyStalls() {
			t.Fatalf("life %d may not act after %d stalls", life, life-1)
		}
		u.stalled(30 * time.Second)
	}
	if code != ExitStalled || strings.Count(out.String(), "CRITICAL: healer_stalled") != stallMost {
		t.Errorf("exit code %d, said %q", code, out.String())
	}
	if !u.tooManyStalls() {
		t.Errorf("after %d stalls the next life acts", stallMost)
	}
	if n, err := recentStalls(u.stallFile(), u.clock.Now().Add(stallWindow+2*time.Second)); n != 0 || err != nil {
		t.Errorf("after the window %d stalls count, %v", n, err)
	}
	u.opt.Data = filepath.Join(u.opt.Data, "other")
	if u.tooManyStalls() {
		t.Error("a new directory has stalls")
	}
}

// TestStalledTerminal has the terminal hang, too: the process ends all the same.
func TestStalledTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hung{make(chan struct{})}
		defer close(h.until)
		code := 0
		u := &up{clock: clock.Real{}, opt: UpOptions{Data: t.TempDir(), Out: h, Exit: func(c int) { code = c }}}
		u.stalled(30 * time.Second)
		if code != ExitStalled {
			t.Errorf("exit code %d", code)
		}
	})
}
