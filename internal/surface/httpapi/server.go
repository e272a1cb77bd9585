package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/surface/client"
	"autoheal.dev/autoheal/internal/tool"
)

// Limits of one request. Verbs that follow the healer (heal_run, node_drain) bound themselves, so answers have no limit.
const (
	maxBody       = 1 << 20
	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
)

// Client is the calling side, for those who have the server's package at hand.
type Client = client.Client

// NewClient returns a client of unix:PATH or http://HOST:PORT.
func NewClient(addr string) (*Client, error) { return client.New(addr) }

// Server serves the verbs on a unix socket. Set the fields, then Start; Stop waits for everything that Start began.
type Server struct {
	Env    *tool.Env // its Caller is replaced by who is at the other end
	Socket string    // path of the socket; its folder is made with mode 0700
	Log    *slog.Logger

	listener net.Listener
	http     *http.Server
	cancel   context.CancelCauseFunc
	hub      *hub
	serving  sync.WaitGroup
	idle     unused
}

// errStopping ends what is under way when the server stops.
var errStopping = errors.New("the healer is stopping")

// Start listens and serves. It refuses a socket that another process answers, and replaces one that nobody does.
func (s *Server) Start(ctx context.Context) error {
	l, err := listen(ctx, s.Socket)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.Socket, err)
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s.listener, s.cancel = l, cancel
	s.hub = newHub(base, s.Env.Healer, s.log())
	s.hub.ensure()
	s.http = &http.Server{
		Handler:           s.handler(s.hub),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout, // lifted once the body is read, see callTool
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(s.log().Handler(), slog.LevelWarn),
		ConnState:         s.idle.follow,
	}
	s.serving.Go(func() {
		if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.log().Error("serve the local interface", slog.Any("error", err))
		}
	})
	return nil
}

// Stop ends streams and calls under way, waits for them until ctx ends, then closes what is left. The socket is gone
// when it returns.
func (s *Server) Stop(ctx context.Context) error {
	if s.http == nil {
		return nil
	}
	s.cancel(errStopping)
	s.idle.close()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("stop the local interface: %w", errors.Join(err, s.http.Close()))
	}
	s.serving.Wait()
	s.hub.wait()
	return err
}

// Addr returns the address to give to NewClient.
func (s *Server) Addr() string { return "unix:" + s.Socket }

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// unused holds the connections over which nothing has come yet. net/http waits for them when it shuts down, and clients
// open some ahead of need.
type unused struct {
	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]bool
	closed bool
}

func (u *unused) follow(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(u.conns, c)
	case u.closed:
		_ = c.Close() // nothing was asked over it
	default:
		if u.conns == nil {
			u.conns = map[net.Conn]bool{}
		}
		u.conns[c] = true
	}
}

func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for c := range u.conns {
		_ = c.Close() // nothing was asked over it
	}
}

type peerKey struct{}

// withPeer notes who connected. The socket's mode lets in its owner and root only, so either has every right.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, tool.Caller{Name: peerName(conn), Role: tool.RoleAdmin})
}

func callerOf(r *http.Request) tool.Caller {
	c, _ := r.Context().Value(peerKey{}).(tool.Caller)
	if name := r.Header.Get(client.AgentHeader); name != "" {
		return c.ForAgent(tool.Printable(name))
	}
	return c
}

// listen opens the socket for its owner alone.
func listen(ctx context.Context, path string) (net.Listener, error) {
	const longest = 107 // sun_path of Linux, its final zero left out
	if path == "" || len(path) > longest {
		return nil, &autoheal.Error{
			Kind: autoheal.ErrInvalid, Detail: fmt.Sprintf("the path has %d bytes and may have 1 to %d: choose a shorter data directory, or api.socket", len(path), longest),
		}
	}
	if err := prepareFolder(path); err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: ownerOnly}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := restrict(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
