package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"

	"autoheal.dev/autoheal"
)

// maxAnswer bounds what is read of one answer.
const maxAnswer = 64 << 20

// Client calls the verbs of one server. It is safe for concurrent use.
type Client struct {
	addr  string
	base  string
	http  *http.Client
	agent string
}

// AgentHeader names the AI agent for which a client calls. It only ever takes rights away.
const AgentHeader = "Autoheal-Agent"

// ForAgent returns a client that calls for an AI agent of that name: the server gives it an operator's rights at most, and
// has it wait for approvals where the healer itself would.
func (c *Client) ForAgent(name string) *Client {
	out := *c
	out.agent = name
	return &out
}

// New returns a client of unix:PATH, a bare absolute path, or http://HOST:PORT. It connects on the first call.
func New(addr string) (*Client, error) {
	path, isUnix := strings.CutPrefix(addr, "unix:")
	if strings.HasPrefix(addr, "/") {
		path, isUnix = addr, true
	}
	if isUnix {
		if path == "" {
			return nil, badAddr(addr)
		}
		// A socket file has no host: this name only fills the Host header.
		return &Client{addr: path, base: "http://autoheal", http: &http.Client{Transport: unixTransport(path)}}, nil
	}
	u, err := url.Parse(addr)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, badAddr(addr)
	}
	return &Client{addr: addr, base: strings.TrimSuffix(u.String(), "/"), http: &http.Client{Transport: &http.Transport{Proxy: nil}}}, nil // a healer is never behind a proxy
}

func badAddr(addr string) error {
	return &autoheal.Error{Kind: autoheal.ErrInvalid, Op: "server address", Detail: fmt.Sprintf("%q: use unix:PATH or http://127.0.0.1:PORT", addr)}
}

func unixTransport(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Addr returns what the client connects to, as a person would write it.
func (c *Client) Addr() string { return c.addr }

// Error is a refusal by the server. It unwraps to an *autoheal.Error of the same kind.
type Error struct {
	Param string
	Err   *autoheal.Error
}

// Error returns the server's message.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Call calls the verb name with in as its parameters (nil for none; a json.RawMessage is sent as it is) and reads the
// result into out (nil to drop it; a *json.RawMessage gets it as it is).
func (c *Client) Call(ctx context.Context, name string, in, out any) error {
	body := []byte("{}")
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("write parameters of %s: %w", name, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/api/v1/tools/"+url.PathEscape(name), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("call %s: %w", name, err)
	}
	req.Header.Set("Content-Type", "application/json")
	return c.do(req, out)
}

// Tools reads the list of verbs with their schemas into out.
func (c *Client) Tools(ctx context.Context, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1/tools", nil)
	if err != nil {
		return fmt.Errorf("list tools: %w", err)
	}
	return c.do(req, out)
}

func (c *Client) do(req *http.Request, out any) error {
	if c.agent != "" {
		req.Header.Set(AgentHeader, c.agent)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(req.Context(), err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return c.unreachable(req.Context(), err)
	}
	if len(data) > maxAnswer {
		return &autoheal.Error{Kind: autoheal.ErrInternal, Op: "read answer", Detail: fmt.Sprintf("more than %d MiB", maxAnswer>>20)}
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// unreachable tells "nobody listens" from an answer that broke off: after the second the verb may have been done.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, fs.ErrPermission) {
		return &autoheal.Error{Kind: autoheal.ErrDenied, Detail: fmt.Sprintf("no right to talk to the healer at %s: run this as the user who started it", c.addr)}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return &autoheal.Error{
			Kind: autoheal.ErrUnavailable, Detail: fmt.Sprintf("no healer is listening at %s: start one with 'autoheal up'", c.addr),
		}
	}
	return &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: "talk to the healer at " + c.addr, Detail: "the connection broke before the answer; it may have been done", Err: err}
}

// errorBody is the JSON of a refusal.
type errorBody struct {
	Error struct {
		Kind    autoheal.ErrorKind `json:"kind"`
		Message string             `json:"message"`
		Param   string             `json:"param"`
	} `json:"error"`
}

func refusal(status int, data []byte) error {
	var b errorBody
	if err := json.Unmarshal(data, &b); err != nil || b.Error.Message == "" {
		return &autoheal.Error{Kind: autoheal.ErrInternal, Op: "read answer", Detail: fmt.Sprintf("HTTP status %d without a reason: is this an autoheal server?", status)}
	}
	return &Error{Param: b.Error.Param, Err: &autoheal.Error{Kind: b.Error.Kind, Detail: b.Error.Message}}
}
