package openclaw

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// steadyAfter is how long a connection must have lasted for its loss to count as a first failure again.
const steadyAfter = 10 * time.Second

type reconnectOptions struct {
	role, seed string
	backoff    Backoff
	clock      clock.Clock
	log        *slog.Logger
	onState    func(ConnState, error)
	session    func(ctx context.Context, up func()) error
}

// reconnect runs sessions until ctx ends or a refusal will not change by waiting.
func reconnect(ctx context.Context, o reconnectOptions) error {
	failures := 0
	for {
		var upSince time.Time
		err := o.session(ctx, func() {
			upSince = o.clock.Now()
			o.onState(StateConnected, nil)
		})
		if ctx.Err() != nil {
			o.onState(StateDisconnected, nil)
			return nil
		}
		if !upSince.IsZero() && o.clock.Now().Sub(upSince) >= steadyAfter {
			failures = 0
		}
		failures++
		state := stateOf(err)
		o.onState(state, err)
		v := judge(err, o.role)
		if v == giveUp {
			return fmt.Errorf("connect to gateway: %w", explain(err))
		}
		wait := o.backoff.delay(failures, v == retrySlow, o.seed)
		o.log.Info("gateway connection down", slog.String("state", string(state)), slog.Int("attempt", failures), slog.Duration("retry_in", wait), slog.Any("error", err))
		if !sleep(ctx, o.clock, wait) {
			return nil
		}
	}
}

// sleep waits for d and reports false if ctx ended first.
func sleep(ctx context.Context, c clock.Clock, d time.Duration) bool {
	t := c.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-ctx.Done():
		return false
	}
}
