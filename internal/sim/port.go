package sim

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/policy"
)

// Fleet is the simulated cluster behind the port of every driver, in the time of a clock: what the conformance suite of the
// drivers runs against. It is safe for concurrent use.
type Fleet struct {
	clock clock.Clock
	wake  chan struct{}
	stop  chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex // mu guards what follows
	w       *world
	origin  time.Time
	events  []autoheal.Event
	ready   chan struct{}
	watched bool
}

var (
	_ autoheal.Cluster   = (*Fleet)(nil)
	_ autoheal.Workloads = (*Fleet)(nil)
)

// OpenFleet makes a cluster whose nodes have so many GPUs each. Close ends it.
func OpenFleet(clk clock.Clock, nodes, gpus int) *Fleet {
	w := newWorld(1, policy.Default(), nodes, gpus)
	f := &Fleet{clock: clk, w: w, wake: make(chan struct{}, 1), stop: make(chan struct{}), ready: make(chan struct{}, 1)}
	f.origin = clk.Now()
	w.offset = f.origin.Sub(epochTime)
	w.drv.sink = func(e autoheal.Event) {
		if f.watched {
			f.events = append(f.events, e)
			f.signal()
		}
	}
	w.drv.begin()
	f.wg.Go(f.pump)
	return f
}

// Close ends the cluster.
func (f *Fleet) Close() {
	close(f.stop)
	f.wg.Wait()
}

func (f *Fleet) signal() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// pump lets virtual time follow the clock.
func (f *Fleet) pump() {
	timer := f.clock.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-f.wake:
		case <-timer.C():
		}
		f.do(func() {})
		f.mu.Lock()
		at, ok := f.w.q.due()
		f.mu.Unlock()
		if ok {
			timer.Reset(max(at.Add(f.w.offset).Sub(f.clock.Now()), 0))
		}
	}
}

// do brings the world to the present, does fn in it, and has the pump look for what is due next.
func (f *Fleet) do(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Now().Add(-f.w.offset)
	for f.w.q.next(now) {
	}
	if now.After(f.w.q.now) {
		f.w.q.now = now
	}
	fn()
}

// nudge wakes the pump: something new may be due.
func (f *Fleet) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Watch implements autoheal.Observer.
func (f *Fleet) Watch(ctx context.Context) iter.Seq2[autoheal.Event, error] {
	return func(yield func(autoheal.Event, error) bool) {
		taken := false
		f.do(func() {
			if taken = f.watched; !taken {
				f.watched = true
				f.w.drv.live = false
				f.w.drv.trySync()
			}
		})
		if taken {
			yield(autoheal.Event{}, &autoheal.Error{Kind: autoheal.ErrConflict, Op: "watch cluster", Detail: "somebody watches already: one at a time"})
			return
		}
		defer f.do(func() { f.watched, f.events = false, nil })
		f.nudge()
		for {
			var events []autoheal.Event
			f.do(func() { events, f.events = f.events, nil })
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
			select {
			case <-ctx.Done():
				yield(autoheal.Event{}, ctx.Err())
				return
			case <-f.ready:
			}
		}
	}
}

// Do implements autoheal.Actuator.
func (f *Fleet) Do(ctx context.Context, a autoheal.Action) autoheal.Result {
	answer := make(chan autoheal.Result, 1)
	f.do(func() { f.w.fleet.act(a, func(r autoheal.Result) { answer <- r }) })
	f.nudge()
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeUnknown, Err: &autoheal.Error{Kind: autoheal.ErrTimeout, Op: string(a.Verb), Err: ctx.Err()}, At: f.clock.Now()}
	}
}

// Capabilities implements autoheal.Cluster.
func (f *Fleet) Capabilities() autoheal.Capabilities {
	return autoheal.Capabilities{Verbs: verbs(), GPUQuarantine: true, ExactFit: true, SelfStop: true}
}

// Logs implements autoheal.Observer: simulated programs write nothing.
func (f *Fleet) Logs(context.Context, autoheal.LogQuery) iter.Seq2[autoheal.LogLine, error] {
	return func(func(autoheal.LogLine, error) bool) {}
}

