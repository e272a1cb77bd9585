package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/openclaw"
)

func call(id, command, key string) openclaw.InvokeParams {
	return openclaw.InvokeParams{NodeID: id, Command: command, Timeout: long, IdempotencyKey: key}
}

// request reads the next command that the gateway sends to a node played by hand.
func (r *raw) request() openclaw.InvokeRequestWire {
	r.t.Helper()
	for {
		if f := r.read(); f.Event == openclaw.EventInvokeRequest {
			var w openclaw.InvokeRequestWire
			if err := json.Unmarshal(f.Payload, &w); err != nil {
				r.t.Fatal(err)
			}
			return w
		}
	}
}

func TestInvokeErrors(t *testing.T) {
	g := start(t, gateway.Options{AllowCommands: []string{"fail", "other"}})
	op := g.Operator()
	fail := func(context.Context, openclaw.InvokeRequest) (json.RawMessage, error) {
		return nil, fmt.Errorf("unknown command: workload.run")
	}
	commands := []string{"fail", "alerts.create"}
	_, endOff := node(t, g, openclaw.NodeOptions{ConnectOptions: openclaw.ConnectOptions{Name: "off"}, Commands: commands})
	node(t, g, openclaw.NodeOptions{ConnectOptions: openclaw.ConnectOptions{Name: "on", Platform: "linux x86_64"}, Commands: commands, Handle: fail})
	off := waitNode(t, op, func(n openclaw.NodeInfo) bool { return n.DisplayName == "off" && n.Connected })
	on := waitNode(t, op, func(n openclaw.NodeInfo) bool { return n.DisplayName == "on" && n.Connected })
	_, err := op.Invoke(t.Context(), call(on.NodeID, "fail", "k"))
	if e := wireErr(t, err); e.Message != "node pairing changed while invocation was active" || e.Code != "UNAVAILABLE" || !e.Retryable || e.Details.Code() != "PAIRING_CHANGED" {
		t.Errorf("unapproved: %+v", e)
	}
	_, nodes, _ := op.PairList(t.Context())
	for _, r := range nodes {
		if err := op.ApproveNode(t.Context(), r.RequestID); err != nil {
			t.Fatal(err)
		}
	}
	if err := endOff(); err != nil {
		t.Fatal(err)
	}
	waitNode(t, op, func(n openclaw.NodeInfo) bool { return n.NodeID == off.NodeID && !n.Connected })

	tests := []struct {
		name, node, command, key, code, message, details string
		outcome                                          openclaw.Outcome
	}{
		{
			"node error", on.NodeID, "fail", "k1", "UNAVAILABLE", "COMMAND_ERROR: unknown command: workload.run",
			`{"nodeCommandDispatched":true,"nodeError":{"code":"COMMAND_ERROR","message":"unknown command: workload.run"},"outcome":"done"}`, openclaw.OutcomeDone,
		},
		{
			"offline", off.NodeID, "fail", "k1", "UNAVAILABLE", "node not connected",
			`{"code":"NOT_CONNECTED","nodeCommandDispatched":false,"nodeError":{"code":"NOT_CONNECTED","message":"node not connected"},"outcome":"not_sent"}`, openclaw.OutcomeNotSent,
		},
		{
			"not allowed", on.NodeID, "alerts.create", "k1", "INVALID_REQUEST", `node command not allowed: "alerts.create" is not in the allowlist for platform "linux x86_64"`,
			`{"command":"alerts.create","outcome":"not_sent","reason":"command not allowlisted"}`, openclaw.OutcomeNotSent,
		},
		{
			"not declared", on.NodeID, "other", "k1", "INVALID_REQUEST", `node command not allowed: the node (platform: linux x86_64) does not support "other"`,
			`{"command":"other","outcome":"not_sent","reason":"command not declared by node"}`, openclaw.OutcomeNotSent,
		},
		{
			"unknown node", strings.Repeat("0", 64), "fail", "k1", "UNAVAILABLE", "node pairing changed while invocation was active",
			`{"code":"PAIRING_CHANGED","outcome":"not_sent"}`, openclaw.OutcomeNotSent,
		},
		{
			"key missing", on.NodeID, "fail", "", "INVALID_REQUEST", "invalid node.invoke params: must have required property 'idempotencyKey'",
			`{"outcome":"not_sent"}`, openclaw.OutcomeNotSent,
		},
		{"command missing", on.NodeID, "", "k", "INVALID_REQUEST", "invalid node.invoke params: must have required property 'command'", `{"outcome":"not_sent"}`, openclaw.OutcomeNotSent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := op.Invoke(t.Context(), call(tt.node, tt.command, tt.key+tt.name))
			if tt.name == "key missing" {
				p := call(tt.node, tt.command, "")
				_, err = op.Invoke(t.Context(), p)
			}
			e := wireErr(t, err)
			if e.Code != tt.code || e.Message != tt.message || string(e.Details) != tt.details {
				t.Errorf("%s %q %s", e.Code, e.Message, e.Details)
			}
			if got := openclaw.ClassifyInvoke(err); got != tt.outcome {
				t.Errorf("outcome %s", got)
			}
			bare := *e // the same without the additions of the embedded gateway
			bare.Details = openclaw.ErrorDetails(strings.Replace(string(e.Details), `"outcome"`, `"x"`, 1))
			if got := openclaw.ClassifyInvoke(&bare); got != tt.outcome {
				t.Errorf("outcome without the mark %s", got)
			}
		})
	}
}

