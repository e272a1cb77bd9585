package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Server is a workload that answers on a port of the loopback until it hangs: from SIGUSR1 on it takes requests and never
// answers one. Nothing else about it changes, and it still ends at SIGTERM.
type Server struct {
	Port int
	Out  io.Writer
}

// Run serves until ctx ends.
func (s Server) Run(ctx context.Context) error {
	hang := make(chan os.Signal, 1)
	signal.Notify(hang, syscall.SIGUSR1)
	defer signal.Stop(hang)
	hung, over := context.WithCancel(ctx)
	defer over()
	srv := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if hung.Err() != nil {
				<-r.Context().Done()
				return
			}
			fmt.Fprintln(w, "ok")
		}),
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", s.Port))
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	go func() {
		select {
		case <-hang:
			fmt.Fprintln(s.Out, "no more answers")
			over()
		case <-ctx.Done():
		}
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// freePort returns a port of the loopback that nobody uses now.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
