package claw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

// pollWait is how long a standing poll may wait: never longer than a quarter of the lease, so that a lost answer does not
// cost it.
func (d *Driver) pollWait() time.Duration {
	w := d.opts.ProbeInterval
	if d.opts.SelfStop > 0 {
		w = min(w, d.opts.SelfStop/4)
	}
	return w
}

// silentAfter is how long after the last answer a node that does not answer a probe either is silent.
func (d *Driver) silentAfter() time.Duration { return d.pollWait() + d.opts.ProbeTimeout }

// call runs one command on a node and decodes its answer into out.
func (d *Driver) call(ctx context.Context, device, command, key string, in, out any, timeout time.Duration) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", command, openclaw.ErrNotSent, err)
	}
	// The gateway's own answer comes first; this is for a gateway that gives none.
	cctx, cancel := context.WithTimeoutCause(ctx, timeout+d.opts.ProbeTimeout, openclaw.ErrNoAnswer)
	defer cancel()
	answer, err := d.op.Invoke(cctx, openclaw.InvokeParams{
		NodeID: device, Command: command, Params: raw, Timeout: timeout, IdempotencyKey: key,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: decode answer: %w", command, err)
	}
	return nil
}

// key is a fresh idempotency key; the same request is never sent twice under one.
func (d *Driver) key(what string) string {
	return fmt.Sprintf("%s-%d-%d-%d", what, d.opts.Epoch, d.startedAt.UnixNano(), d.pollN.next())
}

// pollLoop keeps one standing poll at the node.
func (d *Driver) pollLoop(ctx context.Context, n *node) {
	if !d.sleep(ctx, d.startSpread(n.id), nil) {
		return
	}
	for ctx.Err() == nil {
		begun := d.clock.Now()
		pctx, cancel := context.WithCancel(ctx)
		req := d.pollRequest(n, cancel)
		var resp nodeproto.PollResponse
		err := d.call(pctx, n.device, nodeproto.CmdPoll, d.key("poll"), req, &resp, time.Duration(req.WaitMS)*time.Millisecond+d.opts.ProbeTimeout)
		at := d.clock.Now()
		interrupted := pctx.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			idle := d.pollAnswered(ctx, n, req, &resp, begun, at)
			if idle && at.Sub(begun) < d.pollWait()/10 { // an agent that answers at once with nothing is not asked in a tight loop
				d.sleep(ctx, d.pollWait()/10, n.wakePoll)
			}
		case interrupted: // a refresh: ask again at once
		default:
			d.pollFailed(ctx, n, err)
			d.sleep(ctx, d.pollPause(n, err), n.wakePoll)
		}
	}
}

// startSpread spreads the first polls of many nodes, one a millisecond on average.
func (d *Driver) startSpread(id autoheal.NodeID) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return spread(id, min(time.Duration(len(d.nodes))*time.Millisecond, d.opts.ProbeInterval/2))
}

// pollPause is how long to wait after a failed poll: short where the node may be back any moment, and the poll's own
// waiting time has not passed yet.
func (d *Driver) pollPause(n *node, err error) time.Duration {
	if openclaw.ClassifyInvoke(err) == openclaw.OutcomeNotSent {
		return d.opts.ProbeInterval // a presence event wakes us earlier
	}
	return d.opts.ProbeInterval/10 + spread(n.id, d.opts.ProbeInterval/10)
}

func (d *Driver) pollRequest(n *node, cancel context.CancelFunc) nodeproto.PollRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	n.pollStop = cancel
	req := nodeproto.PollRequest{
		Epoch: d.epoch, Life: n.life, Ack: n.ack, After: n.after,
		WaitMS: d.pollWait().Milliseconds(), SelfStopMS: d.opts.SelfStop.Milliseconds(),
	}
	if (n.refresh || n.relist) && n.listing == nil {
		req.After = 0
	}
	hash, rules := d.opts.Rules()
	if req.RulesHash = hash; hash != "" && hash != n.rulesHash {
		req.Rules = &rules
	}
	return req
}

