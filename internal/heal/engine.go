package heal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// Options are what an Engine works with.
type Options struct {
	Cluster autoheal.Cluster
	Store   journal.Store
	Clock   clock.Clock
	Logger  *slog.Logger
	Policy  *policy.Policy
	Life    Life
	// Blocked is called when the journal can no longer be written and nothing is done any more (err set), and when that
	// is over (err nil). It must get a message out without the disk, and give the disk's reserve back (behaviour G1).
	Blocked func(err error)
	// Stalled is called from a goroutine of its own when the loop has not come round for 30 s (behaviour G2): nothing is
	// healed then, and nothing in this process can be trusted to end it. The caller ends the process, so that whoever
	// supervises it starts it anew. nil = nobody watches.
	Stalled func(stalledFor time.Duration)
	// Beat is how often an alert says that the healer is alive (behaviour G2); 0 = never.
	Beat time.Duration
	// Round is called each time the loop comes round and is not blocked, for whoever watches this process from outside. It
	// must not block. nil = nobody does.
	Round func()
}

// Engine runs one Core: it owns the only goroutine that touches it.
type Engine struct {
	opt      Options
	core     *Core
	events   chan autoheal.Event
	results  chan autoheal.Result
	commands chan request
	queries  chan func(*Core)
	policies chan PolicyChange
	failed   chan error
	done     chan struct{}
	pool     *pool
	watch    *watcher
	changes  *hub
	waiting  map[string][]chan<- autoheal.Reply // by command ID
	beats    atomic.Uint64                      // rises each time the loop comes round
	beaten   time.Time                          // when it last said that it is alive
	looked   time.Time                          // when the loop last took its input
	asked    time.Time                          // when it meant to do so again
	asking   []func(*Core)                      // queries to be answered once this input is taken in
	blocked  *autoheal.Held
	written  int // records since the last snapshot
	enough   int // of them for the next one
}

// request is a command with where its answer goes.
type request struct {
	cmd   autoheal.Command
	reply chan<- autoheal.Reply
}

// How the loop runs.
const (
	heartbeat     = time.Second      // it wakes at least so often, to notice that it did not
	batchMost     = 128              // inputs taken into one Step
	snapshotEvery = 20000            // records between snapshots, at least
	snapshotShare = 256              // bytes of a snapshot for each record before the next one: a large state is written more seldom
	blockedRetry  = time.Second      // between tries to write the journal again
	blockedDwell  = 60 * time.Second // the journal is writable for so long before anything is done again
)

// New makes an engine; Run runs it.
func New(opt Options) *Engine {
	e := &Engine{
		opt: opt, events: make(chan autoheal.Event, 4096), results: make(chan autoheal.Result, 1024), commands: make(chan request, 64),
		queries: make(chan func(*Core)), policies: make(chan PolicyChange), failed: make(chan error, 1), done: make(chan struct{}),
		waiting: map[string][]chan<- autoheal.Reply{}, changes: newHub(),
	}
	e.pool = newPool(opt.Cluster, opt.Clock, e.results)
	return e
}

// Run replays the journal and heals until ctx ends, which is not an error.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.done)
	defer e.changes.close()
	if err := e.restore(ctx); err != nil {
		return err
	}
	work, cancel := context.WithCancel(ctx)
	defer e.pool.wg.Wait()
	defer cancel()
	e.watch = startWatch(work, e.opt.Cluster, e.events, e.failed)
	defer func() { e.watch.stop() }()
	if e.opt.Stalled != nil {
		defer startWatchdog(work, e.opt.Clock, &e.beats, e.opt.Stalled).stop()
	}
	timer := e.opt.Clock.NewTimer(0)
	defer timer.Stop()
	e.looked = e.opt.Clock.Now()
	e.asked, e.beaten = e.looked, e.looked // what it says first is said once it has looked
	for {
		e.beats.Add(1)
		if e.opt.Round != nil && e.blocked == nil {
			e.opt.Round()
		}
		in, err := e.observe(ctx, timer)
		switch {
		case ctx.Err() != nil:
			return e.stop()
		case err != nil:
			return err
		}
		e.tick(work, in, timer)
		e.tell()
	}
}

