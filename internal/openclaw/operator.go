package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// OperatorScopes are what an operator of this program asks for.
var OperatorScopes = []string{"operator.read", "operator.write", "operator.pairing", "operator.admin"}

// OperatorOptions configure an OperatorClient.
type OperatorOptions struct {
	ConnectOptions // without an Identity it has no device, which a gateway accepts on direct loopback only

	// CallTimeout bounds calls other than Invoke; 15 s by default.
	CallTimeout time.Duration
	// Margin is what Invoke waits beyond the timeout that the gateway itself applies; 2 s by default.
	Margin time.Duration
}

// OperatorClient is the operator side of the protocol over a socket. Calls fail with ErrNotConnected while there is no
// connection; whatever waits when it ends fails with ErrConnectionLost, which is unknown.
type OperatorClient struct {
	opts  OperatorOptions
	log   *slog.Logger
	clock clock.Clock
	hub   Hub

	mu sync.Mutex
	// mu guards what follows.
	link    *Link
	seq     uint64
	pending map[string]chan Frame
	pairing uint64 // counts pairing events: a PAIRING_CHANGED behind one of them may have been dispatched
}

var _ Operator = (*OperatorClient)(nil)

// NewOperatorClient makes a client; Run connects it.
func NewOperatorClient(opts OperatorOptions) *OperatorClient {
	opts.ConnectOptions = opts.ConnectOptions.withDefaults()
	opts.CallTimeout = orDefault(opts.CallTimeout, 15*time.Second)
	opts.Margin = orDefault(opts.Margin, 2*time.Second)
	return &OperatorClient{opts: opts, log: opts.Logger, clock: opts.Clock, pending: make(map[string]chan Frame)}
}

// Run connects and reconnects until ctx ends (nil) or the gateway refuses this operator, which is reported and not
// retried. Subscriptions end with it. It may be called once.
func (c *OperatorClient) Run(ctx context.Context) error {
	defer c.hub.Close()
	return c.opts.reconnect(ctx, RoleOperator, c.session)
}

func (c *OperatorClient) session(ctx context.Context, up func()) error {
	sock, hello, err := dialGateway(ctx, c.opts.URL, c.opts.Dial, c.connectParams)
	if err != nil {
		return err
	}
	link := sock.link(c.opts.Link)
	c.mu.Lock()
	c.link = link
	c.mu.Unlock()
	c.log.Info("operator connected to gateway", slog.String("url", c.opts.URL), slog.String("version", hello.Server.Version), slog.String("conn", hello.Server.ConnID))
	up()
	c.hub.Publish(Event{Name: EventConnected})
	err = link.Run(ctx, c.receive)
	c.mu.Lock()
	c.link = nil
	waiting := c.pending
	c.pending = make(map[string]chan Frame)
	c.mu.Unlock()
	for _, ch := range waiting {
		close(ch)
	}
	c.hub.Publish(Event{Name: EventDisconnected, Err: err})
	return err
}

func (c *OperatorClient) connectParams(ch Challenge) *ConnectParams {
	p := &ConnectParams{
		MinProtocol: ProtocolVersion, MaxProtocol: ProtocolVersion,
		Client: ClientInfo{
			ID: ClientGateway, DisplayName: c.opts.Name, Version: c.opts.Version, Platform: c.opts.Platform, Mode: ModeBackend,
		},
		Role: RoleOperator, Scopes: OperatorScopes, Auth: &AuthParams{Token: c.opts.Token},
	}
	if !c.opts.Identity.IsZero() {
		p.Prove(c.opts.Identity, ch)
	}
	return p
}

func (c *OperatorClient) receive(message []byte) {
	f, err := DecodeFrame(message)
	if err != nil {
		c.log.Warn("gateway sent an unreadable frame", slog.Any("error", err))
		return
	}
	switch f.Type {
	case FrameResponse:
		c.mu.Lock()
		ch := c.pending[f.ID]
		delete(c.pending, f.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- f // capacity 1, one answer per id
		}
	case FrameEvent:
		switch f.Event {
		case EventNodeRequested, EventNodeResolved, EventDevRequested, EventDevResolved, EventDevChanged:
			c.mu.Lock()
			c.pairing++
			c.mu.Unlock()
		}
		c.hub.Publish(eventFromFrame(f))
	}
}

// call sends one request and waits at most timeout for its answer.
func (c *OperatorClient) call(ctx context.Context, method string, params any, timeout time.Duration) (json.RawMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", method, ErrNotSent, err)
	}
	id, ch, err := c.send(method, params)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	timer := c.clock.NewTimer(timeout)
	defer timer.Stop()
	select {
	case f, ok := <-ch:
		if !ok {
			return nil, fmt.Errorf("%s: %w", method, ErrConnectionLost)
		}
		return answerOf(method, f)
	case <-timer.C():
		err = fmt.Errorf("%s: %w (waited %s)", method, ErrNoAnswer, timeout)
	case <-ctx.Done():
		err = fmt.Errorf("%s: gave up waiting: %w", method, context.Cause(ctx))
	}
	c.mu.Lock()
	delete(c.pending, id)
	c.mu.Unlock()
	return nil, err
}

