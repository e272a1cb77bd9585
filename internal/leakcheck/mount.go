package leakcheck

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mount is one line of mountinfo.
type mount struct{ point, kind string }

func (s Scope) mounts() ([]mount, error) {
	raw, err := os.ReadFile(filepath.Join(s.Proc, "self", "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var out []mount
	for line := range strings.Lines(string(raw)) {
		// 36 35 98:0 /root /point options [optional…] - type source super
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 1 {
			return nil, fmt.Errorf("read mounts: line %q is not mountinfo", strings.TrimSpace(line))
		}
		out = append(out, mount{unescape(left[4]), right[0]})
	}
	return out, nil
}

func (s Scope) leakedMounts(mounts []mount) []Leak {
	var out []Leak
	for _, m := range mounts {
		if s.inDir(m.point) {
			out = append(out, Leak{Mount, m.point, m.kind})
		}
	}
	return out
}

// unescape undoes the octal escapes by which mountinfo writes spaces, tabs, newlines and backslashes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// cgroups walks every mounted hierarchy, of either version.
func (s Scope) cgroups(mounts []mount) ([]Leak, error) {
	if len(s.CgroupPrefixes) == 0 {
		return nil, nil
	}
	var out []Leak
	for _, m := range mounts {
		if m.kind != "cgroup" && m.kind != "cgroup2" {
			continue
		}
		err := filepath.WalkDir(m.point, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
				return nil // removed while we walk, or closed to us: not of our making
			case err != nil:
				return err
			case !d.IsDir() || path == m.point || !s.namesCgroup(d.Name()):
				return nil
			}
			if pids := membersOf(path); s.ownsCgroup(pids) {
				out = append(out, Leak{Cgroup, path, fmt.Sprintf("%d processes", len(pids))})
			}
			return fs.SkipDir
		})
		if err != nil {
			return nil, fmt.Errorf("walk control groups: %w", err)
		}
	}
	return out, nil
}

func (s Scope) namesCgroup(base string) bool {
	return slices.ContainsFunc(s.CgroupPrefixes, func(p string) bool { return strings.HasPrefix(base, p) })
}

// ownsCgroup says whether a control group is of this run. One that is empty bears no other mark than its name.
func (s Scope) ownsCgroup(pids []string) bool {
	if s.Exclusive || len(pids) == 0 {
		return true
	}
	return slices.ContainsFunc(pids, func(pid string) bool { return s.ours(markerOf(filepath.Join(s.Proc, pid))) })
}

// membersOf lists the processes of a control group and of those below it.
func membersOf(path string) []string {
	var out []string
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return nil
		}
		if raw, err := os.ReadFile(p); err == nil {
			out = append(out, strings.Fields(string(raw))...)
		}
		return nil
	})
	return out
}
