package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/openclaw"
)

// raw is a client that sends frames by hand.
type raw struct {
	t  testing.TB
	ws *websocket.Conn
}

func dialRaw(t testing.TB, g *gateway.Gateway) (*raw, openclaw.Challenge) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	ws, _, err := websocket.Dial(ctx, g.URL(), &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(openclaw.MaxPayload)
	r := &raw{t, ws}
	f := r.read()
	var c openclaw.Challenge
	if f.Event != "connect.challenge" || json.Unmarshal(f.Payload, &c) != nil || len(c.Nonce) != 36 || c.TS == 0 {
		t.Fatalf("first frame %+v", f)
	}
	return r, c
}

func (r *raw) send(message string) {
	r.t.Helper()
	if err := r.ws.Write(r.t.Context(), websocket.MessageText, []byte(message)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) read() openclaw.Frame {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), long)
	defer cancel()
	_, data, err := r.ws.Read(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := openclaw.DecodeFrame(data)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// closed reads until the gateway closes and returns how.
func (r *raw) closed() websocket.CloseError {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), long)
	defer cancel()
	for {
		if _, _, err := r.ws.Read(ctx); err != nil {
			var e websocket.CloseError
			if !errors.As(err, &e) {
				r.t.Fatalf("ended without a close: %v", err)
			}
			return e
		}
	}
}

// params are a good connect of a node, without its proof.
func params(name string, commands ...string) *openclaw.ConnectParams {
	return &openclaw.ConnectParams{
		MinProtocol: 3, MaxProtocol: 4, Role: "node", Scopes: []string{}, Commands: commands,
		Client: openclaw.ClientInfo{ID: "node-host", DisplayName: name, Version: "0.1.0", Platform: "linux", Mode: "node"},
		Auth:   &openclaw.AuthParams{Token: token},
	}
}

func (r *raw) connect(p *openclaw.ConnectParams) openclaw.Frame {
	r.t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		r.t.Fatal(err)
	}
	r.send(`{"type":"req","id":"c0","method":"connect","params":` + string(data) + `}`)
	return r.read()
}

// join connects a node by hand.
func join(t testing.TB, g *gateway.Gateway, name string, commands ...string) *raw {
	t.Helper()
	r, ch := dialRaw(t, g)
	p := params(name, commands...)
	p.Prove(identity(t, name), ch)
	if f := r.connect(p); f.OK == nil || !*f.OK {
		t.Fatalf("connect refused: %+v", f.Error)
	}
	return r
}

// refused is one connect that is refused, and how.
type refused struct {
	name    string
	change  func(p *openclaw.ConnectParams, ch openclaw.Challenge)
	prove   bool // after the change
	code    string
	message string
	details map[string]any
	close   websocket.StatusCode
	reason  string
}

