package gateway

import (
	"errors"
	"net"
	"testing"

	"autoheal.dev/autoheal/internal/clock"
)

// TestAListenerThatDiesIsTold: agents that are refused take the healer for down, so a healer that lives has to know.
func TestAListenerThatDiesIsTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	g := New(Options{Listener: l, Token: "secret", Clock: clock.Real{}, Failed: func(err error) { failed <- err }})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("told %v", err)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-failed:
		t.Errorf("an orderly stop is told as a failure: %v", err)
	default:
	}
}
