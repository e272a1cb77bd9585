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

// ConnectOptions are what both kinds of client need to reach a gateway and to stay there.
type ConnectOptions struct {
	URL      string // ws://host:port
	Token    string
	Identity Identity
	Name     string // display name
	Version  string
	Platform string
	Logger   *slog.Logger
	Clock    clock.Clock
	// OnState is told after every change and after every failed attempt, from Run's goroutine. It must not block.
	OnState func(ConnState, error)
	Backoff Backoff
	Link    LinkOptions
	Dial    DialFunc // nil: TCP
}

func (o ConnectOptions) withDefaults() ConnectOptions {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.OnState == nil {
		o.OnState = func(ConnState, error) {}
	}
	o.Backoff = o.Backoff.withDefaults()
	o.Link.Clock = o.Clock
	return o
}

// seed spreads the redials of different clients.
func (o *ConnectOptions) seed() string {
	if o.Identity.IsZero() {
		return o.Name
	}
	return o.Identity.ID()
}

// reconnect runs sessions until ctx ends or a refusal will not change by waiting.
func (o *ConnectOptions) reconnect(ctx context.Context, role string, session func(ctx context.Context, up func()) error) error {
	failures := 0
	for {
		var upSince time.Time
		err := session(ctx, func() {
			upSince = o.Clock.Now()
			o.OnState(StateConnected, nil)
		})
		if ctx.Err() != nil {
			o.OnState(StateDisconnected, nil)
			return nil
		}
		if !upSince.IsZero() && o.Clock.Now().Sub(upSince) >= steadyAfter {
			failures = 0
		}
		failures++
		state := stateOf(err)
		o.OnState(state, err)
		v := judge(err, role)
		if v == giveUp {
			return fmt.Errorf("connect to gateway: %w", explain(err))
		}
		wait := o.Backoff.delay(failures, v == retrySlow, o.seed())
		o.Logger.Info("gateway connection down", slog.String("state", string(state)), slog.Int("attempt", failures), slog.Duration("retry_in", wait), slog.Any("error", err))
		if !sleep(ctx, o.Clock, wait) {
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
