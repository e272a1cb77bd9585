package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits bound one group; zero means no limit.
type Limits struct {
	MemoryMB int64 `json:"memoryMb,omitempty"`
	CPUMilli int64 `json:"cpuMilli,omitempty"`
	Pids     int64 `json:"pids,omitempty"`
}

// Group names one control group: the folder of each controller (the one key "" on version 2). Its zero value is no
// group. It is a value, written into an attempt's spec file, so that whoever comes later finds the same folders.
type Group struct {
	Version Version           `json:"version"`
	Dirs    map[string]string `json:"dirs"`
}

// Exists reports whether g names a group at all.
func (g Group) Exists() bool { return g.Version != None }

// Present reports whether any of g's folders is there.
func (g Group) Present() bool {
	return slices.ContainsFunc(g.folders(), func(dir string) bool {
		_, err := os.Stat(dir)
		return err == nil
	})
}

// Child returns the group called name below g.
func (g Group) Child(name string) Group {
	c := Group{Version: g.Version, Dirs: map[string]string{}}
	for k, dir := range g.Dirs {
		c.Dirs[k] = filepath.Join(dir, name)
	}
	return c
}

// folders returns the distinct folders of g, in a fixed order (controllers may be mounted together).
func (g Group) folders() []string {
	return slices.Compact(slices.Sorted(maps.Values(g.Dirs)))
}

// Prepare makes the parent group prefix/name of a node's workloads with the node's own limits, and proves by making it
// that this process has the right to. It tries the top of the hierarchy first and then below the process's own group,
// which is what a delegated unit may use.
func (h Host) Prepare(prefix, name string, limits Limits) (Group, error) {
	if h.Version == None {
		return Group{}, fmt.Errorf("prepare control group: %s", h.Reason)
	}
	var problems []error
	for _, below := range []bool{false, true} {
		top := Group{Version: h.Version, Dirs: map[string]string{}}
		for c, mount := range h.Mounts {
			top.Dirs[c] = mount
			if below {
				top.Dirs[c] = filepath.Join(mount, h.Own[c])
			}
		}
		g := top.Child(prefix).Child(name)
		var made []string
		err := errors.Join(top.delegate(), top.Child(prefix).make(&made), top.Child(prefix).delegate(), g.make(&made), g.delegate(), g.limit(limits))
		if err == nil {
			return g, nil
		}
		problems = append(problems, err)
		for _, dir := range slices.Backward(made) { // what was there before may hold attempts of an earlier agent
			_ = unix.Rmdir(dir) // the error that matters is the one above
		}
	}
	return Group{}, fmt.Errorf("prepare control group %s/%s: %w", prefix, name, problems[0])
}

// Create makes the group below a prepared parent and sets its limits. An attempt's counters start at zero: an empty
// group that an earlier life left behind is made anew, and one that something still runs in is an error.
func (g Group) Create(limits Limits) error {
	for _, dir := range g.folders() {
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) && unix.Rmdir(dir) == nil {
			err = os.Mkdir(dir, 0o755)
		}
		if err != nil {
			return fmt.Errorf("create control group: %w", err)
		}
	}
	return g.limit(limits)
}

// make makes the folders that are not there yet and appends them to made.
func (g Group) make(made *[]string) error {
	for _, dir := range g.folders() {
		err := os.Mkdir(dir, 0o755)
		switch {
		case err == nil:
			*made = append(*made, dir)
		case !errors.Is(err, fs.ErrExist):
			return fmt.Errorf("create control group: %w", err)
		}
	}
	return nil
}

// RemoveIfEmpty deletes g, and the folders above it, where nothing is in them.
func (g Group) RemoveIfEmpty() {
	for _, dir := range g.folders() {
		_ = unix.Rmdir(dir) // attempts that live on keep it
	}
	g.RemoveParent()
}

// RemoveParent deletes the folders above g where nothing else is in them.
func (g Group) RemoveParent() {
	for _, dir := range g.folders() {
		_ = unix.Rmdir(filepath.Dir(dir)) // another node of this machine may still use it
	}
}

// delegate makes the controllers available to the children of a version 2 group.
func (g Group) delegate() error {
	if g.Version != V2 {
		return nil
	}
	dir := g.Dirs[""]
	offered := strings.Fields(readText(filepath.Join(dir, "cgroup.controllers")))
	enabled := strings.Fields(readText(filepath.Join(dir, "cgroup.subtree_control")))
	for _, c := range []string{"memory", "pids", "cpu"} {
		if slices.Contains(enabled, c) || c == "cpu" && !slices.Contains(offered, c) {
			continue
		}
		if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+c); err != nil {
			return err
		}
	}
	return nil
}

