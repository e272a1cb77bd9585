package mcp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// lastAnswers is how long answers to what was read may still come after the input has ended.
const lastAnswers = time.Minute

// parseError answers a line that is no JSON; its ID cannot be known.
const parseError = `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error: this line is no JSON; send one JSON-RPC message on each line"}}` + "\n"

// Stdio carries the protocol over two streams, a message on each line. A line that is no JSON is answered as such and passed
// over, and after the end of the input what was asked is still answered: `printf … | autoheal mcp` works.
type Stdio struct {
	In  io.Reader
	Out io.Writer
}

// Connect implements mcp.Transport.
func (s *Stdio) Connect(ctx context.Context) (mcp.Connection, error) {
	out := &turns{w: s.Out}
	inner, err := (&mcp.IOTransport{Reader: io.NopCloser(&lines{in: bufio.NewReader(s.In), out: out}), Writer: out}).Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{Connection: inner, asked: map[jsonrpc.ID]bool{}, answered: make(chan struct{}, 1)}, nil
}

// turns has writers take turns, and leaves the stream open.
type turns struct {
	mu sync.Mutex // one line after the other
	w  io.Writer
}

func (t *turns) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.w.Write(p)
}

func (t *turns) Close() error { return nil }

// lines passes on the lines that are JSON.
type lines struct {
	in   *bufio.Reader
	out  io.Writer
	rest []byte
}

func (l *lines) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		line, err := l.line()
		switch {
		case len(bytes.TrimSpace(line)) == 0:
		case len(line) > mcp.DefaultMaxLineLength || json.Valid(line):
			l.rest = line // one that is too long is refused by whoever reads it
			continue
		default:
			if _, err := io.WriteString(l.out, parseError); err != nil {
				return 0, err
			}
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// line reads to the end of the line, or as far as a line may reach.
func (l *lines) line() ([]byte, error) {
	var out []byte
	for {
		part, err := l.in.ReadSlice('\n')
		out = append(out, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(out) > mcp.DefaultMaxLineLength {
			return out, err
		}
	}
}

// conn counts what was asked and is not answered yet.
type conn struct {
	mcp.Connection
	mu       sync.Mutex // guards asked
	asked    map[jsonrpc.ID]bool
	answered chan struct{}
}

func (c *conn) Read(ctx context.Context) (jsonrpc.Message, error) {
	msg, err := c.Connection.Read(ctx)
	if r, ok := msg.(*jsonrpc.Request); ok && r.IsCall() {
		c.mu.Lock()
		c.asked[r.ID] = true
		c.mu.Unlock()
	}
	if errors.Is(err, io.EOF) {
		c.drain(ctx)
	}
	return msg, err
}

func (c *conn) Write(ctx context.Context, msg jsonrpc.Message) error {
	err := c.Connection.Write(ctx, msg)
	if r, ok := msg.(*jsonrpc.Response); ok {
		c.mu.Lock()
		delete(c.asked, r.ID)
		c.mu.Unlock()
		c.wake()
	}
	return err
}

func (c *conn) Close() error {
	c.mu.Lock()
	clear(c.asked) // nobody hears an answer any more
	c.mu.Unlock()
	c.wake()
	return c.Connection.Close()
}

// drain waits until everything is answered.
func (c *conn) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastAnswers)
	defer cancel()
	for {
		c.mu.Lock()
		left := len(c.asked)
		c.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-c.answered:
		case <-ctx.Done():
			return
		}
	}
}

func (c *conn) wake() {
	select {
	case c.answered <- struct{}{}:
	default:
	}
}
