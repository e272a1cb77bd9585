package claw

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// watchQueue bounds what is kept for a watcher that does not keep up; beyond it the stream starts anew with a listing.
const watchQueue = 16384

// watcher is the one reader of the stream. Its fields are guarded by Driver.mu.
type watcher struct {
	ready  chan struct{} // one token: there is something in events, or the driver stops
	events []autoheal.Event
	live   bool // a listing was given and no lost since: changes go out
}

func (w *watcher) wake() { wake(w.ready) }

// Watch implements autoheal.Observer.
func (d *Driver) Watch(ctx context.Context) iter.Seq2[autoheal.Event, error] {
	return func(yield func(autoheal.Event, error) bool) {
		w, err := d.subscribe()
		if err != nil {
			yield(autoheal.Event{}, err)
			return
		}
		defer d.unsubscribe(w)
		for {
			for _, e := range d.takeEvents(w) {
				if !yield(e, nil) {
					return
				}
			}
			select {
			case <-ctx.Done():
				yield(autoheal.Event{}, ctx.Err())
				return
			case <-d.done():
				yield(autoheal.Event{}, &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: "watch cluster", Detail: "the driver was stopped"})
				return
			case <-w.ready:
			}
		}
	}
}

func (d *Driver) done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runCtx.Done()
}

func (d *Driver) subscribe() (*watcher, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !d.started:
		return nil, &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: "watch cluster", Detail: "the driver was not started"}
	case d.watch != nil:
		return nil, &autoheal.Error{Kind: autoheal.ErrConflict, Op: "watch cluster", Detail: "somebody watches already: one at a time"}
	}
	w := &watcher{ready: make(chan struct{}, 1)}
	d.watch = w
	if d.synced {
		d.listLocked()
	} else if !d.connected {
		w.push(autoheal.Event{Kind: autoheal.EventLost, At: d.connectedOr(d.startedAt), SeenAt: d.clock.Now(), Source: "gateway"})
	}
	return w, nil
}

func (d *Driver) connectedOr(at time.Time) time.Time {
	if d.connectedAt.After(at) {
		return d.connectedAt
	}
	return at
}

func (d *Driver) unsubscribe(w *watcher) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watch == w {
		d.watch = nil
	}
}

func (d *Driver) takeEvents(w *watcher) []autoheal.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := w.events
	w.events = nil
	return out
}

func (w *watcher) push(e autoheal.Event) {
	w.events = append(w.events, e)
	w.wake()
}

// listLocked gives the watcher a full listing: nodes, then attempts, then synced.
func (d *Driver) listLocked() {
	w := d.watch
	if w == nil {
		return
	}
	w.live = true
	now := d.clock.Now()
	for _, id := range slices.Sorted(maps.Keys(d.nodes)) {
		n := d.nodes[id]
		n.told = d.indexNodeLocked(n)
		w.push(autoheal.Event{Kind: autoheal.EventNode, Node: n.told, At: now, SeenAt: now, Source: "registry"})
	}
	for _, id := range slices.Sorted(maps.Keys(d.workloads)) {
		for _, v := range d.viewsLocked(d.workloads[id]) {
			w.push(autoheal.Event{Kind: autoheal.EventWorkload, Workload: v, At: now, SeenAt: now, Source: "registry"})
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(d.strays), attemptRef.compare) {
		w.push(autoheal.Event{Kind: autoheal.EventWorkload, Workload: d.strays[ref], At: now, SeenAt: now, Source: "poll"})
	}
	w.push(autoheal.Event{Kind: autoheal.EventSynced, At: now, SeenAt: now, Source: "registry"})
}

// viewsLocked returns what is to be listed of a workload: older attempts that may still run, then the current one.
func (d *Driver) viewsLocked(w *workload) []*autoheal.Workload {
	if w.isParent() {
		out := []*autoheal.Workload{d.parentViewLocked(w)}
		for _, a := range w.sorted() {
			if !a.state.Ended() {
				out = append(out, d.workloadViewLocked(w, a))
			}
		}
		return out
	}
	var out []*autoheal.Workload
	for _, a := range w.sorted() {
		if a.ref.n == w.attempt || !a.state.Ended() {
			out = append(out, d.workloadViewLocked(w, a))
		}
	}
	return out
}

// sorted returns the attempts, oldest first.
func (w *workload) sorted() []*attempt {
	return slices.SortedFunc(maps.Values(w.attempts), func(a, b *attempt) int { return cmp.Compare(a.ref.n, b.ref.n) })
}

// emitLocked sends a change to the watcher. Before the listing and after lost there is nothing to send: the next listing
// holds it. Only signals would be lost then, so they are kept.
func (d *Driver) emitLocked(e autoheal.Event) {
	w := d.watch
	if w == nil || (!w.live && e.Kind != autoheal.EventSignal) {
		return
	}
	e.SeenAt = d.clock.Now()
	if len(w.events) >= watchQueue {
		d.log.LogAttrs(context.Background(), slog.LevelWarn, "the watcher does not keep up: listing anew", slog.Int("dropped", len(w.events)))
		w.events = nil
		w.push(autoheal.Event{Kind: autoheal.EventLost, At: e.SeenAt, SeenAt: e.SeenAt, Source: "driver"})
		d.listLocked()
		return
	}
	w.push(e)
}

func (d *Driver) emitWorkloadLocked(v *autoheal.Workload, at time.Time, source string) {
	d.emitLocked(autoheal.Event{Kind: autoheal.EventWorkload, Workload: v, At: at, Source: source})
}

// loseLocked tells the watcher that everything is unknown since at.
func (d *Driver) loseLocked(at time.Time) {
	if w := d.watch; w != nil {
		w.live = false
		w.push(autoheal.Event{Kind: autoheal.EventLost, At: at, SeenAt: d.clock.Now(), Source: "gateway"})
	}
}
