package claw

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// pollAnswered takes over one answer and reports whether it held nothing but the heartbeat.
func (d *Driver) pollAnswered(ctx context.Context, n *node, req nodeproto.PollRequest, r *nodeproto.PollResponse, sent, at time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nodes[n.id] != n {
		return true
	}
	if r.Life != n.life {
		d.newLifeLocked(n, r, at)
		if !r.Full {
			return false // what an unknown life reports as changes has no beginning: ask it for a listing
		}
	}
	n.ack, n.rulesHash = max(n.ack, r.N), r.RulesHash
	n.answered, n.lastSeen = at, at
	if r.BootID != n.bootID && r.BootID != "" {
		n.bootID = r.BootID
		d.saveNodeLocked(ctx, n)
	}
	if r.Node != nil {
		d.describedLocked(ctx, n, r.Node, at)
	}
	if r.Full {
		d.listPageLocked(ctx, n, req, r, sent, at)
	}
	for i := range r.Changes {
		d.changeLocked(ctx, n, &r.Changes[i], at)
	}
	n.after = r.Seq
	if n.listed {
		d.setLinkLocked(n, autoheal.LinkUp, at)
	}
	d.tellNodeLocked(n, at, "poll", false)
	d.trySyncLocked()
	return !r.Full && !r.More && len(r.Changes) == 0 && r.Node == nil
}

func (d *Driver) newLifeLocked(n *node, r *nodeproto.PollResponse, at time.Time) {
	if n.life != "" {
		d.log.LogAttrs(context.Background(), slog.LevelInfo, "an agent was restarted", slog.String("node", string(n.id)))
	}
	n.life, n.ack, n.after, n.listing, n.listed, n.rulesHash = r.Life, 0, 0, nil, false, r.RulesHash
	n.answered, n.lastSeen = at, at
}

func (d *Driver) describedLocked(ctx context.Context, n *node, s *nodeproto.NodeStatus, at time.Time) {
	n.jobs, s.Jobs = jobsOf(n, s.Jobs, at), nil
	same := n.status != nil
	if same {
		a, b := *n.status, *s
		a.UptimeMS, b.UptimeMS = 0, 0
		same = reflect.DeepEqual(a, b)
	}
	if n.status == nil || !slices.Equal(n.status.Warnings, s.Warnings) {
		for _, w := range s.Warnings {
			d.log.LogAttrs(ctx, slog.LevelWarn, "a node warns", slog.String("node", string(n.id)), slog.String("warning", w))
		}
	}
	n.status = s
	if !same {
		d.saveNodeLocked(ctx, n)
	}
}

// jobsOf turns what a node tells of its jobs into times. What is known stays as it was: ages differ by how long an answer
// takes.
func jobsOf(n *node, told []nodeproto.JobStatus, at time.Time) []autoheal.Job {
	var out []autoheal.Job
	for _, s := range told {
		j := autoheal.Job{
			Action: s.Action, Verb: s.Verb, Target: s.Target, State: s.State, Detail: s.Detail, Output: s.Output, Simulated: s.Simulated,
			StartedAt: at.Add(-age(s.StartedMS)),
		}
		if j.Target.Kind == autoheal.RefNode {
			j.Target.ID = string(n.id)
		}
		if s.State != autoheal.JobRunning {
			j.EndedAt = at.Add(-age(s.EndedMS))
		}
		if i := slices.IndexFunc(n.jobs, func(k autoheal.Job) bool { return k.Action == s.Action }); i >= 0 {
			j.StartedAt = n.jobs[i].StartedAt
			if !n.jobs[i].EndedAt.IsZero() {
				j.EndedAt = n.jobs[i].EndedAt
			}
		}
		if !j.EndedAt.IsZero() && j.EndedAt.Before(j.StartedAt) { // it was short, and the answer that told its end was quick
			j.EndedAt = j.StartedAt
		}
		out = append(out, j)
	}
	return out
}

func (d *Driver) saveNodeLocked(ctx context.Context, n *node) {
	if err := d.saveLocked(ctx, putNode(n)); err != nil {
		d.log.LogAttrs(ctx, slog.LevelError, "cannot save a node's description", slog.String("node", string(n.id)), slog.String("error", err.Error()))
	}
}

