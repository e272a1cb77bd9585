package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"autoheal.dev/autoheal/internal/openclaw"
)

// invocation is one command on its way to a node, shared by all callers with its idempotency key.
type invocation struct {
	id      string
	key     keyID
	conn    *conn
	command string
	params  json.RawMessage
	waiting int           // callers; guarded by Gateway.mu
	done    chan struct{} // closed once payload and err are set
	payload json.RawMessage
	err     *openclaw.Error
}

// maxParams leaves room for the frame around the parameters, which travel as a quoted string.
const maxParams = openclaw.MaxPayload / 2

// invoke is node.invoke: checks, dispatch, wait.
func (g *Gateway) invoke(ctx context.Context, p openclaw.InvokeParams) (json.RawMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("node.invoke: %w: %w", openclaw.ErrNotSent, err)
	}
	if e := checkInvoke(p); e != nil {
		return nil, e
	}
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = openclaw.DefaultInvokeTimeout
	}
	inv, e := g.dispatch(p, timeout)
	if e != nil {
		return nil, e
	}
	timer := g.clock.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-inv.done:
	case <-timer.C():
		if g.abandon(inv) {
			return nil, nodeFailure("TIMEOUT", "node invoke timed out", openclaw.OutcomeUnknown)
		}
	case <-ctx.Done():
		if g.abandon(inv) {
			return nil, fmt.Errorf("node.invoke: gave up waiting: %w", context.Cause(ctx))
		}
	}
	if inv.err != nil {
		return nil, inv.err
	}
	return inv.payload, nil
}

func checkInvoke(p openclaw.InvokeParams) *openclaw.Error {
	missing := ""
	switch {
	case p.NodeID == "":
		missing = "nodeId"
	case p.Command == "":
		missing = "command"
	case p.IdempotencyKey == "":
		missing = "idempotencyKey"
	case len(p.Params) > maxParams:
		return notSent(openclaw.CodeInvalidRequest, fmt.Sprintf("invalid node.invoke params: params have more than %d bytes", maxParams), "")
	case len(p.Params) > 0 && !json.Valid(p.Params):
		return notSent(openclaw.CodeInvalidRequest, "invalid node.invoke params: params are not valid JSON", "")
	}
	if missing == "" {
		return nil
	}
	return notSent(openclaw.CodeInvalidRequest, "invalid node.invoke params: must have required property '"+missing+"'", "")
}

func notSent(code, message, detail string) *openclaw.Error {
	d := map[string]any{"outcome": openclaw.OutcomeNotSent}
	if detail != "" {
		d["code"] = detail
	}
	return &openclaw.Error{Code: code, Message: message, Details: openclaw.NewDetails(d)}
}

func pairingChanged() *openclaw.Error {
	e := notSent(openclaw.CodeUnavailable, "node pairing changed while invocation was active", openclaw.DetailPairingChanged)
	e.Retryable = true
	return e
}

// nodeFailure is an error in the node's name, after the command was dispatched.
func nodeFailure(code, message string, outcome openclaw.Outcome) *openclaw.Error {
	text := message
	if code != "" {
		text = code + ": " + message
	}
	return &openclaw.Error{Code: openclaw.CodeUnavailable, Message: text, Details: openclaw.NewDetails(map[string]any{
		"nodeError": openclaw.NodeError{Code: code, Message: message}, "nodeCommandDispatched": true, "outcome": outcome,
	})}
}

// dispatch finds the invocation of the same key, or checks and sends a new one.
func (g *Gateway) dispatch(p openclaw.InvokeParams, timeout time.Duration) (*invocation, *openclaw.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := keyID{p.NodeID, p.IdempotencyKey}
	if inv := g.keys.find(key, g.clock.Now()); inv != nil {
		if inv.command != p.Command || !bytes.Equal(inv.params, p.Params) {
			return nil, notSent(openclaw.CodeInvalidRequest, "idempotencyKey was used for another request", "IDEMPOTENCY_KEY_REUSED")
		}
		inv.waiting++
		return inv, nil
	}
	c, e := g.target(p)
	if e != nil {
		return nil, e
	}
	inv := &invocation{id: newID(), key: key, conn: c, command: p.Command, params: p.Params, waiting: 1, done: make(chan struct{})}
	if err := c.link.Send(mustEvent(openclaw.EventInvokeRequest, requestWire(inv, timeout))); err != nil {
		e := nodeFailure(openclaw.CodeUnavailable, "failed to send invoke to node", openclaw.OutcomeNotSent) // queued whole or not at all
		e.Details = openclaw.NewDetails(map[string]any{"nodeCommandDispatched": false, "outcome": openclaw.OutcomeNotSent})
		return nil, e
	}
	g.invokes[inv.id] = inv
	g.keys.add(inv, g.clock.Now())
	return inv, nil
}

