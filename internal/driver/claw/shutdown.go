package claw

import (
	"context"
	"fmt"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// Shutdown is the orderly end of an embedded cluster: it stops every attempt with the reason shutdown and waits until all
// have ended or ctx ends. What is wanted stays wanted: the next Start makes new attempts, which are not restarts. Nothing
// is placed any more afterwards; Stop is still to be called.
func (d *Driver) Shutdown(ctx context.Context, grace time.Duration) error {
	d.mu.Lock()
	if !d.started || d.runCtx.Err() != nil {
		d.mu.Unlock()
		return &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: "shut the fleet down", Detail: "the driver does not run"}
	}
	d.closing = true
	rows := []row{putMeta(metaOrderly, d.clock.Now().UTC().Format(time.RFC3339))}
	var stopping []*attempt
	for _, id := range d.nodeIDsLocked() {
		for _, ref := range d.activeLocked(id) {
			c := d.attemptLocked(ref).clone()
			c.stop = &stopOrder{Reason: autoheal.ExitShutdown, Grace: grace, Force: grace <= 0}
			stopping = append(stopping, c)
			rows = append(rows, putAttempt(c))
		}
	}
	if err := d.saveLocked(ctx, rows...); err != nil {
		d.mu.Unlock()
		return fmt.Errorf("shut the fleet down: %w", err)
	}
	now := d.clock.Now()
	for _, c := range stopping {
		d.touchLocked(d.workloads[c.ref.id], c, now, "registry")
	}
	d.mu.Unlock()
	if err := d.waitEnded(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.saveLocked(ctx, putMeta(metaLease, d.opts.SelfStop.String())) // nothing is left that holds one
}

func (d *Driver) waitEnded(ctx context.Context) error {
	for {
		d.mu.Lock()
		var left []string
		for _, id := range d.nodeIDsLocked() {
			for _, ref := range d.activeLocked(id) {
				left = append(left, fmt.Sprintf("%s on %s", ref, id))
			}
		}
		changed, stopped := d.changed, d.runCtx.Done()
		d.mu.Unlock()
		if len(left) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-stopped:
			return &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: "shut the fleet down", Detail: "the driver was stopped; not seen ended: " + brief(left)}
		case <-ctx.Done():
			return &autoheal.Error{Kind: autoheal.ErrTimeout, Op: "shut the fleet down", Detail: "not seen ended: " + brief(left), Err: ctx.Err()}
		}
	}
}

func brief(items []string) string {
	const most = 10
	if len(items) > most {
		items = append(items[:most:most], fmt.Sprintf("and %d more", len(items)-most))
	}
	return strings.Join(items, ", ")
}
