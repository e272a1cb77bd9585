package claw

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
)

func (d *Driver) targetWorkload(a autoheal.Action) (*workload, *autoheal.Error) {
	if a.Target.Kind != autoheal.RefWorkload {
		return nil, problem(autoheal.ErrInvalid, "%s needs a workload, not a %s", a.Verb, a.Target.Kind)
	}
	w := d.workloads[autoheal.WorkloadID(a.Target.ID)]
	if w == nil {
		return nil, problem(autoheal.ErrNotFound, "no such workload")
	}
	return w, nil
}

// planStart makes attempt a.Params.Attempt exist, pending; the reconcile loop places it.
func (d *Driver) planStart(a autoheal.Action) (effect, *autoheal.Error) {
	w, err := d.targetWorkload(a)
	if err != nil {
		return effect{}, err
	}
	p := a.Params
	switch {
	case p.Attempt <= 0:
		return effect{}, problem(autoheal.ErrInvalid, "start needs the number of the attempt; the next one is %d", w.attempt+1)
	case w.isParent():
		return effect{}, problem(autoheal.ErrInvalid, "it is scaled: its replicas are started, not it")
	case p.Attempt <= w.attempt:
		return effect{}, nil // it exists already
	case p.Attempt > w.attempt+1 && w.set.Gang == "": // the ranks of a gang share one generation and may skip numbers
		return effect{}, problem(autoheal.ErrConflict, "attempt %d cannot follow attempt %d", p.Attempt, w.attempt)
	case w.desired != autoheal.DesiredRunning:
		return effect{}, problem(autoheal.ErrConflict, "it is wanted %s", w.desired)
	case d.closing:
		return effect{}, problem(autoheal.ErrUnavailable, "the cluster is being stopped")
	case p.Hedge && w.atMostOnce:
		return effect{}, problem(autoheal.ErrConflict, "an at-most-once workload gets no extra copy")
	}
	older, err := d.olderAttempts(w, p)
	if err != nil {
		return effect{}, err
	}
	next := d.nextAttempt(w, w.current(), causeStart)
	next.ref.n = p.Attempt
	next.action, next.hedge = a.ID, p.Hedge
	next.wishes = wishes{Avoid: slices.Clone(p.Avoid), AvoidGPUs: slices.Clone(p.AvoidGPUs)}
	if p.MemoryMB > 0 {
		next.memoryMB = p.MemoryMB
	}
	cw := *w
	cw.attempt = next.ref.n
	rows := []row{putWorkload(&cw), putAttempt(next), dropAttempts(&cw)}
	for _, o := range older {
		rows = append(rows, putAttempt(o))
	}
	var nom *nomination
	if p.Nominated != "" {
		nom = &nomination{workload: w.id, node: p.Nominated, action: a.ID, until: d.clock.Now().Add(d.opts.NominationTTL)}
		if old := d.nominations[w.id]; old != nil {
			nom.n = old.n
			if old.node == nom.node {
				nom.gpus = old.gpus
			}
		}
		rows = append(rows, putNomination(nom))
	}
	return effect{rows: rows, apply: func(now time.Time) {
		for _, o := range older {
			d.touchLocked(w, o, now, "registry")
			if n := d.nodes[o.node]; n != nil { // if it runs on after all, that has to be seen
				n.relist = true
				if n.link == autoheal.LinkUp && n.pollStop != nil {
					n.pollStop()
				}
			}
		}
		if nom != nil {
			d.nominations[w.id] = nom
		}
		d.beginLocked(w, next)
	}}, nil
}

// olderAttempts returns what becomes of the attempts before a new one, or why it may not be made: without a proof that an
// older copy is gone, the new one is an extra copy, which only a workload that may run twice gets, and asked for as such.
func (d *Driver) olderAttempts(w *workload, p autoheal.ActionParams) ([]*attempt, *autoheal.Error) {
	var out []*attempt
	for _, o := range w.sorted() {
		if o.state.Ended() {
			continue
		}
		if o.node == "" { // never sent anywhere
			c := o.clone()
			c.state, c.ended, c.saved = autoheal.Failed, d.clock.Now(), true
			c.exit = &autoheal.Exit{Code: -1, Reason: autoheal.ExitSuperseded, Detail: "it had no place yet"}
			out = append(out, c)
			continue
		}
		if p.Hedge { // it stays listed, and is settled when its node is back (behaviour C5)
			continue
		}
		if p.Proof == "" || p.Proof == autoheal.ProofNone {
			return nil, problem(autoheal.ErrConflict, "attempt %d on %s is not known to have ended: a proof is needed", o.ref.n, o.node)
		}
		if p.Proof == autoheal.ProofExitObserved { // it would have been observed here: this attempt was placed after the decision
			return nil, problem(autoheal.ErrConflict, "attempt %d runs on %s: its exit was not observed", o.ref.n, o.node)
		}
		if n := d.nodes[o.node]; n != nil && n.listed && n.link == autoheal.LinkUp { // it has come back since it was proven gone, and has this copy
			return nil, problem(autoheal.ErrConflict, "attempt %d is on %s, which answers: the proof %s is out of date", o.ref.n, o.node, p.Proof)
		}
		c := o.clone()
		c.state, c.ended, c.stop, c.saved = autoheal.Failed, d.clock.Now(), nil, true
		c.exit = &autoheal.Exit{Code: -1, Reason: autoheal.ExitSuperseded, Detail: "given up with the proof " + string(p.Proof)}
		out = append(out, c)
	}
	return out, nil
}

