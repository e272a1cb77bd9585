package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/surface/cli"
	"autoheal.dev/autoheal/internal/surface/httpapi"
	"autoheal.dev/autoheal/internal/tool/tooltest"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// screen is a terminal that says when something was drawn.
type screen struct {
	drawn chan struct{}
	mu    sync.Mutex
	b     bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.b.Write(p)
	s.mu.Unlock()
	s.drawn <- struct{}{}
	return len(p), nil
}

// waitFor waits until the screen has shown text.
func (s *screen) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		found := strings.Contains(s.b.String(), text)
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-s.drawn:
		case <-deadline:
			t.Fatalf("%q was never shown:\n%s", text, s.b.String())
		}
	}
}

func serve(t *testing.T, w *tooltest.World) *httpapi.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "ah")
	if err != nil {
		t.Fatal(err)
	}
	srv := &httpapi.Server{Env: w.Env(), Socket: filepath.Join(dir, "api.sock")}
	if err := srv.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return srv
}

func watchDeps(out *screen, errs *bytes.Buffer, terminal bool, env map[string]string) cli.Deps {
	return cli.Deps{
		Stdin: strings.NewReader(""), Stdout: out, Stderr: errs, Env: func(k string) string { return env[k] },
		Now: func() time.Time { return tooltest.Now }, IsTerminal: terminal,
	}
}

// TestWatch draws at once and after a change, and ends with exit code 0 on Ctrl-C.
func TestWatch(t *testing.T) {
	w := tooltest.Sample()
	srv := serve(t, w)
	out, errs := &screen{drawn: make(chan struct{}, 1000)}, &bytes.Buffer{}
	d := watchDeps(out, errs, true, map[string]string{"NO_COLOR": "1"})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	code := make(chan int, 1)
	go func() { code <- cli.Execute(ctx, root(d), d, []string{"nodes", "--watch", "--server", srv.Addr()}) }()
	out.waitFor(t, "n2    offline")
	w.Change(autoheal.Change{Type: autoheal.ChangeNode}, func(w *tooltest.World) { w.NodeList[1].Status = autoheal.StatusReady })
	out.waitFor(t, "n2    ready")
	cancel()
	if got := <-code; got != cli.ExitOK || errs.Len() > 0 {
		t.Errorf("exit code %d, errors %q", got, errs)
	}
	if got := strings.Count(out.b.String(), "\x1b[H\x1b[2J\x1b[3J"); got < 2 {
		t.Errorf("the screen was cleared %d times", got)
	}
}

// TestWatchEndsWithTheHealer says so and has exit code 1.
func TestWatchEndsWithTheHealer(t *testing.T) {
	w := tooltest.Sample()
	srv := serve(t, w)
	out, errs := &screen{drawn: make(chan struct{}, 1000)}, &bytes.Buffer{}
	d := watchDeps(out, errs, false, nil)
	code := make(chan int, 1)
	go func() {
		code <- cli.Execute(context.Background(), root(d), d, []string{"nodes", "--watch", "-o", "json", "--server", srv.Addr()})
	}()
	out.waitFor(t, `"count": 3`)
	if err := srv.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if got := <-code; got != cli.ExitError || !strings.Contains(errs.String(), "healer") {
		t.Errorf("exit code %d, errors %q", got, errs)
	}
	if strings.Contains(out.b.String(), "\x1b") {
		t.Error("an escape sequence went to what is no terminal")
	}
}

// TestColours are for terminals that want them, and are all that a terminal gets beside text.
func TestColours(t *testing.T) {
	srv := serve(t, tooltest.Sample())
	for _, tc := range []struct {
		name     string
		terminal bool
		env      map[string]string
		args     []string
		want     bool
	}{
		{"terminal", true, nil, nil, true},
		{"no terminal", false, nil, nil, false},
		{"NO_COLOR", true, map[string]string{"NO_COLOR": "1"}, nil, false},
		{"dumb terminal", true, map[string]string{"TERM": "dumb"}, nil, false},
		{"flag", true, nil, []string{"--no-color"}, false},
		{"json", true, nil, []string{"-o", "json"}, false},
	} {
		out, errs := &screen{drawn: make(chan struct{}, 1000)}, &bytes.Buffer{}
		d := watchDeps(out, errs, tc.terminal, tc.env)
		if code := cli.Execute(context.Background(), root(d), d, append([]string{"nodes", "--server", srv.Addr()}, tc.args...)); code != 0 {
			t.Fatalf("%s: exit code %d: %s", tc.name, code, errs)
		}
		if got := strings.Contains(out.b.String(), "\x1b["); got != tc.want {
			t.Errorf("%s: colours %t, want %t:\n%q", tc.name, got, tc.want, out.b.String())
		}
	}
}

// TestHelp: every command says what it does and gives an example; a group of commands says what it groups.
func TestHelp(t *testing.T) {
	out, errs := &screen{drawn: make(chan struct{}, 1000)}, &bytes.Buffer{}
	d := watchDeps(out, errs, false, nil)
	var check func(path string, cs []*cobra.Command)
	check = func(path string, cs []*cobra.Command) {
		for _, c := range cs {
			name := path + " " + c.Name()
			if c.Short == "" || c.Runnable() && c.Example == "" {
				t.Errorf("%s: no summary or no example", name)
			}
			for line := range strings.Lines(c.Example) {
				if !strings.Contains(line, "autoheal ") {
					t.Errorf("%s: the example %q calls no command", name, line)
				}
			}
			check(name, c.Commands())
		}
	}
	check("autoheal", cli.Commands(d))
}
