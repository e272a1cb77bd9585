package leakcheck

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// MarkerEnv is the environment variable whose value names the run that a process belongs to. What starts a process with
// an environment of its own making (the shim does, for workloads) hands it on.
const MarkerEnv = "AUTOHEAL_TEST_RUN"

// CgroupPrefixes begin the names of the control groups that tests and drills make.
var CgroupPrefixes = []string{"autoheal-test-", "autoheal-drill-"}

// Kind says what sort of thing was left behind.
type Kind string

// The kinds of leak.
const (
	Process Kind = "process"
	Cgroup  Kind = "cgroup"
	Mount   Kind = "mount"
	File    Kind = "file"
)

// Leak is one thing that outlived its run.
type Leak struct {
	Kind Kind
	// What names it: a process ID, or a path.
	What string
	// Detail helps to find who left it.
	Detail string
}

func (l Leak) String() string { return string(l.Kind) + " " + l.What + " (" + l.Detail + ")" }

// Scope names one run, or a part of one, by the marks that it leaves.
type Scope struct {
	// Run is the value of MarkerEnv; values that continue it after a slash belong to it too. Empty matches no process.
	Run string
	// Dir is the folder that holds every temporary file of the run. Empty looks for no files or mounts.
	Dir string
	// CgroupPrefixes begin the names of the run's control groups. Empty looks for none.
	CgroupPrefixes []string
	// Exclusive says that no other run shares the machine, as in CI: then a control group with a fitting name is this
	// run's even when the processes in it bear no mark, or another one.
	Exclusive bool
	// Proc is where the process file system is mounted; empty means /proc.
	Proc string
}

// Scan lists what is left of the run, ordered by kind and name.
func (s Scope) Scan() ([]Leak, error) {
	s.Proc = cmp.Or(s.Proc, "/proc")
	procs, err := s.processes()
	if err != nil {
		return nil, err
	}
	mounts, err := s.mounts()
	if err != nil {
		return nil, err
	}
	cgroups, err := s.cgroups(mounts)
	if err != nil {
		return nil, err
	}
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	leaks := slices.Concat(s.leakedProcesses(procs), s.leakedMounts(mounts), cgroups, files)
	slices.SortFunc(leaks, func(a, b Leak) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.What, b.What)) })
	return leaks, nil
}

// Settle scans until nothing is left or the context ends, and returns what the last scan found: a process that was
// killed a moment ago is not a leak yet. There is nothing to subscribe to for all four kinds, so it looks again at
// intervals.
func (s Scope) Settle(ctx context.Context, clk clock.Clock) ([]Leak, error) {
	const every = 50 * time.Millisecond
	for {
		leaks, err := s.Scan()
		if err != nil || len(leaks) == 0 {
			return leaks, err
		}
		timer := clk.NewTimer(every)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return leaks, nil
		}
	}
}

// files lists what lies in the run's folder. A folder that is gone holds nothing.
func (s Scope) files() ([]Leak, error) {
	if s.Dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []Leak
	for _, e := range entries {
		what := "file"
		if e.IsDir() {
			what = "folder"
		}
		out = append(out, Leak{File, filepath.Join(s.Dir, e.Name()), what})
	}
	return out, nil
}

// inDir says whether a path lies in the run's folder.
func (s Scope) inDir(path string) bool {
	return s.Dir != "" && (path == s.Dir || strings.HasPrefix(path, s.Dir+"/"))
}

// ours says whether a value of MarkerEnv belongs to the run.
func (s Scope) ours(marker string) bool {
	return s.Run != "" && (marker == s.Run || strings.HasPrefix(marker, s.Run+"/"))
}
