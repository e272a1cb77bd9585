package openclaw_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"autoheal.dev/autoheal/internal/openclaw"
)

// states records what OnState was told.
type states struct {
	mu   sync.Mutex
	list []openclaw.ConnState
	errs []error
}

func (s *states) add(state openclaw.ConnState, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.errs = append(s.list, state), append(s.errs, err)
}

func (s *states) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.list)
}

// operatorTest runs an operator client against scripts in a bubble.
func operatorTest(t *testing.T, body func(c *openclaw.OperatorClient, st *states, run func() error), scripts ...func(*peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet()
		stop := play(t, n, scripts...)
		st := &states{}
		c := openclaw.NewOperatorClient(openclaw.OperatorOptions{
			ConnectOptions: openclaw.ConnectOptions{
				URL: "ws://gateway", Token: "s3cret", Name: "healer", Version: "1", Platform: "linux", Dial: n.Dial, OnState: st.add,
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		body(c, st, func() error { return <-done })
		cancel()
		stop()
		synctest.Wait()
	})
}

func invokeK(c openclaw.Operator, key string) (json.RawMessage, error) {
	return c.Invoke(context.Background(), openclaw.InvokeParams{
		NodeID: "n", Command: "node.health", Params: json.RawMessage(`{"a":1}`), Timeout: 5 * time.Second, IdempotencyKey: key,
	})
}

func TestOperatorHandshakeAndInvoke(t *testing.T) {
	operatorTest(t, func(c *openclaw.OperatorClient, st *states, _ func() error) {
		if st.String() != "[connected]" {
			t.Fatalf("states %s: %v", st, st.errs)
		}
		got, err := invokeK(c, "k1")
		if err != nil || string(got) != `{"status":"healthy"}` {
			t.Errorf("payload: %s, %v", got, err)
		}
		got, err = invokeK(c, "k2")
		if err != nil || string(got) != `{"x":2}` {
			t.Errorf("payloadJSON: %s, %v", got, err)
		}
		_, err = invokeK(c, "k3")
		if openclaw.ClassifyInvoke(err) != openclaw.OutcomeDone || !strings.Contains(err.Error(), "unknown command: workload.run") {
			t.Errorf("node error: %v", err)
		}
	}, func(p *peer) {
		params := p.welcome()
		if params.Role != "operator" || params.MinProtocol != 4 || params.MaxProtocol != 4 || params.Client.ID != "gateway-client" ||
			params.Client.Mode != "backend" || params.Device != nil || params.Auth.Token != "s3cret" || len(params.Scopes) != 4 {
			t.Errorf("connect %+v", params)
		}
		f := p.read()
		if want := `{"nodeId":"n","command":"node.health","params":{"a":1},"timeoutMs":5000,"idempotencyKey":"k1"}`; string(f.Params) != want {
			t.Errorf("params %s, want %s", f.Params, want)
		}
		p.send(`{"type":"event","event":"presence","payload":{"presence":[]}}`) // events come at any time
		p.send(`{"type":"res","id":"` + f.ID + `","ok":true,"payload":{"ok":true,"nodeId":"n","command":"node.health","payload":{"status":"healthy"},"payloadJSON":null}}`)
		f = p.read()
		p.send(`{"type":"res","id":"` + f.ID + `","ok":true,"payload":{"ok":true,"nodeId":"n","command":"node.health","payload":null,"payloadJSON":"{\"x\":2}"}}`)
		f = p.read()
		p.send(`{"type":"res","id":"nobody","ok":true,"payload":{}}`)
		p.send(`{"type":"res","id":"` + f.ID + `","ok":false,"error":{"code":"UNAVAILABLE","message":"COMMAND_ERROR: unknown command: workload.run","details":{"nodeError":{"code":"COMMAND_ERROR","message":"unknown command: workload.run"},"nodeCommandDispatched":true}}}`)
		p.drain()
	})
}

func TestOperatorListsAndApproves(t *testing.T) {
	answers := map[string]string{
		"node.list": `{"ts":1,"nodes":[{"nodeId":"a","displayName":"gpu-node-1","platform":"linux","caps":["gpu"],"commands":["gpu.list"],"nodePluginTools":[{"name":"x"}],"approvalState":"approved","connectedAtMs":5,"paired":true,"connected":true,"hostStats":{}},
		  {"nodeId":"b","connected":false,"paired":true,"caps":[],"commands":[],"approvalState":"pending-approval"}]}`,
		"node.describe":       `{"ts":1,"nodeId":"a","displayName":"gpu-node-1","connected":true}`,
		"device.pair.list":    `{"pending":[{"requestId":"d1","deviceId":"a","scopes":["node"]}],"paired":[]}`,
		"node.pair.list":      `{"pending":[{"requestId":"n1","nodeId":"a","commands":["gpu.list"]}],"paired":[]}`,
		"device.pair.approve": `{}`, "device.pair.reject": `{}`, "node.pair.approve": `{}`,
	}
	operatorTest(t, func(c *openclaw.OperatorClient, _ *states, _ func() error) {
		ctx := context.Background()
		nodes, err := c.NodeList(ctx)
		if err != nil || len(nodes) != 2 || nodes[0].DisplayName != "gpu-node-1" || !nodes[0].Connected || nodes[1].Connected ||
			nodes[0].Commands[0] != "gpu.list" || nodes[0].ConnectedAtMs != 5 {
			t.Errorf("nodes %+v, %v", nodes, err)
		}
		if n, err := c.NodeDescribe(ctx, "a"); err != nil || n.NodeID != "a" {
			t.Errorf("node %+v, %v", n, err)
		}
		devices, surfaces, err := c.PairList(ctx)
		if err != nil || len(devices) != 1 || devices[0].RequestID != "d1" || len(surfaces) != 1 || surfaces[0].RequestID != "n1" {
			t.Errorf("pending %+v %+v, %v", devices, surfaces, err)
		}
		if err := errors.Join(c.ApproveDevice(ctx, "d1"), c.RejectDevice(ctx, "d1"), c.ApproveNode(ctx, "n1")); err != nil {
			t.Error(err)
		}
	}, func(p *peer) {
		p.welcome()
		for range 7 {
			f := p.read()
			p.send(`{"type":"res","id":"` + f.ID + `","ok":true,"payload":` + answers[f.Method] + `}`)
		}
		p.drain()
	})
}

func TestOperatorPendingIsUnknownWhenTheConnectionEnds(t *testing.T) {
	operatorTest(t, func(c *openclaw.OperatorClient, st *states, _ func() error) {
		events, cancel := c.Events()
		defer cancel()
		if e := <-events; e.Name != openclaw.EventConnected {
			t.Fatalf("first event %q", e.Name)
		}
		_, err := invokeK(c, "k1")
		if !errors.Is(err, openclaw.ErrConnectionLost) || openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown {
			t.Errorf("pending call: %v", err)
		}
		if e := <-events; e.Name != openclaw.EventShutdown {
			t.Errorf("event %q", e.Name)
		}
		if e := <-events; e.Name != openclaw.EventDisconnected || websocket.CloseStatus(e.Err) != 1012 {
			t.Errorf("event %q %v", e.Name, e.Err)
		}
		_, err = invokeK(c, "k2")
		if !errors.Is(err, openclaw.ErrNotConnected) || openclaw.ClassifyInvoke(err) != openclaw.OutcomeNotSent {
			t.Errorf("call while disconnected: %v", err)
		}
		if e := <-events; e.Name != openclaw.EventConnected {
			t.Errorf("event %q instead of a reconnect", e.Name)
		}
		if st.String() != "[connected disconnected connected]" {
			t.Errorf("states %s", st)
		}
	}, func(p *peer) {
		p.welcome()
		p.read()
		p.send(`{"type":"event","event":"shutdown","payload":{"reason":"gateway stopping"}}`)
		_ = p.ws.Close(1012, "service restart")
	}, func(p *peer) {
		p.welcome()
		p.drain()
	})
}

func TestOperatorOwnDeadline(t *testing.T) {
	operatorTest(t, func(c *openclaw.OperatorClient, _ *states, _ func() error) {
		begin := time.Now()
		_, err := invokeK(c, "k1")
		if !errors.Is(err, openclaw.ErrNoAnswer) || openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown {
			t.Errorf("error %v", err)
		}
		if d := time.Since(begin); d != 7*time.Second {
			t.Errorf("waited %s", d)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.NodeList(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		cancelled, stop := context.WithCancel(context.Background())
		stop()
		if _, err := c.Invoke(cancelled, openclaw.InvokeParams{}); openclaw.ClassifyInvoke(err) != openclaw.OutcomeNotSent {
			t.Errorf("call with an ended context: %v", err)
		}
	}, func(p *peer) {
		p.welcome()
		p.drain()
	})
}

func TestOperatorStopsOnRefusal(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"token", `{"code":"INVALID_REQUEST","message":"unauthorized: gateway token mismatch (provide gateway auth token)","details":{"code":"AUTH_TOKEN_MISMATCH"}}`, "check the token file"},
		{"protocol", `{"code":"INVALID_REQUEST","message":"protocol mismatch","details":{"code":"PROTOCOL_MISMATCH","expectedProtocol":5}}`, "speaks protocol 4"},
		{"pairing", `{"code":"NOT_PAIRED","message":"pairing required: device is not approved yet","details":{"code":"PAIRING_REQUIRED","requestId":"req-7"}}`, "req-7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			operatorTest(t, func(c *openclaw.OperatorClient, st *states, run func() error) {
				err := run()
				var e *openclaw.Error
				if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want one with %q", err, tt.want)
				}
				if st.String() != "[rejected]" {
					t.Errorf("states %s", st)
				}
				events, cancel := c.Events()
				defer cancel()
				if _, ok := <-events; ok {
					t.Error("a subscription outlived Run")
				}
			}, func(p *peer) {
				_, id := p.connect()
				p.send(`{"type":"res","id":"` + id + `","ok":false,"error":` + tt.answer + `}`)
				_ = p.ws.Close(1008, "refused")
			})
		})
	}
}

