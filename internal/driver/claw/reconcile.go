package claw

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/place"
)

// shunFor is how long a node to which nothing could be sent, or a GPU that was refused as busy, is not chosen again.
const shunFor = 10 * time.Second

// reconcileLoop brings what is wanted about: it places, sends, drains and lets nodes forget, whenever something changed.
func (d *Driver) reconcileLoop() {
	ctx := d.runCtx
	for ctx.Err() == nil {
		d.mu.Lock()
		next := d.reconcileLocked(ctx)
		d.mu.Unlock()
		d.sleep(ctx, next, d.kickCh)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushLocked(ctx)
}

// reconcileLocked makes one pass and returns after what time there is something to do even if nothing changes.
func (d *Driver) reconcileLocked(ctx context.Context) time.Duration {
	now := d.clock.Now()
	d.expireLocked(ctx, now)
	if d.connected && d.synced {
		if !d.closing {
			d.placeLocked(ctx, now)
			for _, id := range slices.Sorted(maps.Keys(d.draining)) {
				d.drainLocked(ctx, d.nodes[id], now)
			}
			for _, e := range d.replaceLocked() {
				if err := d.saveLocked(ctx, e.rows...); err != nil {
					d.log.LogAttrs(ctx, slog.LevelError, "cannot hand a service over to its replicas", slog.String("error", err.Error()))
					break
				}
				e.apply(now)
			}
		}
		d.sendLocked(now)
	}
	d.flushLocked(ctx)
	next := now.Add(d.opts.ProbeInterval)
	for _, at := range d.retryAt {
		if at.After(now) && at.Before(next) {
			next = at
		}
	}
	return next.Sub(now)
}

// expireLocked drops what holds for a time only.
func (d *Driver) expireLocked(ctx context.Context, now time.Time) {
	maps.DeleteFunc(d.retryAt, func(_ string, at time.Time) bool { return !at.After(now) })
	maps.DeleteFunc(d.shunned, func(_ autoheal.NodeID, at time.Time) bool { return !at.After(now) })
	maps.DeleteFunc(d.busyGPUs, func(_ autoheal.GPUID, at time.Time) bool { return !at.After(now) })
	for _, id := range slices.Sorted(maps.Keys(d.nominations)) {
		if d.overLocked(d.nominations[id], now) {
			d.dropNominationLocked(ctx, id)
		}
	}
}

func (d *Driver) dropNominationLocked(ctx context.Context, id autoheal.WorkloadID) {
	nom := d.nominations[id]
	if nom == nil {
		return
	}
	delete(d.nominations, id)
	if err := d.saveLocked(ctx, dropNomination(id)); err != nil {
		d.log.LogAttrs(ctx, slog.LevelWarn, "cannot drop a nomination", slog.String("workload", string(id)), slog.String("error", err.Error()))
	}
	w := d.workloads[id]
	if w == nil {
		return
	}
	d.index.RemoveWorkload(id, nom.n)
	if a := w.current(); a != nil {
		d.index.SetWorkload(d.workloadViewLocked(w, a))
	}
}

// placeLocked gives every pending attempt a place that it can have: the most urgent first, gangs whole.
func (d *Driver) placeLocked(ctx context.Context, now time.Time) {
	if len(d.pending) == 0 {
		return
	}
	var batch []placement
	seen := map[autoheal.GangID]bool{}
	for _, w := range d.waitingLocked() {
		switch g := w.set.Gang; {
		case g == "":
			batch = append(batch, d.placeTogetherLocked([]*workload{w}, now)...)
		case !seen[g]:
			seen[g] = true
			batch = append(batch, d.placeGangLocked(g, now)...)
		}
	}
	d.commitLocked(ctx, batch, now)
}

// placement is a place that was found for a pending attempt and is not durable yet.
type placement struct {
	w        *workload
	old, new *attempt
}

// commitLocked makes placements durable together and tells them, or takes all of them back.
func (d *Driver) commitLocked(ctx context.Context, batch []placement, now time.Time) {
	rows := make([]row, 0, 2*len(batch))
	for _, p := range batch {
		rows = append(rows, putAttempt(p.new), dropNomination(p.w.id))
	}
	if err := d.saveLocked(ctx, rows...); err != nil {
		d.log.LogAttrs(ctx, slog.LevelError, "cannot place: the registry does not take it", slog.Int("attempts", len(batch)), slog.String("error", err.Error()))
		for _, p := range slices.Backward(batch) {
			d.trackLocked(p.w, p.old)
		}
		return
	}
	for _, p := range batch {
		delete(d.nominations, p.w.id)
		d.touchLocked(p.w, p.new, now, "registry")
	}
}

// flushLocked saves what was observed of running attempts, which may be lost because it is observed again after the next
// start, and tries again to save ends.
func (d *Driver) flushLocked(ctx context.Context) {
	var rows []row
	var saved []attemptRef
	for _, ref := range slices.SortedFunc(maps.Keys(d.dirty), attemptRef.compare) {
		a := d.attemptLocked(ref)
		switch {
		case a == nil || a.saved:
			saved = append(saved, ref)
		case !a.state.Ended():
			rows, saved = append(rows, putAttempt(a)), append(saved, ref)
		case d.retryAt["save/"+ref.String()].After(d.clock.Now()):
		default:
			delete(d.dirty, ref)
			d.endLocked(ctx, d.workloads[ref.id], a, a.exit, a.ended, "registry")
		}
	}
	if err := d.saveLocked(ctx, rows...); err != nil {
		d.log.LogAttrs(ctx, slog.LevelError, "cannot save observations", slog.Int("attempts", len(rows)), slog.String("error", err.Error()))
		return
	}
	for _, ref := range saved {
		delete(d.dirty, ref)
	}
}

// waitingLocked lists the workloads whose current attempt is pending: by priority, then by age.
func (d *Driver) waitingLocked() []*workload {
	out := make([]*workload, 0, len(d.pending))
	for id := range d.pending {
		out = append(out, d.workloads[id])
	}
	slices.SortFunc(out, func(a, b *workload) int {
		if p := priorityOf(b.spec) - priorityOf(a.spec); p != 0 {
			return p
		}
		if c := a.current().created.Compare(b.current().created); c != 0 {
			return c
		}
		return attemptRef{a.id, 0}.compare(attemptRef{b.id, 0})
	})
	return out
}

// newestLocked is the latest generation of a gang that waits for a place: what is older is being replaced, and not started.
// After an orderly shutdown a rank may run on that the shutdown did not reach, and that nobody replaces: this does not count.
func (d *Driver) newestLocked(g autoheal.GangID) int {
	n := 0
	for _, w := range d.gangs[g] {
		if a := w.current(); d.pending[w.id] && a.cause != causeShutdown {
			n = max(n, a.ref.n)
		}
	}
	return n
}

// placeGangLocked places the pending members of a gang, if with them the gang is whole and of one generation.
func (d *Driver) placeGangLocked(g autoheal.GangID, now time.Time) []placement {
	newest := d.newestLocked(g)
	var waiting []*workload
	present, size := 0, 0
	for _, w := range d.gangMembersLocked(g) {
		a := w.current()
		size = w.set.GangSize
		if a.state == autoheal.Pending {
			waiting = append(waiting, w)
		} else if n := d.nodes[a.node]; n == nil || n.link != autoheal.LinkUp {
			continue // a copy out of reach is about to be replaced: the gang is not whole with it
		}
		if a.ref.n < newest || a.stop != nil {
			continue // of a generation that is being replaced: its end, or its start, is on the way
		}
		present++
	}
	if present < size {
		for _, w := range waiting {
			d.explainLocked(w, "gang "+string(g)+" has "+strconv.Itoa(present)+" of "+strconv.Itoa(size)+" members ready to start", now)
		}
		return nil
	}
	return d.placeTogetherLocked(waiting, now)
}

// requestLocked is what the placement of w's next or pending attempt has to observe.
func (d *Driver) requestLocked(w *workload, a *attempt) place.Request {
	r := place.RequestOf(d.workloadViewLocked(w, a))
	r.Avoid = slices.Clone(a.wishes.Avoid)
	r.AvoidGPUs = slices.Clone(a.wishes.AvoidGPUs)
	r.Avoid = append(r.Avoid, slices.Sorted(maps.Keys(d.shunned))...)
	r.AvoidGPUs = append(r.AvoidGPUs, slices.Sorted(maps.Keys(d.busyGPUs))...)
	if nom := d.nominations[w.id]; nom != nil {
		r.Nominated = nom.node
	}
	for _, s := range d.children[w.parent] {
		if c := s.current(); s != w && c != nil && c.node != "" && !c.state.Ended() {
			r.SpreadFrom = append(r.SpreadFrom, c.node)
		}
	}
	slices.Sort(r.SpreadFrom)
	return r
}

// placeTogetherLocked finds places for the pending attempts of all of ws, or of none, and holds them.
func (d *Driver) placeTogetherLocked(ws []*workload, now time.Time) []placement {
	if len(ws) == 0 {
		return nil
	}
	reqs := make([]place.Request, len(ws))
	generation := 0
	for i, w := range ws {
		reqs[i] = d.requestLocked(w, w.current())
		generation = max(generation, w.attempt)
	}
	spots, refusal := d.index.FitAll(reqs)
	if refusal != nil {
		for _, w := range ws {
			d.explainLocked(w, refusal.Detail, now)
		}
		return nil
	}
	out := make([]placement, len(ws))
	for i, w := range ws {
		c := w.current().clone()
		c.node, c.gpus, c.state, c.detail = spots[i].Node, spots[i].GPUs, autoheal.Scheduled, ""
		c.generation = strconv.Itoa(generation)
		out[i] = placement{w, w.current(), c}
		d.trackLocked(w, c) // so that the next one sees that the place is taken
	}
	return out
}

// explainLocked tells why an attempt is still pending, when that has changed.
func (d *Driver) explainLocked(w *workload, why string, now time.Time) {
	a := w.current()
	if a.detail == why {
		return
	}
	c := a.clone()
	c.detail = why
	d.trackLocked(w, c)
	d.emitWorkloadLocked(d.workloadViewLocked(w, c), now, "registry")
}

// unplaceLocked takes a scheduled attempt that certainly was not started back to pending.
func (d *Driver) unplaceLocked(ctx context.Context, w *workload, a *attempt, why string, now time.Time) {
	c := a.clone()
	c.node, c.gpus, c.state, c.detail, c.accepted = "", nil, autoheal.Pending, why, false
	if err := d.saveLocked(ctx, putAttempt(c)); err != nil {
		d.log.LogAttrs(ctx, slog.LevelError, "cannot take a placement back", slog.String("workload", a.ref.String()), slog.String("error", err.Error()))
		return
	}
	d.touchLocked(w, c, now, "registry")
}