func refusals(t *testing.T, id openclaw.Identity) []refused {
	return []refused{
		{
			"token mismatch", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Auth.Token = "other" }, true,
			"INVALID_REQUEST", "unauthorized: gateway token mismatch (provide gateway auth token)",
			map[string]any{"code": "AUTH_TOKEN_MISMATCH"},
			1008, "",
		},
		{
			"token missing", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Auth = nil }, true,
			"INVALID_REQUEST", "unauthorized: gateway token missing (provide gateway auth token)",
			map[string]any{"code": "AUTH_TOKEN_MISSING"},
			1008, "",
		},
		{
			"protocol too old", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.MinProtocol, p.MaxProtocol = 2, 2 }, true,
			"INVALID_REQUEST", "protocol mismatch",
			map[string]any{"code": "PROTOCOL_MISMATCH", "clientMinProtocol": 2., "clientMaxProtocol": 2., "expectedProtocol": 4., "minimumProbeProtocol": 3.},
			1002, "protocol mismatch",
		},
		{
			"protocol too new", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.MinProtocol, p.MaxProtocol = 5, 6 }, true,
			"INVALID_REQUEST", "protocol mismatch",
			map[string]any{"code": "PROTOCOL_MISMATCH"},
			1002, "",
		},
		{"protocol 3 for an operator", func(p *openclaw.ConnectParams, _ openclaw.Challenge) {
			p.MinProtocol, p.MaxProtocol, p.Role = 3, 3, "operator"
			p.Client.ID, p.Client.Mode = "gateway-client", "backend"
		}, true, "INVALID_REQUEST", "protocol mismatch", map[string]any{"code": "PROTOCOL_MISMATCH", "clientMaxProtocol": 3.}, 1002, ""},
		{"operator", func(p *openclaw.ConnectParams, _ openclaw.Challenge) {
			p.Role, p.Scopes, p.Client.ID, p.Client.Mode = "operator", openclaw.OperatorScopes, "gateway-client", "backend"
		}, true, "FORBIDDEN", "operator connections are not served on this socket: ", map[string]any{"code": "OPERATOR_NOT_SERVED"}, 1008, ""},
		{"no role", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Role = "" }, true, "FORBIDDEN", "operator connections", nil, 1008, ""},
		{"unknown role", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Role = "admin" }, true, "INVALID_REQUEST", "invalid role", nil, 1008, "invalid role"},
		{"other client id", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Client.ID = "cli" }, true, "INVALID_REQUEST", "invalid connect params: role node needs client id node-host", nil, 1008, ""},
		{"no client", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Client.ID = "" }, true, "INVALID_REQUEST", "invalid connect params: client must have", nil, 1008, ""},
		{"endless name", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Client.DisplayName = strings.Repeat("n", 500) }, true, "INVALID_REQUEST", "invalid connect params: ", nil, 1008, ""},
		{
			"no device", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Device = nil }, false,
			"NOT_PAIRED", "device identity required",
			map[string]any{"code": "DEVICE_IDENTITY_REQUIRED"},
			1008, "",
		},
		{
			"device id of another key", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Device.ID = identity(t, "x").ID() }, false,
			"INVALID_REQUEST", "device identity mismatch",
			map[string]any{"code": "DEVICE_AUTH_DEVICE_ID_MISMATCH", "reason": "device-id-mismatch"},
			1008, "device identity mismatch",
		},
		{"stale signature", func(p *openclaw.ConnectParams, ch openclaw.Challenge) {
			p.Prove(id, openclaw.Challenge{Nonce: ch.Nonce, TS: ch.TS - 3*60*1000})
		}, false, "INVALID_REQUEST", "device signature expired", map[string]any{"code": "DEVICE_AUTH_SIGNATURE_EXPIRED", "reason": "device-signature-stale"}, 1008, ""},
		{"signature from the future", func(p *openclaw.ConnectParams, ch openclaw.Challenge) {
			p.Prove(id, openclaw.Challenge{Nonce: ch.Nonce, TS: ch.TS + 3*60*1000})
		}, false, "INVALID_REQUEST", "device signature expired", nil, 1008, ""},
		{
			"no nonce", func(p *openclaw.ConnectParams, ch openclaw.Challenge) { p.Prove(id, openclaw.Challenge{TS: ch.TS}) }, false,
			"INVALID_REQUEST", "device nonce required",
			map[string]any{"code": "DEVICE_AUTH_NONCE_REQUIRED", "reason": "device-nonce-missing"},
			1008, "",
		},
		{"replayed nonce", func(p *openclaw.ConnectParams, ch openclaw.Challenge) {
			p.Prove(id, openclaw.Challenge{Nonce: "3deb3523-c10b-4676-b236-a750c6008c5c", TS: ch.TS})
		}, false, "INVALID_REQUEST", "device nonce mismatch", map[string]any{"code": "DEVICE_AUTH_NONCE_MISMATCH", "reason": "device-nonce-mismatch"}, 1008, ""},
		{
			"scopes changed after signing", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Scopes = []string{"operator.admin"} }, false,
			"INVALID_REQUEST", "device signature invalid",
			map[string]any{"code": "DEVICE_AUTH_SIGNATURE_INVALID", "reason": "device-signature"},
			1008, "",
		},
		{
			"clawnode's scopes", func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.Scopes = []string{"node"} }, true,
			"NOT_PAIRED", "pairing required: device is not approved yet",
			map[string]any{
				"code": "PAIRING_REQUIRED", "reason": "not-paired",
				"remediationHint": "Approve this device from the pending pairing requests.", "requestedRole": "node", "deviceId": id.ID(),
			},
			1008, "pairing required: device is not approved yet (requestId: ",
		},
	}
}

func TestConnectRefusals(t *testing.T) {
	id := identity(t, "n1")
	tests := refusals(t, id)
	g := start(t, gateway.Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, ch := dialRaw(t, g)
			p := params("n1", "echo")
			p.Prove(id, ch)
			tt.change(p, ch)
			if tt.prove {
				p.Prove(id, ch)
			}
			f := r.connect(p)
			if f.ID != "c0" || *f.OK || f.Error.Code != tt.code || !strings.HasPrefix(f.Error.Message, tt.message) {
				t.Fatalf("answer %+v, error %v", f, f.Error)
			}
			var details map[string]any
			if len(tt.details) > 0 {
				if err := json.Unmarshal(f.Error.Details, &details); err != nil {
					t.Fatal(err)
				}
			}
			for k, v := range tt.details {
				if details[k] != v {
					t.Errorf("details.%s = %v, want %v", k, details[k], v)
				}
			}
			c := r.closed()
			if c.Code != tt.close || !strings.HasPrefix(c.Reason, tt.reason) {
				t.Errorf("closed %d %q", c.Code, c.Reason)
			}
			if id := f.Error.Details.RequestID(); id != "" && !strings.Contains(c.Reason, id) {
				t.Errorf("close reason %q does not repeat the request id", c.Reason)
			}
		})
	}
	if nodes, _ := g.Operator().NodeList(t.Context()); len(nodes) != 0 {
		t.Errorf("refused connections left nodes: %+v", nodes)
	}
}

