package gateway_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/openclaw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "s3cret"

// long is a deadline that only a broken test reaches.
const long = 20 * time.Second

func identity(t testing.TB, seed string) openclaw.Identity {
	t.Helper()
	sum := sha256.Sum256([]byte(seed))
	id, err := openclaw.NewIdentity(bytes.NewReader(sum[:]))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// testLog sends logs to the test's output.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func start(t testing.TB, opts gateway.Options) *gateway.Gateway {
	t.Helper()
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	if opts.Token == "" {
		opts.Token = token
	}
	if opts.Logger == nil {
		opts.Logger = testLog(t)
	}
	g := gateway.New(opts)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, g) })
	return g
}

func stop(t testing.TB, g *gateway.Gateway) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	if err := g.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func approveAll(string, string, []string) bool { return true }

// node runs a NodeClient until the test ends, or until the returned function is called.
func node(t testing.TB, g *gateway.Gateway, opts openclaw.NodeOptions) (*openclaw.NodeClient, func() error) {
	t.Helper()
	if opts.URL == "" {
		opts.URL = g.URL()
	}
	if opts.Token == "" {
		opts.Token = token
	}
	if opts.Name == "" {
		opts.Name = "n1"
	}
	if opts.Identity.IsZero() {
		opts.Identity = identity(t, opts.Name)
	}
	if opts.Platform == "" {
		opts.Platform = "linux"
	}
	opts.Version = "0.1.0"
	if opts.Logger == nil {
		opts.Logger = testLog(t)
	}
	if opts.Handle == nil {
		opts.Handle = func(_ context.Context, r openclaw.InvokeRequest) (json.RawMessage, error) { return r.Params, nil }
	}
	if opts.Commands == nil {
		opts.Commands = []string{"echo"}
	}
	c := openclaw.NewNodeClient(opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	end := func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = end() })
	return c, end
}

// waitEvent returns the first event that want accepts.
func waitEvent(t testing.TB, ch <-chan openclaw.Event, want func(openclaw.Event) bool) openclaw.Event {
	t.Helper()
	deadline := time.NewTimer(long)
	defer deadline.Stop()
	for {
		select {
		case e, ok := <-ch:
			if !ok {
				t.Fatal("subscription ended")
			}
			if want(e) {
				return e
			}
		case <-deadline.C:
			t.Fatal("the event did not come")
		}
	}
}

// waitNode waits until node.list shows what want accepts.
func waitNode(t testing.TB, op openclaw.Operator, want func(openclaw.NodeInfo) bool) openclaw.NodeInfo {
	t.Helper()
	events, cancel := op.Events()
	defer cancel()
	deadline := time.NewTimer(long)
	defer deadline.Stop()
	for {
		nodes, err := op.NodeList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if want(n) {
				return n
			}
		}
		select {
		case <-events:
		case <-deadline.C:
			t.Fatalf("no node as wanted in %+v", nodes)
		}
	}
}

func ready(n openclaw.NodeInfo) bool {
	return n.Connected && n.ApprovalState == openclaw.ApprovalApproved
}
