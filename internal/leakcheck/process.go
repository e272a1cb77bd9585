package leakcheck

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is what the scan needs to know about a running process.
type process struct {
	pid     int
	parent  int
	command string
	marker  string // value of MarkerEnv, empty if unset or not readable
	inDir   bool   // its program or working folder lies in the run's folder
}

// processes reads the process table. Processes that end while it is read, and those of other users, whose environment
// is hidden and which this run cannot have started, are passed over. Zombies have no environment: they run nothing.
func (s Scope) processes() (map[int]process, error) {
	entries, err := os.ReadDir(s.Proc)
	if err != nil {
		return nil, fmt.Errorf("read process table: %w", err)
	}
	out := map[int]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join(s.Proc, e.Name())
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		out[pid] = process{
			pid: pid, parent: parentOf(stat), command: commandOf(dir), marker: markerOf(dir),
			inDir: s.inDir(linkOf(dir, "exe")) || s.inDir(linkOf(dir, "cwd")),
		}
	}
	return out, nil
}

func (s Scope) leakedProcesses(procs map[int]process) []Leak {
	spared := ancestors(procs, os.Getpid())
	var out []Leak
	for pid, p := range procs {
		if spared[pid] || !s.ours(p.marker) && !p.inDir {
			continue
		}
		out = append(out, Leak{Process, strconv.Itoa(pid), p.command})
	}
	return out
}

// ancestors returns the process and all above it: whoever runs the check bears the marks of the run and is no leak.
func ancestors(procs map[int]process, pid int) map[int]bool {
	out := map[int]bool{}
	for pid > 0 && !out[pid] {
		out[pid] = true
		pid = procs[pid].parent
	}
	return out
}

// parentOf reads the second field after the command, which stands in parentheses and may itself hold any character.
func parentOf(stat []byte) int {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0
	}
	return parent
}

func commandOf(dir string) string {
	raw, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil || len(raw) == 0 {
		return "no command line"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(raw), "\x00", " "))
}

func markerOf(dir string) string {
	raw, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return ""
	}
	for entry := range bytes.SplitSeq(raw, []byte{0}) {
		if value, ok := bytes.CutPrefix(entry, []byte(MarkerEnv+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// linkOf reads a link of the process; the kernel adds a note to the path of a file that is deleted.
func linkOf(dir, name string) string {
	target, err := os.Readlink(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(target, " (deleted)")
}
