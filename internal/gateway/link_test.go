package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/openclaw"
)

// pipeListener is a network of in-memory pipes for tests in a bubble of synctest.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// freezable is a connection whose owner can stop reading, as a stopped process does.
type freezable struct {
	net.Conn
	frozen atomic.Bool
	thaw   chan struct{}
}

func (f *freezable) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if f.frozen.Load() {
		<-f.thaw
	}
	return n, err
}

// TestHalfOpenNode: a node that stands still keeps its socket open; the ping window finds it, its command ends as
// unknown at its own timeout, and other nodes are not held up meanwhile.
func TestHalfOpenNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		g := gateway.New(gateway.Options{
			Listener: ln, Token: token, AutoApprove: approveAll, AllowCommands: []string{"echo"},
			PingEvery: 5 * time.Second, PongTimeout: 5 * time.Second,
		})
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var stuck *freezable
		var wg sync.WaitGroup
		join := func(name string, dial openclaw.DialFunc) {
			c := openclaw.NewNodeClient(openclaw.NodeOptions{
				ConnectOptions: openclaw.ConnectOptions{
					URL: "ws://127.0.0.1", Token: token, Name: name, Identity: identity(t, name), Platform: "linux", Version: "1", Dial: dial, Backoff: openclaw.Backoff{Min: time.Hour, Max: time.Hour},
				}, Commands: []string{"echo"},
				Handle: func(_ context.Context, r openclaw.InvokeRequest) (json.RawMessage, error) { return r.Params, nil },
			})
			wg.Go(func() {
				if err := c.Run(ctx); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		join("stuck", func(ctx context.Context, n, a string) (net.Conn, error) {
			c, err := ln.dial(ctx, n, a)
			stuck = &freezable{Conn: c, thaw: make(chan struct{})}
			return stuck, err
		})
		join("well", ln.dial)
		synctest.Wait()
		nodes, _ := g.Operator().NodeList(ctx)
		if len(nodes) != 2 || !ready(nodes[0]) || !ready(nodes[1]) {
			t.Fatalf("nodes %+v", nodes)
		}
		stuck.frozen.Store(true)
		begin := time.Now()
		p := openclaw.InvokeParams{NodeID: identity(t, "stuck").ID(), Command: "echo", Timeout: time.Hour, IdempotencyKey: "k"}
		failed := make(chan time.Duration, 1)
		go func() {
			_, err := g.Operator().Invoke(ctx, p)
			if openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown || !strings.Contains(err.Error(), "DISCONNECTED") {
				t.Errorf("invoke on a stopped node: %v", err)
			}
			failed <- time.Since(begin)
		}()
		other := p
		other.NodeID = identity(t, "well").ID()
		if _, err := g.Operator().Invoke(ctx, other); err != nil || time.Since(begin) > 0 {
			t.Errorf("the other node: %v after %s", err, time.Since(begin))
		}
		if d := <-failed; d > 10*time.Second {
			t.Errorf("found after %s", d)
		}
		if n, _ := g.Operator().NodeDescribe(ctx, identity(t, "stuck").ID()); n.Connected {
			t.Error("still shown as connected")
		}
		close(stuck.thaw)
		if err := g.Stop(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
		synctest.Wait()
	})
}

// TestSlowConsumerIsCutAndDelaysNobody floods a node that does not read.
func TestSlowConsumerIsCutAndDelaysNobody(t *testing.T) {
	g := start(t, gateway.Options{AutoApprove: approveAll, AllowCommands: []string{"echo"}, MaxQueued: 4 << 20, MaxPending: 1000})
	_, slow := approved(t, g, "slow") // never reads again
	node(t, g, openclaw.NodeOptions{ConnectOptions: openclaw.ConnectOptions{Name: "well"}})
	well := waitNode(t, g.Operator(), func(n openclaw.NodeInfo) bool { return n.DisplayName == "well" && ready(n) }).NodeID
	events, cancel := g.Operator().Events()
	defer cancel()
	big := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			p := call(slow, "echo", "k"+string(rune('A'+i)))
			p.Params = big
			if _, err := g.Operator().Invoke(context.Background(), p); openclaw.ClassifyInvoke(err) == openclaw.OutcomeDone {
				t.Error("a node that does not read answered")
			}
		})
	}
	p := call(well, "echo", "k")
	p.Params = json.RawMessage(`1`)
	if out, err := g.Operator().Invoke(t.Context(), p); err != nil || string(out) != "1" {
		t.Errorf("the other node: %s, %v", out, err)
	}
	waitEvent(t, events, func(e openclaw.Event) bool {
		for _, p := range e.Presence {
			if p.DeviceID == slow && p.Reason == "disconnect" {
				return true
			}
		}
		return false
	})
	wg.Wait()
}

