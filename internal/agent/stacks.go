package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of stacks.
const (
	maxStacked = 64 // processes
	maxThreads = 16 // of one
)

// stacks shows where the threads of the subjects are in the kernel, and whatever else sleeps there without being able to be
// woken, as what waits for a driver does.
func stacks(ps processes, subjects []subject) string {
	if ps.err != nil {
		return "not available: " + ps.err.Error()
	}
	var b strings.Builder
	shown := map[int]bool{}
	show := func(pid int, of string) {
		if shown[pid] || len(shown) >= maxStacked {
			return
		}
		shown[pid] = true
		fmt.Fprintf(&b, "process %d (%s) of %s, state %s\n", pid, ps.name(pid), of, ps.all[pid].state)
		ps.threads(pid, &b)
	}
	for _, s := range subjects {
		for _, pid := range ps.below(s.pid) {
			show(pid, s.key.String())
		}
	}
	for _, pid := range ps.pids {
		if ps.all[pid].state == "D" {
			show(pid, "the machine")
		}
	}
	if len(shown) == 0 {
		return "no process of a workload, and none that cannot be woken\n"
	}
	return b.String()
}

func (ps processes) name(pid int) string {
	return strings.TrimSpace(readProc(filepath.Join(ps.dir, strconv.Itoa(pid), "comm")))
}

// threads shows the threads of a process: state, the system call that it waits in, and the kernel's own stack where the
// agent may see it.
func (ps processes) threads(pid int, b *strings.Builder) {
	dir := filepath.Join(ps.dir, strconv.Itoa(pid), "task")
	tasks, err := os.ReadDir(dir)
	if err != nil {
		fmt.Fprintf(b, "  not available: %v\n", err)
		return
	}
	for i, t := range tasks {
		if i == maxThreads {
			fmt.Fprintf(b, "  and %d more threads\n", len(tasks)-i)
			return
		}
		task := filepath.Join(dir, t.Name())
		_, rest, _ := cutLast(readProc(filepath.Join(task, "stat")), ") ")
		state, _, _ := strings.Cut(rest, " ")
		waits := strings.TrimSpace(readProc(filepath.Join(task, "wchan")))
		fmt.Fprintf(b, "  thread %s %s, state %s, waits in %s\n", t.Name(), strings.TrimSpace(readProc(filepath.Join(task, "comm"))), state, orDash(waits))
		stack, err := os.ReadFile(filepath.Join(task, "stack"))
		switch {
		case errors.Is(err, os.ErrNotExist):
			b.WriteString("    its stack is not shown by this kernel\n")
		case err != nil:
			b.WriteString("    its stack is not available: " + err.Error() + "\n")
		}
		for line := range strings.Lines(string(stack)) {
			b.WriteString("    " + strings.TrimSpace(line) + "\n")
		}
	}
}

func orDash(s string) string {
	if s == "" || s == "0" {
		return "-"
	}
	return s
}

// dumpStacks sends SIGQUIT to the processes that catch it: Java and Python with faulthandler write their stacks and go on,
// Go writes them and ends. What does not catch it would only die.
func dumpStacks(ps processes, subjects []subject) string {
	var b strings.Builder
	for _, s := range subjects {
		for _, pid := range ps.below(s.pid) {
			if !catches(readProc(filepath.Join(ps.dir, strconv.Itoa(pid), "status")), unix.SIGQUIT) {
				continue
			}
			if err := unix.Kill(pid, unix.SIGQUIT); err != nil {
				fmt.Fprintf(&b, "process %d could not be asked for its stacks: %v\n", pid, err)
				continue
			}
			fmt.Fprintf(&b, "process %d was asked for its stacks by SIGQUIT: they are in its log if it writes them\n", pid)
		}
	}
	if b.Len() == 0 {
		return "no process catches SIGQUIT: none was asked for its stacks\n"
	}
	return b.String()
}

// catches reads from a process's status whether it has a handler for a signal.
func catches(status string, sig unix.Signal) bool {
	for line := range strings.Lines(status) {
		if mask, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && bits&(1<<(uint(sig)-1)) != 0
		}
	}
	return false
}
