package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/openclaw"
)

func open(t *testing.T) *gateway.Gateway {
	return start(t, gateway.Options{AutoApprove: approveAll, AllowCommands: []string{"echo", "status"}})
}

// TestNodeAnswersWhileItWorks: a long command holds up neither another one nor what is answered from the read loop.
func TestNodeAnswersWhileItWorks(t *testing.T) {
	g := open(t)
	release, started := make(chan struct{}), make(chan struct{})
	node(t, g, openclaw.NodeOptions{
		Commands: []string{"echo", "status"}, MaxConcurrent: 2,
		Handle: func(_ context.Context, r openclaw.InvokeRequest) (json.RawMessage, error) {
			if string(r.Params) == `"long"` {
				close(started)
				<-release
			}
			return r.Params, nil
		},
		Immediate: func(r openclaw.InvokeRequest) (json.RawMessage, bool, error) {
			return json.RawMessage(`"busy"`), r.Command == "status", nil
		},
	})
	op := g.Operator()
	id := waitNode(t, op, ready).NodeID
	long := call(id, "echo", "long")
	long.Params = json.RawMessage(`"long"`)
	got := make(chan string, 1)
	go func() {
		out, err := op.Invoke(context.Background(), long)
		got <- fmt.Sprint(string(out), err)
	}()
	<-started
	if out, err := op.Invoke(t.Context(), call(id, "status", "s")); err != nil || string(out) != `"busy"` {
		t.Errorf("status: %s, %v", out, err)
	}
	if out, err := op.Invoke(t.Context(), call(id, "echo", "e")); err != nil || string(out) != `{}` {
		t.Errorf("another command: %s, %v", out, err)
	}
	close(release)
	if s := <-got; s != `"long"<nil>` {
		t.Errorf("the long command: %s", s)
	}
}

