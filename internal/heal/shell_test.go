package heal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCluster is a cluster of values behind the port: it obeys actions at once and reports what they lead to. Its
// functions may be replaced before it is used.
type fakeCluster struct {
	doFn    func(ctx context.Context, a autoheal.Action) autoheal.Result // nil = obey
	watchFn func(ctx context.Context) iter.Seq2[autoheal.Event, error]   // nil = list, then follow
	asked   func(a autoheal.Action)                                      // sees every action first

	mu      sync.Mutex // guards what follows
	epoch   uint64
	nodes   map[autoheal.NodeID]*autoheal.Node
	work    map[autoheal.WorkloadID]*autoheal.Workload // current attempts
	acts    []autoheal.Action
	starts  []string // attempts that came to life, "wl-1/2 on n2"
	queue   []autoheal.Event
	more    chan struct{}
	fatal   error
	watches int
}

var _ autoheal.Cluster = (*fakeCluster)(nil)

func newFakeCluster() *fakeCluster {
	return &fakeCluster{
		nodes: map[autoheal.NodeID]*autoheal.Node{}, work: map[autoheal.WorkloadID]*autoheal.Workload{}, more: make(chan struct{}),
	}
}

func now() time.Time { return clock.Real{}.Now() }

func (f *fakeCluster) Capabilities() autoheal.Capabilities {
	return autoheal.Capabilities{Verbs: autoheal.Verbs(), ExactFit: true, SelfStop: true}
}

func (f *fakeCluster) Logs(context.Context, autoheal.LogQuery) iter.Seq2[autoheal.LogLine, error] {
	return func(func(autoheal.LogLine, error) bool) {}
}

func (f *fakeCluster) Metrics(context.Context, autoheal.MetricQuery) iter.Seq2[autoheal.Series, error] {
	return func(func(autoheal.Series, error) bool) {}
}

func (f *fakeCluster) Watch(ctx context.Context) iter.Seq2[autoheal.Event, error] {
	if f.watchFn != nil {
		return f.watchFn(ctx)
	}
	return func(yield func(autoheal.Event, error) bool) {
		f.mu.Lock()
		f.watches++
		events := f.listingLocked()
		f.queue = nil
		f.mu.Unlock()
		for {
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
			f.mu.Lock()
			fatal, more := f.fatal, f.more
			events, f.queue = f.queue, nil
			f.mu.Unlock()
			if fatal != nil {
				yield(autoheal.Event{}, fatal)
				return
			}
			if len(events) > 0 {
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
				yield(autoheal.Event{}, ctx.Err())
				return
			}
		}
	}
}

func (f *fakeCluster) listingLocked() []autoheal.Event {
	var out []autoheal.Event
	for _, id := range slices.Sorted(maps.Keys(f.nodes)) {
		out = append(out, nodeEvent(f.nodes[id]))
	}
	for _, id := range slices.Sorted(maps.Keys(f.work)) {
		out = append(out, workloadEvent(f.work[id]))
	}
	return append(out, autoheal.Event{Kind: autoheal.EventSynced, At: now(), SeenAt: now()})
}

func nodeEvent(n *autoheal.Node) autoheal.Event {
	c := *n
	c.Marks = slices.Clone(n.Marks)
	return autoheal.Event{Kind: autoheal.EventNode, Node: &c, At: now(), SeenAt: now(), Source: "fake"}
}

func workloadEvent(w *autoheal.Workload) autoheal.Event {
	c := *w
	return autoheal.Event{Kind: autoheal.EventWorkload, Workload: &c, At: now(), SeenAt: now(), Source: "fake"}
}

func (f *fakeCluster) sendLocked(evs ...autoheal.Event) {
	f.queue = append(f.queue, evs...)
	close(f.more)
	f.more = make(chan struct{})
}

// change changes nodes and workloads and reports those that are named, as node/ID and workload/ID.
func (f *fakeCluster) change(fn func(f *fakeCluster), refs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f)
	var evs []autoheal.Event
	for _, r := range refs {
		kind, id, _ := strings.Cut(r, "/")
		if kind == "node" {
			evs = append(evs, nodeEvent(f.nodes[autoheal.NodeID(id)]))
		} else {
			evs = append(evs, workloadEvent(f.work[autoheal.WorkloadID(id)]))
		}
	}
	f.sendLocked(evs...)
}

// die ends the watch with a fatal error.
func (f *fakeCluster) die(err error) {
	f.change(func(f *fakeCluster) { f.fatal = err })
}

