package app

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"autoheal.dev/autoheal/internal/clock"
)

// TestGatewayStaysWhereAgentsDial: an agent of an earlier life, of a node that this one does not have, renews its leases
// for as long as nobody listens where it dials. The gateway must not go elsewhere.
func TestGatewayStaysWhereAgentsDial(t *testing.T) {
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, "agents", "n4"), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(data, "agents", "n4", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	u := &up{
		opt: UpOptions{Data: data, Nodes: 1, Version: "test"}, names: []string{"n1"}, clock: clock.NewSteady(), logger: slog.New(slog.DiscardHandler),
	}
	open := func() error {
		err := u.openGateway(t.Context())
		if err == nil {
			err2 := u.stops.run(t.Context())
			if err2 != nil {
				t.Error(err2)
			}
		}
		return err
	}
	for _, addr := range []string{taken.Addr().String() + "\n", "\n"} {
		if err := os.WriteFile(filepath.Join(data, "gateway.addr"), []byte(addr), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(); err == nil {
			t.Errorf("address %q: it listens elsewhere while an agent of this directory dials there", addr)
		}
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Errorf("without agents it may listen anywhere: %v", err)
	}
}
