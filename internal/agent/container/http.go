package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// maxHead bounds the header of an answer, maxBody the answers that are kept in memory.
const (
	maxHead = 64 << 10
	maxBody = 4 << 20
)

// Error is an answer of the engine that is not a success.
type Error struct {
	Status  int
	Message string
}

// Error returns the engine's own words.
func (e *Error) Error() string { return fmt.Sprintf("container engine: %s (%d)", e.Message, e.Status) }

// answer is one response; body ends where the response ends.
type answer struct {
	status int
	header map[string]string // lower-case names
	body   io.Reader
	conn   net.Conn
}

// call sends one request and returns the answer with its body still to be read; the caller closes conn. Cancelling ctx
// ends the connection. in is sent as JSON unless it is nil.
func (e *Engine) call(ctx context.Context, method, path string, in any, extra ...string) (*answer, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, fmt.Errorf("ask container engine: %w", err)
		}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", e.Socket)
	if err != nil {
		return nil, fmt.Errorf("ask container engine: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	a, err := e.exchange(conn, method, path, body, extra)
	if err != nil {
		stop()
		_ = conn.Close() // the error above matters
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("ask container engine %s %s: %w", method, path, err)
	}
	a.conn = &stopConn{conn, stop}
	return a, nil
}

// stopConn forgets its context when it is closed.
type stopConn struct {
	net.Conn
	stop func() bool
}

func (c *stopConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

func (e *Engine) exchange(conn net.Conn, method, path string, body []byte, extra []string) (*answer, error) {
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: engine\r\n", method, path)
	if len(extra) == 0 {
		head.WriteString("Connection: close\r\n")
	}
	for _, h := range extra {
		head.WriteString(h + "\r\n")
	}
	if body != nil {
		head.WriteString("Content-Type: application/json\r\n")
	}
	fmt.Fprintf(&head, "Content-Length: %d\r\n\r\n", len(body))
	if _, err := io.WriteString(conn, head.String()+string(body)); err != nil {
		return nil, err
	}
	return readAnswer(bufio.NewReaderSize(conn, 4<<10))
}

func readAnswer(r *bufio.Reader) (*answer, error) {
	used := 0
	line := func() (string, error) {
		text, err := r.ReadSlice('\n')
		used += len(text)
		if used > maxHead {
			return "", errors.New("header is too long")
		}
		return strings.TrimRight(string(text), "\r\n"), err
	}
	first, err := line()
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	f := strings.SplitN(first, " ", 3)
	if len(f) < 2 || !strings.HasPrefix(f[0], "HTTP/1.") {
		return nil, fmt.Errorf("read answer: %q is not HTTP", first)
	}
	a := &answer{header: map[string]string{}}
	if a.status, err = strconv.Atoi(f[1]); err != nil {
		return nil, fmt.Errorf("read answer: status %q", f[1])
	}
	for {
		h, err := line()
		if err != nil {
			return nil, fmt.Errorf("read answer: %w", err)
		}
		if h == "" {
			break
		}
		name, value, _ := strings.Cut(h, ":")
		a.header[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	return a, a.findBody(r)
}

func (a *answer) findBody(r *bufio.Reader) error {
	length, hasLength := a.header["content-length"]
	switch {
	case a.status == 204 || a.status == 304:
		a.body = strings.NewReader("")
	case strings.EqualFold(a.header["transfer-encoding"], "chunked"):
		a.body = &chunked{r: r}
	case hasLength:
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("read answer: length %q", length)
		}
		a.body = io.LimitReader(r, n)
	default:
		a.body = r // until the connection ends
	}
	return nil
}

// chunked undoes the chunked transfer encoding.
type chunked struct {
	r    *bufio.Reader
	left int64
	done bool
}

func (c *chunked) Read(p []byte) (int, error) {
	if c.done {
		return 0, io.EOF
	}
	if c.left == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
		if c.done {
			return 0, io.EOF // bare: readers compare it
		}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if c.left == 0 && err == nil {
		_, err = c.r.Discard(2) // the line end after each chunk
	}
	return n, err
}

func (c *chunked) next() error {
	text, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	size, _, _ := strings.Cut(strings.TrimSpace(string(text)), ";")
	n, err := strconv.ParseInt(size, 16, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("read answer: chunk size %q", size)
	}
	c.left, c.done = n, n == 0
	return nil
}

// do sends a request and decodes a successful answer into out, which may be nil.
func (e *Engine) do(ctx context.Context, method, path string, in, out any) error {
	a, err := e.call(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer a.conn.Close()
	data, err := io.ReadAll(io.LimitReader(a.body, maxBody))
	if err != nil {
		return fmt.Errorf("ask container engine %s %s: %w", method, path, err)
	}
	if a.status >= 300 && a.status != 304 {
		return refusal(a.status, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("ask container engine %s %s: %w", method, path, err)
	}
	return nil
}

func refusal(status int, body []byte) error {
	var m struct {
		Message string `json:"message"`
		Cause   string `json:"cause"`
	}
	if json.Unmarshal(body, &m) != nil || m.Message == "" {
		m.Message = strings.TrimSpace(string(body[:min(len(body), 300)]))
	}
	return &Error{Status: status, Message: m.Message}
}