func (f *fakeCluster) addNode(id string) {
	f.nodes[autoheal.NodeID(id)] = &autoheal.Node{
		ID: autoheal.NodeID(id), BootID: "boot-" + id, Source: "fake", Link: autoheal.LinkUp, LinkSince: now(), LastSeen: now(), Ready: true,
		Schedulable: true, Caps: autoheal.Verbs(), SelfStop: true, Capacity: fakeRoom, Allocatable: fakeRoom,
	}
}

var fakeRoom = autoheal.Resources{CPUMilli: 64000, MemoryMB: 65536, Pids: 10000}

func (f *fakeCluster) addWorkload(id, node string, class autoheal.Class) {
	f.work[autoheal.WorkloadID(id)] = &autoheal.Workload{
		ID: autoheal.WorkloadID(id), Name: id, Image: autoheal.ImageHost, State: autoheal.Running, Desired: autoheal.DesiredRunning, Attempt: 1,
		Node: autoheal.NodeID(node), Ready: true, Class: class, ClassRule: "label", AtMostOnce: true, Kind: autoheal.KindJob,
		Request: autoheal.Resources{CPUMilli: 100, MemoryMB: 100}, OriginalMemoryMB: 100, SubmittedAt: now(), StartedAt: now(),
	}
}

// silence cuts a node off: its shims stop what they own 60 s after the last contact, which nobody sees.
func (f *fakeCluster) silence(id string) {
	f.change(func(f *fakeCluster) {
		n := f.nodes[autoheal.NodeID(id)]
		n.Link, n.LinkSince, n.LastSeen, n.Ready = autoheal.LinkSilent, now(), now(), false
	}, "node/"+id)
}

// answer brings a node back.
func (f *fakeCluster) answer(id string) {
	f.change(func(f *fakeCluster) {
		n := f.nodes[autoheal.NodeID(id)]
		n.Link, n.LinkSince, n.LastSeen, n.Ready = autoheal.LinkUp, now(), now(), true
	}, "node/"+id)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(f.work)) { // its agent tells how the old copies ended
		w := *f.work[id]
		if w.Attempt > 1 {
			w.Attempt, w.Node, w.State, w.Ready = 1, "n1", autoheal.Failed, false
			w.EndedAt = f.nodes["n1"].LinkSince.Add(-time.Minute)
			w.Exit = &autoheal.Exit{Code: -1, Signal: "SIGKILL", Reason: autoheal.ExitSelfStop}
			f.sendLocked(workloadEvent(&w))
		}
	}
}

// crash ends the current attempt of a workload.
func (f *fakeCluster) crash(id string) {
	f.change(func(f *fakeCluster) {
		w := f.work[autoheal.WorkloadID(id)]
		w.State, w.Ready, w.EndedAt = autoheal.Failed, false, now()
		w.Exit = &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed}
	}, "workload/"+id)
}

func (f *fakeCluster) Do(ctx context.Context, a autoheal.Action) autoheal.Result {
	if f.asked != nil {
		f.asked(a)
	}
	f.mu.Lock()
	f.acts = append(f.acts, a)
	f.mu.Unlock()
	if f.doFn != nil {
		return f.doFn(ctx, a)
	}
	return f.obey(a)
}

// obey accepts an action; the change follows as an event.
func (f *fakeCluster) obey(a autoheal.Action) autoheal.Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.Epoch < f.epoch {
		return autoheal.Result{Outcome: autoheal.OutcomeNotSent, Err: &autoheal.Error{Kind: autoheal.ErrConflict, Detail: "an old epoch"}, At: now()}
	}
	f.epoch = a.Epoch
	n, w := f.nodes[autoheal.NodeID(a.Target.ID)], f.work[autoheal.WorkloadID(a.Target.ID)]
	switch a.Verb {
	case autoheal.Cordon:
		if n.MarkedBy(autoheal.ByAutoheal) == nil {
			n.Marks, n.Schedulable = append(n.Marks, autoheal.Mark{By: autoheal.ByAutoheal, Reason: a.Reason, At: now()}), false
		}
		f.sendLocked(nodeEvent(n))
	case autoheal.Uncordon:
		n.Marks, n.Schedulable = nil, true
		f.sendLocked(nodeEvent(n))
	case autoheal.Start:
		f.startLocked(w, a)
	case autoheal.Refresh:
		if w != nil {
			f.sendLocked(workloadEvent(w))
		}
	}
	return autoheal.Result{Outcome: autoheal.OutcomeDone, At: now()}
}

