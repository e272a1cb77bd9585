package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// processes are those of the machine at one moment, by number.
type processes struct {
	dir  string // /proc
	all  map[int]process
	pids []int // in order
	err  error // why there are none
}

type process struct {
	parent int
	state  string
	rssMB  int64
	argv   []string // empty: a kernel thread
}

// readProcesses looks at all processes. Their environments are not read.
func readProcesses(proc string) processes {
	out := processes{dir: proc, all: map[int]process{}}
	entries, err := os.ReadDir(proc)
	if err != nil {
		out.err = err
		return out
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join(proc, e.Name())
		_, rest, _ := cutLast(readProc(filepath.Join(dir, "stat")), ") ")
		f := strings.Fields(rest)
		if len(f) < 22 {
			continue // it ended meanwhile
		}
		pages, _ := strconv.ParseInt(f[21], 10, 64) // the kernel writes numbers
		parent, _ := strconv.Atoi(f[1])
		p := process{parent: parent, state: f[0], rssMB: pages * int64(os.Getpagesize()) >> 20}
		if command := strings.TrimRight(readProc(filepath.Join(dir, "cmdline")), "\x00"); command != "" {
			p.argv = strings.Split(command, "\x00")
		}
		out.all[pid] = p
		out.pids = append(out.pids, pid)
	}
	slices.Sort(out.pids)
	return out
}

// below returns a process and all that descend from it, in order.
func (ps processes) below(root int) []int {
	var out []int
	for _, pid := range ps.pids {
		for up, steps := pid, 0; up > 1 && steps < len(ps.all); up, steps = ps.all[up].parent, steps+1 {
			if up == root {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}

// subject is an attempt that evidence is about.
type subject struct {
	key key
	pid int
}

// subjects are the attempts that a capture is about: those of a workload, on a GPU, or all.
func (a *Agent) subjects(req nodeproto.CollectRequest) []subject {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []subject
	a.liveLocked(func(at *attempt) {
		named := req.Whole
		named = named || req.Workload != "" && at.key.workload == req.Workload
		named = named || req.GPU != "" && slices.Contains(at.spec.Start.GPUs, req.GPU)
		if pid := at.view.status.Pid; named && pid > 0 {
			out = append(out, subject{at.key, pid})
		}
	})
	slices.SortFunc(out, func(x, y subject) int { return x.pid - y.pid })
	return out
}

// processList shows every process: its number, its parent, state, resident MiB, workload and program. What programs were
// called with is often secret: only the arguments of workloads' own commands are shown, which their specifications show, too.
func (a *Agent) processList(ps processes) string {
	if ps.err != nil {
		return "not available: " + ps.err.Error()
	}
	of := map[int]autoheal.WorkloadID{}
	mains := map[int]bool{}
	for _, s := range a.subjects(nodeproto.CollectRequest{Whole: true}) {
		mains[s.pid] = true
		for _, pid := range ps.below(s.pid) {
			of[pid] = s.key.workload
		}
	}
	var b strings.Builder
	b.WriteString("PID PPID STATE RSS_MB WORKLOAD PROGRAM\n")
	for _, pid := range ps.pids {
		p := ps.all[pid]
		if len(p.argv) == 0 && p.state != "D" {
			continue // a kernel thread at rest
		}
		command := strings.TrimSpace(readProc(filepath.Join(ps.dir, strconv.Itoa(pid), "comm")))
		switch {
		case mains[pid]:
			command = strings.Join(p.argv, " ")
		case len(p.argv) > 1:
			command = fmt.Sprintf("%s (and %d arguments)", p.argv[0], len(p.argv)-1)
		case len(p.argv) == 1:
			command, _, _ = strings.Cut(p.argv[0], " ") // a program may write what it likes over its arguments
		}
		workload := string(of[pid])
		if workload == "" {
			workload = "-"
		}
		fmt.Fprintf(&b, "%d %d %s %d %s %s\n", pid, p.parent, p.state, p.rssMB, workload, clip(command, 300))
	}
	return b.String()
}
