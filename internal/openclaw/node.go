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

// NodeOptions configure a NodeClient.
type NodeOptions struct {
	ConnectOptions // the Platform is exactly "linux" to be recognised by a gateway

	InstanceID string
	Caps       []string
	Commands   []string

	// Handle runs one command, each call in its own goroutine. Its context ends with Run, at the request's timeout, and
	// when the gateway cancels the request; not when the connection is lost, because then the command's effect still
	// matters and its result is remembered. An *Error keeps its code; any other error becomes COMMAND_ERROR.
	Handle func(ctx context.Context, req InvokeRequest) (json.RawMessage, error)
	// Immediate, if set, is asked first, from the read loop itself. It must not block. False hands the request to Handle.
	Immediate func(req InvokeRequest) (json.RawMessage, bool, error)
	// Remember, if set, says whether results of a command are kept for a repeated idempotency key. Commands that only
	// read may be left out, so that their results do not push out those that matter. Nil keeps all.
	Remember func(command string) bool

	MaxConcurrent int           // commands running at once; 64 by default; one more is answered BUSY
	RetryWindow   time.Duration // how long results are remembered; 15 min by default
}

// InvokeRequest is one command for this node. Timeout is what the caller waits from ReceivedAt on, 0 if unlimited.
// Disconnected is closed when the connection that brought the request has ended.
type InvokeRequest struct {
	ID             string
	NodeID         string
	Command        string
	Params         json.RawMessage
	Timeout        time.Duration
	IdempotencyKey string
	ReceivedAt     time.Time
	Disconnected   <-chan struct{}
}

// Codes with which a node client itself answers a request.
const (
	NodeCommandError   = "COMMAND_ERROR"
	NodeBusy           = "BUSY"           // too many commands at once; this one was not run
	NodeExpired        = "EXPIRED"        // the caller's patience ended before the request was read; not run
	NodeKeyReused      = "KEY_REUSED"     // the idempotency key belongs to another request; not run
	NodeResultEvicted  = "RESULT_EVICTED" // the command ran before, its result is no longer kept
	NodeResultTooLarge = "RESULT_TOO_LARGE"
)

// NodeClient is the node side of the protocol.
type NodeClient struct {
	opts    NodeOptions
	log     *slog.Logger
	clock   clock.Clock
	results *memory
	slots   chan struct{}
	stall   stallWatch

	runCtx context.Context // of Run; handlers derive from it
	wg     sync.WaitGroup  // handlers

	mu sync.Mutex
	// mu guards what follows.
	seq     uint64
	invokes map[string]*call // by invoke id, of requests being handled
}

// NewNodeClient makes a client; Run connects it.
func NewNodeClient(opts NodeOptions) *NodeClient {
	opts.ConnectOptions = opts.ConnectOptions.withDefaults()
	opts.MaxConcurrent = orDefault(opts.MaxConcurrent, 64)
	opts.RetryWindow = orDefault(opts.RetryWindow, 15*time.Minute)
	return &NodeClient{
		opts: opts, log: opts.Logger, clock: opts.Clock,
		results: newMemory(opts.RetryWindow),
		slots:   make(chan struct{}, opts.MaxConcurrent),
		invokes: make(map[string]*call),
	}
}

// Run connects, serves and reconnects until ctx ends (nil) or the gateway refuses for a reason that waiting will not
// change, such as a wrong token (the error says what to do). A missing approval is waited for. When Run returns, no
// handler runs any more. It may be called once.
func (c *NodeClient) Run(ctx context.Context) error {
	if c.opts.Handle == nil {
		return errors.New("run node client: no command handler")
	}
	if c.opts.Identity.IsZero() {
		return errors.New("run node client: no device identity")
	}
	var cancel context.CancelFunc
	c.runCtx, cancel = context.WithCancel(ctx)
	defer c.wg.Wait()
	defer cancel()
	c.wg.Go(func() { c.stall.watch(c.runCtx, c.clock) })
	return c.opts.reconnect(ctx, RoleNode, c.session)
}

// session is one connection from dial to its end; it calls up once the gateway has said hello.
func (c *NodeClient) session(ctx context.Context, up func()) error {
	sock, hello, err := dialGateway(ctx, c.opts.URL, c.opts.Dial, c.connectParams)
	if err != nil {
		return err
	}
	link := sock.link(c.opts.Link)
	c.log.Info("connected to gateway", slog.String("url", c.opts.URL), slog.String("version", hello.Server.Version), slog.String("conn", hello.Server.ConnID))
	up()
	return link.Run(ctx, func(message []byte) { c.receive(link, message) })
}