func (d *Driver) pollFailed(ctx context.Context, n *node, err error) {
	if ctx.Err() != nil {
		return
	}
	if code := nodeCode(err); code == nodeproto.CodeStaleEpoch {
		d.log.LogAttrs(ctx, slog.LevelError, "an agent refuses this healer: a newer one is in charge", slog.String("node", string(n.id)))
	}
	d.log.LogAttrs(ctx, slog.LevelDebug, "a poll failed", slog.String("node", string(n.id)), slog.String("error", err.Error()))
	wake(n.wakeProbe)
}

// nodeCode returns the code of an error that the node itself answered.
func nodeCode(err error) string {
	if e, ok := errors.AsType[*openclaw.Error](err); ok {
		if ne, answered := e.Details.NodeError(); answered {
			return ne.Code
		}
	}
	return ""
}

// probeLoop asks a node for signs of life when its poll is not answered, and tells busy from dead. A hint makes it ask at
// once; only the passing of silentAfter makes a node silent.
func (d *Driver) probeLoop(ctx context.Context, n *node) {
	for ctx.Err() == nil {
		wait, watching := d.probeDue(n)
		if !d.sleep(ctx, wait, n.wakeProbe) {
			return
		}
		if !watching || !d.isConnected() || d.fresh(n) {
			continue
		}
		var resp nodeproto.StatusResponse
		err := d.call(ctx, n.device, nodeproto.CmdStatus, d.key("status"), nodeproto.StatusRequest{Epoch: d.currentEpoch()}, &resp, d.opts.ProbeTimeout)
		if ctx.Err() != nil {
			return
		}
		d.probed(n, err)
		// A probe that fails at once is not repeated in a tight loop, whatever hints come in.
		if err != nil && !d.sleep(ctx, d.opts.ProbeTimeout/4, nil) {
			return
		}
	}
}

func (d *Driver) currentEpoch() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.epoch
}

// probeDue returns when the node's silence is to be looked into: when it would become silent, or, if it is, at the next
// interval.
func (d *Driver) probeDue(n *node) (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.connected {
		return d.opts.ProbeInterval, false
	}
	if n.link == autoheal.LinkSilent {
		return d.opts.ProbeInterval, true
	}
	return max(d.contactLocked(n).Add(d.silentAfter()).Sub(d.clock.Now()), d.opts.ProbeTimeout/4), true
}

// contactLocked is from when on a node's silence counts: its last answer, or our own return to the gateway.
func (d *Driver) contactLocked(n *node) time.Time {
	at := n.answered
	for _, t := range []time.Time{d.startedAt, d.connectedAt, n.approved} {
		if t.After(at) {
			at = t
		}
	}
	return at
}

// fresh reports whether the node answered so lately that there is nothing to look into.
func (d *Driver) fresh(n *node) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return n.connected && n.link == autoheal.LinkUp && d.clock.Now().Sub(n.answered) < d.pollWait()
}

// probed takes over the outcome of a status probe.
func (d *Driver) probed(n *node, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.Now()
	if !d.connected || d.nodes[n.id] != n {
		return
	}
	if err == nil || openclaw.ClassifyInvoke(err) == openclaw.OutcomeDone { // busy, or it refuses us: it lives
		n.answered = now
		if n.listed {
			d.setLinkLocked(n, autoheal.LinkUp, now)
		}
		d.tellNodeLocked(n, now, "status", false)
		return
	}
	if n.link != autoheal.LinkSilent && !now.Before(d.contactLocked(n).Add(d.silentAfter())) {
		d.setLinkLocked(n, autoheal.LinkSilent, now)
		// What was given up meanwhile may run on: the node is up again when it has told what it holds.
		n.relist, n.listed = true, false
		d.tellNodeLocked(n, now, "probe", false)
		d.trySyncLocked()
	}
}
