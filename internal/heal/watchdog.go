package heal

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// How the watchdog looks (behaviour G2).
const (
	watchdogEvery = time.Second
	watchdogLooks = 30 // so many looks in a row without a sign of life are a stall
)

// watchdog notices that the engine's loop does not come round any more: a commit that hangs, a callback that blocks, a
// decision without end. It counts its own looks instead of comparing times: in a process that was suspended as a whole,
// nobody looked, and the loop gets as long as ever to show itself afterwards.
type watchdog struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startWatchdog calls stalled once for each stall of whoever adds to beats.
func startWatchdog(ctx context.Context, clk clock.Clock, beats *atomic.Uint64, stalled func(time.Duration)) *watchdog {
	ctx, cancel := context.WithCancel(ctx)
	w := &watchdog{cancel: cancel}
	w.wg.Go(func() {
		timer := clk.NewTimer(watchdogEvery)
		defer timer.Stop()
		seen, missed := beats.Load(), 0
		for {
			select {
			case <-timer.C():
			case <-ctx.Done():
				return
			}
			timer.Reset(watchdogEvery)
			if n := beats.Load(); n != seen {
				seen, missed = n, 0
				continue
			}
			if missed++; missed == watchdogLooks {
				stalled(watchdogLooks * watchdogEvery)
			}
		}
	})
	return w
}

func (w *watchdog) stop() {
	w.cancel()
	w.wg.Wait()
}
