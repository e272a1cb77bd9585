package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"autoheal.dev/autoheal/internal/openclaw"
)

// handshakeLimit bounds the connect request: nobody without the token gets to send more.
const handshakeLimit = 128 << 10

// conn is one admitted node connection. All fields are fixed once it is registered.
type conn struct {
	id          string
	deviceID    string
	params      *openclaw.ConnectParams
	link        *openclaw.Link
	remoteIP    string
	connectedAt time.Time
}

func (g *Gateway) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"ok": true, "status": "live"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"ready": true, "failing": []string{}, "uptimeMs": g.clock.Now().Sub(g.started).Milliseconds()})
	})
	mux.HandleFunc("GET /", g.serveSocket)
	return mux
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that went away is not our trouble
}

// serveSocket is one connection from the upgrade to its end.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.NotFound(w, r)
		return
	}
	// A browser always sends Origin, a node never: no web page may reach this socket, whatever name it resolves to us.
	if r.Header.Get("Origin") != "" || !loopbackHost(r.Host) {
		http.Error(w, "this socket is for nodes of this machine", http.StatusForbidden)
		return
	}
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	default:
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	if !g.enter() {
		http.Error(w, "gateway stopping", http.StatusServiceUnavailable)
		return
	}
	defer g.sockets.Done()
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		g.log.Debug("upgrade failed", slog.String("remote", r.RemoteAddr), slog.Any("error", err))
		return
	}
	defer ws.CloseNow()
	raw, _ := r.Context().Value(rawConn{}).(net.Conn)
	if raw != nil {
		stop := context.AfterFunc(g.ctx, func() { _ = raw.Close() }) // a client that does not say goodbye is cut
		defer stop()
	}
	g.serve(ws, raw, r.RemoteAddr)
}

// rawConn is the context key of the transport connection of a request.
type rawConn struct{}

// enter counts a socket in, unless the gateway is stopping.
func (g *Gateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		return false
	}
	g.sockets.Add(1)
	return true
}

func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (g *Gateway) serve(ws *websocket.Conn, raw net.Conn, remote string) {
	c, hello, r, err := g.handshake(ws, raw, remote)
	switch {
	case err != nil:
		g.log.Debug("handshake failed", slog.String("remote", remote), slog.Any("error", err))
		return
	case r != nil:
		g.log.Warn("connection refused", slog.String("remote", remote), slog.String("code", r.err.Code), slog.String("reason", r.err.Message))
		return
	}
	if !g.register(c, hello) {
		_ = ws.Close(closeRestart, openclaw.CloseReasonRestart)
		return
	}
	err = c.link.Run(g.ctx, func(message []byte) { g.receive(c, message) })
	g.unregister(c, err)
}

// handshake runs challenge and connect. Its time is bounded, so that a silent client holds nothing for long.
func (g *Gateway) handshake(ws *websocket.Conn, raw net.Conn, remote string) (*conn, openclaw.Frame, *refusal, error) {
	ctx, cancel := context.WithTimeout(g.ctx, g.opts.HandshakeTimeout)
	defer cancel()
	stop := g.endOn(g.done, cancel)
	defer stop()
	ws.SetReadLimit(handshakeLimit)
	nonce := newID()
	challenge := mustEvent(openclaw.EventChallenge, map[string]any{"nonce": nonce, "ts": g.nowMs(), "capabilities": []string{}})
	if err := writeFrame(ctx, ws, challenge); err != nil {
		return nil, openclaw.Frame{}, nil, err
	}
	_, data, err := ws.Read(ctx)
	if err != nil {
		return nil, openclaw.Frame{}, nil, err
	}
	frame, err := openclaw.DecodeFrame(data)
	if err != nil {
		_ = ws.Close(closePolicy, "invalid request frame")
		return nil, openclaw.Frame{}, nil, err
	}
	ip, _, _ := net.SplitHostPort(remote)
	p, r := g.admit(frame, nonce)
	if r == nil {
		r = g.pairDevice(p, ip)
	}
	if r != nil {
		err := writeFrame(ctx, ws, openclaw.NewRefusal(frame.ID, r.err))
		_ = ws.Close(websocket.StatusCode(r.code), truncate(r.reason, 123))
		return nil, openclaw.Frame{}, r, err
	}
	ws.SetReadLimit(openclaw.MaxPayload)
	c := &conn{
		id: newID(), deviceID: p.Device.ID, params: p, remoteIP: ip, connectedAt: g.clock.Now(),
	}
	opts := openclaw.LinkOptions{Clock: g.clock, PingEvery: g.opts.PingEvery, PongTimeout: g.opts.PongTimeout, MaxQueued: g.opts.MaxQueued}
	if raw != nil {
		opts.Raw = raw
	}
	c.link = openclaw.NewLink(ws, opts)
	return c, g.hello(frame.ID, c), nil, nil
}

