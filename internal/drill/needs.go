package drill

import (
	"os"
	"path/filepath"
	"strings"
)

// missing says what the drill needs and this machine does not give, or nothing.
func (s *Session) missing() string {
	if s.drill.Cgroups {
		return missingCgroups(string(readAll("/proc/self/mountinfo")))
	}
	if s.drill.Mounts {
		return missingMounts(s.opt.TempDir)
	}
	return ""
}

// missingCgroups says why the kernel will enforce no memory limit here, or nothing.
func missingCgroups(mountinfo string) string {
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		head, tail := strings.Fields(left), strings.Fields(right)
		if !ok || len(head) < 5 || len(tail) < 3 {
			continue
		}
		v1 := tail[0] == "cgroup" && hasWord(tail[2], "memory")
		v2 := tail[0] == "cgroup2" && hasField(string(readAll(filepath.Join(head[4], "cgroup.controllers"))), "memory")
		if !v1 && !v2 {
			continue
		}
		try := filepath.Join(head[4], CgroupPrefix+"try")
		if err := os.Mkdir(try, 0o700); err != nil {
			return "no right to make control groups: " + err.Error()
		}
		if err := os.Remove(try); err != nil {
			return "cannot remove a control group: " + err.Error()
		}
		return ""
	}
	return "no memory controller of control groups is mounted"
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

func hasField(list, word string) bool {
	for w := range strings.FieldsSeq(list) {
		if w == word {
			return true
		}
	}
	return false
}
