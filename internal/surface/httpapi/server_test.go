package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/surface/client"
	"autoheal.dev/autoheal/internal/surface/httpapi"
	"autoheal.dev/autoheal/internal/tool"
	"autoheal.dev/autoheal/internal/tool/tooltest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// socketPath returns a path short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ah")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "d", "api.sock")
}

func start(t *testing.T, env *tool.Env) (*httpapi.Server, *client.Client) {
	t.Helper()
	s := &httpapi.Server{Env: env, Socket: socketPath(t)}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	c, err := httpapi.NewClient(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, c
}

func TestSocketIsItsOwners(t *testing.T) {
	s, _ := start(t, tooltest.Sample().Env())
	for path, want := range map[string]os.FileMode{s.Socket: 0o600, filepath.Dir(s.Socket): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %#o, want %#o", path, info.Mode().Perm(), want)
		}
	}
}

func TestCaller(t *testing.T) {
	w := tooltest.Sample()
	_, c := start(t, w.Env())
	if err := c.Call(context.Background(), "healer_resume", nil, nil); err != nil {
		t.Fatal(err)
	}
	cmd := w.Commands()[0]
	if cmd.Role != "admin" || cmd.Actor == "" || cmd.Actor == "alice" {
		t.Errorf("the command came from %q as %q, want the user at the other end of the socket", cmd.Actor, cmd.Role)
	}
}

