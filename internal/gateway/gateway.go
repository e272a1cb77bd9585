package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/openclaw"
)

// Options configure a Gateway.
type Options struct {
	// Listen is a loopback address; "127.0.0.1:0" picks a port.
	Listen string
	// Token is the shared secret of the nodes. It opens role=node only.
	Token  string
	Clock  clock.Clock
	Logger *slog.Logger
	// Store keeps approvals across restarts; nil keeps them in memory.
	Store PairStore
	// ManualDevices turns off the silent first approval of devices on loopback.
	ManualDevices bool
	// AutoApprove decides the second approval, of a command surface. Nil leaves it to an operator. It must not block.
	AutoApprove func(deviceID, displayName string, commands []string) bool
	// AllowCommands are allowed beside the defaults of the node's platform, by exact name.
	AllowCommands []string
	// Version is shown in the hello.
	Version string

	PingEvery        time.Duration // 25 s by default
	PongTimeout      time.Duration // 25 s by default
	TickEvery        time.Duration // 30 s by default
	HandshakeTimeout time.Duration // 10 s by default
	MaxConns         int           // 1024 by default
	MaxPending       int           // commands waiting per node; 256 by default
	MaxQueued        int           // bytes queued per connection; 50 MiB by default
	// Failed, if set, is called when the gateway stops listening without having been told to. Its agents are refused from
	// then on and take that for a healer that is down: whoever runs the healer has to end it.
	Failed func(error)
	// Listener, if set, is used instead of Listen. It must be loopback or not of the network at all.
	Listener net.Listener
}

// Gateway is the embedded gateway. New makes it, Start opens it, Stop ends it; it cannot be started again.
type Gateway struct {
	opts    Options
	log     *slog.Logger
	clock   clock.Clock
	allow   map[string]bool
	hub     openclaw.Hub
	bootID  string
	started time.Time

	ln     net.Listener
	srv    *http.Server
	ctx    context.Context // ends when Stop begins to cut what did not leave by itself
	cancel context.CancelFunc
	done   chan struct{}  // closed when Stop begins
	wg     sync.WaitGroup // the HTTP server and the ticker
	slots  chan struct{}  // one per socket

	saveMu sync.Mutex // one change of the approvals at a time; taken before mu, held while saving

	mu sync.Mutex
	// mu guards what follows.
	stopping bool
	sockets  sync.WaitGroup // Add only under mu and before stopping
	devices  map[string]Device
	seen     map[string]seenTimes
	online   map[string]*conn // by device id
	presence map[string]openclaw.PresenceEntry
	devReqs  map[string]*openclaw.DevicePairRequest // by request id
	nodeReqs map[string]*openclaw.NodePairRequest   // by request id
	invokes  map[string]*invocation                 // by invoke id
	keys     keyMemory
}

// seenTimes change with every connection and are saved only together with something else.
type seenTimes struct{ connected, disconnected int64 }

