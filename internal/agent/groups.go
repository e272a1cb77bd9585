package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/agent/shim"
)

// groupNames is how many names are tried for the control group of one attempt.
const groupNames = 8

// freeGroup makes sure that the attempt's control group is its own. The name may be in use: the state of an earlier life
// of this node may be gone while its workloads are not, and anybody with the right may have put a process there. What is
// provably ours is ended; beside a stranger the attempt gets a group of another name.
func (a *Agent) freeGroup(k key, s *shim.Spec) error {
	if !s.Group.Exists() {
		return nil
	}
	var err error
	for n := range groupNames {
		g := s.Group
		if n > 0 {
			g = a.parent.Child(fmt.Sprintf("%s.%d-%d", k.workload, k.attempt, n))
		}
		if err = a.clearGroup(k, s, g); err == nil {
			s.Group = g
			return nil
		}
		a.log.Warn("a control group is in use by others", slog.String("workload", string(k.workload)), slog.Int("attempt", k.attempt), slog.Any("error", err))
	}
	return fmt.Errorf("%d control groups are in use by others, the last: %w", groupNames, err)
}

// clearGroup ends what is ours in a group of an attempt that is about to begin, and removes the group.
func (a *Agent) clearGroup(k key, s *shim.Spec, g cgroup.Group) error {
	if !g.Present() {
		return nil
	}
	// Its shim would count what happens here as its own workload's end; there is none, mostly.
	if err := killShim(a.attemptDir(k)); err != nil && !errors.Is(err, errNoShim) {
		return err
	}
	marks := ourMarks(s.Env)
	pids := g.Procs()
	if i := slices.IndexFunc(pids, func(pid int) bool { return foreign(pid, marks) }); i >= 0 {
		return fmt.Errorf("process %d in it is not ours", pids[i])
	}
	if err := g.Kill(a.clk); err != nil {
		return err
	}
	return g.RemoveSoon(a.clk)
}

// ourMarks are those variables of an environment that we made by which a process is known to be of one attempt of one
// node's folder. A workload cannot replace them in what it is given, and two clusters never give the same.
func ourMarks(env []string) []string {
	var marks []string
	for _, kv := range env {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "AUTOHEAL_WORKLOAD", "AUTOHEAL_ATTEMPT", "AUTOHEAL_NODE", homeVariable:
			marks = append(marks, kv)
		}
	}
	return marks
}

// foreign reports whether a process lives that does not bear all marks.
func foreign(pid int, marks []string) bool {
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return false // it ended
	}
	return err != nil || !hasAll(env, marks)
}
