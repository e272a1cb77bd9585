package claw

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

// effect is what an accepted action changes: rows that become durable together, then the state in memory.
type effect struct {
	rows  []row
	apply func(now time.Time)
	proof autoheal.Proof
}

// Do implements autoheal.Actuator.
func (d *Driver) Do(ctx context.Context, a autoheal.Action) autoheal.Result {
	d.mu.Lock()
	res, final := d.admitLocked(ctx, a)
	if final {
		d.mu.Unlock()
		return res
	}
	switch a.Verb {
	case autoheal.Stop:
		return d.doStop(ctx, a) // unlocks
	case autoheal.Collect:
		if len(a.Params.Peers) > 0 {
			return d.doNetwork(ctx, a) // unlocks
		}
		return d.doCollect(ctx, a) // unlocks
	case autoheal.ResetGPU:
		return d.doReset(ctx, a) // unlocks
	case autoheal.Test:
		return d.doTest(ctx, a) // unlocks
	case autoheal.Reboot:
		return d.doReboot(ctx, a) // unlocks
	case autoheal.Fence:
		return d.doFence(ctx, a) // unlocks
	}
	defer d.mu.Unlock()
	e, err := d.plan(a)
	if err != nil {
		return d.refused(a, err)
	}
	return d.acceptLocked(ctx, a, e)
}

// admitLocked checks what is the same for all verbs. final means that the result is the answer.
func (d *Driver) admitLocked(ctx context.Context, a autoheal.Action) (res autoheal.Result, final bool) {
	op := string(a.Verb) + " " + a.Target.String()
	refuse := func(kind autoheal.ErrorKind, format string, args ...any) (autoheal.Result, bool) {
		return d.refused(a, &autoheal.Error{Kind: kind, Op: op, Detail: fmt.Sprintf(format, args...)}), true
	}
	now := d.clock.Now()
	switch {
	case !d.started || d.runCtx.Err() != nil:
		return refuse(autoheal.ErrUnavailable, "the driver does not run")
	case !slices.Contains(d.verbs(), a.Verb):
		return refuse(autoheal.ErrUnsupported, "this driver cannot %s", a.Verb)
	case a.ID == "":
		return refuse(autoheal.ErrInvalid, "an action needs an ID")
	case a.Epoch < d.epoch:
		return refuse(autoheal.ErrConflict, "epoch %d is over; the present one is %d", a.Epoch, d.epoch)
	case !a.Deadline.IsZero() && now.After(a.Deadline):
		return refuse(autoheal.ErrTimeout, "its deadline has passed")
	}
	if a.Epoch > d.epoch {
		if err := d.saveLocked(ctx, putMeta(metaEpoch, strconv.FormatUint(a.Epoch, 10))); err != nil {
			return refuse(autoheal.ErrUnavailable, "%v", err)
		}
		d.epoch = a.Epoch
	}
	verb, known := d.accepted[a.ID]
	switch {
	case !known:
		return res, false
	case verb != a.Verb:
		return refuse(autoheal.ErrConflict, "the action ID was used for a %s", verb)
	}
	return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeDone, Proof: d.proofLocked(a), At: now}, true
}

func (d *Driver) refused(a autoheal.Action, err *autoheal.Error) autoheal.Result {
	if err.Op == "" {
		err.Op = string(a.Verb) + " " + a.Target.String()
	}
	return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeNotSent, Err: err, At: d.clock.Now()}
}

// acceptLocked makes an effect durable together with the action's ID, and applies it.
func (d *Driver) acceptLocked(ctx context.Context, a autoheal.Action, e effect) autoheal.Result {
	now := d.clock.Now()
	rows := append(slices.Clone(e.rows), putAction(a, now))
	var old autoheal.ActionID
	if len(d.acceptedIDs) >= keepActions {
		old = d.acceptedIDs[0]
		rows = append(rows, dropAction(old))
	}
	if err := d.saveLocked(ctx, rows...); err != nil {
		return d.refused(a, &autoheal.Error{Kind: autoheal.ErrUnavailable, Err: err})
	}
	if old != "" {
		delete(d.accepted, old)
		d.acceptedIDs = d.acceptedIDs[1:]
	}
	d.accepted[a.ID] = a.Verb
	d.acceptedIDs = append(d.acceptedIDs, a.ID)
	if e.apply != nil {
		e.apply(now)
	}
	d.kick()
	d.log.LogAttrs(ctx, slog.LevelInfo, "action accepted", slog.String("action", string(a.ID)), slog.String("verb", string(a.Verb)),
		slog.String("target", a.Target.String()), slog.String("actor", a.Actor), slog.String("reason", a.Reason))
	return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeDone, Proof: e.proof, At: now}
}

