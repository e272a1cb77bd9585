package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// killOrphans ends what outlived its shim: by the control group, or else by the marks in the environment of processes.
func (a *Agent) killOrphans(at *attempt) error {
	if at.spec.Container != nil {
		return a.removeContainer(at.spec)
	}
	if g := at.spec.Group; g.Exists() {
		if err := g.Kill(a.clk); err != nil {
			return err
		}
		return g.RemoveSoon(a.clk)
	}
	marks := ourMarks(at.spec.Env)
	for range 100 {
		found := markedProcesses(marks)
		if len(found) == 0 {
			return nil
		}
		for _, pid := range found {
			_ = unix.Kill(pid, unix.SIGKILL) // gone already is as good
		}
		t := a.clk.NewTimer(retryDial)
		<-t.C()
	}
	return fmt.Errorf("processes survive SIGKILL: %v", markedProcesses(marks))
}

// markedProcesses lists the processes whose first environment held all marks.
func markedProcesses(marks []string) []int {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil // only a malformed pattern is an error
	}
	var pids []int
	for _, f := range files {
		env, err := os.ReadFile(f)
		if err != nil || !hasAll(env, marks) {
			continue // ended meanwhile, or another user's
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func hasAll(env []byte, marks []string) bool {
	if len(env) == 0 {
		return false // a kernel thread or a zombie
	}
	vars := map[string]bool{}
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		vars[string(kv)] = true
	}
	for _, m := range marks {
		if !vars[m] {
			return false
		}
	}
	return true
}
