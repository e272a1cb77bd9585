package openclaw_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"autoheal.dev/autoheal/internal/openclaw"
)

// pipeNet is a network of in-memory pipes, so that tests with timers run in a bubble of synctest.
type pipeNet struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeNet() *pipeNet { return &pipeNet{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipeNet) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipeNet) Close() error { p.once.Do(func() { close(p.done) }); return nil }

func (p *pipeNet) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// Dial connects, or is refused as by a host where nothing listens.
func (p *pipeNet) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// peer is the gateway's end of one connection, played by a test.
type peer struct {
	t  *testing.T
	ws *websocket.Conn
}

func (p *peer) send(message string) {
	p.t.Helper()
	if err := p.ws.Write(context.Background(), websocket.MessageText, []byte(message)); err != nil {
		p.t.Errorf("script: send: %v", err)
	}
}

func (p *peer) read() openclaw.Frame {
	p.t.Helper()
	_, data, err := p.ws.Read(context.Background())
	if err != nil {
		p.t.Errorf("script: read: %v", err)
		return openclaw.Frame{}
	}
	f, err := openclaw.DecodeFrame(data)
	if err != nil {
		p.t.Errorf("script: %v", err)
	}
	return f
}

// connect sends the challenge, reads connect and returns its parameters.
func (p *peer) connect() (p2 openclaw.ConnectParams, id string) {
	p.t.Helper()
	p.send(`{"type":"event","event":"connect.challenge","payload":{"nonce":"` + nonce + `","ts":1795458432740,"capabilities":["model-catalog-snapshot"]}}`)
	f := p.read()
	if f.Method != "connect" {
		p.t.Errorf("script: first request is %q", f.Method)
	}
	if err := json.Unmarshal(f.Params, &p2); err != nil {
		p.t.Errorf("script: %v", err)
	}
	return p2, f.ID
}

// welcome is connect and its good answer, with an event in between as a busy gateway sends it.
func (p *peer) welcome() openclaw.ConnectParams {
	p.t.Helper()
	params, id := p.connect()
	p.send(`{"type":"event","event":"health","payload":{"ok":true}}`)
	p.send(`{"type":"res","id":"` + id + `","ok":true,"payload":{"type":"hello-ok","protocol":4,
	 "server":{"version":"2026.9.6","buildId":"b","bootId":"b","connId":"c"},"features":{"methods":["node.list"],"events":["tick"],"capabilities":[]},
	 "snapshot":{"presence":[],"health":{},"stateVersion":{},"uptimeMs":0},"auth":{"method":"token","role":"operator","scopes":[]},
	 "policy":{"maxPayload":26214400,"maxBufferedBytes":52428800,"tickIntervalMs":30000},"later":"field"}}`)
	return params
}

// play serves connections, the n-th with the n-th script; the last script serves all further ones. What the handlers
// leave open is closed when the network closes.
func play(t *testing.T, n *pipeNet, scripts ...func(*peer)) (stop func()) {
	t.Helper()
	var mu sync.Mutex
	next := 0
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("script: accept: %v", err)
			return
		}
		defer ws.CloseNow()
		ws.SetReadLimit(openclaw.MaxPayload)
		mu.Lock()
		script := scripts[min(next, len(scripts)-1)]
		next++
		mu.Unlock()
		script(&peer{t, ws})
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(n) }()
	return func() { _ = srv.Close(); _ = n.Close(); <-served }
}

// drain reads until the other side is gone.
func (p *peer) drain() {
	for {
		if _, _, err := p.ws.Read(context.Background()); err != nil {
			return
		}
	}
}