// limit sets the limits. Swap is closed: a workload that needs more than its memory is killed, not slowed down.
func (g Group) limit(l Limits) error {
	if g.Version == V2 {
		return g.limitV2(l)
	}
	var errs []error
	if dir := g.Dirs["memory"]; dir != "" && l.MemoryMB > 0 {
		errs = append(errs, limitMemoryV1(dir, strconv.FormatInt(l.MemoryMB<<20, 10)))
	}
	if dir := g.Dirs["cpu"]; dir != "" && l.CPUMilli > 0 {
		errs = append(errs, write(filepath.Join(dir, "cpu.cfs_period_us"), "100000"),
			write(filepath.Join(dir, "cpu.cfs_quota_us"), strconv.FormatInt(quota(l.CPUMilli), 10)))
	}
	if dir := g.Dirs["pids"]; dir != "" && l.Pids > 0 {
		errs = append(errs, write(filepath.Join(dir, "pids.max"), strconv.FormatInt(l.Pids, 10)))
	}
	return errors.Join(errs...)
}

// limitMemoryV1 keeps to the kernel's rule that memory may never exceed memory with swap: to raise both, the second
// comes first.
func limitMemoryV1(dir, limit string) error {
	memory, both := filepath.Join(dir, "memory.limit_in_bytes"), filepath.Join(dir, "memory.memsw.limit_in_bytes")
	if err := write(memory, limit); err != nil {
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
		return errors.Join(writeIfThere(both, limit), write(memory, limit))
	}
	return writeIfThere(both, limit)
}

func (g Group) limitV2(l Limits) error {
	dir := g.Dirs[""]
	var errs []error
	if l.MemoryMB > 0 {
		errs = append(errs, write(filepath.Join(dir, "memory.max"), strconv.FormatInt(l.MemoryMB<<20, 10)),
			writeIfThere(filepath.Join(dir, "memory.swap.max"), "0"))
	}
	if l.CPUMilli > 0 {
		errs = append(errs, writeIfThere(filepath.Join(dir, "cpu.max"), fmt.Sprintf("%d 100000", quota(l.CPUMilli))))
	}
	if l.Pids > 0 {
		errs = append(errs, write(filepath.Join(dir, "pids.max"), strconv.FormatInt(l.Pids, 10)))
	}
	return errors.Join(errs...)
}

// quota is the share of a period of 100 ms; the kernel refuses less than 1 ms.
func quota(cpuMilli int64) int64 { return max(cpuMilli*100, 1000) }

// OpenFD opens a version 2 group for clone's CLONE_INTO_CGROUP.
func (g Group) OpenFD() (*os.File, error) {
	fd, err := unix.Open(g.Dirs[""], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open control group %s: %w", g.Dirs[""], err)
	}
	return os.NewFile(uintptr(fd), g.Dirs[""]), nil
}

// JoinThread moves the calling thread alone into a version 1 group; the caller has locked itself to it. What it forks
// then begins life inside.
func (g Group) JoinThread() error {
	var errs []error
	for _, dir := range g.folders() {
		errs = append(errs, write(filepath.Join(dir, "tasks"), "0")) // 0 is the writing thread
	}
	return errors.Join(errs...)
}

// Procs lists the processes in the group and below it.
func (g Group) Procs() []int {
	var pids []int
	for _, dir := range g.tree() {
		for f := range strings.FieldsSeq(readText(filepath.Join(dir, "cgroup.procs"))) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// tree returns the group's folders and those that a workload with the right to may have made below, deepest last.
func (g Group) tree() []string {
	var dirs []string
	for _, top := range g.folders() {
		// A folder that disappears under the walk needs no mention: it is gone, which is what callers want of it.
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
	}
	return dirs
}

// Remove deletes the group's folders. It fails while processes are in it; a group that is gone is no error.
func (g Group) Remove() error {
	var errs []error
	dirs := g.tree()
	slices.Reverse(dirs)
	for _, dir := range dirs {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove control group %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

func readText(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "" // absent counters are reported as zero; Prepare has proved that the required ones exist
	}
	return string(data)
}

func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open control file: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// writeIfThere skips files that only some kernels have, such as those of swap accounting.
func writeIfThere(path, text string) error {
	if err := write(path, text); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
