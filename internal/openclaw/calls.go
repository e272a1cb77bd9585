package openclaw

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// result is what a command answered.
type result struct {
	payload json.RawMessage
	err     *NodeError
}

// newResult turns what a handler returned into an answer.
func newResult(payload json.RawMessage, err error) result {
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			return result{err: &NodeError{e.Code, e.Message}}
		}
		return result{err: &NodeError{NodeCommandError, err.Error()}}
	}
	payload = bytes.TrimSpace(payload)
	switch {
	case len(payload) == 0:
		payload = json.RawMessage("{}")
	case len(payload) > MaxPayload-4096: // room for the frame around it
		return result{err: &NodeError{NodeResultTooLarge, fmt.Sprintf("the result has %d bytes", len(payload))}}
	case !json.Valid(payload):
		return result{err: &NodeError{NodeCommandError, "the command answered invalid JSON"}}
	}
	return result{payload: payload}
}

// waiter is one request that waits for the result of a call.
type waiter struct {
	link *Link
	req  InvokeRequest
}

// call is one run of a command, shared by all requests that carry its idempotency key.
type call struct {
	command string
	params  []byte
	cancel  context.CancelCauseFunc

	waiters []waiter // guarded by NodeClient.mu
}

var errCancelled = errors.New("cancelled by the gateway")

// start runs the request, joins it to a running call of the same key, or answers it from memory.
func (c *NodeClient) start(link *Link, req InvokeRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := waiter{link, req}
	if req.IdempotencyKey != "" {
		if running, done := c.results.lookup(req, c.clock.Now()); done != nil {
			defer c.answerLater(w, *done)
			return
		} else if running != nil {
			running.waiters = append(running.waiters, w)
			c.invokes[req.ID] = running
			return
		}
	}
	select {
	case c.slots <- struct{}{}:
	default:
		defer c.answerLater(w, result{err: &NodeError{NodeBusy, fmt.Sprintf("%d commands are running", cap(c.slots))}})
		return
	}
	ctx, cancel := context.WithCancelCause(c.runCtx)
	run := &call{command: req.Command, params: req.Params, cancel: cancel, waiters: []waiter{w}}
	c.invokes[req.ID] = run
	remember := req.IdempotencyKey != "" && (c.opts.Remember == nil || c.opts.Remember(req.Command))
	if remember {
		c.results.begin(req.IdempotencyKey, run, c.clock.Now())
	}
	c.wg.Go(func() { c.execute(ctx, run, req, remember) })
}

// answerLater answers after c.mu is released.
func (c *NodeClient) answerLater(w waiter, r result) {
	c.mu.Unlock()
	c.answer(w.link, w.req, r)
	c.mu.Lock()
}

func (c *NodeClient) execute(ctx context.Context, run *call, req InvokeRequest, remember bool) {
	defer run.cancel(nil)
	if req.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, req.Timeout)
		defer stop()
	}
	payload, err := c.opts.Handle(ctx, req)
	r := newResult(payload, err)
	interrupted := err != nil && ctx.Err() != nil
	if interrupted {
		r = result{err: interruption(ctx, err)}
	}
	<-c.slots
	c.mu.Lock()
	waiters := run.waiters
	run.waiters = nil
	for _, w := range waiters {
		delete(c.invokes, w.req.ID)
	}
	if remember {
		// A command that was interrupted may be tried again under its key; any other answer is final.
		c.results.finish(req.IdempotencyKey, run, r, !interrupted, c.clock.Now())
	}
	c.mu.Unlock()
	for _, w := range waiters {
		c.answer(w.link, w.req, r)
	}
}

// interruption names why a handler was ended, with a code that ClassifyInvoke reads as unknown.
func interruption(ctx context.Context, err error) *NodeError {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return &NodeError{nodeTimeout, "the command ran out of time: " + err.Error()}
	}
	return &NodeError{nodeAborted, fmt.Sprintf("%v: %v", context.Cause(ctx), err)}
}

// cancelInvoke ends the wait of one request; the call itself is cancelled when nobody waits for it any more.
func (c *NodeClient) cancelInvoke(invokeID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	run := c.invokes[invokeID]
	if run == nil {
		return
	}
	delete(c.invokes, invokeID)
	kept := run.waiters[:0]
	for _, w := range run.waiters {
		if w.req.ID != invokeID {
			kept = append(kept, w)
		}
	}
	run.waiters = kept
	if len(kept) == 0 {
		run.cancel(errCancelled)
	}
}

