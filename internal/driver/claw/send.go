package claw

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

const (
	sendTimeout = 10 * time.Second // of a start or a stop: the agent answers when it has taken it
	retryAfter  = time.Second
	staleRetry  = 30 * time.Second
	perNode     = 8 // invokes of ours under way at one node, beside poll and probe
)

// sendLocked starts the invokes that are due.
func (d *Driver) sendLocked(now time.Time) {
	for _, ref := range slices.SortedFunc(maps.Keys(d.work), attemptRef.compare) {
		a := d.attemptLocked(ref)
		n := d.nodes[a.node]
		if n == nil || n.link != autoheal.LinkUp {
			continue
		}
		if a.stop != nil {
			order := *a.stop
			d.launchLocked("stop/"+ref.String(), n, now, func(ctx context.Context) { d.sendStop(ctx, n, ref, order) })
			continue
		}
		if req, ok := d.startRequestLocked(a); ok {
			d.launchLocked("start/"+ref.String(), n, now, func(ctx context.Context) { d.sendStart(ctx, n, ref, req) })
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(d.forgets), attemptRef.compare) {
		if n := d.nodes[d.forgets[ref]]; n != nil && n.link == autoheal.LinkUp {
			d.launchLocked("forget/"+ref.String(), n, now, func(ctx context.Context) { d.sendForget(ctx, n, ref) })
		}
	}
}

// launchLocked runs one invoke unless it is under way, is to wait, or the node has enough of them.
func (d *Driver) launchLocked(key string, n *node, now time.Time, run func(context.Context)) {
	if _, busy := d.inflight[key]; busy || d.retryAt[key].After(now) || d.load[n.id] >= perNode {
		return
	}
	d.inflight[key] = n.id
	d.load[n.id]++
	d.wg.Go(func() {
		run(d.runCtx)
		d.mu.Lock()
		delete(d.inflight, key)
		if d.load[n.id]--; d.load[n.id] == 0 {
			delete(d.load, n.id)
		}
		d.mu.Unlock()
		d.kick()
	})
}

func (d *Driver) startRequestLocked(a *attempt) (nodeproto.StartRequest, bool) {
	w := d.workloads[a.ref.id]
	if w == nil || w.desired == autoheal.DesiredCancelled || d.closing || a.ref.n < d.newestLocked(w.set.Gang) {
		return nodeproto.StartRequest{}, false
	}
	spec := w.spec
	spec.MemoryMB = a.memoryMB
	return nodeproto.StartRequest{
		Epoch: d.epoch, Action: a.action, Workload: a.ref.id, Attempt: a.ref.n, Generation: a.generation, Spec: spec,
		GPUs: a.gpus, AtMostOnce: w.atMostOnce, Gang: w.set.Gang, Rank: w.set.Rank, GangSize: w.set.GangSize,
	}, true
}

// sendStart sends the start of a placed attempt, whose row is durable, and takes over what is known of it afterwards.
func (d *Driver) sendStart(ctx context.Context, n *node, ref attemptRef, req nodeproto.StartRequest) {
	var resp nodeproto.Accepted
	err := d.call(ctx, n.device, nodeproto.CmdStart, d.key("start/"+ref.String()), req, &resp, sendTimeout)
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.Now()
	w, a := d.workloads[ref.id], d.attemptLocked(ref)
	if a == nil || a.node != n.id || a.state != autoheal.Scheduled || a.accepted {
		return // seen running, or stopped, meanwhile
	}
	key := "start/" + ref.String()
	c := a.clone()
	switch outcome, code := openclaw.ClassifyInvoke(err), nodeCode(err); {
	case err == nil:
		c.accepted, c.acceptedAt, c.maybe = true, now, false
		d.trackLocked(w, c)
	case outcome == openclaw.OutcomeNotSent && !a.maybe:
		d.shunned[n.id] = now.Add(shunFor)
		d.unplaceLocked(ctx, w, a, "could not be sent to "+string(n.id)+"; looking for another place", now)
	case outcome != openclaw.OutcomeDone:
		c.maybe = a.maybe || outcome == openclaw.OutcomeUnknown
		d.trackLocked(w, c)
		d.retryAt[key] = now.Add(retryAfter)
	case code == nodeproto.CodeStaleEpoch:
		d.retryAt[key] = now.Add(staleRetry)
		d.log.LogAttrs(ctx, slog.LevelError, "a start was refused: a newer healer is in charge", slog.String("workload", ref.String()), slog.String("node", string(n.id)))
	case code == nodeproto.CodeGPUBusy && !a.maybe:
		for _, g := range a.gpus {
			d.busyGPUs[g] = now.Add(shunFor)
		}
		d.unplaceLocked(ctx, w, a, "a GPU of "+string(n.id)+" is still held; looking for another place", now)
	case code == nodeproto.CodeNodeFault && !a.maybe: // no fault of the workload's
		d.shunned[n.id] = now.Add(shunFor)
		d.unplaceLocked(ctx, w, a, string(n.id)+" cannot start it ("+refusalText(err)+"); looking for another place", now)
	case code == nodeproto.CodeLeaseExpired: // its next poll proves contact
		d.retryAt[key] = now.Add(retryAfter / 10)
	case code == nodeproto.CodeGPUBusy, code == openclaw.NodeBusy, code == openclaw.NodeExpired: // this request was not run
		d.retryAt[key] = now.Add(retryAfter)
	case a.maybe: // an earlier request may win yet: it is over when the node says that nothing of it is there
		c.stop = &stopOrder{Action: a.action, Reason: refusalReason(code), Force: true}
		if err := d.saveLocked(ctx, putAttempt(c)); err != nil {
			d.retryAt[key] = now.Add(retryAfter)
			return
		}
		d.log.LogAttrs(ctx, slog.LevelWarn, "a start was refused after one whose outcome is not known", slog.String("workload", ref.String()), slog.String("node", string(n.id)), slog.String("error", refusalText(err)))
		d.touchLocked(w, c, now, "start")
	default:
		d.endLocked(ctx, w, a, &autoheal.Exit{Code: -1, Reason: refusalReason(code), Detail: refusalText(err)}, now, "start")
	}
}

// refusalReason says whose fault it is that a node did not start an attempt.
func refusalReason(code string) autoheal.ExitReason {
	if code == nodeproto.CodeNodeFault {
		return autoheal.ExitNodeFault
	}
	return autoheal.ExitStartFailed
}

// refusalText is what the node itself said.
func refusalText(err error) string {
	if e, ok := errors.AsType[*openclaw.Error](err); ok {
		if ne, answered := e.Details.NodeError(); answered && ne.Message != "" {
			return ne.Message
		}
	}
	return err.Error()
}

// sendStop carries out a stop order until the node took it, and again if the end is not seen long after the grace.
func (d *Driver) sendStop(ctx context.Context, n *node, ref attemptRef, order stopOrder) {
	resp, err := d.invokeStop(ctx, n.device, ref, order)
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.Now()
	w, a := d.workloads[ref.id], d.attemptLocked(ref)
	if a == nil || a.stop == nil || a.state.Ended() {
		return
	}
	key := "stop/" + ref.String()
	switch {
	case *a.stop != order && (err != nil || !resp.Unknown): // ordered anew meanwhile: that goes out next
	case err != nil:
		d.retryAt[key] = now.Add(retryAfter)
		d.log.LogAttrs(ctx, slog.LevelWarn, "cannot stop yet", slog.String("workload", ref.String()), slog.String("node", string(n.id)), slog.String("error", err.Error()))
	case resp.Unknown:
		d.endLocked(ctx, w, a, neverRan(order.Reason), now, "stop")
	default:
		d.retryAt[key] = now.Add(order.Grace + sendTimeout)
	}
}

// neverRan is the exit of an attempt that its node does not know and will not start any more.
func neverRan(reason autoheal.ExitReason) *autoheal.Exit {
	return &autoheal.Exit{Code: -1, Reason: reason, Detail: "its node had not started it and will not"}
}

func (d *Driver) invokeStop(ctx context.Context, device string, ref attemptRef, order stopOrder) (nodeproto.Accepted, error) {
	req := nodeproto.StopRequest{
		Epoch: d.currentEpoch(), Action: order.Action, Workload: ref.id, Attempt: ref.n, GraceMS: order.Grace.Milliseconds(),
		Force: order.Force, Reason: order.Reason,
	}
	if order.Force {
		req.GraceMS = 0
	}
	var resp nodeproto.Accepted
	err := d.call(ctx, device, nodeproto.CmdStop, d.key("stop/"+ref.String()), req, &resp, sendTimeout)
	return resp, err
}

// forgetLocked lets the node remove what it keeps of an attempt whose end is durable here. What was only given up may run
// there still, and forgetting is a kind of stop: it is left alone.
func (d *Driver) forgetLocked(a *attempt) {
	if a.node == "" || (a.exit != nil && a.exit.Reason == autoheal.ExitSuperseded) {
		return
	}
	d.forgets[a.ref] = a.node
	d.kick()
}

func (d *Driver) sendForget(ctx context.Context, n *node, ref attemptRef) {
	req := nodeproto.StopRequest{Epoch: d.currentEpoch(), Workload: ref.id, Attempt: ref.n, Forget: true}
	var resp nodeproto.Accepted
	err := d.call(ctx, n.device, nodeproto.CmdStop, d.key("forget/"+ref.String()), req, &resp, sendTimeout)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil || openclaw.ClassifyInvoke(err) == openclaw.OutcomeDone {
		delete(d.forgets, ref)
		return
	}
	d.retryAt["forget/"+ref.String()] = d.clock.Now().Add(staleRetry / 6)
}
