package drivertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
)

// Harness is a fresh cluster with at least three ready nodes that run nothing, and the means to break it. A hook that is
// nil says that the cluster cannot be broken in that way; what needs it is skipped by name.
type Harness struct {
	Cluster   autoheal.Cluster
	Workloads autoheal.Workloads // nil where specs are kept elsewhere
	Epoch     uint64             // accepted, and at least 1
	Nodes     []autoheal.NodeID

	// Service may run twice, Job may not. Both run until they are stopped and fit every node several times.
	Service, Job func(name string) autoheal.Spec
	// GPUs is how many GPUs every node has, all alike.
	GPUs int

	KillNode      func(autoheal.NodeID)                // the node with all that runs there is gone at once
	CutNode       func(autoheal.NodeID)                // the node is not reachable; what runs there goes on
	HealNode      func(autoheal.NodeID)                // reachable again; after KillNode in a new boot
	Crash         func(autoheal.WorkloadID, int)       // the attempt ends by itself with code 3
	LoseAnswer    func(autoheal.NodeID, autoheal.Verb) // the next such request arrives, its answer does not
	LoseRequest   func(autoheal.NodeID, autoheal.Verb) // the next such request certainly does not arrive
	CutObserver   func()                               // the driver loses its own way to the cluster
	MendObserver  func()
	Started       func(autoheal.WorkloadID) map[int]int // how often each attempt really began, over all nodes
	RunningCopies func(autoheal.WorkloadID) int         // how many copies really run now
}

// Option changes how Run runs.
type Option func(*suite)

// InBubble runs every test in virtual time (testing/synctest).
func InBubble() Option {
	return func(s *suite) { s.bubble = true }
}

// Brisk shortens to at most d the times in which a check makes sure that nothing happens: for clusters in real time.
func Brisk(d time.Duration) Option {
	return func(s *suite) { s.brisk = d }
}

type suite struct {
	open   func(*testing.T) Harness
	bubble bool
	brisk  time.Duration
}

// Run checks the port sentence by sentence. open makes a new cluster for each test and cleans it up with the test.
func Run(t *testing.T, open func(t *testing.T) Harness, opts ...Option) {
	s := &suite{open: open}
	for _, o := range opts {
		o(s)
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			body := func(t *testing.T) {
				b := newBench(t, s.open(t))
				b.brisk = s.brisk
				c.run(b)
			}
			if s.bubble {
				synctest.Test(t, body)
				return
			}
			body(t)
		})
	}
}

// patience is how long a check waits for what must come.
const patience = 2 * time.Minute

// bench is one test's cluster with an observer on it.
type bench struct {
	Harness
	t     *testing.T
	obs   *observer
	ids   int
	brisk time.Duration
}

func newBench(t *testing.T, h Harness) *bench {
	b := &bench{Harness: h, t: t}
	b.obs = watch(t, h.Cluster)
	b.await("the first listing", func(o *observer) bool { return o.synced })
	b.await("every node ready", func(o *observer) bool {
		for _, id := range h.Nodes {
			if n := o.nodes[id]; n == nil || !n.Ready || n.Link != autoheal.LinkUp {
				return false
			}
		}
		return true
	})
	return b
}

func (b *bench) need(what string, have bool) {
	b.t.Helper()
	if !have {
		b.t.Skipf("this cluster cannot: %s", what)
	}
}

// attempt names an attempt.
type attempt struct {
	id autoheal.WorkloadID
	n  int
}

// observer folds the stream into the present state and keeps the stream.
type observer struct {
	mu sync.Mutex // mu guards what follows
	// changed is closed and replaced with every event.
	changed chan struct{}
	events  []autoheal.Event
	nodes   map[autoheal.NodeID]*autoheal.Node
	works   map[attempt]*autoheal.Workload
	synced  bool
	ended   bool
	err     error
}

func watch(t *testing.T, c autoheal.Cluster) *observer {
	o := &observer{changed: make(chan struct{}), nodes: map[autoheal.NodeID]*autoheal.Node{}, works: map[attempt]*autoheal.Workload{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range c.Watch(ctx) {
			o.take(e, err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.ended = true
		close(o.changed)
		o.changed = make(chan struct{})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if !errors.Is(o.err, context.Canceled) {
			t.Errorf("the stream ended with %v, want the context's error", o.err)
		}
	})
	return o
}

func (o *observer) take(e autoheal.Event, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() {
		close(o.changed)
		o.changed = make(chan struct{})
	}()
	if err != nil {
		o.err = err
		return
	}
	o.events = append(o.events, e)
	switch e.Kind {
	case autoheal.EventNode:
		o.nodes[e.Node.ID] = e.Node
	case autoheal.EventWorkload:
		o.works[attempt{e.Workload.ID, e.Workload.Attempt}] = e.Workload
	case autoheal.EventSynced:
		o.synced = true
	case autoheal.EventLost:
		o.synced = false
		clear(o.nodes)
		clear(o.works)
	}
}

// current returns the newest attempt of a workload.
func (o *observer) current(id autoheal.WorkloadID) *autoheal.Workload {
	var out *autoheal.Workload
	for k, w := range o.works {
		if k.id == id && (out == nil || w.Attempt > out.Attempt) {
			out = w
		}
	}
	return out
}

func (o *observer) in(id autoheal.WorkloadID, n int, s autoheal.WorkloadState) bool {
	w := o.works[attempt{id, n}]
	return w != nil && w.State == s
}

// await waits until cond holds for what was observed.
func (b *bench) await(what string, cond func(*observer) bool) {
	b.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		b.obs.mu.Lock()
		ok, changed := cond(b.obs), b.obs.changed
		b.obs.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			b.t.Fatalf("waited in vain for: %s\n%s", what, b.dump())
		}
	}
}