// New makes a gateway that does nothing yet.
func New(opts Options) *Gateway {
	if opts.Clock == nil {
		opts.Clock = clock.Real{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Store == nil {
		opts.Store = &memoryStore{}
	}
	setDefault(&opts.TickEvery, openclaw.TickIntervalMs*time.Millisecond)
	setDefault(&opts.HandshakeTimeout, 10*time.Second)
	setDefault(&opts.MaxConns, 1024)
	setDefault(&opts.MaxPending, 256)
	if opts.Version == "" {
		opts.Version = "embedded"
	}
	g := &Gateway{
		opts: opts, log: opts.Logger, clock: opts.Clock, bootID: newID(),
		allow: make(map[string]bool), done: make(chan struct{}), slots: make(chan struct{}, opts.MaxConns),
		devices: make(map[string]Device), seen: make(map[string]seenTimes), online: make(map[string]*conn),
		presence: make(map[string]openclaw.PresenceEntry),
		devReqs:  make(map[string]*openclaw.DevicePairRequest), nodeReqs: make(map[string]*openclaw.NodePairRequest),
		invokes: make(map[string]*invocation), keys: newKeyMemory(),
	}
	for _, c := range opts.AllowCommands {
		g.allow[c] = true
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// newID returns a random id in the form of a UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// Start loads the approvals and opens the socket. The context bounds only the start.
func (g *Gateway) Start(ctx context.Context) error {
	if g.opts.Token == "" {
		return errors.New("start gateway: no token: nodes could not be told from any other local process")
	}
	state, err := g.opts.Store.Load()
	if err != nil {
		return fmt.Errorf("start gateway: load approvals: %w", err)
	}
	for _, d := range state.Devices {
		g.devices[d.ID] = d
		g.seen[d.ID] = seenTimes{d.LastConnectedAtMs, d.LastDisconnectedAtMs}
	}
	if g.ln, err = g.listen(ctx); err != nil {
		return fmt.Errorf("start gateway: %w", err)
	}
	g.started = g.clock.Now()
	g.srv = &http.Server{
		Handler: g.routes(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
		ConnContext:    func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, rawConn{}, c) },
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	g.wg.Go(func() {
		if err := g.srv.Serve(g.ln); !errors.Is(err, http.ErrServerClosed) {
			g.log.Error("gateway stopped listening", slog.Any("error", err))
			if g.opts.Failed != nil {
				g.opts.Failed(err)
			}
		}
	})
	g.wg.Go(g.tick)
	g.hub.Publish(openclaw.Event{Name: openclaw.EventConnected})
	g.log.Info("gateway listens", slog.String("addr", g.Addr()), slog.Int("devices", len(state.Devices)))
	return nil
}

func (g *Gateway) listen(ctx context.Context) (net.Listener, error) {
	ln := g.opts.Listener
	if ln == nil {
		if err := checkLoopback(g.opts.Listen); err != nil {
			return nil, err
		}
		var err error
		if ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", g.opts.Listen); err != nil {
			return nil, err
		}
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		return nil, errors.Join(notLoopback(tcp.String()), ln.Close())
	}
	return ln, nil
}

func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return notLoopback(addr)
}

func notLoopback(addr string) error {
	return fmt.Errorf("listen address %q is not loopback: the embedded gateway serves one machine; "+
		"for nodes elsewhere run an OpenClaw gateway and set cluster.driver: openclaw", addr)
}

// Addr is the address the gateway listens on, "" before Start.
func (g *Gateway) Addr() string {
	if g.ln == nil {
		return ""
	}
	return g.ln.Addr().String()
}

// URL is what a node connects to.
func (g *Gateway) URL() string { return "ws://" + g.Addr() }

// Stop tells the nodes (event shutdown, close 1012), ends every connection and waits for them; what is not gone when
// ctx ends is cut. Calls that wait fail as disconnected. The approvals are saved once more, for the times in them.
func (g *Gateway) Stop(ctx context.Context) error {
	g.mu.Lock()
	if g.stopping || g.srv == nil {
		g.mu.Unlock()
		return nil
	}
	g.stopping = true
	close(g.done)
	for _, c := range g.online {
		_ = c.link.Send(mustEvent(openclaw.EventShutdown, map[string]any{"reason": "gateway stopping"}))
		c.link.CloseSoon(closeRestart, openclaw.CloseReasonRestart)
	}
	g.mu.Unlock()
	err := g.srv.Close() // the listener and plain HTTP; sockets were taken over from the server
	left := make(chan struct{})
	go func() { g.sockets.Wait(); close(left) }()
	select {
	case <-left:
	case <-ctx.Done():
	}
	g.cancel()
	<-left
	g.wg.Wait()
	g.hub.Publish(openclaw.Event{Name: openclaw.EventShutdown})
	g.hub.Publish(openclaw.Event{Name: openclaw.EventDisconnected})
	g.hub.Close()
	if saveErr := g.update(func(map[string]Device) error { return nil }); saveErr != nil {
		err = errors.Join(err, saveErr)
	}
	if err != nil {
		return fmt.Errorf("stop gateway: %w", err)
	}
	return nil
}

// tick sends the tick event to every node that keeps up.
func (g *Gateway) tick() {
	t := g.clock.NewTimer(g.opts.TickEvery)
	defer t.Stop()
	for {
		select {
		case now := <-t.C():
			g.sendTick(now)
			t.Reset(g.opts.TickEvery)
		case <-g.done:
			return
		}
	}
}

func (g *Gateway) sendTick(now time.Time) {
	e := mustEvent(openclaw.EventTick, map[string]any{"ts": now.UnixMilli()})
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.online {
		if c.link.Queued() < 1<<20 {
			_ = c.link.Send(e) // its read loop reports the end of a link
		}
	}
	g.hub.Publish(openclaw.Event{Name: e.Event, Payload: e.Payload})
}

// mustEvent builds an event from values that can always be rendered.
func mustEvent(name string, payload any) openclaw.Frame {
	f, err := openclaw.NewEvent(name, payload)
	if err != nil {
		panic(fmt.Sprintf("gateway: event that cannot be rendered: %v", err))
	}
	return f
}

// publish hands an event to the operators in this process.
func (g *Gateway) publish(name string, payload any) {
	f := mustEvent(name, payload)
	g.hub.Publish(openclaw.Event{Name: name, Payload: f.Payload})
}

func (g *Gateway) nowMs() int64 { return g.clock.Now().UnixMilli() }
