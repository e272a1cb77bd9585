package app

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// stepped is a clock that is moved by hand.
type stepped struct {
	clock.Clock
	now time.Time
}

func (s *stepped) Now() time.Time { return s.now }

func TestNotify(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	env := map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": "3000000"}
	clk := &stepped{Clock: clock.Real{}, now: time.Now()}
	n, err := newNotifier(func(k string) string { return env[k] }, clk)
	if err != nil {
		t.Fatal(err)
	}
	heard := func() string {
		b := make([]byte, 100)
		if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		k, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:k])
	}
	if err := n.tell("READY=1"); err != nil || heard() != "READY=1" {
		t.Fatalf("ready: %v", err)
	}
	n.round()
	n.round() // too soon
	clk.now = clk.now.Add(time.Second)
	n.round()
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"} {
		if got := heard(); got != want {
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
}

func TestNotifyNobody(t *testing.T) {
	n, err := newNotifier(func(string) string { return "" }, clock.Real{})
	if err != nil || n.tell("READY=1") != nil || n.close() != nil {
		t.Fatal("with nobody to tell it must tell nobody", err)
	}
	n.round()
	for _, bad := range []string{"relative", "/nowhere/at/all"} {
		if _, err := newNotifier(func(k string) string { return map[string]string{"NOTIFY_SOCKET": bad}[k] }, clock.Real{}); err == nil {
			t.Errorf("NOTIFY_SOCKET=%s was taken", bad)
		}
	}
}