// listPageLocked takes over one page of a listing. After the last one, what the node does not list does not exist there.
func (d *Driver) listPageLocked(ctx context.Context, n *node, req nodeproto.PollRequest, r *nodeproto.PollResponse, sent, at time.Time) {
	switch {
	case r.Node != nil || req.After == 0: // the first page describes the node
		n.listing, n.listedAt, n.relist = map[attemptRef]bool{}, sent, false
		for i := range r.Standing {
			d.signalLocked(n, &r.Standing[i], at)
		}
	case n.listing == nil: // the rest of a listing whose beginning was given up: ask for a whole one
		r.Seq = 0
		return
	}
	for i := range r.Workloads {
		s := &r.Workloads[i]
		n.listing[attemptRef{s.Workload, s.Attempt}] = true
		d.observeLocked(ctx, n, s, at, n.refresh)
	}
	if r.More {
		return
	}
	for _, ref := range d.activeLocked(n.id) {
		if !n.listing[ref] {
			d.missingLocked(ctx, n, d.attemptLocked(ref), at)
		}
	}
	for ref, v := range d.strays {
		if v.Node == n.id && !n.listing[ref] {
			d.dropStrayLocked(ref, at)
		}
	}
	if n.refresh {
		n.refresh = false
		d.tellNodeLocked(n, at, "refresh", true)
	}
	n.listing, n.listed = nil, true
	d.kick()
}

// missingLocked is about an attempt that its node does not list. If the node had taken it before it was asked, the node
// has lost it; if the start is not known to have arrived, it is sent again.
func (d *Driver) missingLocked(ctx context.Context, n *node, a *attempt, at time.Time) {
	if a.state == autoheal.Scheduled && (!a.accepted || !a.acceptedAt.Before(n.listedAt)) {
		return
	}
	w := d.workloads[a.ref.id]
	exit := &autoheal.Exit{Code: -1, Reason: autoheal.ExitShimKilled, Detail: "its node keeps nothing of it"}
	d.endLocked(ctx, w, a, exit, at, "poll")
}

func (d *Driver) changeLocked(ctx context.Context, n *node, c *nodeproto.Change, at time.Time) {
	switch {
	case c.Node != nil:
		d.describedLocked(ctx, n, c.Node, at)
	case c.Workload != nil:
		d.observeLocked(ctx, n, c.Workload, at, false)
	case c.Signal != nil:
		d.signalLocked(n, c, at)
	}
}

// signalLocked passes on a signal of what its node may speak of: itself, its GPUs, and what it runs.
func (d *Driver) signalLocked(n *node, c *nodeproto.Change, at time.Time) {
	if c.Signal == nil {
		return
	}
	s := *c.Signal
	s.At, s.SeenAt = at.Add(-age(c.AgeMS)), at
	switch s.Subject.Kind {
	case autoheal.RefNode:
		s.Subject.ID = string(n.id)
	case autoheal.RefGPU:
		if !n.hasGPU(autoheal.GPUID(s.Subject.ID)) {
			return
		}
	case autoheal.RefWorkload:
		attempt, _ := strconv.Atoi(s.Subject.Generation)
		if a := d.attemptLocked(attemptRef{autoheal.WorkloadID(s.Subject.ID), attempt}); a == nil || a.node != n.id {
			return
		}
	default:
		return
	}
	s.Also = []autoheal.Ref{{Kind: autoheal.RefNode, ID: string(n.id)}}
	d.emitLocked(autoheal.Event{Kind: autoheal.EventSignal, Signal: &s, At: s.At, Source: string(n.id)})
}

// hasGPU reports whether a GPU is one of the node's inventory, or named by its place in the node.
func (n *node) hasGPU(id autoheal.GPUID) bool {
	if strings.HasPrefix(string(id), string(n.id)+"/") {
		return true
	}
	return n.status != nil && slices.ContainsFunc(n.status.GPUs, func(g autoheal.GPU) bool { return g.UUID == id })
}

func age(ms int64) time.Duration { return time.Duration(max(ms, 0)) * time.Millisecond }

// observeLocked takes over what a node says of one attempt.
func (d *Driver) observeLocked(ctx context.Context, n *node, s *nodeproto.AttemptStatus, at time.Time, force bool) {
	ref := attemptRef{s.Workload, s.Attempt}
	w := d.workloads[ref.id]
	var a *attempt
	if w != nil {
		a = w.attempts[ref.n]
	}
	if a == nil {
		d.strayLocked(n, s, at)
		return
	}
	if a.node != n.id {
		if a.node != "" || s.State != nodeproto.AttemptExited {
			d.log.LogAttrs(ctx, slog.LevelError, "an attempt is on another node than the registry says",
				slog.String("workload", string(ref.id)), slog.Int("attempt", ref.n), slog.String("node", string(n.id)), slog.String("registry", string(a.node)))
		}
		return
	}
	if s.State == nodeproto.AttemptExited {
		d.exitedLocked(ctx, w, a, s, at, force)
		return
	}
	d.aliveLocked(ctx, w, a, s, at, force)
}