// quietly lets events come for a while and checks that cond holds all the time.
func (b *bench) quietly(what string, d time.Duration, cond func(*observer) bool) {
	b.t.Helper()
	if b.brisk > 0 {
		d = min(d, b.brisk)
	}
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	for {
		b.obs.mu.Lock()
		ok, changed := cond(b.obs), b.obs.changed
		b.obs.mu.Unlock()
		if !ok {
			b.t.Fatalf("did not hold: %s\n%s", what, b.dump())
		}
		select {
		case <-changed:
		case <-timeout.C:
			return
		}
	}
}

func (b *bench) see(f func(*observer)) {
	b.obs.mu.Lock()
	defer b.obs.mu.Unlock()
	f(b.obs)
}

func (b *bench) dump() string {
	b.obs.mu.Lock()
	defer b.obs.mu.Unlock()
	var out strings.Builder
	for _, id := range slices.Sorted(maps.Keys(b.obs.nodes)) {
		n := b.obs.nodes[id]
		out.WriteString(fmt.Sprintf("node %s link=%s ready=%t schedulable=%t draining=%t marks=%d conditions=%v\n", id, n.Link, n.Ready, n.Schedulable, n.Draining, len(n.Marks), n.Conditions))
	}
	var refs []attempt
	for k := range b.obs.works {
		refs = append(refs, k)
	}
	slices.SortFunc(refs, func(x, y attempt) int {
		if x.id != y.id {
			return len(x.id) - len(y.id)
		}
		return x.n - y.n
	})
	for _, k := range refs {
		w := b.obs.works[k]
		out.WriteString(fmt.Sprintf("workload %s/%d %s on %q desired=%s exit=%+v detail=%q\n", k.id, k.n, w.State, w.Node, w.Desired, w.Exit, w.Detail))
	}
	return out.String()
}

// do sends an action under a fresh ID.
func (b *bench) do(a autoheal.Action) autoheal.Result {
	b.t.Helper()
	b.ids++
	if a.ID == "" {
		a.ID = autoheal.ActionID(fmt.Sprintf("inc-000001/%d", b.ids))
	}
	if a.Epoch == 0 {
		a.Epoch = b.Epoch
	}
	if a.Actor == "" {
		a.Actor = autoheal.ActorEngine
	}
	if a.Reason == "" {
		a.Reason = "conformance"
	}
	r := b.Cluster.Do(b.t.Context(), a)
	if r.Action != a.ID || r.At.IsZero() {
		b.t.Errorf("%s: result names action %q at %v", a.Verb, r.Action, r.At)
	}
	if r.Outcome != autoheal.OutcomeDone && r.Err == nil {
		b.t.Errorf("%s: outcome %s without an error", a.Verb, r.Outcome)
	}
	return r
}

// mustDo sends an action that must be accepted.
func (b *bench) mustDo(a autoheal.Action) autoheal.Result {
	b.t.Helper()
	r := b.do(a)
	if r.Outcome != autoheal.OutcomeDone {
		b.t.Fatalf("%s %s: %s %v", a.Verb, a.Target, r.Outcome, r.Err)
	}
	return r
}

// mustRefuse sends an action that must be refused with nothing done.
func (b *bench) mustRefuse(a autoheal.Action, kind autoheal.ErrorKind) {
	b.t.Helper()
	r := b.do(a)
	if r.Outcome != autoheal.OutcomeNotSent || r.Err == nil || r.Err.Kind != kind {
		b.t.Fatalf("%s %s: %s %+v, want not_sent with kind %s", a.Verb, a.Target, r.Outcome, r.Err, kind)
	}
}

// submit makes a workload and waits until its first attempt runs.
func (b *bench) submit(s autoheal.Spec) autoheal.WorkloadID {
	b.t.Helper()
	id := b.submitOnly(s)
	b.await(string(id)+" runs", func(o *observer) bool { return o.in(id, 1, autoheal.Running) })
	return id
}

func (b *bench) submitOnly(s autoheal.Spec) autoheal.WorkloadID {
	b.t.Helper()
	b.need("submit workloads", b.Workloads != nil)
	b.ids++
	id, err := b.Workloads.Submit(b.t.Context(), autoheal.ActionID(fmt.Sprintf("cmd-000001/%d", b.ids)), s)
	if err != nil {
		b.t.Fatalf("submit %s: %v", s.Name, err)
	}
	return id
}

func (b *bench) nodeOf(id autoheal.WorkloadID) (node autoheal.NodeID) {
	b.see(func(o *observer) { node = o.current(id).Node })
	return node
}

func with(s autoheal.Spec, labels ...string) autoheal.Spec {
	s.Labels = maps.Clone(s.Labels)
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	for i := 0; i < len(labels); i += 2 {
		s.Labels[labels[i]] = labels[i+1]
	}
	return s
}