// endOn calls cancel when done is closed, until the returned function is called.
func (g *Gateway) endOn(done <-chan struct{}, cancel func()) (stop func()) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-done:
			cancel()
		case <-quit:
		}
	}()
	return func() { close(quit); <-gone }
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

func writeFrame(ctx context.Context, ws *websocket.Conn, f openclaw.Frame) error {
	data, err := f.Encode()
	if err != nil {
		return err
	}
	return ws.Write(ctx, websocket.MessageText, data)
}

func (g *Gateway) hello(requestID string, c *conn) openclaw.Frame {
	f, err := openclaw.NewResult(requestID, openclaw.Hello{
		Type: openclaw.HelloType, Protocol: openclaw.ProtocolVersion,
		Server: openclaw.HelloServer{Version: g.opts.Version, BootID: g.bootID, ConnID: c.id},
		Features: openclaw.HelloFeatures{
			Methods:      []string{openclaw.MethodNodeEvent, openclaw.MethodInvokeResult},
			Events:       []string{openclaw.EventInvokeRequest, openclaw.EventInvokeCancel, openclaw.EventTick, openclaw.EventShutdown},
			Capabilities: []string{},
		},
		Snapshot: openclaw.HelloSnapshot{
			Presence: json.RawMessage("[]"), Health: json.RawMessage("{}"), StateVersion: json.RawMessage("{}"),
			UptimeMs: g.clock.Now().Sub(g.started).Milliseconds(),
		},
		Auth: openclaw.HelloAuth{Method: "token", Role: openclaw.RoleNode, Scopes: []string{}},
		Policy: openclaw.HelloPolicy{
			MaxPayload: openclaw.MaxPayload, MaxBufferedBytes: openclaw.MaxBuffered, TickIntervalMs: g.opts.TickEvery.Milliseconds(),
		},
	})
	if err != nil {
		panic("gateway: hello that cannot be rendered: " + err.Error())
	}
	return f
}

// register makes a connection the device's, sends it the hello, and files or grants the second approval. It reports
// false if the gateway is stopping or the device was removed meanwhile.
func (g *Gateway) register(c *conn, hello openclaw.Frame) bool {
	g.mu.Lock()
	if _, ok := g.devices[c.deviceID]; g.stopping || !ok {
		g.mu.Unlock()
		return false
	}
	if old := g.online[c.deviceID]; old != nil {
		g.failInvokes(old)
		old.link.CloseSoon(closePolicy, openclaw.CloseReasonReplaced)
	}
	_ = c.link.Send(hello) // first in an empty queue
	g.online[c.deviceID] = c
	times := g.seen[c.deviceID]
	times.connected = c.connectedAt.UnixMilli()
	g.seen[c.deviceID] = times
	req := g.requestSurface(c)
	g.setPresence(c, "connect")
	g.mu.Unlock()
	g.log.Info("node connected", slog.String("node", c.deviceID), slog.String("name", c.params.Client.DisplayName), slog.String("remote", c.remoteIP))
	if req == nil {
		g.logWithheld(c)
		return true
	}
	g.publish(openclaw.EventNodeRequested, *req)
	if g.opts.AutoApprove != nil && g.opts.AutoApprove(c.deviceID, req.DisplayName, req.Commands) {
		if err := g.approveNode(req.RequestID); err != nil {
			g.log.Error("surface could not be approved", slog.String("node", c.deviceID), slog.Any("error", err))
		}
	}
	return true
}

