package heal

import (
	"context"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
)

// Sizes of the worker pool. Safe effects have slots of their own, so that a hanging disruption never delays a release.
const (
	workersAny  = 30
	workersSafe = 2
	queueMost   = 1000
)

// pool carries out actions: in order for each target, in parallel across targets, each with its deadline.
type pool struct {
	act     autoheal.Actuator
	clock   clock.Clock
	results chan<- autoheal.Result
	any     chan struct{}
	safe    chan struct{}
	wg      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	queues map[string][]autoheal.Action
}

func newPool(act autoheal.Actuator, clk clock.Clock, results chan<- autoheal.Result) *pool {
	return &pool{
		act: act, clock: clk, results: results, any: make(chan struct{}, workersAny), safe: make(chan struct{}, workersSafe),
		queues: map[string][]autoheal.Action{},
	}
}

// submit queues one action behind those for the same target. It never blocks.
func (p *pool) submit(ctx context.Context, a autoheal.Action) {
	k := autoheal.Ref{Kind: a.Target.Kind, ID: a.Target.ID}.String()
	p.mu.Lock()
	defer p.mu.Unlock()
	q, running := p.queues[k]
	if len(q) >= queueMost {
		p.wg.Go(func() {
			p.report(ctx, refused(a, autoheal.ErrUnavailable, "too many actions wait for this target", p.clock.Now()))
		})
		return
	}
	p.queues[k] = append(q, a)
	if !running {
		p.wg.Go(func() { p.drain(ctx, k) })
	}
}

// drain carries out the queue of one target until it is empty.
func (p *pool) drain(ctx context.Context, k string) {
	for {
		p.mu.Lock()
		q := p.queues[k]
		if len(q) == 0 {
			delete(p.queues, k)
			p.mu.Unlock()
			return
		}
		a := q[0]
		p.queues[k] = q[1:]
		p.mu.Unlock()
		p.do(ctx, a)
	}
}

func (p *pool) do(ctx context.Context, a autoheal.Action) {
	slot, ok := p.slot(ctx, a.Verb.Effect() == autoheal.EffectSafe)
	if !ok {
		return // the engine stops: the intent stays without a result and is unknown to the next life
	}
	defer func() { <-slot }()
	left := a.Deadline.Sub(p.clock.Now())
	if left <= 0 { // it waited for so long that what it rests on is old: decide anew
		p.report(ctx, refused(a, autoheal.ErrTimeout, "its deadline passed while it waited for its turn", p.clock.Now()))
		return
	}
	call, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	r := p.act.Do(call, a)
	r.Action = a.ID
	p.report(ctx, r)
}

// slot waits for a place among the workers.
func (p *pool) slot(ctx context.Context, safe bool) (chan struct{}, bool) {
	reserved := p.safe
	if !safe {
		reserved = nil // a nil channel is never ready: only safe effects may use the reserve
	}
	select {
	case p.any <- struct{}{}:
		return p.any, true
	case reserved <- struct{}{}:
		return p.safe, true
	case <-ctx.Done():
		return nil, false
	}
}

func (p *pool) report(ctx context.Context, r autoheal.Result) {
	select {
	case p.results <- r:
	case <-ctx.Done():
	}
}

func refused(a autoheal.Action, kind autoheal.ErrorKind, why string, now time.Time) autoheal.Result {
	return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeNotSent, Err: &autoheal.Error{Kind: kind, Op: string(a.Verb), Detail: why}, At: now}
}