// doStop ends one attempt. It is called with d.mu held and releases it.
func (d *Driver) doStop(ctx context.Context, a autoheal.Action) autoheal.Result {
	locked := true
	unlock := func() {
		if locked {
			locked = false
			d.mu.Unlock()
		}
	}
	defer unlock()
	w, err := d.targetWorkload(a)
	if err != nil {
		if err.Kind == autoheal.ErrNotFound { // what does not exist is stopped
			return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeDone, Err: err, At: d.clock.Now()}
		}
		return d.refused(a, err)
	}
	if a.Params.Final && (w.isParent() || w.desired != autoheal.DesiredCancelled) {
		return d.stopForGoodLocked(ctx, a, w)
	}
	at, err := d.attemptToStop(a, w)
	if err != nil {
		return d.refused(a, err)
	}
	if at == nil || at.state.Ended() {
		return d.acceptLocked(ctx, a, effect{proof: proofOf(at)})
	}
	if at.node == "" {
		return d.acceptLocked(ctx, a, d.cancelEffect(w, at, stopReason(a)))
	}
	n := d.nodes[at.node]
	if n == nil {
		return d.refused(a, problem(autoheal.ErrNotFound, "its node %s is not known any more", at.node))
	}
	if n.status != nil && !slices.Contains(d.capsLocked(n), autoheal.Stop) {
		return d.refused(a, problem(autoheal.ErrUnsupported, "the agent of %s cannot stop workloads", n.id))
	}
	order := stopOrder{Action: a.ID, Reason: stopReason(a), Grace: a.Params.Grace, Force: a.Params.Force}
	ref := at.ref
	if err := d.keepRoomsLocked(ctx, a, at); err != nil {
		return d.refused(a, err)
	}
	unlock()
	resp, serr := d.invokeStop(ctx, n.device, ref, order)
	d.mu.Lock()
	locked = true
	if serr != nil {
		return d.failed(a, serr)
	}
	return d.stoppedLocked(ctx, a, w, ref, resp.Unknown)
}

// stoppedLocked takes over that a node took a stop.
func (d *Driver) stoppedLocked(ctx context.Context, a autoheal.Action, w *workload, ref attemptRef, unknown bool) autoheal.Result {
	at := w.attempts[ref.n]
	var e effect
	if at != nil {
		if unknown && !at.state.Ended() {
			d.endLocked(ctx, w, at, neverRan(stopReason(a)), d.clock.Now(), "stop")
			at = w.attempts[ref.n]
		}
		e.proof = proofOf(at)
	}
	return d.acceptLocked(ctx, a, e)
}

func stopReason(a autoheal.Action) autoheal.ExitReason {
	if a.Params.For != "" {
		return autoheal.ExitPreempted
	}
	return autoheal.ExitStopped
}

// attemptToStop is the one that the action means, nil if there is none any more.
func (d *Driver) attemptToStop(a autoheal.Action, w *workload) (*attempt, *autoheal.Error) {
	n := a.Params.Attempt
	if n == 0 && a.Target.Generation != "" {
		g, err := strconv.Atoi(a.Target.Generation)
		if err != nil {
			return nil, problem(autoheal.ErrInvalid, "generation %q is not the number of an attempt", a.Target.Generation)
		}
		n = g
	}
	if n == 0 {
		n = w.attempt
	}
	if n > w.attempt || n < 0 {
		return nil, problem(autoheal.ErrNotFound, "there is no attempt %d; the latest is %d", n, w.attempt)
	}
	return w.attempts[n], nil
}

// proofOf says how strongly the end of an attempt is known. An attempt that has left the lineage ended long ago.
func proofOf(at *attempt) autoheal.Proof {
	switch {
	case at == nil:
		return autoheal.ProofExitObserved
	case !at.state.Ended() || at.exit == nil || at.exit.Reason == autoheal.ExitSuperseded:
		return ""
	}
	return autoheal.ProofExitObserved
}

// proofLocked is the proof that an accepted action gives, also when it is asked for again.
func (d *Driver) proofLocked(a autoheal.Action) autoheal.Proof {
	switch a.Verb {
	case autoheal.Fence:
		return autoheal.ProofPowerOff
	case autoheal.Stop:
	default:
		return ""
	}
	w, err := d.targetWorkload(a)
	if err != nil {
		return ""
	}
	at, err := d.attemptToStop(a, w)
	if err != nil {
		return ""
	}
	return proofOf(at)
}