// startLocked makes the asked attempt exist on the first node that answers; the attempt's number is the key.
func (f *fakeCluster) startLocked(w *autoheal.Workload, a autoheal.Action) {
	if w.Attempt >= a.Params.Attempt {
		return
	}
	w.Attempt, w.Exit, w.State, w.Ready, w.Node = a.Params.Attempt, nil, autoheal.Pending, false, ""
	for _, id := range slices.Sorted(maps.Keys(f.nodes)) {
		if n := f.nodes[id]; n.Link == autoheal.LinkUp && n.Schedulable && !slices.Contains(a.Params.Avoid, id) {
			w.Node, w.State, w.Ready, w.StartedAt = id, autoheal.Running, true, now()
			f.starts = append(f.starts, fmt.Sprintf("%s/%d on %s", w.ID, w.Attempt, id))
			break
		}
	}
	f.sendLocked(workloadEvent(w))
}

func (f *fakeCluster) actions() []autoheal.Action {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.acts)
}

func (f *fakeCluster) watched() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watches
}

// shell is an engine that runs in a bubble of virtual time, with the cluster and the journal that it works on.
type shell struct {
	t       *testing.T
	cluster *fakeCluster
	store   *journal.Memory
	opt     Options
	engine  *Engine
	cancel  context.CancelFunc
	ended   chan error

	mu      sync.Mutex // guards what follows
	blocked []error    // calls of Options.Blocked
}

// newShell makes three nodes with two workloads on the first. change may alter the options; start runs the engine.
func newShell(t *testing.T, change ...func(*Options)) *shell {
	s := &shell{t: t, cluster: newFakeCluster(), store: journal.NewMemory()}
	for _, id := range []string{"n1", "n2", "n3"} {
		s.cluster.addNode(id)
	}
	s.cluster.addWorkload("wl-1", "n1", autoheal.High)
	s.cluster.addWorkload("wl-2", "n1", autoheal.Medium)
	s.cluster.asked = s.durable
	s.opt = Options{
		Cluster: s.cluster, Store: s.store, Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler), Policy: actPolicy(t),
		Life: Life{Epoch: 1, Version: "test", ConfigHash: "c", BootID: "b", Cluster: "default"}, Blocked: s.onBlocked,
	}
	for _, fn := range change {
		fn(&s.opt)
	}
	return s
}

func actPolicy(t testing.TB) *policy.Policy {
	t.Helper()
	l, err := policy.Load(policy.Source{})
	if err != nil {
		t.Fatal(err)
	}
	return l.Policy.WithProfile(policy.ProfileAct)
}

// durable holds the order of the product: no action leaves before its intent is in the journal (behaviour G1).
func (s *shell) durable(a autoheal.Action) {
	for r, err := range s.store.History(context.Background(), a.Incident) {
		if err != nil {
			s.t.Error(err)
			return
		}
		if in, ok := r.Data.(journal.Intent); ok && in.Action.ID == a.ID && in.Action.Epoch == a.Epoch {
			return
		}
	}
	s.t.Errorf("%s %s %s left without an intent in the journal", a.ID, a.Verb, a.Target)
}

func (s *shell) onBlocked(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked = append(s.blocked, err)
}

func (s *shell) blocks() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.blocked)
}

func (s *shell) start() *shell {
	s.t.Helper()
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.engine, s.ended = New(s.opt), make(chan error, 1)
	go func() {
		defer close(s.ended) // also when a hook ends the loop's goroutine
		s.ended <- s.engine.Run(ctx)
	}()
	synctest.Wait()
	return s
}

// stop ends the engine in order.
func (s *shell) stop() {
	s.t.Helper()
	s.cancel()
	if err := <-s.ended; err != nil {
		s.t.Errorf("run: %v", err)
	}
}

// elapse lets virtual time pass and everything come to rest.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (s *shell) status() autoheal.HealerStatus {
	s.t.Helper()
	st, err := s.engine.Status(context.Background())
	if err != nil {
		s.t.Fatalf("status: %v", err)
	}
	return st
}

func (s *shell) incidents() []autoheal.Incident {
	s.t.Helper()
	is, err := s.engine.Incidents(context.Background(), autoheal.IncidentFilter{})
	if err != nil {
		s.t.Fatalf("incidents: %v", err)
	}
	return is
}

func (s *shell) command(cmd autoheal.Command) autoheal.Reply {
	s.t.Helper()
	cmd.Actor, cmd.Role = "ann", "operator"
	r, err := s.engine.Command(context.Background(), cmd)
	if err != nil {
		s.t.Fatalf("command %s: %v", cmd.Verb, err)
	}
	return r
}

// records returns the whole journal, checked by the codec.
func (s *shell) records() []journal.Record { return recordsOf(s.t, s.store) }

func recordsOf(t *testing.T, store journal.Store) []journal.Record {
	t.Helper()
	var out []journal.Record
	for r, err := range store.History(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func countType(rs []journal.Record, typ journal.Type) int {
	n := 0
	for _, r := range rs {
		if r.Type == typ {
			n++
		}
	}
	return n
}

var errDisk = errors.New("no space left")
