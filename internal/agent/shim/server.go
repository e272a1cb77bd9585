package shim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/clock"
)

// maxRequest bounds one request line.
const maxRequest = 4 << 10

// sendTimeout bounds a write to a reader that does not read; it is dropped then, and may come again.
const sendTimeout = 2 * time.Second

// asked is a request on its way to the owner, which alone answers.
type asked struct {
	req  Request
	conn *peer
	gone bool // the connection has ended
}

// peer is one connection. The owner writes, serve reads.
type peer struct {
	conn       net.Conn
	clk        clock.Clock
	subscribed bool
}

// send drops the connection of a reader that does not keep up.
func (p *peer) send(line []byte) bool {
	_ = p.conn.SetWriteDeadline(p.clk.Now().Add(sendTimeout)) // a connection without deadlines is closed below anyway
	if _, err := p.conn.Write(line); err != nil {
		_ = p.conn.Close()
		return false
	}
	return true
}

// listen opens the attempt's socket in the current folder, replacing one that a dead shim left.
func listen() (*net.UnixListener, error) {
	if err := os.RemoveAll(SocketFile); err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: SocketFile, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	if err := os.Chmod(SocketFile, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("open socket: %w", err)
	}
	return l, nil
}

// accept serves connections until the listener is closed.
func accept(l *net.UnixListener, clk clock.Clock, to chan<- asked) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		if !sameUser(c) {
			_ = c.Close()
			continue
		}
		go serve(&peer{conn: c, clk: clk}, to)
	}
}

// sameUser asks the kernel who connected: the mode of the socket alone would let in whoever can open folders of others.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && int(cred.Uid) == os.Geteuid()
	})
	return err == nil && ok
}

// serve hands the lines of one connection to the owner.
func serve(p *peer, to chan<- asked) {
	in := bufio.NewScanner(p.conn)
	in.Buffer(make([]byte, 0, 512), maxRequest)
	for in.Scan() {
		var r Request
		if json.Unmarshal(in.Bytes(), &r) != nil {
			break // whoever cannot speak the protocol is not the agent
		}
		to <- asked{req: r, conn: p}
	}
	_ = p.conn.Close()
	to <- asked{conn: p, gone: true}
}

// discard is the connection of requests that the shim makes to itself.
type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error)      { return len(p), nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }
func (discard) Close() error                     { return nil }
