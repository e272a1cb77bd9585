package drill

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/leakcheck"
)

// buildBinary builds the program under test.
func buildBinary(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "autoheal")
	if out, err := exec.Command("go", "build", "-o", bin, "autoheal.dev/autoheal/cmd/autoheal").CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	return bin
}

// gone fails the test unless everything below dir and marked with the run ends.
func gone(t *testing.T, run leakcheck.Run, dir string) {
	t.Helper()
	for range 600 { // a minute; a janitor may have to wait for the kernel
		leaks, err := leakcheck.Scope{Run: run.Marker, Dir: dir, CgroupPrefixes: []string{CgroupPrefix}}.Scan()
		if err != nil {
			t.Fatal(err)
		}
		if len(leaks) == 0 {
			return
		}
		pause(clock.Real{}, 100*time.Millisecond)
		if t.Context().Err() != nil {
			break
		}
	}
	leaks, _ := leakcheck.Scope{Run: run.Marker, Dir: dir, CgroupPrefixes: []string{CgroupPrefix}}.Scan()
	for _, l := range leaks {
		t.Errorf("left behind: %s", l)
	}
}

// TestRealDrill runs one drill through the program and reads its report.
func TestRealDrill(t *testing.T) {
	bin, run, dir := buildBinary(t), leakcheck.Start(t), t.TempDir()
	cmd := exec.Command(bin, "drill", "crash-once", "-o", "json")
	cmd.Env = append(cmd.Environ(), "TMPDIR="+dir, "AUTOHEAL_ENABLED=false") // settings of the user do not reach a drill
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
	var rep Report
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if rep.Passed != 1 || rep.Failed != 0 || len(rep.Drills) != 1 || rep.Profile != "short" {
		t.Fatalf("report: %+v", rep)
	}
	d := rep.Drills[0]
	if d.Incident == nil || d.RunningSeconds == nil || len(d.Recoveries) != 1 || len(d.Steps) == 0 || string(*d.Proof) != "exit_observed" {
		t.Errorf("row: %+v", d)
	}
	gone(t, run, dir)
}

// TestRealDrillKilled kills a drill while its cluster has a frozen agent, which cannot end anything by itself.
func TestRealDrillKilled(t *testing.T) {
	bin, run, dir := buildBinary(t), leakcheck.Start(t), t.TempDir()
	for name, sig := range map[string]syscall.Signal{"interrupt": syscall.SIGINT, "kill": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(bin, "drill", "self-stop")
			cmd.Env = append(cmd.Environ(), "TMPDIR="+dir)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			frozen := awaitFrozenAgent(t, dir)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Errorf("the drill ended well with its agent %d frozen", frozen.PID)
			}
			gone(t, run, dir)
		})
	}
}

// awaitFrozenAgent waits until an agent of the one cluster in dir is stopped.
func awaitFrozenAgent(t *testing.T, dir string) process {
	t.Helper()
	for range 1200 {
		data, err := filepath.Glob(filepath.Join(dir, CgroupPrefix+"*", "data"))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range data {
			all, err := procFS{"/proc"}.find(d)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range all {
				stat := readAll(filepath.Join("/proc", strconv.Itoa(p.PID), "stat"))
				if p.Role == roleAgent && bytes.Contains(stat, []byte(") T ")) {
					return p
				}
			}
		}
		pause(clock.Real{}, 50*time.Millisecond)
	}
	t.Fatal("no agent was frozen within a minute")
	return process{}
}