// Metrics implements autoheal.Observer; there is node_up.
func (f *Fleet) Metrics(_ context.Context, q autoheal.MetricQuery) iter.Seq2[autoheal.Series, error] {
	return func(yield func(autoheal.Series, error) bool) {
		if q.Metric != "node_up" {
			return
		}
		var out []autoheal.Series
		f.do(func() {
			for _, m := range f.w.machines {
				up := 0.0
				if f.w.drv.contacts[m.id].link == autoheal.LinkUp {
					up = 1
				}
				out = append(out, autoheal.Series{Name: q.Metric, Labels: map[string]string{"node_id": string(m.id)}, Points: []autoheal.Point{{At: f.clock.Now(), Value: up}}})
			}
		})
		for _, s := range out {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// Submit implements autoheal.Workloads.
func (f *Fleet) Submit(_ context.Context, id autoheal.ActionID, spec autoheal.Spec) (out autoheal.WorkloadID, err error) {
	defer f.nudge()
	f.do(func() { out, err = f.w.fleet.submit(id, spec) })
	return out, err
}

// Spec implements autoheal.Workloads.
func (f *Fleet) Spec(_ context.Context, id autoheal.WorkloadID) (spec autoheal.Spec, err error) {
	f.do(func() {
		w := f.w.fleet.workloads[id]
		if w == nil {
			err = &autoheal.Error{Kind: autoheal.ErrNotFound, Op: "spec", Detail: "no such workload"}
			return
		}
		spec = w.spec
	})
	return spec, err
}

// Lineage implements autoheal.Workloads.
func (f *Fleet) Lineage(_ context.Context, id autoheal.WorkloadID) (out []autoheal.Workload, err error) {
	f.do(func() {
		w := f.w.fleet.workloads[id]
		if w == nil {
			err = &autoheal.Error{Kind: autoheal.ErrNotFound, Op: "lineage", Detail: "no such workload"}
			return
		}
		for _, a := range w.sorted() {
			out = append(out, *w.view(a))
		}
	})
	return out, err
}

// submit makes a workload of a spec.
func (f *fleet) submit(id autoheal.ActionID, spec autoheal.Spec) (autoheal.WorkloadID, error) {
	if old, ok := f.submitted[id]; ok {
		if !reflect.DeepEqual(f.workloads[old].spec, spec) {
			return "", &autoheal.Error{Kind: autoheal.ErrConflict, Op: "submit", Detail: "the ID was used for another spec"}
		}
		return old, nil
	}
	set, err := checkSpec(spec)
	if err != nil {
		return "", err
	}
	f.serial++
	w := &workload{spec: spec, Workload: autoheal.Workload{
		ID: autoheal.WorkloadID(fmt.Sprintf("wl-%04d", f.serial)), Name: spec.Name, Image: spec.Image, ClassRule: "default", Class: autoheal.Medium,
		Kind: autoheal.KindJob, Gang: set.Gang, Rank: set.Rank, GangSize: set.GangSize, Replicas: 1, MinReplicas: set.MinReplicas,
		Selector: set.Selector, Labels: spec.Labels, Options: set.Options, OriginalMemoryMB: spec.MemoryMB, SubmittedAt: f.w.wall(),
		Request: autoheal.Resources{CPUMilli: int64(spec.CPUCores * 1000), MemoryMB: spec.MemoryMB, GPUs: spec.GPUs, GPUMemoryMB: spec.GPUMemoryMB},
	}}
	if spec.Priority != nil {
		w.Priority = *spec.Priority
	}
	if set.Class != "" {
		w.Class, w.ClassRule = set.Class, policy.RuleLabel
	}
	if set.Kind != "" {
		w.Kind = set.Kind
	}
	w.AtMostOnce = policy.AtMostOnce(w.Kind, set)
	f.submitted[id] = w.ID
	f.add(w)
	f.begin(w, &attempt{ref: ref{w.ID, 1}, memory: w.Request.MemoryMB})
	if set.Replicas > 1 {
		w.attempts[1].state = autoheal.Succeeded
		f.setReplicas(w, set.Replicas, autoheal.Action{})
	}
	return w.ID, nil
}

// checkSpec refuses what cannot be meant, and names the key.
func checkSpec(s autoheal.Spec) (autoheal.Settings, error) {
	refuse := func(key, why string) (autoheal.Settings, error) {
		return autoheal.Settings{}, &autoheal.Error{Kind: autoheal.ErrInvalid, Op: "submit", Detail: key + ": " + why}
	}
	if err := autoheal.CheckName(s.Name); err != nil {
		return refuse("name", err.Detail)
	}
	switch {
	case s.Image == "":
		return refuse("image", "it is needed")
	case s.Priority != nil && (*s.Priority < 0 || *s.Priority > 100):
		return refuse("priority", "use 0 to 100")
	case s.GPUs < 0:
		return refuse("gpus", "less than none")
	case s.MemoryMB < 0:
		return refuse("memoryMb", "less than none")
	}
	set, problems := autoheal.ParseLabels(s.Labels)
	if len(problems) > 0 {
		return autoheal.Settings{}, problems[0]
	}
	return set, nil
}
