package leakcheck

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// TestNothingLeft is the last stage of make check. The stage names the run that has just ended; a plain go test has no
// run to judge.
func TestNothingLeft(t *testing.T) {
	run, dir := os.Getenv("AUTOHEAL_LEAK_RUN"), os.Getenv("AUTOHEAL_LEAK_DIR")
	if run == "" || dir == "" {
		t.Skip("no finished run to judge: AUTOHEAL_LEAK_RUN and AUTOHEAL_LEAK_DIR are set by make check")
	}
	ctx, cancel := context.WithTimeout(t.Context(), settleFor)
	defer cancel()
	scope := Scope{Run: run, Dir: dir, CgroupPrefixes: CgroupPrefixes, Exclusive: os.Getenv("CI") == "true"}
	leaks, err := scope.Settle(ctx, clock.Real{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leaks {
		t.Errorf("left behind: %s", l)
	}
}

// marked starts a process that waits for ever under the given environment and returns it with a function that ends it.
func marked(t *testing.T, dir string, env ...string) (pid string, end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.Env, cmd.Dir = append([]string{"PATH=" + os.Getenv("PATH")}, env...), dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	return strconv.Itoa(cmd.Process.Pid), end
}

func names(t *testing.T, s Scope, kind Kind) []string {
	t.Helper()
	leaks, err := s.Scan()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range leaks {
		if l.Kind == kind {
			out = append(out, l.What)
		}
	}
	return out
}

func TestFindsMarkedProcess(t *testing.T) {
	scope := Scope{Run: "planted-" + t.Name(), Dir: t.TempDir()}
	byRun, endRun := marked(t, "/", MarkerEnv+"="+scope.Run)
	byPart, endPart := marked(t, "/", MarkerEnv+"="+scope.Run+"/7-1")
	byDir, endDir := marked(t, scope.Dir)
	marked(t, "/", MarkerEnv+"="+scope.Run+"0") // another run, whose name begins alike
	marked(t, "/")

	want := []string{byRun, byPart, byDir}
	slices.Sort(want)
	if got := names(t, scope, Process); !slices.Equal(got, want) {
		t.Errorf("found %q, planted %q", got, want)
	}
	endRun()
	endPart()
	endDir()
	if got := names(t, scope, Process); len(got) > 0 {
		t.Errorf("found %q after all were ended", got)
	}
}

func TestSparesItsAncestors(t *testing.T) {
	procs := map[int]process{1: {pid: 1}, 7: {pid: 7, parent: 1}, os.Getpid(): {parent: 7}, 9: {pid: 9, parent: 7}}
	for pid, p := range procs {
		p.marker = "r"
		procs[pid] = p
	}
	got := Scope{Run: "r"}.leakedProcesses(procs)
	if len(got) != 1 || got[0].What != "9" {
		t.Errorf("found %v, want only the sibling 9", got)
	}
}

func TestFindsFile(t *testing.T) {
	scope := Scope{Dir: t.TempDir()}
	if got := names(t, scope, File); len(got) > 0 {
		t.Fatalf("found %q in an empty folder", got)
	}
	path := filepath.Join(scope.Dir, "state.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := names(t, scope, File); !slices.Equal(got, []string{path}) {
		t.Errorf("found %q, planted %q", got, path)
	}
}

func TestMissingFolderHoldsNothing(t *testing.T) {
	if got := names(t, Scope{Dir: filepath.Join(t.TempDir(), "gone")}, File); len(got) > 0 {
		t.Errorf("found %q", got)
	}
}

// TestFindsMountAndCgroup reads a made-up process file system, so that it needs no rights.
func TestFindsMountAndCgroup(t *testing.T) {
	proc, hierarchy := t.TempDir(), t.TempDir()
	for _, dir := range []string{
		filepath.Join(hierarchy, "autoheal-drill-1", "wl-1"), filepath.Join(hierarchy, "user", "autoheal-test-2"),
		filepath.Join(hierarchy, "autoheal-test-3"), filepath.Join(hierarchy, "autoheal"), filepath.Join(proc, "self"),
		filepath.Join(proc, "41"), filepath.Join(proc, "42"),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		filepath.Join(proc, "self", "mountinfo"): "25 1 0:1 / /proc rw - proc proc rw\n" +
			"26 1 0:2 / " + hierarchy + " rw shared:3 - cgroup2 cgroup2 rw\n" +
			`27 1 0:3 / /tmp/autoheal\040run/data rw - tmpfs tmpfs rw` + "\n",
		filepath.Join(proc, "41", "environ"):                                 "A=b\x00" + MarkerEnv + "=mine/4\x00",
		filepath.Join(proc, "42", "environ"):                                 MarkerEnv + "=other\x00",
		filepath.Join(hierarchy, "autoheal-drill-1", "wl-1", "cgroup.procs"): "41\n",
		filepath.Join(hierarchy, "autoheal-test-3", "cgroup.procs"):          "42\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scope := Scope{Run: "mine", Dir: "/tmp/autoheal run", CgroupPrefixes: CgroupPrefixes, Proc: proc}
	if got := names(t, scope, Mount); !slices.Equal(got, []string{"/tmp/autoheal run/data"}) {
		t.Errorf("mounts: found %q", got)
	}
	mine := []string{filepath.Join(hierarchy, "autoheal-drill-1"), filepath.Join(hierarchy, "user", "autoheal-test-2")}
	if got := names(t, scope, Cgroup); !slices.Equal(got, mine) {
		t.Errorf("control groups beside another run: found %q, want %q", got, mine)
	}
	scope.Exclusive = true
	if got := names(t, scope, Cgroup); len(got) != 3 {
		t.Errorf("control groups on a machine of our own: found %q, want all three", got)
	}
}

// TestFindsRealCgroup plants an empty control group in the first hierarchy that lets us.
func TestFindsRealCgroup(t *testing.T) {
	scope := Scope{CgroupPrefixes: []string{CgroupPrefixes[0] + strconv.Itoa(os.Getpid()) + "-planted"}, Proc: "/proc"}
	mounts, err := scope.mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		path := filepath.Join(m.point, scope.CgroupPrefixes[0])
		if !strings.HasPrefix(m.kind, "cgroup") || os.Mkdir(path, 0o700) != nil {
			continue
		}
		got := names(t, scope, Cgroup)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(got, path) {
			t.Errorf("found %q, planted %q", got, path)
		}
		if left := names(t, scope, Cgroup); len(left) > 0 {
			t.Errorf("found %q after it was removed", left)
		}
		return
	}
	t.Skip("no control group hierarchy lets this user make a group")
}

func TestFindsRealMount(t *testing.T) {
	scope := Scope{Dir: t.TempDir()}
	point := filepath.Join(scope.Dir, "data")
	if err := os.Mkdir(point, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", point, "tmpfs", 0, "size=4k"); err != nil {
		t.Skipf("this user may not mount: %v", err)
	}
	got := names(t, scope, Mount)
	if err := syscall.Unmount(point, 0); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []string{point}) {
		t.Errorf("found %q, planted %q", got, point)
	}
}

// recorder is a test that keeps what it is told, so that a failing end can be observed.
type recorder struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (r *recorder) Helper()           {}
func (r *recorder) Cleanup(fn func()) { r.cleanups = append(r.cleanups, fn) }

func (r *recorder) Errorf(format string, args ...any) {
	if l, ok := args[0].(Leak); ok {
		r.errors = append(r.errors, string(l.Kind)+" "+l.What)
		return
	}
	r.TB.Errorf(format, args...)
}

// TestStartFailsALeakyTest runs the end of a test that leaves a process, without the wait for it to vanish, and then the
// end of one that leaves nothing.
func TestStartFailsALeakyTest(t *testing.T) {
	leaky := &recorder{TB: t}
	run := start(leaky, time.Nanosecond)
	pid, end := marked(t, "/", MarkerEnv+"="+run.Marker)
	leaky.cleanups[0]()
	if !slices.Equal(leaky.errors, []string{"process " + pid}) {
		t.Errorf("a test that left process %s failed with %q", pid, leaky.errors)
	}
	end()
	leaky.errors = nil
	leaky.cleanups[0]()
	if len(leaky.errors) > 0 {
		t.Errorf("a test that left nothing failed with %q", leaky.errors)
	}
}

func TestSettleEndsWithItsContext(t *testing.T) {
	scope := Scope{Dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(scope.Dir, "left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	leaks, err := scope.Settle(ctx, clock.Real{})
	if err != nil || len(leaks) != 1 || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("settled with %v, %v", leaks, err)
	}
}