// Bounds of the memory of results.
const (
	memoryEntries = 4096
	memoryBytes   = 4 << 20
)

// memory remembers results by idempotency key. Its user locks it. When it holds too many bytes, the oldest results are
// dropped but their keys stay: a repeated key then gets RESULT_EVICTED and the command is still not run twice.
type memory struct {
	window  time.Duration
	entries map[string]*remembered
	order   []*remembered // by begin time
	bytes   int
}

type remembered struct {
	key     string
	begun   time.Time
	run     *call
	done    *result
	dropped bool
}

func newMemory(window time.Duration) *memory {
	return &memory{window: window, entries: make(map[string]*remembered)}
}

// lookup returns the running call or the final answer for a request, or neither.
func (m *memory) lookup(req InvokeRequest, now time.Time) (*call, *result) {
	m.expire(now)
	e := m.entries[req.IdempotencyKey]
	if e == nil {
		return nil, nil
	}
	if e.run.command != req.Command || !bytes.Equal(e.run.params, req.Params) {
		return nil, &result{err: &NodeError{NodeKeyReused, "the idempotency key was used for another request"}}
	}
	return e.run, e.done
}

func (m *memory) begin(key string, run *call, now time.Time) {
	e := &remembered{key: key, begun: now, run: run}
	m.entries[key] = e
	m.order = append(m.order, e)
	m.bytes += len(run.params)
}

func (m *memory) finish(key string, run *call, r result, final bool, now time.Time) {
	e := m.entries[key]
	if e == nil || e.run != run {
		return
	}
	if !final {
		m.forget(e)
		return
	}
	e.done = &r
	m.bytes += len(r.payload)
	m.expire(now)
	for _, old := range m.order {
		if m.bytes <= memoryBytes {
			break
		}
		if old.done != nil && !old.dropped && len(old.done.payload) > 0 {
			m.bytes -= len(old.done.payload)
			old.done = &result{err: &NodeError{NodeResultEvicted, "the command ran before; its result is no longer kept"}}
			old.dropped = true
		}
	}
}

// expire drops finished entries that are older than the window, or too many.
func (m *memory) expire(now time.Time) {
	for len(m.order) > 0 {
		e := m.order[0]
		gone := m.entries[e.key] != e
		old := now.Sub(e.begun) > m.window || len(m.entries) > memoryEntries
		if !gone && (!old || e.done == nil) {
			return
		}
		m.forget(e)
		m.order[0] = nil
		m.order = m.order[1:]
	}
}

func (m *memory) forget(e *remembered) {
	if m.entries[e.key] != e {
		return
	}
	delete(m.entries, e.key)
	m.bytes -= len(e.run.params)
	if e.done != nil {
		m.bytes -= len(e.done.payload)
	}
}

// Stall detection: beats every stallBeat; a gap longer than stallMin means that the process stood still (stopped, frozen
// or starved) and that what it reads now may have waited in the socket as long.
const (
	stallBeat  = 500 * time.Millisecond
	stallMin   = 1500 * time.Millisecond
	stallDrain = 2 * time.Second // how long after a stall old requests may still come out of the socket
)

type stallWatch struct {
	beat  atomic.Pointer[time.Time] // last sign of life
	mu    sync.Mutex
	since time.Time // mu guards: start and end of the last stall
	until time.Time
}

func (s *stallWatch) watch(ctx context.Context, c clock.Clock) {
	for {
		now := c.Now()
		s.note(now)
		s.beat.Store(&now)
		if !sleep(ctx, c, stallBeat) {
			return
		}
	}
}

// note records a stall that ends now, if there was one. The wall clock is asked too, because the monotonic one stands
// still while a machine sleeps; a step of the wall clock then refuses a request too many, which is safe.
func (s *stallWatch) note(now time.Time) {
	last := s.beat.Load()
	if last == nil {
		return
	}
	gap := max(now.Sub(*last), now.Round(0).Sub(last.Round(0)))
	if gap < stallMin {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if from := now.Add(-gap); from.After(s.until) {
		s.since = from
	}
	s.until = now
}

// age returns how old a request read now may be: 0 unless a stall has just ended.
func (s *stallWatch) age(now time.Time) time.Duration {
	s.note(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until.IsZero() || now.Sub(s.until) > stallDrain {
		return 0
	}
	return now.Sub(s.since)
}
