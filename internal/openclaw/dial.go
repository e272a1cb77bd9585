package openclaw

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// DialFunc opens the transport connection; tests replace it.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// handshakeTimeout bounds dial, challenge and hello together. A gateway that starts up can take seconds to answer.
const handshakeTimeout = 15 * time.Second

// socket is a WebSocket and the transport below it.
type socket struct {
	ws  *websocket.Conn
	raw net.Conn
}

// link wraps the socket.
func (s *socket) link(opts LinkOptions) *Link {
	opts.Raw = s.raw
	return NewLink(s.ws, opts)
}

// dialGateway connects and shakes hands. Build makes the connect parameters for the challenge.
func dialGateway(ctx context.Context, url string, dial DialFunc, build func(Challenge) *ConnectParams) (*socket, Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	var raw net.Conn
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		conn, err = dial(ctx, network, addr)
		raw = conn // read only after Dial has returned
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	ws, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, Hello{}, fmt.Errorf("dial gateway: %w", dialError(err, resp))
	}
	ws.SetReadLimit(MaxPayload)
	hello, err := shakeHands(ctx, ws, build)
	if err != nil {
		_ = ws.CloseNow() // the handshake's error says more
		return nil, Hello{}, err
	}
	return &socket{ws, raw}, hello, nil
}

// dialError adds what the server answered instead of switching protocols.
func dialError(err error, resp *http.Response) error {
	if resp == nil || resp.Body == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return err
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
	return fmt.Errorf("http status %d: %.200q: %w", resp.StatusCode, strings.TrimSpace(string(body)), err)
}

const connectID = "c0"

func shakeHands(ctx context.Context, ws *websocket.Conn, build func(Challenge) *ConnectParams) (Hello, error) {
	f, err := readUntil(ctx, ws, func(f Frame) bool { return f.Type == FrameEvent && f.Event == EventChallenge })
	if err != nil {
		return Hello{}, fmt.Errorf("wait for challenge: %w", err)
	}
	var challenge Challenge
	if err := json.Unmarshal(f.Payload, &challenge); err != nil {
		return Hello{}, fmt.Errorf("decode challenge: %w", err)
	}
	req, err := NewRequest(connectID, MethodConnect, build(challenge))
	if err != nil {
		return Hello{}, err
	}
	data, err := req.Encode()
	if err != nil {
		return Hello{}, err
	}
	if err := ws.Write(ctx, websocket.MessageText, data); err != nil {
		return Hello{}, fmt.Errorf("send connect: %w", err)
	}
	f, err = readUntil(ctx, ws, func(f Frame) bool { return f.Type == FrameResponse && f.ID == connectID })
	if err != nil {
		return Hello{}, fmt.Errorf("wait for hello: %w", err)
	}
	return decodeHello(f)
}

func decodeHello(f Frame) (Hello, error) {
	if !*f.OK {
		if f.Error == nil {
			return Hello{}, errors.New("connect: refused without a reason")
		}
		return Hello{}, fmt.Errorf("connect: %w", f.Error)
	}
	var hello Hello
	if err := json.Unmarshal(f.Payload, &hello); err != nil {
		return Hello{}, fmt.Errorf("decode hello: %w", err)
	}
	if hello.Type != HelloType {
		return Hello{}, fmt.Errorf("decode hello: unexpected type %.40q", hello.Type)
	}
	return hello, nil
}

// readUntil skips frames that are not wanted: events may come at any time.
func readUntil(ctx context.Context, ws *websocket.Conn, want func(Frame) bool) (Frame, error) {
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			return Frame{}, err
		}
		f, err := DecodeFrame(data)
		if err != nil {
			return Frame{}, err
		}
		if want(f) {
			return f, nil
		}
	}
}

// Backoff says how long to wait before the next attempt. Zero values take the defaults.
type Backoff struct {
	Min  time.Duration // after the first failure; 100 ms by default
	Max  time.Duration // 5 s by default
	Slow time.Duration // after a refusal that only a person can lift, such as a missing approval; 5 s by default
}

func (b Backoff) withDefaults() Backoff {
	b.Min = orDefault(b.Min, 100*time.Millisecond)
	b.Max = max(orDefault(b.Max, 5*time.Second), b.Min)
	b.Slow = orDefault(b.Slow, 5*time.Second)
	return b
}

// delay returns the wait before attempt n (from 1), spread over [d/2, d] by seed: deterministic for one device, different
// between devices, so that a restarted gateway is not hit by all nodes in the same instant.
func (b Backoff) delay(n int, slow bool, seed string) time.Duration {
	d := b.Slow
	if !slow {
		d = b.Min
		for i := 1; i < n && d < b.Max; i++ {
			d *= 2
		}
		d = min(d, b.Max)
	}
	sum := sha256.Sum256([]byte(seed + "/" + strconv.Itoa(n)))
	frac := float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
	return d/2 + time.Duration(frac*float64(d/2))
}

// verdict is what a client does after a connection failed or ended.
type verdict int

const (
	retryFast verdict = iota // network trouble, restart: back off
	retrySlow                // somebody has to approve something
	giveUp                   // will not change by waiting
)

// judge decides how a client goes on after err.
func judge(err error, role string) verdict {
	var refusal *Error
	if errors.As(err, &refusal) {
		return judgeRefusal(refusal, role)
	}
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		return retryFast
	}
	switch {
	case closed.Code == websocket.StatusProtocolError:
		return retrySlow
	case closed.Code != websocket.StatusPolicyViolation:
		return retryFast
	case strings.Contains(closed.Reason, "slow consumer"):
		return retryFast
	case role == RoleOperator:
		return giveUp
	default:
		return retrySlow
	}
}

func judgeRefusal(e *Error, role string) verdict {
	code := e.Details.Code()
	switch {
	case e.Retryable, code == "DEVICE_AUTH_SIGNATURE_EXPIRED", code == "DEVICE_AUTH_NONCE_MISMATCH":
		return retryFast
	case code == "AUTH_RATE_LIMITED":
		return retrySlow
	case code == DetailProtocolMismatch, code == DetailOperatorNotServed,
		strings.HasPrefix(code, "AUTH_"), strings.HasPrefix(code, "DEVICE_AUTH_"):
		return giveUp
	case role == RoleOperator:
		return giveUp
	default:
		return retrySlow
	}
}

// stateOf names the connection state that err means.
func stateOf(err error) ConnState {
	var refusal *Error
	switch {
	case errors.As(err, &refusal):
		return StateRejected
	case errors.Is(err, syscall.ECONNREFUSED):
		return StateRefused
	default:
		return StateDisconnected
	}
}

// explain adds what to do to an error that ends a client.
func explain(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	switch code := e.Details.Code(); {
	case code == DetailTokenMismatch:
		return fmt.Errorf("%w: the token differs from the gateway's; check the token file", err)
	case code == DetailTokenMissing:
		return fmt.Errorf("%w: the gateway wants a token; give a token file", err)
	case code == DetailProtocolMismatch:
		return fmt.Errorf("%w: this program speaks protocol %d; use a matching gateway", err, ProtocolVersion)
	case code == DetailPairingRequired:
		return fmt.Errorf("%w: approve pairing request %s", err, e.Details.RequestID())
	}
	return err
}
