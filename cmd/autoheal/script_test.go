package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/testscript"

	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/leakcheck"
)

// patience is how long a script waits for what must come.
const patience = time.Minute

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"autoheal": main})
}

// TestScript runs the scripts of the command line that need no cluster.
func TestScript(t *testing.T) {
	all, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil || len(all) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	runScripts(t, leakcheck.Start(t), slices.DeleteFunc(all, isReal))
}

// TestRealScript runs those that run a cluster: their names begin with real_.
func TestRealScript(t *testing.T) {
	all, err := filepath.Glob("../../testdata/script/real_*.txtar")
	if err != nil || len(all) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	runScripts(t, leakcheck.Start(t), all)
}

func isReal(file string) bool { return strings.HasPrefix(filepath.Base(file), "real_") }

// runScripts runs the program as a process. Beside testscript's commands there are:
//
//	code N autoheal ARGS…          run and expect the exit code
//	up ARGS…                       run a cluster until the script ends; $DATA is its directory
//	until REGEXP autoheal ARGS…    run again and again until the output matches
//	interrupt TEXT autoheal ARGS…  run, wait for the text, interrupt as Ctrl-C does, expect exit code 0
//	parses json|yaml               the last output is one document of that form
//	allhelp                        every command explains itself and refuses a flag that it does not have
func runScripts(t *testing.T, run leakcheck.Run, files []string) {
	testscript.Run(t, testscript.Params{
		Files: files, RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			// A socket's path may have 107 bytes only: the folder of a script may be deeper than that.
			dir, err := os.MkdirTemp("", "ah")
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			})
			env.Setenv("DATA", filepath.Join(dir, "data"))
			env.Setenv("AUTOHEAL_DATA", filepath.Join(dir, "data"))
			env.Setenv("CGROUP", run.CgroupPrefix+filepath.Base(dir))
			env.Setenv(leakcheck.MarkerEnv, run.Marker)
			env.Values[environKey{}] = env
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": cmdCode, "up": cmdUp, "until": cmdUntil, "interrupt": cmdInterrupt, "parses": cmdParses, "allhelp": cmdAllHelp,
		},
	})
}

type environKey struct{}

// exitCode runs the program in the script's environment.
func exitCode(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N autoheal ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCode(ts, args[1:]); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// start runs the program in the background. The output is read line by line.
func start(ts *testscript.TestScript, args []string) (*exec.Cmd, *lineWaiter) {
	env := ts.Value(environKey{}).(*testscript.Env)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), env.Vars
	out := &lineWaiter{changed: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	ts.Check(cmd.Start())
	return cmd, out
}

// end interrupts the program and returns its exit code.
func end(cmd *exec.Cmd) (int, error) {
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func cmdUp(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("up cannot be negated")
	}
	cmd, out := start(ts, append([]string{
		"autoheal", "up", "--data", ts.Getenv("DATA"), "--cgroup", ts.Getenv("CGROUP"), "--ephemeral",
		"--set", "autoHeal.node.probeInterval=1s", "--set", "autoHeal.node.probeTimeout=500ms",
	}, args...))
	ts.Defer(func() {
		code, err := end(cmd)
		ts.Logf("[up]\n%s", out)
		if err != nil || code != 0 {
			ts.Fatalf("up ended with %d: %v", code, err)
		}
	})
	if !out.find("is ready after") {
		ts.Fatalf("up is not ready: %s", out)
	}
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP autoheal ARGS…")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	clk := clock.Real{}
	for deadline := clk.Now().Add(patience); ; {
		exitCode(ts, args[1:])
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if clk.Now().After(deadline) {
			ts.Fatalf("the output never matches %s", want)
		}
		<-clk.NewTimer(50 * time.Millisecond).C()
	}
}

func cmdInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: interrupt TEXT autoheal ARGS…")
	}
	cmd, out := start(ts, args[1:])
	found := out.find(args[0])
	code, err := end(cmd)
	ts.Check(err)
	if !found || code != 0 {
		ts.Fatalf("exit code %d, output:\n%s", code, out)
	}
}

func cmdParses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: parses json|yaml")
	}
	out := []byte(ts.ReadFile("stdout"))
	var v any
	switch args[0] {
	case "json":
		ts.Check(json.Unmarshal(out, &v))
	case "yaml":
		ts.Check(yaml.Unmarshal(out, &v))
		if json.Valid(out) {
			ts.Fatalf("it is JSON")
		}
	default:
		ts.Fatalf("no format %q", args[0])
	}
	switch v.(type) {
	case map[string]any, []any:
	default:
		ts.Fatalf("it is a %T", v)
	}
}

var listedCommand = regexp.MustCompile(`(?m)^  ([a-z]+) +\S`)

// cmdAllHelp walks the commands as a new user does: from help text alone.
func cmdAllHelp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: allhelp")
	}
	seen := 0
	var walk func(path []string)
	walk = func(path []string) {
		seen++
		if code := exitCode(ts, slices.Concat([]string{"autoheal"}, path, []string{"--help"})); code != 0 {
			ts.Fatalf("%v --help: exit code %d", path, code)
		}
		help := ts.ReadFile("stdout")
		if !strings.Contains(help, "Usage:\n  autoheal") {
			ts.Fatalf("%v --help shows no usage", path)
		}
		if path != nil && path[0] == "completion" {
			return // cobra's own
		}
		if code := exitCode(ts, slices.Concat([]string{"autoheal"}, path, []string{"--no-such-flag"})); code != 64 {
			ts.Fatalf("%v --no-such-flag: exit code %d, want 64", path, code)
		}
		if said := ts.ReadFile("stderr"); !strings.Contains(said, "--no-such-flag") || !strings.Contains(said, "--help'") {
			ts.Fatalf("%v --no-such-flag: does not say what is wrong and where help is: %s", path, said)
		}
		_, list, _ := strings.Cut(help, "Available Commands:\n")
		list, _, _ = strings.Cut(list, "\n\n")
		for _, m := range listedCommand.FindAllStringSubmatch(list, -1) {
			if m[1] != "help" {
				walk(append(slices.Clone(path), m[1]))
			}
		}
	}
	walk(nil)
	if seen < 40 {
		ts.Fatalf("found only %d commands", seen)
	}
}

// lineWaiter keeps an output and lets one reader wait for what it says.
type lineWaiter struct {
	mu      sync.Mutex // guards what follows
	text    bytes.Buffer
	changed chan struct{} // closed and replaced at every write
}

var _ io.Writer = (*lineWaiter)(nil)

// Write keeps b.
func (w *lineWaiter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	close(w.changed)
	w.changed = make(chan struct{})
	return len(b), nil
}

func (w *lineWaiter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func (w *lineWaiter) find(text string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		w.mu.Lock()
		found, changed := strings.Contains(w.text.String(), text), w.changed
		w.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