// tell answers the queries.
func (e *Engine) tell() {
	for _, q := range e.asking {
		q(e.core)
	}
	e.asking = nil
}

// tick is the whole product once: observe (done) -> step -> journal -> act.
func (e *Engine) tick(ctx context.Context, in Input, timer clock.Timer) {
	if e.blocked != nil {
		e.refuse(in)
		e.tryAgain(ctx)
		e.sleep(timer, e.opt.Clock.Now().Add(blockedRetry))
		return
	}
	ready := e.core.Step(in)
	for _, err := range ready.Errors {
		e.opt.Logger.LogAttrs(ctx, slog.LevelError, "refused an illegal transition", slog.Any("err", err))
	}
	if len(ready.Records) > 0 {
		// A commit that has begun is not given up because the engine is asked to stop: that would look like a sick disk.
		if err := e.opt.Store.Append(context.WithoutCancel(ctx), ready.Records); err != nil {
			e.block(ctx, err)
			e.sleep(timer, e.opt.Clock.Now().Add(blockedRetry))
			return
		}
	}
	e.announce(ctx, ready)
	for _, a := range ready.Actions {
		e.pool.submit(ctx, a)
	}
	for _, r := range ready.Replies {
		e.answer(r)
	}
	e.compact(ctx, len(ready.Records))
	e.sleep(timer, ready.WakeAt)
}

// observe waits for the next input and takes along what else is there.
func (e *Engine) observe(ctx context.Context, timer clock.Timer) (Input, error) {
	var in Input
	select {
	case ev := <-e.events:
		in.Events = append(in.Events, ev)
	case r := <-e.results:
		in.Results = append(in.Results, r)
	case req := <-e.commands:
		e.take(&in, req)
	case q := <-e.queries:
		e.asking = append(e.asking, q) // after what has arrived before it
	case p := <-e.policies:
		p.Policy = TimesOfLife(p.Policy, e.opt.Policy)
		in.Policy = &p
		e.opt.Policy, e.opt.Life.ConfigHash = p.Policy, p.Hash // of the next core, when the journal fails
	case err := <-e.failed:
		return in, fmt.Errorf("watch cluster: %w", err)
	case <-timer.C():
	case <-ctx.Done():
		return in, nil
	}
	e.more(&in)
	e.looked = e.opt.Clock.Now()
	in.Now, in.Late = e.looked, max(e.looked.Sub(e.asked), 0)
	if in.Beat = e.opt.Beat > 0 && e.blocked == nil && e.looked.Sub(e.beaten) >= e.opt.Beat; in.Beat {
		e.beaten = e.looked
	}
	return in, nil
}

// TimesOfLife returns next with the probe and fence times of the policy that this life began with. The driver was started
// with them: the nodes hold leases of that length, and a shorter wait would start a second copy beside a living one.
func TimesOfLife(next, was *policy.Policy) *policy.Policy {
	p := *next
	p.Node.ProbeInterval, p.Node.ProbeTimeout = was.Node.ProbeInterval, was.Node.ProbeTimeout
	p.Fence.SelfStop, p.Fence.Margin, p.Fence.Wait = was.Fence.SelfStop, was.Fence.Margin, was.Fence.Wait
	return &p
}

// more takes in what has arrived meanwhile, so that a burst costs one commit.
func (e *Engine) more(in *Input) {
	for len(in.Events)+len(in.Results)+len(in.Commands) < batchMost {
		select {
		case ev := <-e.events:
			in.Events = append(in.Events, ev)
		case r := <-e.results:
			in.Results = append(in.Results, r)
		case req := <-e.commands:
			e.take(in, req)
		default:
			return
		}
	}
}

// take takes in a command. The same ID again, while the first one has no answer yet, is one command with one answer.
func (e *Engine) take(in *Input, req request) {
	asked := e.waiting[req.cmd.ID]
	e.waiting[req.cmd.ID] = append(asked, req.reply)
	if len(asked) == 0 {
		in.Commands = append(in.Commands, req.cmd)
	}
}

