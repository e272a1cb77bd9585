package agent

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// fakeEngine answers like Docker's API and runs no containers: what an image does is said by its name.
//
//	ok        says hello and ends
//	stays     says hello and stays until SIGTERM
//	stubborn  the same, until SIGKILL
//	oom       is killed at its memory limit
//	broken    can be created, not started
//	missing   cannot be pulled
//	slow      is pulled for ever
type fakeEngine struct {
	t      *testing.T
	socket string

	mu sync.Mutex
	// mu guards what follows.
	made    map[string]*fakeContainer
	created []map[string]any // bodies of create
	pulled  []string
	pulling chan struct{} // closed when a slow pull has begun
}

type fakeContainer struct {
	image    string
	running  bool
	code     int
	oom      bool
	attached chan net.Conn
	killed   chan string
	ended    chan struct{}
}

func startEngine(t *testing.T) *fakeEngine {
	t.Helper()
	e := &fakeEngine{t: t, socket: filepath.Join(t.TempDir(), "e.sock"), made: map[string]*fakeContainer{}, pulling: make(chan struct{})}
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") })
	mux.HandleFunc("GET /{v}/images/{name}/json", e.image)
	mux.HandleFunc("POST /{v}/images/create", e.pull)
	mux.HandleFunc("POST /{v}/containers/create", e.create)
	mux.HandleFunc("POST /{v}/containers/{name}/{verb}", e.act)
	mux.HandleFunc("GET /{v}/containers/{name}/json", e.inspect)
	mux.HandleFunc("DELETE /{v}/containers/{name}", e.remove)
	s := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return e
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

func (e *fakeEngine) find(name string) *fakeContainer {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.made[name]
}

func (e *fakeEngine) names() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.made)
}

func (e *fakeEngine) image(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.PathValue("name"), "ok") {
		fmt.Fprint(w, "{}")
		return
	}
	fail(w, 404, "No such image")
}

func (e *fakeEngine) pull(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("fromImage")
	e.mu.Lock()
	e.pulled = append(e.pulled, name)
	e.mu.Unlock()
	fmt.Fprintln(w, `{"status":"Pulling"}`)
	w.(http.Flusher).Flush()
	switch {
	case strings.HasPrefix(name, "missing"):
		fmt.Fprintln(w, `{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}`)
	case strings.HasPrefix(name, "slow"):
		close(e.pulling)
		<-r.Context().Done()
	default:
		fmt.Fprintln(w, `{"status":"Done"}`)
	}
}

func (e *fakeEngine) create(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		fail(w, 400, err.Error())
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.created = append(e.created, body)
	e.made[r.URL.Query().Get("name")] = &fakeContainer{
		image: body["Image"].(string), attached: make(chan net.Conn, 1), killed: make(chan string, 9), ended: make(chan struct{}),
	}
	w.WriteHeader(201)
	fmt.Fprint(w, `{"Id":"abc"}`)
}

func (e *fakeEngine) act(w http.ResponseWriter, r *http.Request) {
	c := e.find(r.PathValue("name"))
	if c == nil {
		fail(w, 404, "No such container")
		return
	}
	switch r.PathValue("verb") {
	case "attach":
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			e.t.Error(err)
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		c.attached <- conn
	case "start":
		if strings.HasPrefix(c.image, "broken") {
			fail(w, 400, "exec: not found")
			return
		}
		e.mu.Lock()
		c.running = true
		e.mu.Unlock()
		go e.live(c)
		w.WriteHeader(204)
	case "kill":
		select {
		case c.killed <- r.URL.Query().Get("signal"):
		default:
		}
		w.WriteHeader(204)
	case "wait":
		select {
		case <-c.ended:
			fmt.Fprintf(w, `{"StatusCode":%d}`, c.code)
		case <-r.Context().Done():
		}
	}
}

// live is the container's program.
func (e *fakeEngine) live(c *fakeContainer) {
	conn := <-c.attached
	frame := func(stream byte, text string) {
		_, _ = conn.Write(append([]byte{stream, 0, 0, 0, 0, 0, 0, byte(len(text))}, text...))
	}
	frame(1, "hel")
	frame(2, "warning: to stderr\n")
	frame(1, "lo\n")
	code, oom := 0, false
	switch name, _, _ := strings.Cut(c.image, ":"); name {
	case "oom":
		code, oom = 137, true
	case "stays", "stubborn":
		for s := range c.killed {
			if s == "SIGKILL" || name == "stays" {
				code = map[string]int{"SIGKILL": 137, "SIGTERM": 143}[s]
				break
			}
		}
	}
	_ = conn.Close()
	e.mu.Lock()
	c.running, c.code, c.oom = false, code, oom
	e.mu.Unlock()
	close(c.ended)
}

func (e *fakeEngine) inspect(w http.ResponseWriter, r *http.Request) {
	c := e.find(r.PathValue("name"))
	if c == nil {
		fail(w, 404, "No such container")
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"State": map[string]any{"Running": c.running, "Pid": 1, "ExitCode": c.code, "OOMKilled": c.oom}})
}

func (e *fakeEngine) remove(w http.ResponseWriter, r *http.Request) {
	c := e.find(r.PathValue("name"))
	if c == nil {
		fail(w, 404, "No such container")
		return
	}
	e.mu.Lock()
	running := c.running
	delete(e.made, r.PathValue("name"))
	e.mu.Unlock()
	if running {
		c.killed <- "SIGKILL"
	}
	w.WriteHeader(204)
}