func TestOperatorWaitsForAStartingGateway(t *testing.T) {
	operatorTest(t, func(c *openclaw.OperatorClient, st *states, _ func() error) {
		time.Sleep(time.Second)
		synctest.Wait()
		if st.String() != "[rejected connected]" {
			t.Errorf("states %s", st)
		}
	}, func(p *peer) {
		_, id := p.connect()
		p.send(`{"type":"res","id":"` + id + `","ok":false,"error":{"code":"UNAVAILABLE","message":"gateway starting; retry shortly","retryable":true,"details":{"reason":"startup-sidecars"}}}`)
		_ = p.ws.Close(1013, "gateway starting")
	}, func(p *peer) {
		p.welcome()
		p.drain()
	})
}

func TestOperatorDoubtsPairingChangedBehindAPairingEvent(t *testing.T) {
	changed := `{"code":"UNAVAILABLE","message":"node pairing changed while invocation was active","retryable":true,"details":{"code":"PAIRING_CHANGED"}}`
	operatorTest(t, func(c *openclaw.OperatorClient, _ *states, _ func() error) {
		if _, err := invokeK(c, "k1"); openclaw.ClassifyInvoke(err) != openclaw.OutcomeNotSent {
			t.Errorf("a fresh call: %v", err)
		}
		if _, err := invokeK(c, "k2"); openclaw.ClassifyInvoke(err) != openclaw.OutcomeUnknown {
			t.Errorf("a call during which the pairing changed: %v", err)
		}
	}, func(p *peer) {
		p.welcome()
		f := p.read()
		p.send(`{"type":"res","id":"` + f.ID + `","ok":false,"error":` + changed + `}`)
		f = p.read()
		p.send(`{"type":"event","event":"device.pair.resolved","payload":{"decision":"rejected"}}`)
		p.send(`{"type":"res","id":"` + f.ID + `","ok":false,"error":` + changed + `}`)
		p.drain()
	})
}

// TestOperatorCutsAHalfOpenConnection: a gateway that neither reads nor answers pings is left after the pong window.
func TestOperatorCutsAHalfOpenConnection(t *testing.T) {
	operatorTest(t, func(c *openclaw.OperatorClient, st *states, _ func() error) {
		begin := time.Now()
		_, err := c.Invoke(context.Background(), openclaw.InvokeParams{NodeID: "n", Command: "c", Timeout: time.Hour, IdempotencyKey: "k"})
		if !errors.Is(err, openclaw.ErrConnectionLost) {
			t.Errorf("error %v", err)
		}
		if d := time.Since(begin); d < 25*time.Second || d > 51*time.Second {
			t.Errorf("noticed after %s", d)
		}
		time.Sleep(time.Minute) // let the script end
	}, func(p *peer) {
		p.welcome()
		p.read()
		time.Sleep(time.Minute) // of the bubble: does not read
	}, func(p *peer) {
		p.welcome()
		p.drain()
	})
}