// approved joins a node by hand and approves it.
func approved(t *testing.T, g *gateway.Gateway, name string) (*raw, string) {
	t.Helper()
	r := join(t, g, name, "echo")
	n := waitNode(t, g.Operator(), func(n openclaw.NodeInfo) bool { return n.DisplayName == name && ready(n) })
	return r, n.NodeID
}

func TestInvokeFailsAtOnceWhenTheNodeIsKilled(t *testing.T) {
	g := start(t, gateway.Options{AutoApprove: approveAll, AllowCommands: []string{"echo"}})
	r, id := approved(t, g, "n1")
	events, cancel := g.Operator().Events()
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := g.Operator().Invoke(context.Background(), openclaw.InvokeParams{NodeID: id, Command: "echo", Timeout: time.Hour, IdempotencyKey: "k"})
		failed <- err
	}()
	w := r.request()
	if w.IdempotencyKey != "k" || w.NodeID != id || *w.TimeoutMs >= time.Hour.Milliseconds() || *w.TimeoutMs < time.Hour.Milliseconds()-100 {
		t.Errorf("request %+v", w)
	}
	_ = r.ws.CloseNow() // what the kernel does for a killed process
	err := <-failed
	if e := wireErr(t, err); e.Message != "DISCONNECTED: node disconnected (echo)" || openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown {
		t.Errorf("error %+v", e)
	}
	e := waitEvent(t, events, named(openclaw.EventPresence))
	if len(e.Presence) != 2 || e.Presence[0].Mode != "gateway" || e.Presence[1].DeviceID != id || e.Presence[1].Reason != "disconnect" {
		t.Errorf("presence %+v", e.Presence)
	}
	if !strings.Contains(string(e.Payload), `"reason":"disconnect"`) {
		t.Errorf("payload %s", e.Payload)
	}
}