func (d *Driver) exitedLocked(ctx context.Context, w *workload, a *attempt, s *nodeproto.AttemptStatus, at time.Time, force bool) {
	if a.state.Ended() && a.saved && (a.exit == nil || a.exit.Reason != autoheal.ExitSuperseded) {
		d.forgetLocked(a)
		if force {
			d.touchLocked(w, a, at, "poll")
		}
		return
	}
	exit := s.Exit
	if exit == nil {
		exit = &autoheal.Exit{Code: -1, Reason: autoheal.ExitShimKilled, Detail: "its node does not know how it ended"}
	}
	when := at.Add(-age(s.EndedMS))
	if s.StartedMS > 0 && a.started.IsZero() {
		a = a.clone()
		a.started = at.Add(-age(s.StartedMS))
	}
	d.endLocked(ctx, w, a, exit, when, "poll")
}

func (d *Driver) aliveLocked(ctx context.Context, w *workload, a *attempt, s *nodeproto.AttemptStatus, at time.Time, force bool) {
	c := a.clone()
	if !c.accepted {
		c.accepted, c.acceptedAt = true, at
	}
	c.detail = s.Detail
	if len(s.GPUs) > 0 {
		c.gpus = slices.Clone(s.GPUs)
	}
	switch {
	case s.State != nodeproto.AttemptStarting:
		c.state = autoheal.Running
	case a.state != autoheal.Running: // an agent that adopts says so of what runs, until the shim has answered
		c.state = autoheal.Scheduled
	}
	if s.StartedMS > 0 && c.started.IsZero() {
		c.started = at.Add(-age(s.StartedMS))
	}
	if a.state.Ended() { // given up, and back: the engine decides what becomes of it
		c.saved, c.ended, c.exit = false, time.Time{}, nil
	}
	when := at
	if c.state == autoheal.Running && a.state != autoheal.Running && s.StartedMS > 0 {
		when = at.Add(-age(s.StartedMS))
	}
	c.checks = checksOf(a, s.Checks, at)
	if !force && c.checks.same(a.checks) && c.state == a.state && c.detail == a.detail && c.started.Equal(a.started) && slices.Equal(c.gpus, a.gpus) {
		d.trackLocked(w, c)
		return
	}
	if a.state.Ended() {
		if err := d.saveLocked(ctx, putAttempt(c)); err != nil {
			d.log.LogAttrs(ctx, slog.LevelError, "cannot save that an attempt is back", slog.String("workload", c.ref.String()), slog.String("error", err.Error()))
		}
	} else {
		d.dirty[c.ref] = true
	}
	d.touchLocked(w, c, when, "poll")
}

// endLocked makes an end durable, tells it, and lets the node forget it.
func (d *Driver) endLocked(ctx context.Context, w *workload, a *attempt, exit *autoheal.Exit, at time.Time, source string) {
	c := a.clone()
	c.exit, c.ended = exit, at
	c.detail = exit.Detail
	switch {
	case exit.Reason == autoheal.ExitCompleted:
		c.state = autoheal.Succeeded
	case w.desired == autoheal.DesiredCancelled && !exit.OwnFault():
		c.state = autoheal.Cancelled
	default:
		c.state = autoheal.Failed
	}
	c.stop = nil
	rows := []row{putAttempt(c)}
	next := d.nextAfterLocked(w, a, exit)
	if next != nil {
		cw := *w
		cw.attempt = next.ref.n
		rows = append(rows, putWorkload(&cw), putAttempt(next), dropAttempts(&cw))
	}
	if err := d.saveLocked(ctx, rows...); err != nil {
		d.log.LogAttrs(ctx, slog.LevelError, "cannot save the end of an attempt: its node keeps it", slog.String("workload", c.ref.String()), slog.String("error", err.Error()))
		c.saved = false
		d.dirty[c.ref] = true
		d.retryAt["save/"+c.ref.String()] = d.clock.Now().Add(saveRetry)
		d.touchLocked(w, c, at, source)
		return
	}
	c.saved = true
	d.touchLocked(w, c, at, source)
	d.forgetLocked(c)
	if next != nil {
		d.beginLocked(w, next)
	}
}

// saveRetry is how long an end that could not be saved waits for the next try.
const saveRetry = 5 * time.Second

// beginLocked enters a new current attempt that is durable already.
func (d *Driver) beginLocked(w *workload, a *attempt) {
	w.attempt = a.ref.n
	for n, old := range w.attempts {
		if n <= w.attempt-keepLineage && old.state.Ended() {
			delete(w.attempts, n)
			d.index.RemoveWorkload(w.id, n)
		}
	}
	if nom := d.nominations[w.id]; nom != nil && nom.n != a.ref.n { // it got another number than its place was held under
		d.index.RemoveWorkload(w.id, nom.n)
		nom.n = a.ref.n
	}
	d.touchLocked(w, a, a.created, "registry")
}