func TestStaleSocket(t *testing.T) {
	path := socketPath(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a killed process leaves it
	s := &httpapi.Server{Env: tooltest.Sample().Env(), Socket: path}
	if err := s.Start(context.Background()); autoheal.KindOf(err) != autoheal.ErrConflict || !strings.Contains(err.Error(), "another healer is listening") {
		t.Errorf("on a live socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		t.Fatalf("on a dead socket: %v", err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestRefusedPlaces(t *testing.T) {
	file := socketPath(t)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("keep me"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := socketPath(t)
	if err := os.MkdirAll(filepath.Dir(open), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(open), 0o777); err != nil { // past the umask
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                           "it exists and is no socket",
		open:                           "others may write",
		"/" + strings.Repeat("x", 200): "the path has 201 bytes",
		"":                             "the path has 0 bytes",
	} {
		s := &httpapi.Server{Env: tooltest.Sample().Env(), Socket: path}
		if err := s.Start(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "keep me" {
		t.Errorf("the file was touched: %q, %v", data, err)
	}
}

// raw sends a request as a program without our client would.
func raw(t *testing.T, s *httpapi.Server, method, path, contentType string, body io.Reader) (int, string) {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.Socket)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest(method, "http://x"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(data))
}

func TestAnswers(t *testing.T) {
	w := tooltest.Sample()
	w.Refuse["uncordon"] = &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: "not now"}
	s, _ := start(t, w.Env())
	const js = "application/json"
	for _, tc := range []struct {
		method, path, contentType, body string
		status                          int
		want                            string
	}{
		{"POST", "/api/v1/tools/node_list", js, `{"status":"offline"}`, 200, `{"count":1,"nodes":[{"id":"n2",`},
		{"POST", "/api/v1/tools/node_list", "", ``, 200, `{"count":3,`},
		{"POST", "/api/v1/tools/node_list", js + "; charset=utf-8", `{}`, 200, `{"count":3,`},
		{"POST", "/api/v1/tools/node_get", js, `{"nodeId":"n9"}`, 404, `{"error":{"kind":"not_found","message":"Node not found: n9"}}`},
		{"POST", "/api/v1/tools/node_get", js, `{"node":"n9"}`, 400, `{"error":{"kind":"invalid","message":"Unknown parameter: node (expected: nodeId)","param":"node"}}`},
		{"POST", "/api/v1/tools/node_get", "text/plain", `{}`, 415, `{"error":{"kind":"invalid","message":"Wrong Content-Type: send application/json"}}`},
		{"POST", "/api/v1/tools/node_get", js, `{"nodeId":"` + strings.Repeat("x", 1<<20) + `"}`, 413, `{"error":{"kind":"invalid","message":"Body too large: at most 1048576 bytes"}}`},
		{"POST", "/api/v1/tools/node_uncordon", js, `{"nodeId":"n1"}`, 503, `{"error":{"kind":"unavailable","message":"uncordon n1: not now"}}`},
		{"POST", "/api/v1/tools/alert_create", js, `{"name":"x","severity":"info","message":"m","condition":"a > 1"}`, 501, `{"error":{"kind":"unsupported","message":"Conditions are not supported yet`},
		{"POST", "/api/v1/tools/nothing", js, `{}`, 404, `{"error":{"kind":"not_found","message":"Tool not found: nothing"}}`},
		{"GET", "/api/v1/tools/node_list", "", ``, 200, `{"name":"node_list","description":`},
		{"DELETE", "/api/v1/tools/node_list", "", ``, 404, `{"error":{"kind":"not_found","message":"No such path for DELETE`},
		{"GET", "/", "", ``, 404, `{"error":{"kind":"not_found"`},
		{"GET", "/api/v1/tools", "", ``, 200, `{"tools":[{"name":"cluster_status","description":`},
		{"GET", "/healthz", "", ``, 200, `{"status":"ok"}`},
		{"GET", "/readyz", "", ``, 200, `{"status":"ready"}`},
		{"GET", "/api/v1/events?since=x", "", ``, 400, `{"error":{"kind":"invalid","message":"Wrong Last-Event-ID`},
	} {
		status, body := raw(t, s, tc.method, tc.path, tc.contentType, strings.NewReader(tc.body))
		if status != tc.status || !strings.HasPrefix(body, tc.want) {
			t.Errorf("%s %s: %d %.300s\nwant %d %s", tc.method, tc.path, status, body, tc.status, tc.want)
		}
	}
}

func TestReadiness(t *testing.T) {
	w := tooltest.Sample()
	s, _ := start(t, w.Env())
	w.Change(autoheal.Change{}, func(w *tooltest.World) { w.StatusNow.Synced = false })
	if status, body := raw(t, s, "GET", "/readyz", "", nil); status != 503 || !strings.Contains(body, "no full view of the cluster yet") {
		t.Errorf("not synced: %d %s", status, body)
	}
	w.Change(autoheal.Change{}, func(w *tooltest.World) {
		w.StatusNow.Blocked = &autoheal.Held{Reason: autoheal.ReasonJournalUnwritable, Detail: "disk full"}
	})
	if status, body := raw(t, s, "GET", "/readyz", "", nil); status != 503 || !strings.Contains(body, "journal_unwritable: disk full") {
		t.Errorf("blocked: %d %s", status, body)
	}
}

// panicking is a healer with a fault of ours and one of somebody else's.
type panicking struct{ *tooltest.World }

func (panicking) Nodes(context.Context) ([]autoheal.NodeView, error) { panic("boom") }

func (panicking) Alerts(context.Context) ([]autoheal.Alert, error) {
	return nil, errors.New("password=" + tooltest.Secret)
}

func TestFaultsAreContained(t *testing.T) {
	w := tooltest.Sample()
	env := w.Env()
	env.Healer = panicking{w}
	var log syncBuffer
	s := &httpapi.Server{Env: env, Socket: socketPath(t), Log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	status, body := raw(t, s, "POST", "/api/v1/tools/node_list", "", nil)
	if status != 500 || body != `{"error":{"kind":"internal","message":"Internal error: the healer's log has the details"}}` {
		t.Errorf("%d %s", status, body)
	}
	status, body = raw(t, s, "POST", "/api/v1/tools/alert_list", "", nil)
	if status != 500 || strings.Contains(body, tooltest.Secret) {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := raw(t, s, "POST", "/api/v1/tools/workload_logs", "application/json", strings.NewReader(`{"workloadId":"llm"}`)); status != 200 {
		t.Errorf("after a panic: %d", status)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if got := log.String(); !strings.Contains(got, "boom") || !strings.Contains(got, "verb failed") {
		t.Errorf("log: %s", got)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// next reads one change, or fails.
func next(t *testing.T, pull func() (autoheal.Change, error, bool)) autoheal.Change {
	t.Helper()
	c, err, ok := pull()
	if err != nil || !ok {
		t.Fatalf("stream ended: %v", err)
	}
	return c
}

func TestEvents(t *testing.T) {
	w := tooltest.Sample()
	_, c := start(t, w.Env())
	pull, stop := iter.Pull2(c.Events(context.Background(), 0))
	defer stop()
	if ch := next(t, pull); ch.Type != autoheal.ChangeSubscribed {
		t.Fatalf("first change: %+v", ch)
	}
	w.Change(autoheal.Change{Type: "held", Incident: "inc-000002", Subject: autoheal.NodeRef("n2"), Text: "line\nbreak \x1b[2J"}, nil)
	got := next(t, pull)
	if got.Seq != 1 || got.Text != "line\nbreak \x1b[2J" || got.Incident != "inc-000002" || !got.At.Equal(tooltest.Now) {
		t.Errorf("%+v", got)
	}
	for range 5 {
		w.Change(autoheal.Change{Type: "result"}, nil)
	}
	for want := uint64(2); want <= 6; want++ {
		if ch := next(t, pull); ch.Seq != want {
			t.Errorf("got %d, want %d", ch.Seq, want)
		}
	}
	again, stopAgain := iter.Pull2(c.Events(context.Background(), 3))
	defer stopAgain()
	for _, want := range []uint64{3, 4, 5, 6} { // the subscription, then what came after
		if ch := next(t, again); ch.Seq != want {
			t.Errorf("resumed: got %+v, want %d", ch, want)
		}
	}
	future, stopFuture := iter.Pull2(c.Events(context.Background(), 99))
	defer stopFuture()
	if a, b := next(t, future), next(t, future); a.Type != autoheal.ChangeSubscribed || b.Type != autoheal.ChangeLost {
		t.Errorf("from a number never given out: %+v, %+v", a, b)
	}
}

// TestStopEndsWhatGoesOn stops the server under a long call and a stream: both end with a reason, and nothing is left.
func TestStopEndsWhatGoesOn(t *testing.T) {
	w := tooltest.Sample() // inc-000003 goes on, so heal_run follows
	s := &httpapi.Server{Env: w.Env(), Socket: socketPath(t)}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pull, stop := iter.Pull2(c.Events(context.Background(), 0))
	defer stop()
	next(t, pull)
	called := make(chan error, 1)
	go func() { called <- c.Call(context.Background(), "heal_run", nil, nil) }()
	if ch := next(t, pull); ch.Text != "heal" { // the run has asked the healer, so it is following now
		t.Fatalf("%+v", ch)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-called; autoheal.KindOf(err) != autoheal.ErrUnavailable {
		t.Errorf("the long call ended with %v", err)
	}
	if _, err, ok := pull(); !ok || autoheal.KindOf(err) != autoheal.ErrUnavailable {
		t.Errorf("the stream ended with %v, %t", err, ok)
	}
	err = c.Call(context.Background(), "healer_status", nil, nil)
	if autoheal.KindOf(err) != autoheal.ErrUnavailable || !strings.HasPrefix(err.Error(), "no healer is listening at "+s.Socket+": start one with 'autoheal up'") {
		t.Errorf("after the stop: %v", err)
	}
}

// TestStopBeforeStart is harmless, and so is a second Stop.
func TestStopBeforeStart(t *testing.T) {
	s := &httpapi.Server{Env: tooltest.Sample().Env(), Socket: socketPath(t)}
	for range 2 {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// TestClientErrors keeps the kind and the parameter across the wire.
func TestClientErrors(t *testing.T) {
	_, c := start(t, tooltest.Sample().Env())
	err := c.Call(context.Background(), "node_list", map[string]string{"status": "bad"}, nil)
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Param != "status" || autoheal.KindOf(err) != autoheal.ErrInvalid {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.Call(ctx, "node_list", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var out json.RawMessage
	if err := c.Call(context.Background(), "healer_status", json.RawMessage(`{}`), &out); err != nil || !json.Valid(out) {
		t.Errorf("%s, %v", out, err)
	}
	for _, addr := range []string{"", "unix:", "ftp://x", "127.0.0.1:7433", "http://"} {
		if _, err := client.New(addr); autoheal.KindOf(err) != autoheal.ErrInvalid {
			t.Errorf("address %q: %v", addr, err)
		}
	}
}

// TestForeignServer is told from a healer by what it answers.
func TestForeignServer(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
		want   string
	}{
		{404, "<html>not here</html>", "HTTP status 404 without a reason: is this an autoheal server?"},
		{200, "<html>hello</html>", "read answer:"},
		{503, `{"error":{"kind":"unavailable","message":"stopping"}}`, "stopping"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		}))
		c, err := client.New(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		var out json.RawMessage
		if err := c.Call(context.Background(), "node_list", nil, &out); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("status %d: %v, want %q", tc.status, err, tc.want)
		}
		for _, err := range c.Events(context.Background(), 0) {
			if err == nil {
				t.Error("an event from what sends none")
			}
		}
		c.Close()
		srv.Close()
	}
}

// TestUmask opens the socket under the most careless umask: its mode does not depend on it.
func TestUmask(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	s, _ := start(t, tooltest.Sample().Env())
	info, err := os.Stat(s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %#o", info.Mode().Perm())
	}
}

// TestStopCutsWhatSaysNothing: a connection over which nothing has come holds no request to wait for.
func TestStopCutsWhatSaysNothing(t *testing.T) {
	s := &httpapi.Server{Env: tooltest.Sample().Env(), Socket: socketPath(t)}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := client.New(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Call(context.Background(), "healer_status", nil, nil); err != nil { // by now the server has seen both
		t.Fatal(err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the silent connection ended with %v", err)
	}
}
