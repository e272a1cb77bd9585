package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/leakcheck"
	"autoheal.dev/autoheal/internal/store/storetest"
	"autoheal.dev/autoheal/internal/surface/client"
)

// patience is how long a test waits for what must come. Nothing asserts how fast it came.
const patience = 2 * time.Minute

// binEnv tells a test that runs again in a namespace of its own where the binary is.
const binEnv = "AUTOHEAL_TEST_RUN_BINARY"

// binary is the program under test.
var binary = os.Getenv(binEnv)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "ahbin")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	// Other users run it too in a test.
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "autoheal")
	build := exec.Command("go", "build", "-o", binary, "autoheal.dev/autoheal/cmd/autoheal")
	build.Stderr, build.Stdout = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		panic(fmt.Sprintf("build the program: %v", err))
	}
	return m.Run()
}

// inNamespace is storetest.InNamespace with the binary that is built already.
func inNamespace(t *testing.T) bool {
	t.Helper()
	t.Setenv(binEnv, binary)
	return storetest.InNamespace(t)
}

// cluster is a data directory, how to run a cluster on it, and the run of the moment.
type cluster struct {
	t     testing.TB
	run   leakcheck.Run
	dir   string
	flags []string
	up    *process
	api   *client.Client
}

// newCluster makes an empty data directory. Whatever runs on it ends with the test; what ends only then is a leak.
func newCluster(t testing.TB, flags ...string) *cluster {
	t.Helper()
	return newClusterAt(t, shortDir(t), flags...)
}

// shortDir is t.TempDir with a name that leaves room for the paths of sockets, which may have 107 bytes.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ah")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newClusterAt(t testing.TB, dir string, flags ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: filepath.Join(dir, "data")}
	t.Cleanup(func() { c.purge() }) // runs after the look for leaks
	c.run = leakcheck.Start(t)
	t.Cleanup(func() {
		if left := c.processes(); len(left) > 0 {
			t.Errorf("processes %v run on", left)
		}
	})
	c.flags = append([]string{
		"--nodes", "2", "--simulate-gpus", "2:H100", "--cgroup", c.run.CgroupPrefix + "c",
		"--set", "autoHeal.node.probeInterval=1s", "--set", "autoHeal.node.probeTimeout=500ms",
		"--set", "autoHeal.workload.restartBackoff={initial: 100ms, factor: 2, max: 5m}",
	}, flags...)
	api, err := client.New("unix:" + c.dir + "/api.sock")
	if err != nil {
		t.Fatal(err)
	}
	c.api = api
	t.Cleanup(api.Close)
	return c
}

// launch runs up and does not wait for anything.
func (c *cluster) launch(flags ...string) *process {
	c.t.Helper()
	c.up = startProcess(c.t, append(append([]string{"up", "--data", c.dir}, c.flags...), flags...)...)
	return c.up
}

// start runs up until its nodes answer.
func (c *cluster) start(flags ...string) *process {
	c.t.Helper()
	p := c.launch(flags...)
	p.line("is ready after")
	return p
}

// stop interrupts up, as Ctrl-C does, and expects an orderly end.
func (c *cluster) stop() {
	c.t.Helper()
	c.api.Close()
	c.up.signal(syscall.SIGINT)
	if code := c.up.wait(); code != 0 {
		c.t.Fatalf("up ended with %d:\n%s", code, c.up.out)
	}
}

// purge kills what bears the marks of the test. It is no excuse for a leak: it runs after the look for them.
func (c *cluster) purge() {
	for _, pid := range c.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// result is what a command line gave.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

// cli runs a command against the cluster.
func (c *cluster) cli(args ...string) result {
	c.t.Helper()
	return execute(c.t, exec.Command(binary, append(args, "--server", "unix:"+c.dir+"/api.sock", "--data", c.dir)...))
}

func execute(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// call calls a verb and reads its result.
func call[T any](c *cluster, verb string, in any) T {
	c.t.Helper()
	var out T
	if err := c.api.Call(c.t.Context(), verb, in, &out); err != nil {
		c.t.Fatalf("%s: %v", verb, err)
	}
	return out
}

// lookAgain bounds how stale the view of await may be: logs and control groups are no part of the stream.
const lookAgain = 100 * time.Millisecond

// await returns once ok, which is asked again at every change that the healer tells, and now and then.
func (c *cluster) await(what string, ok func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	told, broken := make(chan struct{}, 1), make(chan error, 1)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer cancel()
	reader.Go(func() {
		for _, err := range c.api.Events(ctx, 0) {
			if err != nil {
				broken <- err
				return
			}
			select {
			case told <- struct{}{}:
			default: // it is to look again already
			}
		}
	})
	again := clock.Real{}.NewTimer(lookAgain)
	defer again.Stop()
	for {
		if ok() {
			return
		}
		again.Reset(lookAgain)
		select {
		case <-told:
		case <-again.C():
		case err := <-broken:
			c.t.Fatalf("waiting for %s: %v\n%s%s", what, err, c.cli("workloads"), c.cli("incidents"))
		}
	}
}

func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("read %q: %v", text, err)
	}
	return v
}

func writeFile(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mustContain(t testing.TB, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q:\n%s", what, w, text)
		}
	}
}