// sleep sets the time of the next look. It counts from the last one, so that a commit which took long is lateness too.
func (e *Engine) sleep(timer clock.Timer, wake time.Time) {
	e.asked = e.looked.Add(heartbeat)
	if !wake.IsZero() && wake.Before(e.asked) {
		e.asked = wake
	}
	timer.Reset(max(e.asked.Sub(e.opt.Clock.Now()), 0))
}

// answer gives a reply to all who wait for it. Who gave up meanwhile has left a channel that nobody reads.
func (e *Engine) answer(r autoheal.Reply) {
	for _, ch := range e.waiting[r.Command] {
		ch <- r // buffered, one reply a caller
	}
	delete(e.waiting, r.Command)
}

// announce tells subscribers and the log what was decided, in the words of the post-mortem.
func (e *Engine) announce(ctx context.Context, ready Ready) {
	for _, r := range ready.Records {
		text := describe(r)
		if text == "" {
			continue
		}
		ch := autoheal.Change{At: r.At, Type: string(r.Type), Incident: r.Incident, Text: text}
		if i := e.core.d.Incidents[r.Incident]; i != nil {
			ch.Subject = i.Subject
		}
		e.changes.publish(ch)
		e.opt.Logger.LogAttrs(ctx, slog.LevelInfo, "decided", slog.String("what", text), slog.String("type", string(r.Type)), slog.String("incident", string(r.Incident)), slog.Uint64("seq", r.Seq))
	}
	if len(ready.Seen) > 0 && e.changes.watched() {
		for _, s := range ready.Seen {
			e.changes.publish(s.Change(e.core.now))
		}
	}
}

// restore builds the core from the journal.
func (e *Engine) restore(ctx context.Context) error {
	core := NewCore(e.opt.Life, e.opt.Policy)
	n := 0
	for r, err := range e.opt.Store.Replay(ctx) {
		if err != nil {
			return fmt.Errorf("replay journal: %w", err)
		}
		if err := core.Restore(r); err != nil {
			return fmt.Errorf("replay journal: %w", err)
		}
		n++
	}
	e.core, e.written = core, n
	return nil
}

// compact replaces old records by a snapshot now and then. A failure is no loss: it is tried again later.
func (e *Engine) compact(ctx context.Context, records int) {
	if e.written += records; e.written < max(snapshotEvery, e.enough) {
		return
	}
	e.written = 0
	keep := e.core.now.Add(-e.core.pol.State.IncidentsKeep)
	snap, err := e.core.snapshot(keep)
	if err == nil {
		e.enough = len(snap.Data.(journal.Snapshot).State) / snapshotShare
		err = e.opt.Store.Compact(context.WithoutCancel(ctx), snap, keep)
	}
	if err == nil {
		err = e.core.adopt(snap)
	}
	if err != nil {
		e.opt.Logger.LogAttrs(ctx, slog.LevelError, "could not compact the journal", slog.Any("err", err))
	}
}

// stop ends the life in order.
func (e *Engine) stop() error {
	if e.blocked != nil {
		return nil
	}
	c := e.core
	if !c.started {
		return nil
	}
	c.out, c.stepNo = &Ready{}, c.d.Step+1
	c.record("", journal.EngineStopped{Reason: "asked to"})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := e.opt.Store.Append(ctx, c.out.Records); err != nil {
		return fmt.Errorf("write the last record: %w", err)
	}
	return nil
}

// errStopped is the answer when the engine is not running.
var errStopped = errors.New("the healer is stopping")

// query runs fn on the core in the engine's goroutine.
func query[T any](ctx context.Context, e *Engine, fn func(*Core) (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	ch := make(chan answer, 1)
	ask := func(c *Core) {
		v, err := fn(c)
		ch <- answer{v, err}
	}
	var zero T
	select {
	case e.queries <- ask:
	case <-e.done:
		return zero, &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: errStopped.Error()}
	case <-ctx.Done():
		return zero, ctx.Err()
	}
	select {
	case a := <-ch:
		return a.v, a.err
	case <-e.done: // it ended before it came to the answer
		return zero, &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: errStopped.Error()}
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}