func (c *NodeClient) connectParams(ch Challenge) *ConnectParams {
	p := &ConnectParams{
		MinProtocol: MinNodeProtocol, MaxProtocol: ProtocolVersion,
		Client: ClientInfo{
			ID: ClientNodeHost, DisplayName: c.opts.Name, Version: c.opts.Version, Platform: c.opts.Platform,
			Mode: ModeNode, InstanceID: c.opts.InstanceID,
		},
		Role: RoleNode, Scopes: []string{}, Caps: c.opts.Caps, Commands: c.opts.Commands,
		Auth: &AuthParams{Token: c.opts.Token},
	}
	p.Prove(c.opts.Identity, ch)
	return p
}

// receive runs in the read loop and therefore never waits.
func (c *NodeClient) receive(link *Link, message []byte) {
	f, err := DecodeFrame(message)
	if err != nil {
		c.log.Warn("gateway sent an unreadable frame", slog.Any("error", err))
		return
	}
	switch {
	case f.Type == FrameEvent && f.Event == EventInvokeRequest:
		c.receiveInvoke(link, f.Payload)
	case f.Type == FrameEvent && f.Event == EventInvokeCancel:
		var w InvokeCancelWire
		if json.Unmarshal(f.Payload, &w) == nil {
			c.cancelInvoke(w.InvokeID)
		}
	case f.Type == FrameResponse && !*f.OK:
		c.log.Warn("gateway refused a result", slog.String("request", f.ID), slog.Any("error", f.Error))
	}
}

func (c *NodeClient) receiveInvoke(link *Link, payload json.RawMessage) {
	now := c.clock.Now()
	var w InvokeRequestWire
	if err := json.Unmarshal(payload, &w); err != nil || w.ID == "" {
		c.log.Warn("gateway sent an unreadable invoke", slog.Any("error", err))
		return
	}
	req, err := w.request(now)
	req.Disconnected = link.Done()
	if err != nil {
		c.answer(link, req, result{err: &NodeError{NodeCommandError, err.Error()}})
		return
	}
	if age := c.stall.age(now); req.Timeout > 0 && age >= req.Timeout {
		c.answer(link, req, result{err: &NodeError{NodeExpired, fmt.Sprintf(
			"not run: this node stood still for %s and the request waited only for %s", age.Round(time.Millisecond), req.Timeout)}})
		return
	}
	if c.opts.Immediate != nil {
		if payload, ok, err := c.opts.Immediate(req); ok {
			c.answer(link, req, newResult(payload, err))
			return
		}
	}
	c.start(link, req)
}

// request turns the wire form into what a handler sees. The id is set also in case of an error.
func (w *InvokeRequestWire) request(now time.Time) (InvokeRequest, error) {
	req := InvokeRequest{ID: w.ID, NodeID: w.NodeID, Command: w.Command, IdempotencyKey: w.IdempotencyKey, ReceivedAt: now}
	if w.TimeoutMs != nil {
		req.Timeout = max(milliseconds(*w.TimeoutMs), time.Millisecond)
	}
	if w.Command == "" {
		return req, errors.New("invoke without a command")
	}
	if w.ParamsJSON != nil && *w.ParamsJSON != "" {
		req.Params = json.RawMessage(*w.ParamsJSON)
		if !json.Valid(req.Params) {
			return req, errors.New("paramsJSON is not valid JSON")
		}
	}
	return req, nil
}

// answer queues the result of a request on the connection that brought it. A lost connection loses the answer, which
// the caller sees as unknown; a repeated key then gets what is remembered.
func (c *NodeClient) answer(link *Link, req InvokeRequest, r result) {
	w := InvokeResultWire{ID: req.ID, NodeID: req.NodeID, OK: r.err == nil, Payload: r.payload, Error: r.err}
	c.mu.Lock()
	c.seq++
	id := "n" + strconv.FormatUint(c.seq, 10)
	c.mu.Unlock()
	f, err := NewRequest(id, MethodInvokeResult, w)
	if err == nil {
		err = link.Send(f)
	}
	if err != nil {
		c.log.Warn("result could not be sent", slog.String("command", req.Command), slog.String("invoke", req.ID), slog.Any("error", err))
	}
}