// cancelEffect ends an attempt that was never sent anywhere.
func (d *Driver) cancelEffect(w *workload, at *attempt, reason autoheal.ExitReason) effect {
	c := at.clone()
	c.state, c.ended, c.saved = autoheal.Failed, d.clock.Now(), true
	if w.desired == autoheal.DesiredCancelled {
		c.state = autoheal.Cancelled
	}
	c.exit = &autoheal.Exit{Code: -1, Reason: reason, Detail: "it had no place yet"}
	return effect{
		rows: []row{putAttempt(c)}, proof: autoheal.ProofExitObserved,
		apply: func(now time.Time) { d.touchLocked(w, c, now, "registry") },
	}
}

// stopForGoodLocked makes durable that the owner wants the workload down; the reconcile loop carries it out, also on nodes
// that cannot be reached now.
func (d *Driver) stopForGoodLocked(ctx context.Context, a autoheal.Action, w *workload) autoheal.Result {
	order := &stopOrder{Action: a.ID, Reason: autoheal.ExitStopped, Grace: a.Params.Grace, Force: a.Params.Force}
	all := []*workload{w}
	for _, id := range childIDs(d.children[w.id]) {
		all = append(all, d.children[w.id][id])
	}
	var e effect
	var apply []func(time.Time)
	for _, x := range all {
		s := d.downEffect(x, autoheal.DesiredCancelled, order)
		e.rows = append(e.rows, s.rows...)
		apply = append(apply, s.apply)
	}
	e.apply = func(now time.Time) {
		for _, f := range apply {
			f(now)
		}
	}
	res := d.acceptLocked(ctx, a, e)
	if res.Outcome == autoheal.OutcomeDone {
		res.Proof = d.proofLocked(a)
	}
	return res
}

// downEffect wants w in the given state and stops all its attempts.
func (d *Driver) downEffect(w *workload, desired autoheal.Desired, order *stopOrder) effect {
	cw := *w
	cw.desired = desired
	e := effect{rows: []row{putWorkload(&cw)}}
	var changed []*attempt
	for _, at := range w.sorted() {
		if at.state.Ended() {
			continue
		}
		c := at.clone()
		if c.node == "" {
			c.state, c.ended, c.saved = autoheal.Cancelled, d.clock.Now(), true
			c.exit = &autoheal.Exit{Code: -1, Reason: order.Reason, Detail: "it had no place yet"}
		} else {
			c.stop = order
		}
		changed = append(changed, c)
		e.rows = append(e.rows, putAttempt(c))
	}
	e.apply = func(now time.Time) {
		w.desired = desired
		for _, c := range changed {
			d.touchLocked(w, c, now, "registry")
		}
		if len(changed) == 0 {
			d.retellLocked(w, now)
		}
	}
	return e
}

// retellLocked tells the current state of a workload of which something beside its attempts has changed.
func (d *Driver) retellLocked(w *workload, now time.Time) {
	if a := w.current(); a != nil {
		d.trackLocked(w, a)
	}
	for _, v := range d.viewsLocked(w) {
		d.emitWorkloadLocked(v, now, "registry")
	}
	d.kick()
}

// planPause wants no new attempt (pause) or attempts again (resume); it kills nothing. It holds for replicas too, and for
// the other ranks of a gang: a gang starts whole or not at all.
func (d *Driver) planPause(a autoheal.Action) (effect, *autoheal.Error) {
	w, err := d.targetWorkload(a)
	if err != nil {
		return effect{}, err
	}
	if w.desired == autoheal.DesiredCancelled || w.desired == autoheal.DesiredStopped {
		return effect{}, problem(autoheal.ErrConflict, "it is wanted %s", w.desired)
	}
	all := []*workload{w}
	for _, id := range slices.Sorted(maps.Keys(d.gangs[w.set.Gang])) {
		if o := d.gangs[w.set.Gang][id]; o != w && o.desired != autoheal.DesiredCancelled && o.desired != autoheal.DesiredStopped {
			all = append(all, o)
		}
	}
	for _, id := range childIDs(d.children[w.id]) {
		if c := d.children[w.id][id]; c.desired != autoheal.DesiredCancelled {
			all = append(all, c)
		}
	}
	var e effect
	changed := make([]workload, len(all))
	for i, x := range all {
		c := *x
		c.desired, c.paused = autoheal.DesiredRunning, nil
		if a.Verb == autoheal.Pause {
			m := markOf(a, d.clock.Now())
			c.desired, c.paused = autoheal.DesiredPaused, &m
			if x.paused != nil {
				c.paused = x.paused
			}
		}
		changed[i] = c
	}
	next := d.afterPause(changed)
	for i := range changed {
		if a := next[i]; a != nil {
			changed[i].attempt = a.ref.n
			e.rows = append(e.rows, putAttempt(a), dropAttempts(&changed[i]))
		}
		e.rows = append(e.rows, putWorkload(&changed[i]))
	}
	e.apply = func(now time.Time) {
		for i, x := range all {
			x.desired, x.paused = changed[i].desired, changed[i].paused
			d.retellLocked(x, now)
			if next[i] != nil {
				d.beginLocked(x, next[i])
			}
		}
	}
	return e, nil
}
