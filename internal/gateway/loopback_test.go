package gateway_test

import (
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/openclaw"
)

func TestInvokeRoundTrip(t *testing.T) {
	g := start(t, gateway.Options{AutoApprove: approveAll, AllowCommands: []string{"echo"}})
	node(t, g, openclaw.NodeOptions{})
	op := g.Operator()
	n := waitNode(t, op, ready)
	got, err := op.Invoke(t.Context(), openclaw.InvokeParams{
		NodeID: n.NodeID, Command: "echo", Params: []byte(`{"a":1}`), Timeout: long, IdempotencyKey: "k1",
	})
	if err != nil || string(got) != `{"a":1}` {
		t.Fatalf("invoke: %s, %v", got, err)
	}
}

func BenchmarkInvoke(b *testing.B) {
	g := start(b, gateway.Options{AutoApprove: approveAll, AllowCommands: []string{"echo"}})
	node(b, g, openclaw.NodeOptions{})
	n := waitNode(b, g.Operator(), ready)
	key := time.Duration(0)
	for b.Loop() {
		key++
		if _, err := g.Operator().Invoke(b.Context(), openclaw.InvokeParams{
			NodeID: n.NodeID, Command: "echo", Timeout: long, IdempotencyKey: key.String(),
		}); err != nil {
			b.Fatal(err)
		}
	}
}
