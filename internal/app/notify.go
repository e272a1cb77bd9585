package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// notifier tells the service manager that started this process how it is: ready, alive, stopping (behaviour G2). It speaks
// the protocol of sd_notify. With nobody to tell, it tells nobody.
type notifier struct {
	clock clock.Clock
	conn  net.Conn
	every time.Duration // how often it must hear that the loop comes round; 0 = not at all
	last  atomic.Int64  // when it last did, by the clock
}

// newNotifier reads where to tell it, and how often, from the environment that the service manager has set.
func newNotifier(env func(string) string, clk clock.Clock) (*notifier, error) {
	n := &notifier{clock: clk}
	socket := env("NOTIFY_SOCKET")
	if socket == "" {
		return n, nil
	}
	if socket[0] != '/' && socket[0] != '@' {
		return n, fmt.Errorf("NOTIFY_SOCKET is %q: it must begin with / or @, as systemd sets it", socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return n, fmt.Errorf("reach the service manager at NOTIFY_SOCKET: %w", err)
	}
	n.conn = conn
	usec, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64)
	if pid := env("WATCHDOG_PID"); err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.every = time.Duration(usec) * time.Microsecond / 3
	}
	return n, nil
}

// openNotify finds out whether a service manager started this process and wants to hear of it.
func (u *up) openNotify(context.Context) error {
	var err error
	if u.notify, err = newNotifier(os.Getenv, u.clock); err != nil {
		fmt.Fprintf(u.opt.Out, "notice: no service manager is told how the healer is: %v\n", err)
	}
	u.stops.add("service manager", time.Second, func(context.Context) error { return u.notify.close() })
	return nil
}

func (n *notifier) tell(what string) error {
	if n.conn == nil {
		return nil
	}
	if err := n.conn.SetWriteDeadline(n.clock.Now().Add(time.Second)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return err
	}
	_, err := n.conn.Write([]byte(what))
	return err
}

// round is called whenever the healer's loop comes round: often, so it tells only as often as it is asked to.
func (n *notifier) round() {
	if n.every == 0 {
		return
	}
	now := n.clock.Now().UnixNano()
	if last := n.last.Load(); last != 0 && now-last < int64(n.every) {
		return
	}
	n.last.Store(now)
	_ = n.tell("WATCHDOG=1") // a service manager that does not hear it restarts this process, which is what it is for
}

func (n *notifier) close() error {
	if n.conn == nil {
		return nil
	}
	err := n.tell("STOPPING=1")
	return errors.Join(err, n.conn.Close())
}