func TestInvokeTimeoutCancelsAndIgnoresTheLateResult(t *testing.T) {
	g := start(t, gateway.Options{AutoApprove: approveAll, AllowCommands: []string{"echo"}})
	r, id := approved(t, g, "n1")
	p := call(id, "echo", "k")
	p.Timeout = 50 * time.Millisecond
	_, err := g.Operator().Invoke(t.Context(), p)
	if e := wireErr(t, err); e.Message != "TIMEOUT: node invoke timed out" || openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown {
		t.Errorf("error %+v", e)
	}
	w := r.request()
	f := r.read()
	if want := fmt.Sprintf(`{"invokeId":%q,"nodeId":%q}`, w.ID, id); f.Event != "node.invoke.cancel" || string(f.Payload) != want {
		t.Errorf("cancel %s %s", f.Event, f.Payload)
	}
	r.send(fmt.Sprintf(`{"type":"req","id":"r9","method":"node.invoke.result","params":{"id":%q,"nodeId":%q,"ok":true,"payload":{}}}`, w.ID, id))
	if f := r.read(); !*f.OK || string(f.Payload) != `{"ignored":true,"ok":true}` {
		t.Errorf("late result: %s", f.Payload)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { r.request(); cancel() }()
	if _, err := g.Operator().Invoke(ctx, call(id, "echo", "k2")); openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown {
		t.Errorf("a caller that leaves: %v", err)
	}
}

func TestNodeRequestsOnTheWire(t *testing.T) {
	g := start(t, gateway.Options{AllowCommands: []string{"echo"}})
	r := join(t, g, "n1", "echo")
	id := identity(t, "n1").ID()
	ask := func(method, params string) openclaw.Frame {
		t.Helper()
		r.send(`{"type":"req","id":"r4","method":"` + method + `","params":` + params + `}`)
		return r.read()
	}
	beat := `{"event":"heartbeat","payload":{"nodeId":"` + id + `"}}`
	if f := ask("node.event", beat); *f.OK || f.Error.Details.Code() != "PAIRING_CHANGED" {
		t.Errorf("event before approval: %+v", f)
	}
	_, nodes, _ := g.Operator().PairList(t.Context())
	if err := g.Operator().ApproveNode(t.Context(), nodes[0].RequestID); err != nil {
		t.Fatal(err)
	}
	if f := ask("node.event", beat); !*f.OK || string(f.Payload) != `{"event":"heartbeat","handled":false,"ok":true,"reason":"unsupported_event"}` {
		t.Errorf("heartbeat: %s", f.Payload)
	}
	for method, want := range map[string]string{
		"node.list": "unauthorized role: node", "node.invoke": "unauthorized role: node", "node.pair.approve": "unauthorized role: node",
		"node.pair.request": "unauthorized role: node", "connect": "connect is only valid as the first request",
	} {
		if f := ask(method, `{}`); *f.OK || f.Error.Code != "INVALID_REQUEST" || f.Error.Message != want {
			t.Errorf("%s: %+v", method, f.Error)
		}
	}
	if f := ask("node.invoke.result", `{"id":"x","nodeId":"`+strings.Repeat("0", 64)+`","ok":true}`); *f.OK || f.Error.Message != "nodeId mismatch" {
		t.Errorf("a result for another node: %+v", f.Error)
	}
}

func TestANodeCannotAnswerForAnother(t *testing.T) {
	g := start(t, gateway.Options{AutoApprove: approveAll, AllowCommands: []string{"echo"}})
	a, idA := approved(t, g, "a")
	b, idB := approved(t, g, "b")
	got := make(chan string, 1)
	go func() {
		out, err := g.Operator().Invoke(context.Background(), call(idA, "echo", "k"))
		got <- fmt.Sprint(string(out), err)
	}()
	w := a.request()
	b.send(fmt.Sprintf(`{"type":"req","id":"r","method":"node.invoke.result","params":{"id":%q,"nodeId":%q,"ok":true,"payload":"forged"}}`, w.ID, idB))
	if f := b.read(); !strings.Contains(string(f.Payload), "ignored") {
		t.Errorf("forged result: %+v", f)
	}
	a.send(fmt.Sprintf(`{"type":"req","id":"r","method":"node.invoke.result","params":{"id":%q,"nodeId":%q,"ok":true,"payloadJSON":"\"true\""}}`, w.ID, idA))
	if s := <-got; s != `"true"<nil>` {
		t.Errorf("answer %s", s)
	}
}

func TestIdempotencyKeyRunsOnce(t *testing.T) {
	g := start(t, gateway.Options{AutoApprove: approveAll, AllowCommands: []string{"echo"}})
	var runs atomic.Int32
	release := make(chan struct{})
	node(t, g, openclaw.NodeOptions{Handle: func(context.Context, openclaw.InvokeRequest) (json.RawMessage, error) {
		<-release
		return json.RawMessage(fmt.Sprint(runs.Add(1))), nil
	}})
	id := waitNode(t, g.Operator(), ready).NodeID
	results := make(chan string, 8)
	for range cap(results) {
		go func() {
			out, err := g.Operator().Invoke(context.Background(), call(id, "echo", "k"))
			results <- fmt.Sprint(string(out), err)
		}()
	}
	close(release)
	for range cap(results) {
		if s := <-results; s != "1<nil>" {
			t.Errorf("result %s", s)
		}
	}
	p := call(id, "echo", "k")
	p.Params = json.RawMessage(`{"other":1}`)
	_, err := g.Operator().Invoke(t.Context(), p)
	if e := wireErr(t, err); e.Details.Code() != "IDEMPOTENCY_KEY_REUSED" || openclaw.ClassifyInvoke(err) != openclaw.OutcomeNotSent {
		t.Errorf("reused key: %v", err)
	}
}