// requestWire takes off a few milliseconds, so that the node gives up before its caller does.
func requestWire(inv *invocation, timeout time.Duration) openclaw.InvokeRequestWire {
	ms := max((timeout - min(10*time.Millisecond, timeout/10)).Milliseconds(), 1)
	w := openclaw.InvokeRequestWire{ID: inv.id, NodeID: inv.conn.deviceID, Command: inv.command, TimeoutMs: &ms, IdempotencyKey: inv.key.key}
	if len(inv.params) > 0 {
		s := string(inv.params)
		w.ParamsJSON = &s
	}
	return w
}

// target returns the connection that may take the command; g.mu is held.
func (g *Gateway) target(p openclaw.InvokeParams) (*conn, *openclaw.Error) {
	dev, known := g.devices[p.NodeID]
	c := g.online[p.NodeID]
	switch {
	case !known, c == nil && dev.SurfaceApprovedAtMs == 0, c != nil && !g.surfaceApproved(c):
		return nil, pairingChanged()
	case c == nil:
		e := notSent(openclaw.CodeUnavailable, "node not connected", openclaw.DetailNotConnected)
		e.Details = openclaw.NewDetails(map[string]any{
			"code": openclaw.DetailNotConnected, "outcome": openclaw.OutcomeNotSent,
			"nodeError":             openclaw.NodeError{Code: openclaw.DetailNotConnected, Message: "node not connected"},
			"nodeCommandDispatched": false,
		})
		return nil, e
	}
	if e := g.rejectCommand(c, p.Command); e != nil {
		return nil, e
	}
	pending := 0
	for _, inv := range g.invokes {
		if inv.conn == c {
			pending++
		}
	}
	if pending >= g.opts.MaxPending {
		e := notSent(openclaw.CodeUnavailable, fmt.Sprintf("%d commands wait for this node already", pending), "TOO_MANY_PENDING")
		e.Retryable = true
		return nil, e
	}
	return c, nil
}

// abandon takes a caller off an invocation and reports whether it is still open. When the last one leaves, the node is
// told to cancel and the key may be dispatched again: the node knows it and will not run the command twice.
func (g *Gateway) abandon(inv *invocation) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-inv.done:
		return false
	default:
	}
	inv.waiting--
	if inv.waiting > 0 {
		return true
	}
	delete(g.invokes, inv.id)
	g.keys.remove(inv)
	_ = inv.conn.link.Send(mustEvent(openclaw.EventInvokeCancel, openclaw.InvokeCancelWire{InvokeID: inv.id, NodeID: inv.conn.deviceID}))
	return true
}

// settle ends an invocation; g.mu is held.
func (g *Gateway) settle(inv *invocation, payload json.RawMessage, e *openclaw.Error) {
	inv.payload, inv.err = payload, e
	delete(g.invokes, inv.id)
	if !g.keys.keep(inv) {
		g.keys.remove(inv)
	}
	close(inv.done)
}

// failInvokes ends what waits for a connection that is gone; g.mu is held.
func (g *Gateway) failInvokes(c *conn) {
	for _, inv := range g.invokes {
		if inv.conn == c {
			g.settle(inv, nil, nodeFailure("DISCONNECTED", "node disconnected ("+inv.command+")", openclaw.OutcomeUnknown))
		}
	}
}

// invokeResult takes node.invoke.result. A late or foreign result is accepted and ignored, as in the real gateway.
func (g *Gateway) invokeResult(c *conn, params json.RawMessage) (any, *openclaw.Error) {
	var w openclaw.InvokeResultWire
	if err := json.Unmarshal(params, &w); err != nil || w.ID == "" {
		return nil, &openclaw.Error{Code: openclaw.CodeInvalidRequest, Message: "invalid node.invoke.result params: must have required property 'id'"}
	}
	if w.NodeID != c.deviceID {
		return nil, &openclaw.Error{Code: openclaw.CodeInvalidRequest, Message: "nodeId mismatch"}
	}
	payload, e := readResult(&w)
	g.mu.Lock()
	defer g.mu.Unlock()
	inv := g.invokes[w.ID]
	if inv == nil || inv.conn != c {
		return map[string]any{"ok": true, "ignored": true}, nil
	}
	g.settle(inv, payload, e)
	return map[string]any{"ok": true}, nil
}

// readResult turns a node's answer into payload or error. Codes that mean "interrupted" keep the outcome unknown.
func readResult(w *openclaw.InvokeResultWire) (json.RawMessage, *openclaw.Error) {
	if w.OK {
		r := openclaw.InvokeResult{Payload: w.Payload, PayloadJSON: w.PayloadJSON}
		return bytes.Clone(r.Body()), nil // the frame's buffer need not live as long as the result
	}
	n := openclaw.NodeError{Message: "node invoke failed"}
	if w.Error != nil {
		n = *w.Error
	}
	outcome := openclaw.OutcomeDone
	switch n.Code {
	case "TIMEOUT", "DISCONNECTED", "ABORTED":
		outcome = openclaw.OutcomeUnknown
	}
	return nil, nodeFailure(n.Code, n.Message, outcome)
}