// plan works out the effect of every verb that needs no answer of a node.
func (d *Driver) plan(a autoheal.Action) (effect, *autoheal.Error) {
	switch a.Verb {
	case autoheal.Cordon:
		return d.planCordon(a)
	case autoheal.Uncordon:
		return d.planUncordon(a)
	case autoheal.QuarantineGPU, autoheal.ReleaseGPU:
		return d.planGPU(a)
	case autoheal.Drain:
		return d.planDrain(a)
	case autoheal.Start:
		return d.planStart(a)
	case autoheal.Scale:
		return d.planScale(a)
	case autoheal.Pause, autoheal.Resume:
		return d.planPause(a)
	case autoheal.Refresh:
		return d.planRefresh(a)
	}
	return effect{}, &autoheal.Error{Kind: autoheal.ErrUnsupported, Detail: "this driver cannot " + string(a.Verb)}
}

func problem(kind autoheal.ErrorKind, format string, args ...any) *autoheal.Error {
	return &autoheal.Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// owner is whose mark the action sets: the engine's marks are autoheal's.
func owner(a autoheal.Action) string {
	if a.Actor == autoheal.ActorEngine {
		return autoheal.ByAutoheal
	}
	return a.Actor
}

func markOf(a autoheal.Action, now time.Time) autoheal.Mark {
	return autoheal.Mark{By: owner(a), Reason: a.Reason, Incident: a.Incident, Epoch: a.Epoch, At: now}
}

// targetNode returns the node that the action is about, in the boot that it means.
func (d *Driver) targetNode(a autoheal.Action, r autoheal.Ref) (*node, *autoheal.Error) {
	n := d.nodes[autoheal.NodeID(r.ID)]
	switch {
	case r.Kind != autoheal.RefNode:
		return nil, problem(autoheal.ErrInvalid, "%s needs a node, not a %s", a.Verb, r.Kind)
	case n == nil:
		return nil, problem(autoheal.ErrNotFound, "no such node")
	case r.Generation != "" && n.bootID != "" && r.Generation != n.bootID:
		return nil, problem(autoheal.ErrConflict, "the node has booted since: this was meant for boot %s", r.Generation)
	}
	return n, nil
}

// nodeEffect saves a changed copy of n and then takes it over.
func (d *Driver) nodeEffect(n *node, change func(c *node, now time.Time)) effect {
	c := *n
	c.marks = slices.Clone(n.marks)
	c.gpuMarks = map[autoheal.GPUID]autoheal.Mark{}
	maps.Copy(c.gpuMarks, n.gpuMarks)
	change(&c, d.clock.Now())
	return effect{rows: []row{putNode(&c)}, apply: func(now time.Time) {
		n.marks, n.gpuMarks, n.drain = c.marks, c.gpuMarks, c.drain
		d.tellNodeLocked(n, now, "registry", false)
	}}
}

func (d *Driver) planCordon(a autoheal.Action) (effect, *autoheal.Error) {
	n, err := d.targetNode(a, a.Target)
	if err != nil {
		return effect{}, err
	}
	return d.nodeEffect(n, func(c *node, now time.Time) { c.mark(markOf(a, now)) }), nil
}

// mark adds a mark unless its owner has one: the first reason stays.
func (n *node) mark(m autoheal.Mark) {
	if !slices.ContainsFunc(n.marks, func(o autoheal.Mark) bool { return o.By == m.By }) {
		n.marks = append(n.marks, m)
	}
}

// planUncordon removes the actor's own mark; a person removes all marks and ends a drain.
func (d *Driver) planUncordon(a autoheal.Action) (effect, *autoheal.Error) {
	n, err := d.targetNode(a, a.Target)
	if err != nil {
		return effect{}, err
	}
	person := owner(a) != autoheal.ByAutoheal
	return d.nodeEffect(n, func(c *node, _ time.Time) {
		c.marks = slices.DeleteFunc(c.marks, func(m autoheal.Mark) bool { return person || m.By == owner(a) })
		if c.drain != nil && (person || c.drain.Actor == a.Actor) {
			c.drain = nil
		}
	}), nil
}

func (d *Driver) planGPU(a autoheal.Action) (effect, *autoheal.Error) {
	id := autoheal.GPUID(a.Target.ID)
	n, err := d.targetGPU(a)
	if err != nil {
		return effect{}, err
	}
	return d.nodeEffect(n, func(c *node, now time.Time) {
		old, marked := c.gpuMarks[id]
		switch {
		case a.Verb == autoheal.QuarantineGPU && !marked:
			c.gpuMarks[id] = markOf(a, now)
		case a.Verb == autoheal.ReleaseGPU && marked && (old.By == owner(a) || owner(a) != autoheal.ByAutoheal):
			delete(c.gpuMarks, id)
		}
	}), nil
}

// nodeOfGPU finds the node that has the GPU, or had it when it was marked: a GPU may fall off the bus.
func (d *Driver) nodeOfGPU(id autoheal.GPUID) *node {
	for _, nid := range d.nodeIDsLocked() {
		n := d.nodes[nid]
		if _, marked := n.gpuMarks[id]; marked {
			return n
		}
		if n.status != nil && slices.ContainsFunc(n.status.GPUs, func(g autoheal.GPU) bool { return g.UUID == id }) {
			return n
		}
	}
	return nil
}

// drainGrace is the time for SIGTERM of a drain that does not say one.
const drainGrace = 30 * time.Second

func (d *Driver) planDrain(a autoheal.Action) (effect, *autoheal.Error) {
	n, err := d.targetNode(a, a.Target)
	if err != nil {
		return effect{}, err
	}
	if n.status != nil && !slices.Contains(d.capsLocked(n), autoheal.Drain) {
		return effect{}, problem(autoheal.ErrUnsupported, "the agent of %s cannot stop workloads", n.id)
	}
	grace := a.Params.Grace
	if grace <= 0 {
		grace = drainGrace
	}
	return d.nodeEffect(n, func(c *node, now time.Time) {
		c.mark(markOf(a, now))
		c.drain = &drainOrder{Action: a.ID, Actor: a.Actor, Grace: grace, Force: a.Params.Force, At: now}
	}), nil
}

// planRefresh asks a node, the node of a workload, or every node for a full listing, and tells what is known at once.
func (d *Driver) planRefresh(a autoheal.Action) (effect, *autoheal.Error) {
	var targets []*node
	var also *workload
	switch a.Target.Kind {
	case autoheal.RefCluster:
		for _, id := range d.nodeIDsLocked() {
			targets = append(targets, d.nodes[id])
		}
	case autoheal.RefNode:
		n := d.nodes[autoheal.NodeID(a.Target.ID)]
		if n == nil {
			return effect{}, problem(autoheal.ErrNotFound, "no such node")
		}
		targets = append(targets, n)
	case autoheal.RefWorkload:
		if also = d.workloads[autoheal.WorkloadID(a.Target.ID)]; also == nil {
			return effect{}, problem(autoheal.ErrNotFound, "no such workload")
		}
		for _, at := range also.sorted() {
			if n := d.nodes[at.node]; n != nil && !at.state.Ended() && !slices.Contains(targets, n) {
				targets = append(targets, n)
			}
		}
	default:
		return effect{}, problem(autoheal.ErrInvalid, "refresh needs a node, a workload or the cluster, not a %s", a.Target.Kind)
	}
	return effect{apply: func(now time.Time) {
		if also != nil {
			for _, v := range d.viewsLocked(also) {
				d.emitWorkloadLocked(v, now, "registry")
			}
		}
		for _, n := range targets {
			d.refreshLocked(n, now)
		}
	}}, nil
}

func (d *Driver) refreshLocked(n *node, now time.Time) {
	n.refresh = true
	if n.link != autoheal.LinkUp { // nothing can be asked: what is known is all there is
		d.tellNodeLocked(n, now, "registry", true)
		wake(n.wakeProbe)
		wake(n.wakePoll)
		return
	}
	if n.pollStop != nil {
		n.pollStop()
	}
}

// budget is how long an invoke may take: until the action's deadline, at most most.
func (d *Driver) budget(a autoheal.Action, most time.Duration) time.Duration {
	if a.Deadline.IsZero() {
		return most
	}
	return max(min(most, a.Deadline.Sub(d.clock.Now())), 100*time.Millisecond)
}

// failed turns the error of an invoke into a result: what the node refused has not happened.
func (d *Driver) failed(a autoheal.Action, err error) autoheal.Result {
	e := &autoheal.Error{Op: string(a.Verb) + " " + a.Target.String(), Err: err}
	outcome := autoheal.OutcomeNotSent
	switch openclaw.ClassifyInvoke(err) {
	case openclaw.OutcomeNotSent:
		e.Kind, e.Detail = autoheal.ErrUnavailable, "it could not be sent to the node"
	case openclaw.OutcomeUnknown:
		e.Kind, e.Detail, outcome = autoheal.ErrTimeout, "the node did not answer; it may happen late", autoheal.OutcomeUnknown
	default:
		e.Kind = kindOf(nodeCode(err))
		e.Detail = "the node refused: " + refusalText(err)
		if a.Verb == autoheal.Stop && e.Kind == autoheal.ErrNotFound {
			// The agent says so of an attempt that it is just starting. Not found would read as stopped.
			e.Kind = autoheal.ErrUnavailable
		}
	}
	return autoheal.Result{Action: a.ID, Outcome: outcome, Err: e, At: d.clock.Now()}
}

func kindOf(code string) autoheal.ErrorKind {
	switch code {
	case nodeproto.CodeStaleEpoch, nodeproto.CodeInUse, nodeproto.CodeOtherBoot:
		return autoheal.ErrConflict
	case nodeproto.CodeInvalid:
		return autoheal.ErrInvalid
	case nodeproto.CodeNotFound:
		return autoheal.ErrNotFound
	case nodeproto.CodeUnsupported:
		return autoheal.ErrUnsupported
	}
	return autoheal.ErrUnavailable
}
