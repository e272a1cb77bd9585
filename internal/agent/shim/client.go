package shim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/clock"
)

// Client is an agent's connection to one shim. Send may be called from several goroutines, Next from one.
type Client struct {
	conn net.Conn
	clk  clock.Clock
	in   *bufio.Scanner

	mu sync.Mutex // guards writing
}

// Dial connects to the shim that owns the attempt in dir.
func Dial(dir string, clk clock.Clock) (*Client, error) {
	// Socket addresses hold at most 107 bytes, folders of attempts may be longer: the way leads over a descriptor.
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open attempt: %w", err)
	}
	defer unix.Close(fd)
	c, err := net.Dial("unix", filepath.Join("/proc/self/fd", strconv.Itoa(fd), SocketFile))
	if err != nil {
		return nil, fmt.Errorf("dial shim: %w", err)
	}
	return newClient(c, clk), nil
}

func newClient(c net.Conn, clk clock.Clock) *Client {
	in := bufio.NewScanner(c)
	in.Buffer(make([]byte, 0, 1<<10), 64<<10)
	return &Client{conn: c, clk: clk, in: in}
}

// Pair makes a connection for a shim that is about to be started: the file is passed to it as descriptor 4.
func Pair(clk clock.Clock) (*Client, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "shim"), os.NewFile(uintptr(fds[1]), "agent")
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		_ = theirs.Close() // nothing was written to it
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return newClient(c, clk), theirs, nil
}

// Send writes one request; the answer comes by Next. A shim that does not read is an error soon, not a hang.
func (c *Client) Send(r Request) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("send to shim: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(c.clk.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("send to shim: %w", err)
	}
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("send to shim: %w", err)
	}
	return nil
}

// Next returns the next status, in the order in which they were true. io.EOF-like errors mean that the shim has ended.
func (c *Client) Next() (Status, error) {
	var s Status
	if !c.in.Scan() {
		err := c.in.Err()
		if err == nil {
			err = net.ErrClosed
		}
		return s, fmt.Errorf("read from shim: %w", err)
	}
	if err := json.Unmarshal(c.in.Bytes(), &s); err != nil {
		return s, fmt.Errorf("read from shim: %w", err)
	}
	return s, nil
}

// Close ends the connection, not the shim.
func (c *Client) Close() error { return c.conn.Close() }
