package drill

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// Janitor cleans up after one cluster. It is a process of its own that waits for the end of its standard input, so that
// it does its work also when the drill was killed.
type Janitor struct {
	Dir    string // holds everything of the cluster; its data directory is Dir/data
	Cgroup string // name of the cluster's control group
	Clock  clock.Clock
	Proc   string // "/proc", but in tests
}

// keepWord, read from the standard input, leaves the files where they are.
const keepWord = "keep"

// CgroupPrefix begins the name of every control group that a drill makes.
const CgroupPrefix = "autoheal-drill-"

// Serve waits until in ends, cleans up and returns what could not be cleaned.
func (j Janitor) Serve(in io.Reader) error {
	if j.Dir == "" || !filepath.IsAbs(j.Dir) || !strings.HasPrefix(filepath.Base(j.Dir), CgroupPrefix) || !strings.HasPrefix(j.Cgroup, CgroupPrefix) {
		return fmt.Errorf("clean up: %q and %q are no directory and control group of a drill", j.Dir, j.Cgroup)
	}
	said, _ := io.ReadAll(io.LimitReader(in, 64)) // a broken pipe is an end as well
	err := errors.Join(j.endProcesses(), j.removeCgroups(), j.unmount())
	if strings.TrimSpace(string(said)) == keepWord {
		return err
	}
	if rerr := os.RemoveAll(j.Dir); rerr != nil {
		err = errors.Join(err, fmt.Errorf("remove files: %w", rerr))
	}
	return err
}

const (
	cleanRounds = 250
	cleanPause  = 20 * time.Millisecond
)

// endProcesses kills every process of the cluster, again and again until none is left: one that was about to start
// another is found in the next round. What starts others goes first.
func (j Janitor) endProcesses() error {
	p := procFS{j.Proc}
	groups := findCgroups(string(readAll(filepath.Join(j.Proc, "self", "mountinfo"))), j.Cgroup)
	var left []process
	for range cleanRounds {
		var err error
		for _, g := range groups {
			thaw(g)
		}
		if left, err = p.find(filepath.Join(j.Dir, "data")); err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		order := []role{roleUp, roleAgent, roleShim, roleWorkload}
		slices.SortStableFunc(left, func(a, b process) int { return slices.Index(order, a.Role) - slices.Index(order, b.Role) })
		for _, pr := range left {
			if err := p.signal(pr, syscall.SIGKILL); err != nil {
				return fmt.Errorf("clean up: %w", err)
			}
		}
		pause(j.Clock, cleanPause)
	}
	return fmt.Errorf("clean up: %d processes survive SIGKILL, the first is %s %d", len(left), left[0].Role, left[0].PID)
}

// thaw lets every group below top go on: on version 1 a frozen process does not even die, and a shim or agent that was
// killed while it froze its workload cannot thaw it any more.
func thaw(top string) {
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() == "freezer.state" {
			_ = os.WriteFile(path, []byte("THAWED"), 0) // a group that has just been removed needs none
		}
		return nil
	})
}

// removeCgroups removes the cluster's control group from every hierarchy, of either version.
func (j Janitor) removeCgroups() error {
	var errs []error
	for _, top := range findCgroups(string(readAll(filepath.Join(j.Proc, "self", "mountinfo"))), j.Cgroup) {
		errs = append(errs, j.removeTree(top))
	}
	return errors.Join(errs...)
}

// removeTree removes a control group and those below it, deepest first. A group whose last process is just leaving
// refuses for a moment; a process that is in it and was not found by the directory is killed.
func (j Janitor) removeTree(top string) error {
	var err error
	for range cleanRounds {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // a group that vanishes while we walk is what we want
		})
		slices.Reverse(dirs)
		err = nil
		for _, dir := range dirs {
			if e := syscall.Rmdir(dir); e != nil && !errors.Is(e, syscall.ENOENT) {
				err = fmt.Errorf("remove control group %s: %w", dir, e)
				j.killGroup(dir)
			}
		}
		if err == nil {
			return nil
		}
		pause(j.Clock, cleanPause)
	}
	return err
}

// killGroup kills what is left in a control group of this cluster: it carries the cluster's own name.
func (j Janitor) killGroup(dir string) {
	for f := range strings.FieldsSeq(string(readAll(filepath.Join(dir, "cgroup.procs")))) {
		var pid int
		if _, err := fmt.Sscanf(f, "%d", &pid); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is as good
		}
	}
}

// findCgroups returns the folders of the control group name right below each hierarchy's root, or below the group that
// this process is in.
func findCgroups(mountinfo, name string) []string {
	var out []string
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		head, tail := strings.Fields(left), strings.Fields(right)
		if !ok || len(head) < 5 || len(tail) < 1 || tail[0] != "cgroup" && tail[0] != "cgroup2" {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(head[4])
		_ = filepath.WalkDir(point, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil // closed to us: not of our making
			}
			if d.Name() == name {
				out = append(out, path)
				return fs.SkipDir
			}
			return nil
		})
	}
	return out
}

// pause waits for d.
func pause(clk clock.Clock, d time.Duration) {
	t := clk.NewTimer(d)
	defer t.Stop()
	<-t.C()
}
