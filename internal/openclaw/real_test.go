package openclaw_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/openclaw"
)

// TestRealGateway runs both clients against an OpenClaw gateway that somebody started on loopback, with the command
// "echo" in gateway.nodes.commands.allow. docs of the gateway say how; this test only needs its URL and token.
func TestRealGateway(t *testing.T) {
	url, token := os.Getenv("AUTOHEAL_OPENCLAW_URL"), os.Getenv("AUTOHEAL_OPENCLAW_TOKEN")
	if url == "" {
		t.Skip("set AUTOHEAL_OPENCLAW_URL and AUTOHEAL_OPENCLAW_TOKEN to run against an OpenClaw gateway")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	op := openclaw.NewOperatorClient(openclaw.OperatorOptions{ConnectOptions: openclaw.ConnectOptions{URL: url, Token: token, Name: "autoheal-test", Version: "0.1.0", Platform: "linux", Logger: log}})
	events, unsubscribe := op.Events()
	defer unsubscribe()
	run(t, ctx, op.Run)
	realEvent(t, ctx, events, openclaw.EventConnected)

	id, err := openclaw.NewIdentity(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	node := openclaw.NewNodeClient(openclaw.NodeOptions{
		ConnectOptions: openclaw.ConnectOptions{
			URL: url, Token: token, Identity: id, Name: "autoheal-test-" + id.ID()[:8], Version: "0.1.0", Platform: "linux", Logger: log,
		},
		Caps: []string{"gpu"}, Commands: []string{"echo", "not.allowed"},
		Handle: func(ctx context.Context, r openclaw.InvokeRequest) (json.RawMessage, error) {
			switch {
			case strings.Contains(string(r.Params), "fail"):
				return nil, fmt.Errorf("as asked")
			case strings.Contains(string(r.Params), "hang"):
				<-ctx.Done() // of the cancel that follows the timeout
				return nil, context.Cause(ctx)
			}
			return r.Params, nil
		},
	})
	stopNode := run(t, ctx, node.Run)
	req := realEvent(t, ctx, events, openclaw.EventNodeRequested)
	var surface openclaw.NodePairRequest
	if err := json.Unmarshal(req.Payload, &surface); err != nil || surface.NodeID != id.ID() {
		t.Fatalf("surface request %s, %v", req.Payload, err)
	}
	invoke := func(node, command, params, key string, timeout time.Duration) (json.RawMessage, error) {
		return op.Invoke(ctx, openclaw.InvokeParams{NodeID: node, Command: command, Params: json.RawMessage(params), Timeout: timeout, IdempotencyKey: key})
	}
	_, err = invoke(id.ID(), "echo", `{}`, "k0", 5*time.Second)
	expect(t, "unapproved", err, openclaw.OutcomeNotSent, "node pairing changed while invocation was active")
	if _, nodes, err := op.PairList(ctx); err != nil || len(nodes) == 0 {
		t.Fatalf("pending %+v, %v", nodes, err)
	}
	if err := op.ApproveNode(ctx, surface.RequestID); err != nil {
		t.Fatal(err)
	}
	realEvent(t, ctx, events, openclaw.EventNodeResolved)
	n, err := op.NodeDescribe(ctx, id.ID())
	if err != nil || !n.Connected || !n.Paired || n.ApprovalState != openclaw.ApprovalApproved || len(n.Commands) != 1 || n.Commands[0] != "echo" {
		t.Fatalf("node %+v, %v", n, err)
	}
	begin := time.Now()
	out, err := invoke(id.ID(), "echo", `{"a":1}`, "k1", 5*time.Second)
	if err != nil || string(out) != `{"a":1}` {
		t.Fatalf("echo: %s, %v", out, err)
	}
	t.Logf("round trip %s, node %+v", time.Since(begin), n)
	_, err = invoke(id.ID(), "echo", `{"fail":1}`, "k2", 5*time.Second)
	expect(t, "node error", err, openclaw.OutcomeDone, "COMMAND_ERROR: as asked")
	_, err = invoke(id.ID(), "not.allowed", `{}`, "k3", 5*time.Second)
	expect(t, "not allowed", err, openclaw.OutcomeNotSent, `node command not allowed: "not.allowed" is not in the allowlist for platform "linux"`)
	_, err = invoke(id.ID(), "echo", `{}`, "", 5*time.Second)
	expect(t, "key missing", err, openclaw.OutcomeNotSent, "idempotencyKey")
	_, err = invoke(id.ID(), "echo", `{"hang":1}`, "k4", 500*time.Millisecond)
	expect(t, "timeout", err, openclaw.OutcomeUnknown, "TIMEOUT: ")
	stopNode()
	_, err = invoke(id.ID(), "echo", `{}`, "k5", 5*time.Second)
	expect(t, "offline", err, openclaw.OutcomeNotSent, "node not connected")

	wrong := openclaw.NewOperatorClient(openclaw.OperatorOptions{ConnectOptions: openclaw.ConnectOptions{URL: url, Token: token + "x", Name: "autoheal-test", Version: "0.1.0", Platform: "linux"}})
	if err := wrong.Run(ctx); err == nil || !strings.Contains(err.Error(), "check the token file") {
		t.Errorf("wrong token: %v", err)
	}
}

// run runs f until the test ends or the returned function is called.
func run(t *testing.T, ctx context.Context, f func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func realEvent(t *testing.T, ctx context.Context, events <-chan openclaw.Event, name string) openclaw.Event {
	t.Helper()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatal("subscription ended")
			}
			t.Logf("event %s %.700s", e.Name, e.Payload)
			if e.Name == name {
				return e
			}
		case <-ctx.Done():
			t.Fatalf("event %s did not come", name)
		}
	}
}

func expect(t *testing.T, name string, err error, outcome openclaw.Outcome, text string) {
	t.Helper()
	if got := openclaw.ClassifyInvoke(err); got != outcome || err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: outcome %s of %v, want %s and %q", name, got, err, outcome, text)
	}
	var e *openclaw.Error
	if errors.As(err, &e) {
		t.Logf("%s: %s %q %s retryable=%v", name, e.Code, e.Message, e.Details, e.Retryable)
	}
}