// nextAfterLocked returns the attempt that the driver itself makes after an end, or nil: after a drain, a preemption, and an
// orderly shutdown of the cluster. What failed is the engine's.
func (d *Driver) nextAfterLocked(w *workload, a *attempt, exit *autoheal.Exit) *attempt {
	if a.ref.n != w.attempt || w.desired != autoheal.DesiredRunning || d.closing || w.isParent() {
		return nil
	}
	orderly := exit.Reason == autoheal.ExitShutdown || (d.resumed && exit.Reason == autoheal.ExitRebooted)
	switch {
	case exit.Reason == autoheal.ExitDrained:
		return d.nextAttempt(w, a, causeDrain) // a mark keeps it off the drained node
	case exit.Reason == autoheal.ExitPreempted:
		return d.nextAttempt(w, a, causePreempt) // its old place is kept for another
	case orderly:
		return d.nextAttempt(w, a, causeShutdown)
	}
	return nil
}

func (d *Driver) nextAttempt(w *workload, last *attempt, why cause) *attempt {
	next := &attempt{ref: attemptRef{w.id, 1}, state: autoheal.Pending, cause: why, memoryMB: w.spec.MemoryMB, created: d.clock.Now()}
	if last != nil {
		next.ref.n, next.memoryMB = d.generationAfter(w), last.memoryMB
	}
	return next
}

// generationAfter numbers the attempt that the driver makes of w: the ranks of a gang that are replaced together get the
// same number, whichever of them ends first.
func (d *Driver) generationAfter(w *workload) int {
	n := w.attempt + 1
	for _, m := range d.gangs[w.set.Gang] { // none, unless w is in a gang
		a := m.current()
		switch {
		case a == nil || m.desired != autoheal.DesiredRunning:
		case a.state == autoheal.Pending:
			n = max(n, m.attempt)
		default:
			n = max(n, m.attempt+1)
		}
	}
	return n
}

// resumeLocked makes the attempts after an orderly shutdown.
func (d *Driver) resumeLocked(ctx context.Context) {
	for _, id := range slices.Sorted(maps.Keys(d.workloads)) {
		w := d.workloads[id]
		a := w.current()
		if a == nil || !a.state.Ended() || a.exit == nil || a.exit.Reason != autoheal.ExitShutdown {
			continue
		}
		next := d.nextAfterLocked(w, a, a.exit)
		if next == nil {
			continue
		}
		cw := *w
		cw.attempt = next.ref.n
		if err := d.saveLocked(ctx, putWorkload(&cw), putAttempt(next), dropAttempts(&cw)); err != nil {
			d.log.LogAttrs(ctx, slog.LevelError, "cannot resume a workload", slog.String("workload", string(id)), slog.String("error", err.Error()))
			continue
		}
		d.beginLocked(w, next)
	}
}

// strayLocked is about an attempt that the registry does not know, which can be left from another registry. It is shown
// while it runs and never touched; its end is forgotten.
func (d *Driver) strayLocked(n *node, s *nodeproto.AttemptStatus, at time.Time) {
	if s.State == nodeproto.AttemptExited {
		d.dropStrayLocked(attemptRef{s.Workload, s.Attempt}, at)
		d.forgetLocked(&attempt{ref: attemptRef{s.Workload, s.Attempt}, node: n.id})
		return
	}
	v := &autoheal.Workload{
		ID: s.Workload, Attempt: s.Attempt, State: autoheal.Running, Desired: autoheal.DesiredCancelled, Node: n.id, GPUs: s.GPUs,
		AtMostOnce: s.AtMostOnce, Kind: autoheal.KindJob, Class: autoheal.Medium, ClassRule: "default", Replicas: 1,
		Request:   autoheal.Resources{MemoryMB: s.MemoryMB, GPUs: len(s.GPUs)},
		StartedAt: at.Add(-age(s.StartedMS)), Detail: fmt.Sprintf("runs on %s and is not in the registry", n.id),
	}
	d.strays[attemptRef{s.Workload, s.Attempt}] = v
	d.index.SetWorkload(v)
	d.emitWorkloadLocked(v, at, "poll")
}

// dropStrayLocked takes a stray that has ended out of the books.
func (d *Driver) dropStrayLocked(ref attemptRef, at time.Time) {
	v := d.strays[ref]
	if v == nil {
		return
	}
	delete(d.strays, ref)
	d.index.RemoveWorkload(ref.id, ref.n)
	gone := v.Ref()
	d.emitLocked(autoheal.Event{Kind: autoheal.EventGone, Gone: &gone, At: at, Source: "poll"})
}