func (c *OperatorClient) send(method string, params any) (string, chan Frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return "", nil, ErrNotConnected
	}
	c.seq++
	id := "r" + strconv.FormatUint(c.seq, 10)
	f, err := NewRequest(id, method, params)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	ch := make(chan Frame, 1)
	c.pending[id] = ch
	if err := c.link.Send(f); err != nil { // queued whole or not at all
		delete(c.pending, id)
		return "", nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return id, ch, nil
}

func answerOf(method string, f Frame) (json.RawMessage, error) {
	if *f.OK {
		return f.Payload, nil
	}
	if f.Error == nil {
		return nil, fmt.Errorf("%s: refused without a reason", method)
	}
	return nil, fmt.Errorf("%s: %w", method, f.Error)
}

func (c *OperatorClient) query(ctx context.Context, method string, params, out any) error {
	raw, err := c.call(ctx, method, params, c.opts.CallTimeout)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s: decode answer: %w", method, err)
	}
	return nil
}

// NodeList returns all nodes that the gateway knows.
func (c *OperatorClient) NodeList(ctx context.Context) ([]NodeInfo, error) {
	var out struct {
		Nodes []NodeInfo `json:"nodes"`
	}
	err := c.query(ctx, "node.list", struct{}{}, &out)
	return out.Nodes, err
}

// NodeDescribe returns one node.
func (c *OperatorClient) NodeDescribe(ctx context.Context, nodeID string) (NodeInfo, error) {
	var out NodeInfo
	err := c.query(ctx, "node.describe", map[string]string{"nodeId": nodeID}, &out)
	return out, err
}

// Invoke runs a command on a node and returns the payload of its answer.
func (c *OperatorClient) Invoke(ctx context.Context, p InvokeParams) (json.RawMessage, error) {
	wait := orDefault(p.Timeout, DefaultInvokeTimeout) + c.opts.Margin
	c.mu.Lock()
	before := c.pairing
	c.mu.Unlock()
	raw, err := c.call(ctx, "node.invoke", invokeWire{
		NodeID: p.NodeID, Command: p.Command, Params: p.Params,
		TimeoutMs: ceilMs(p.Timeout), IdempotencyKey: p.IdempotencyKey,
	}, wait)
	if err != nil {
		return nil, c.doubt(err, before)
	}
	var res InvokeResult
	if err := json.Unmarshal(raw, &res); err != nil {
		return nil, fmt.Errorf("node.invoke: decode answer: %w", err)
	}
	return res.Body(), nil
}

// doubt marks PAIRING_CHANGED as unknown where a pairing event came while the call waited. The gateway gives this answer
// both to a call that it never dispatched and to one whose node lost its pairing before the result arrived.
func (c *OperatorClient) doubt(err error, before uint64) error {
	var e *Error
	if !errors.As(err, &e) || e.Details.Code() != DetailPairingChanged || e.Details.Outcome() != "" {
		return err
	}
	c.mu.Lock()
	changed := c.pairing != before
	c.mu.Unlock()
	if !changed {
		return err
	}
	marked := *e
	marked.Details = NewDetails(map[string]any{"code": DetailPairingChanged, "outcome": OutcomeUnknown})
	return fmt.Errorf("node.invoke: %w", &marked)
}

// Body returns the node's answer, from payload or payloadJSON, whichever the node used.
func (r *InvokeResult) Body() json.RawMessage {
	empty := len(r.Payload) == 0 || string(r.Payload) == "null"
	if empty && r.PayloadJSON != nil && json.Valid([]byte(*r.PayloadJSON)) {
		return json.RawMessage(*r.PayloadJSON)
	}
	return r.Payload
}

func ceilMs(d time.Duration) int64 {
	return int64((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
}

// PairList returns what waits for the two approvals.
func (c *OperatorClient) PairList(ctx context.Context) ([]DevicePairRequest, []NodePairRequest, error) {
	var devices struct {
		Pending []DevicePairRequest `json:"pending"`
	}
	var nodes struct {
		Pending []NodePairRequest `json:"pending"`
	}
	if err := c.query(ctx, "device.pair.list", struct{}{}, &devices); err != nil {
		return nil, nil, err
	}
	if err := c.query(ctx, "node.pair.list", struct{}{}, &nodes); err != nil {
		return nil, nil, err
	}
	return devices.Pending, nodes.Pending, nil
}

// ApproveDevice gives the first approval.
func (c *OperatorClient) ApproveDevice(ctx context.Context, requestID string) error {
	return c.query(ctx, "device.pair.approve", map[string]string{"requestId": requestID}, nil)
}

// RejectDevice refuses the first approval.
func (c *OperatorClient) RejectDevice(ctx context.Context, requestID string) error {
	return c.query(ctx, "device.pair.reject", map[string]string{"requestId": requestID}, nil)
}

// ApproveNode gives the second approval, for the command surface.
func (c *OperatorClient) ApproveNode(ctx context.Context, requestID string) error {
	return c.query(ctx, "node.pair.approve", map[string]string{"requestId": requestID}, nil)
}

// Events subscribes to the gateway's events.
func (c *OperatorClient) Events() (<-chan Event, func()) { return c.hub.Subscribe() }
