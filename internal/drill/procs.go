package drill

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"autoheal.dev/autoheal"
)

// role is what a process is in a cluster.
type role string

const (
	roleUp       role = "up"
	roleAgent    role = "agent"
	roleShim     role = "shim"
	roleWorkload role = "workload"
)

// process is one process of a cluster. Start tells it from a later one with the same number.
type process struct {
	PID, Parent int
	Start       uint64
	Role        role
	Node        autoheal.NodeID
	Workload    autoheal.WorkloadID
	Attempt     int
}

// procFS reads processes; Root is /proc but in tests.
type procFS struct{ Root string }

// find returns the processes that belong to the cluster in the directory data: by that directory in their arguments or
// in the environment that their workload was given, never by a name alone. They are ordered by number.
func (p procFS) find(data string) ([]process, error) {
	entries, err := os.ReadDir(p.Root)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if pr, ok := p.read(pid, data); ok {
			out = append(out, pr)
		}
	}
	slices.SortFunc(out, func(a, b process) int { return a.PID - b.PID })
	return out, nil
}

// read looks at one process; one that has ended meanwhile, or is a zombie, is none.
func (p procFS) read(pid int, data string) (process, bool) {
	dir := filepath.Join(p.Root, strconv.Itoa(pid))
	pr, ok := parseStat(readAll(filepath.Join(dir, "stat")))
	if !ok {
		return process{}, false
	}
	pr.PID = pid
	argv := split0(readAll(filepath.Join(dir, "cmdline")))
	if len(argv) == 0 {
		return process{}, false
	}
	if pr.byArguments(argv, data) || pr.byEnvironment(split0(readAll(filepath.Join(dir, "environ"))), data) {
		return pr, true
	}
	return process{}, false
}

// byArguments knows our own commands by the directory that they were given.
func (pr *process) byArguments(argv []string, data string) bool {
	if len(argv) < 2 {
		return false
	}
	switch argv[1] {
	case "up":
		pr.Role = roleUp
		return option(argv, "--data") == data
	case "node":
		pr.Role, pr.Node = roleAgent, autoheal.NodeID(option(argv, "--name"))
		return option(argv, "--data") == data
	case "shim":
		rest, ok := strings.CutPrefix(option(argv, "--dir"), filepath.Join(data, "agents")+"/")
		parts := strings.Split(rest, "/") // NODE/wl/ID/ATTEMPT
		if !ok || len(parts) != 4 {
			return false
		}
		pr.Role, pr.Node, pr.Workload = roleShim, autoheal.NodeID(parts[0]), autoheal.WorkloadID(parts[2])
		pr.Attempt, _ = strconv.Atoi(parts[3])
		return true
	}
	return false
}

// byEnvironment knows a workload, and what it started, by the environment that its agent built for it.
func (pr *process) byEnvironment(env []string, data string) bool {
	vars := map[string]string{}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		vars[k] = v
	}
	if !strings.HasPrefix(vars["HOME"], filepath.Join(data, "agents")+"/") || vars["AUTOHEAL_WORKLOAD"] == "" {
		return false
	}
	pr.Role, pr.Node, pr.Workload = roleWorkload, autoheal.NodeID(vars["AUTOHEAL_NODE"]), autoheal.WorkloadID(vars["AUTOHEAL_WORKLOAD"])
	pr.Attempt, _ = strconv.Atoi(vars["AUTOHEAL_ATTEMPT"])
	return true
}

// option returns the value of --name VALUE.
func option(argv []string, name string) string {
	for i, a := range argv {
		if a == name && i+1 < len(argv) {
			return argv[i+1]
		}
	}
	return ""
}

// parseStat reads parent and start from /proc/PID/stat, whose second field may hold anything within parentheses.
func parseStat(stat []byte) (process, bool) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return process{}, false
	}
	f := strings.Fields(string(stat[i+1:])) // state ppid … ; starttime is the 22nd field of all
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return process{}, false
	}
	parent, err1 := strconv.Atoi(f[1])
	start, err2 := strconv.ParseUint(f[19], 10, 64)
	return process{Parent: parent, Start: start}, err1 == nil && err2 == nil
}

func readAll(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil // ended meanwhile, or another user's
	}
	return b
}

func split0(b []byte) []string {
	var out []string
	for s := range bytes.SplitSeq(bytes.TrimRight(b, "\x00"), []byte{0}) {
		out = append(out, string(s))
	}
	return out
}

// signal sends a signal to a process that was found, if it is still the same one.
func (p procFS) signal(pr process, sig syscall.Signal) error {
	now, ok := parseStat(readAll(filepath.Join(p.Root, strconv.Itoa(pr.PID), "stat")))
	if !ok || now.Start != pr.Start {
		return nil // it has ended, which is all that a signal could ask for
	}
	if err := syscall.Kill(pr.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s %d: %w", pr.Role, pr.PID, err)
	}
	return nil
}

// mains returns the main process of each workload: the one that its shim started.
func mains(all []process) map[autoheal.WorkloadID]process {
	shims := map[int]bool{}
	for _, pr := range all {
		if pr.Role == roleShim {
			shims[pr.PID] = true
		}
	}
	out := map[autoheal.WorkloadID]process{}
	for _, pr := range all {
		if pr.Role != roleWorkload || !shims[pr.Parent] {
			continue
		}
		// What is orphaned moves to the shim as well; the main process is the oldest.
		if old, ok := out[pr.Workload]; !ok || pr.Attempt > old.Attempt || pr.Attempt == old.Attempt && pr.Start < old.Start {
			out[pr.Workload] = pr
		}
	}
	return out
}

// exists reports whether there is a file.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