func TestConnectAcceptsBothSignaturesAndProtocols(t *testing.T) {
	g := start(t, gateway.Options{})
	for name, change := range map[string]func(p *openclaw.ConnectParams, ch openclaw.Challenge){
		"v3": func(*openclaw.ConnectParams, openclaw.Challenge) {},
		"v2": func(p *openclaw.ConnectParams, ch openclaw.Challenge) {
			id := identity(t, p.Client.DisplayName)
			p.Device.Signature = id.Sign(openclaw.SignTextV2(p, id.ID(), ch.TS, ch.Nonce))
		},
		"protocol 3": func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.MinProtocol, p.MaxProtocol = 3, 3 },
		"protocol 4": func(p *openclaw.ConnectParams, _ openclaw.Challenge) { p.MinProtocol, p.MaxProtocol = 4, 4 },
	} {
		t.Run(name, func(t *testing.T) {
			r, ch := dialRaw(t, g)
			p := params(name, "echo")
			p.Prove(identity(t, name), ch)
			change(p, ch)
			f := r.connect(p)
			if !*f.OK {
				t.Fatalf("refused: %v", f.Error)
			}
			var h openclaw.Hello
			if err := json.Unmarshal(f.Payload, &h); err != nil || h.Type != "hello-ok" || h.Protocol != 4 || h.Auth.Role != "node" ||
				h.Policy.MaxPayload != 26214400 || h.Policy.MaxBufferedBytes != 52428800 || h.Policy.TickIntervalMs != 30000 {
				t.Errorf("hello %s, %v", f.Payload, err)
			}
		})
	}
}

func TestHandshakeGarbage(t *testing.T) {
	g := start(t, gateway.Options{HandshakeTimeout: 300 * time.Millisecond})
	for name, message := range map[string]string{
		"not JSON":        `hello`,
		"other method":    `{"type":"req","id":"1","method":"node.list","params":{}}`,
		"event":           `{"type":"event","event":"x"}`,
		"params an array": `{"type":"req","id":"1","method":"connect","params":[]}`,
		"too long":        `{"type":"req","id":"1","method":"connect","params":"` + strings.Repeat("x", 200<<10) + `"}`,
		"nothing at all":  "",
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := dialRaw(t, g)
			if message != "" {
				_ = r.ws.Write(t.Context(), websocket.MessageText, []byte(message)) // may be cut while it writes
			}
			ctx, cancel := context.WithTimeout(t.Context(), long)
			defer cancel()
			for {
				if _, _, err := r.ws.Read(ctx); err != nil {
					break
				}
			}
			if ctx.Err() != nil {
				t.Error("the gateway did not end the connection")
			}
		})
	}
	node(t, g, openclaw.NodeOptions{}) // and it still serves others
	waitNode(t, g.Operator(), func(n openclaw.NodeInfo) bool { return n.Connected })
}

func TestHTTP(t *testing.T) {
	g := start(t, gateway.Options{MaxConns: 1})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string, header http.Header, host string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != nil {
			req.Header = header
		}
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body strings.Builder
		if _, err := (&body).Write(func() []byte { b := make([]byte, 512); n, _ := resp.Body.Read(b); return b[:n] }()); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(body.String())
	}
	upgrade := func(origin string) http.Header {
		h := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		if origin != "" {
			h.Set("Origin", origin)
		}
		return h
	}
	if code, body := get("/healthz", nil, ""); code != 200 || body != `{"ok":true,"status":"live"}` {
		t.Errorf("healthz %d %s", code, body)
	}
	if code, body := get("/readyz", nil, ""); code != 200 || !strings.HasPrefix(body, `{"failing":[],"ready":true`) {
		t.Errorf("readyz %d %s", code, body)
	}
	if code, _ := get("/other", nil, ""); code != 404 {
		t.Errorf("other path %d", code)
	}
	if code, _ := get("/", upgrade("http://127.0.0.1"), ""); code != 403 {
		t.Errorf("a browser got %d", code)
	}
	if code, _ := get("/", upgrade(""), "evil.example"); code != 403 {
		t.Errorf("a rebound name got %d", code)
	}
	dialRaw(t, g)
	if code, _ := get("/", upgrade(""), ""); code != 503 {
		t.Errorf("a connection too many got %d", code)
	}
}

func TestStartRefusals(t *testing.T) {
	for name, opts := range map[string]gateway.Options{
		"every interface": {Listen: "0.0.0.0:0", Token: token},
		"an address":      {Listen: "192.0.2.1:0", Token: token},
		"no host":         {Listen: ":0", Token: token},
		"a name":          {Listen: "example.org:0", Token: token},
		"no port":         {Listen: "127.0.0.1", Token: token},
		"no token":        {Listen: "127.0.0.1:0"},
	} {
		g := gateway.New(opts)
		if err := g.Start(t.Context()); err == nil {
			t.Errorf("%s: started", name)
			stop(t, g)
		} else if strings.Contains(name, "interface") && !strings.Contains(err.Error(), "not loopback") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
