package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/agent/cgroup"
)

// defaultPath is the search path of workloads that set none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// errNotStarted wraps why the program could not be started; it is the workload's own fault.
var errNotStarted = errors.New("program could not be started")

// launch starts the program and returns its pid. The parent-death signal that takes the workload along when the shim
// is killed is sent when the forking *thread* ends, so that thread is kept, locked and idle, for the life of the
// process. check is asked last, immediately before the fork.
func launch(s *Spec, out, errOut *os.File, check func() error) (int, error) {
	path, err := lookPath(s.Argv, s.Env)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNotStarted, err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, fmt.Errorf("open standard input: %w", err)
	}
	defer null.Close()
	type started struct {
		pid int
		err error
	}
	done := make(chan started, 1)
	go func() {
		runtime.LockOSThread()
		pid, err := fork(s, ".", path, [3]uintptr{null.Fd(), out.Fd(), errOut.Fd()}, check)
		done <- started{pid, err}
		select {} // never unlocked, never ended: see above
	}()
	r := <-done
	return r.pid, r.err
}

// fork runs on the locked thread. dir is the attempt's folder.
func fork(s *Spec, dir, path string, files [3]uintptr, check func() error) (int, error) {
	attr := &syscall.ProcAttr{
		Dir: filepath.Join(dir, WorkDir), Env: s.Env, Files: files[:],
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
	if c := s.Credential; c != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
	}
	leave := func() error { return nil }
	switch s.Group.Version {
	case cgroup.V2:
		fd, err := s.Group.OpenFD()
		if err != nil {
			return 0, err
		}
		defer fd.Close()
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(fd.Fd())
	case cgroup.V1:
		back := cgroup.Detect().OwnTasks(s.Group)
		if err := s.Group.JoinThread(); err != nil {
			return 0, errors.Join(err, cgroup.LeaveThread(back))
		}
		leave = func() error { return cgroup.LeaveThread(back) }
	}
	if err := check(); err != nil {
		return 0, errors.Join(err, leave())
	}
	pid, err := syscall.ForkExec(path, s.Argv, attr)
	if leaveErr := leave(); leaveErr != nil { // a thread of ours that stayed inside would be frozen when the group is killed
		if err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil) // a child of ours that nobody else waits for yet
		}
		return 0, leaveErr
	}
	switch {
	case errors.Is(err, unix.EAGAIN): // of the fork: this machine, or its user, has no process to give
		return 0, fmt.Errorf("fork: %w", err)
	case err != nil:
		return 0, fmt.Errorf("%w: exec %s: %w", errNotStarted, path, err)
	}
	return pid, nil
}

// lookPath finds argv[0] by the workload's own PATH. A name with a slash is taken as it is, from the working directory.
func lookPath(argv, env []string) (string, error) {
	if len(argv) == 0 || argv[0] == "" {
		return "", errors.New("no command is given")
	}
	name := argv[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	found := fmt.Errorf("exec %s: not found in PATH (%s)", name, path)
	for dir := range strings.SplitSeq(path, ":") {
		file := filepath.Join(dir, name)
		info, err := os.Stat(file)
		switch {
		case err != nil || info.IsDir() || !filepath.IsAbs(file):
		case info.Mode()&0o111 == 0:
			found = fmt.Errorf("exec %s: %w", file, fs.ErrPermission)
		default:
			return file, nil
		}
	}
	return "", found
}

// StartTicks returns when a process started, in clock ticks since boot: with its pid and the boot it names a process.
func StartTicks(pid int) (uint64, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, fmt.Errorf("read process: %w", err)
	}
	_, rest, ok := strings.Cut(string(data), ") ") // the name before it may hold anything, ") " in it is cut again
	for ok {
		var after string
		after = rest
		if _, after, ok = strings.Cut(after, ") "); ok {
			rest = after
		}
	}
	f := strings.Fields(rest)
	if len(f) < 20 {
		return 0, fmt.Errorf("read process %d: short stat line", pid)
	}
	return strconv.ParseUint(f[19], 10, 64) // field 22 of proc(5); the cut dropped two
}

// descendants lists the processes below pid, parents first.
func descendants(pid int) []int {
	var all []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		kids := children(queue[0])
		all, queue = append(all, kids...), append(queue, kids...)
	}
	return all
}

func children(pid int) []int {
	lists, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	if err != nil {
		return nil // only a malformed pattern is an error
	}
	var kids []int
	for _, l := range lists {
		data, err := os.ReadFile(l)
		if err != nil {
			continue // the thread ended
		}
		for f := range strings.FieldsSeq(string(data)) {
			if kid, err := strconv.Atoi(f); err == nil {
				kids = append(kids, kid)
			}
		}
	}
	return kids
}

// killTree sends SIGKILL to every descendant of this process, stopped first so that they cannot outrun the walk.
func killTree() {
	kids := descendants(os.Getpid())
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
		for _, pid := range kids {
			_ = unix.Kill(pid, sig) // gone already is as good
		}
	}
}

// treeRSS sums the resident memory below this process, in MiB.
func treeRSS() int64 {
	var pages int64
	for _, pid := range descendants(os.Getpid()) {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
		if f := strings.Fields(string(data)); err == nil && len(f) > 1 {
			n, _ := strconv.ParseInt(f[1], 10, 64) // the kernel writes numbers
			pages += n
		}
	}
	return pages * int64(os.Getpagesize()) >> 20
}