func TestNodeRefusesMoreThanItCanRun(t *testing.T) {
	g := open(t)
	release, started := make(chan struct{}), make(chan struct{}, 1)
	node(t, g, openclaw.NodeOptions{MaxConcurrent: 1, Handle: func(context.Context, openclaw.InvokeRequest) (json.RawMessage, error) {
		started <- struct{}{}
		<-release
		return nil, nil
	}})
	id := waitNode(t, g.Operator(), ready).NodeID
	first := make(chan error, 1)
	go func() {
		_, err := g.Operator().Invoke(context.Background(), call(id, "echo", "1"))
		first <- err
	}()
	<-started
	_, err := g.Operator().Invoke(t.Context(), call(id, "echo", "2"))
	if n, _ := wireErr(t, err).Details.NodeError(); n.Code != openclaw.NodeBusy {
		t.Errorf("one too many: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := g.Operator().Invoke(t.Context(), call(id, "echo", "2")); err != nil {
		t.Errorf("the refused key could not be tried again: %v", err)
	}
}

// TestNodeHonoursCancel: a caller that gives up ends the handler's context, and the same key may then run again.
func TestNodeHonoursCancel(t *testing.T) {
	g := open(t)
	var runs atomic.Int32
	started, cancelled := make(chan struct{}), make(chan error, 1)
	node(t, g, openclaw.NodeOptions{Handle: func(ctx context.Context, _ openclaw.InvokeRequest) (json.RawMessage, error) {
		if runs.Add(1) == 1 {
			close(started)
			<-ctx.Done()
			cancelled <- context.Cause(ctx)
			return nil, ctx.Err()
		}
		return json.RawMessage(`"second"`), nil
	}})
	id := waitNode(t, g.Operator(), ready).NodeID
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if _, err := g.Operator().Invoke(ctx, call(id, "echo", "k")); openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown {
		t.Errorf("cancelled call: %v", err)
	}
	if cause := <-cancelled; !strings.Contains(cause.Error(), "cancelled by the gateway") {
		t.Errorf("cause %v", cause)
	}
	// The first run may still be on its way out of the node's memory; the key then gets its end, which is unknown.
	for {
		out, err := g.Operator().Invoke(t.Context(), call(id, "echo", "k"))
		if err == nil {
			if string(out) != `"second"` {
				t.Errorf("second run: %s", out)
			}
			break
		}
		if openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown {
			t.Fatalf("second run: %v", err)
		}
	}
}

// TestNodeRemembersAcrossConnections: the result of a command that outlived its connection is given to a repeated key.
func TestNodeRemembersAcrossConnections(t *testing.T) {
	g := open(t)
	var runs atomic.Int32
	started, release := make(chan struct{}, 10), make(chan struct{})
	node(t, g, openclaw.NodeOptions{
		ConnectOptions: openclaw.ConnectOptions{
			Backoff: openclaw.Backoff{Slow: time.Millisecond},
		}, Handle: func(ctx context.Context, r openclaw.InvokeRequest) (json.RawMessage, error) {
			started <- struct{}{}
			<-r.Disconnected // the connection is gone, the work goes on
			<-release
			return json.RawMessage(fmt.Sprint(runs.Add(1))), ctx.Err()
		},
	})
	id := waitNode(t, g.Operator(), ready).NodeID
	first := make(chan error, 1)
	go func() {
		_, err := g.Operator().Invoke(context.Background(), call(id, "echo", "k"))
		first <- err
	}()
	<-started
	intruder := join(t, g, "n1", "echo") // the same key takes the connection over
	if err := <-first; openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown || !strings.Contains(err.Error(), "DISCONNECTED") {
		t.Errorf("first call: %v", err)
	}
	if c := intruder.closed(); c.Code != 1008 || c.Reason != openclaw.CloseReasonReplaced { // and the node takes it back
		t.Errorf("closed %d %q", c.Code, c.Reason)
	}
	close(release)
	out, err := g.Operator().Invoke(t.Context(), call(id, "echo", "k"))
	if err != nil || string(out) != "1" || runs.Load() != 1 || len(started) != 0 {
		t.Errorf("repeated key: %s, %v after %d runs", out, err, runs.Load())
	}
}

func TestNodeErrorsKeepTheirCode(t *testing.T) {
	g := open(t)
	node(t, g, openclaw.NodeOptions{Handle: func(context.Context, openclaw.InvokeRequest) (json.RawMessage, error) {
		return nil, fmt.Errorf("start workload: %w", &openclaw.Error{Code: "CONFLICT", Message: "attempt 3 is known"})
	}})
	id := waitNode(t, g.Operator(), ready).NodeID
	_, err := g.Operator().Invoke(t.Context(), call(id, "echo", "k"))
	if n, ok := wireErr(t, err).Details.NodeError(); !ok || n.Code != "CONFLICT" || n.Message != "attempt 3 is known" {
		t.Errorf("error %v", err)
	}
}

// jumpClock is the machine's clock with a gap, as a process sees it that was stopped for a while.
type jumpClock struct {
	clock.Real
	gap atomic.Int64
}

func (c *jumpClock) Now() time.Time { return c.Real.Now().Add(time.Duration(c.gap.Load())) }

// TestNodeRefusesARequestThatOutlivedItsCaller: after a standstill the socket still holds requests that nobody waits for.
func TestNodeRefusesARequestThatOutlivedItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		g := gateway.New(gateway.Options{Listener: ln, Token: token, AutoApprove: approveAll, AllowCommands: []string{"echo"}})
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		jump := &jumpClock{}
		var runs atomic.Int32
		c := openclaw.NewNodeClient(openclaw.NodeOptions{
			ConnectOptions: openclaw.ConnectOptions{
				URL: "ws://127.0.0.1", Token: token, Name: "n1", Identity: identity(t, "n1"), Platform: "linux", Version: "1", Dial: ln.dial, Clock: jump,
			},
			Commands: []string{"echo"},
			Handle:   func(context.Context, openclaw.InvokeRequest) (json.RawMessage, error) { runs.Add(1); return nil, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		id := identity(t, "n1").ID()
		jump.gap.Store(int64(30 * time.Second))
		_, err := g.Operator().Invoke(ctx, call(id, "echo", "old")) // waits for 20 s only
		if n, _ := wireErr(t, err).Details.NodeError(); n.Code != openclaw.NodeExpired || runs.Load() != 0 {
			t.Errorf("an expired request: %v after %d runs", err, runs.Load())
		}
		time.Sleep(5 * time.Second) // of the bubble: what waited in the socket is read by now
		if _, err := g.Operator().Invoke(ctx, call(id, "echo", "old")); err != nil || runs.Load() != 1 {
			t.Errorf("a fresh request: %v after %d runs", err, runs.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