// unregister ends what waits for a lost connection, at once and not when it times out.
func (g *Gateway) unregister(c *conn, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failInvokes(c)
	if g.online[c.deviceID] != c { // replaced by a newer one
		return
	}
	delete(g.online, c.deviceID)
	if times, ok := g.seen[c.deviceID]; ok {
		times.disconnected = g.nowMs()
		g.seen[c.deviceID] = times
	}
	g.setPresence(c, "disconnect")
	g.log.Info("node disconnected", slog.String("node", c.deviceID), slog.String("name", c.params.Client.DisplayName), slog.String("cause", describe(cause)))
}

func describe(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, net.ErrClosed):
		return "connection closed"
	default:
		return err.Error()
	}
}

// receive runs in the read loop of one node and never waits.
func (g *Gateway) receive(c *conn, message []byte) {
	f, err := openclaw.DecodeFrame(message)
	if err != nil {
		g.log.Warn("node sent an unreadable frame", slog.String("node", c.deviceID), slog.Any("error", err))
		c.link.CloseSoon(closePolicy, "invalid request frame")
		return
	}
	if f.Type != openclaw.FrameRequest {
		return // a node has nothing to answer and no events to send as frames
	}
	payload, refused := g.nodeRequest(c, f)
	if refused != nil {
		_ = c.link.Send(openclaw.NewRefusal(f.ID, refused)) // the read loop reports the end of a link
		return
	}
	res, err := openclaw.NewResult(f.ID, payload)
	if err == nil {
		_ = c.link.Send(res)
	}
}

func (g *Gateway) nodeRequest(c *conn, f openclaw.Frame) (any, *openclaw.Error) {
	switch f.Method {
	case openclaw.MethodInvokeResult:
		return g.invokeResult(c, f.Params)
	case openclaw.MethodNodeEvent:
		return g.nodeEvent(c, f.Params)
	case openclaw.MethodConnect:
		return nil, &openclaw.Error{Code: openclaw.CodeInvalidRequest, Message: "connect is only valid as the first request"}
	default:
		return nil, &openclaw.Error{Code: openclaw.CodeInvalidRequest, Message: "unauthorized role: node"}
	}
}

// nodeEvent takes node.event. As in the real gateway a heartbeat changes nothing and is answered as not handled.
func (g *Gateway) nodeEvent(c *conn, params json.RawMessage) (any, *openclaw.Error) {
	var p struct {
		Event   string          `json:"event"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(params, &p); err != nil || p.Event == "" {
		return nil, &openclaw.Error{
			Code:    openclaw.CodeInvalidRequest,
			Message: "invalid node.event params: must have required property 'event'",
		}
	}
	g.mu.Lock()
	approved := g.surfaceApproved(c)
	g.mu.Unlock()
	if !approved {
		return nil, pairingChanged()
	}
	switch p.Event {
	case "node.host.stats":
		g.publish(openclaw.EventNodeHostStats, map[string]any{"nodeId": c.deviceID, "stats": p.Payload, "ts": g.nowMs()})
		return map[string]any{"ok": true, "event": p.Event, "handled": true}, nil
	case "node.presence.alive":
		return map[string]any{"ok": true, "event": p.Event, "handled": true}, nil
	}
	return map[string]any{"ok": true, "event": p.Event, "handled": false, "reason": "unsupported_event"}, nil
}