func TestRestartTellsNodesWhoComeBack(t *testing.T) {
	store, err := gateway.OpenPairFile(t.TempDir() + "/pairs.json")
	if err != nil {
		t.Fatal(err)
	}
	opts := gateway.Options{Store: store, AutoApprove: approveAll, AllowCommands: []string{"echo"}}
	g := start(t, opts)
	r, id := approved(t, g, "raw")
	seen := make(chan openclaw.ConnState, 100)
	node(t, g, openclaw.NodeOptions{ConnectOptions: openclaw.ConnectOptions{OnState: func(s openclaw.ConnState, _ error) { seen <- s }}})
	waitNode(t, g.Operator(), func(n openclaw.NodeInfo) bool { return n.DisplayName == "n1" && ready(n) })
	pending := make(chan error, 1)
	go func() {
		_, err := g.Operator().Invoke(context.Background(), call(id, "echo", "k"))
		pending <- err
	}()
	r.request()
	events, cancel := g.Operator().Events()
	defer cancel()
	stop(t, g)
	if f := r.read(); f.Event != "shutdown" || string(f.Payload) != `{"reason":"gateway stopping"}` {
		t.Errorf("last frame %s %s", f.Event, f.Payload)
	}
	if c := r.closed(); c.Code != 1012 || c.Reason != "service restart" {
		t.Errorf("closed %d %q", c.Code, c.Reason)
	}
	if err := <-pending; openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown {
		t.Errorf("pending call: %v", err)
	}
	waitEvent(t, events, named(openclaw.EventShutdown))
	waitEvent(t, events, named(openclaw.EventDisconnected))
	if s := <-seen; s != openclaw.StateConnected {
		t.Errorf("first state %s", s)
	}
	for want := openclaw.StateRefused; <-seen != want; { // nothing listens: told apart from silence
	}
	opts.Listen = g.Addr()
	again := start(t, opts)
	for want := openclaw.StateConnected; <-seen != want; {
	}
	waitNode(t, again.Operator(), func(n openclaw.NodeInfo) bool { return n.DisplayName == "n1" && ready(n) })
}

// TestStopDoesNotWaitForAStuckNode: a node that never says goodbye is cut.
func TestStopDoesNotWaitForAStuckNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		g := gateway.New(gateway.Options{Listener: ln, Token: token})
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		silent, err := ln.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := silent.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it never reads the answer
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d > 3*time.Second {
			t.Errorf("stop took %s", d)
		}
		_ = silent.Close()
		synctest.Wait()
	})
}

func TestNodeGivesUpOnAWrongToken(t *testing.T) {
	g := start(t, gateway.Options{})
	c := openclaw.NewNodeClient(openclaw.NodeOptions{
		ConnectOptions: openclaw.ConnectOptions{
			URL: g.URL(), Token: "wrong", Identity: identity(t, "n1"), Name: "n1", Platform: "linux", Version: "1",
		},
		Handle: func(context.Context, openclaw.InvokeRequest) (json.RawMessage, error) { return nil, nil },
	})
	err := c.Run(t.Context())
	var e *openclaw.Error
	if !errors.As(err, &e) || e.Details.Code() != "AUTH_TOKEN_MISMATCH" || !strings.Contains(err.Error(), "check the token file") {
		t.Errorf("error %v", err)
	}
}
