package storetest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var inNamespace = flag.Bool("storetest.namespace", false, "this process has its own mounts")

// InNamespace runs the calling test again in a child process with its own mounts, which end with it, and reports in the
// parent that there is nothing left to do. Usage: if !storetest.InNamespace(t) { return }. It skips the test where
// neither root nor user namespaces are available.
func InNamespace(t *testing.T) bool {
	t.Helper()
	if *inNamespace {
		return true
	}
	// Skipping by the name of the whole path would let a wrong pattern pass as success, hence -test.v and the check below.
	run := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+run, "-test.v", "-storetest.namespace")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil && strings.Contains(string(out), "--- SKIP: "+t.Name()):
		t.Skipf("skipped in the child process:\n%s", out)
	case err == nil && !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("the child process did not run the test:\n%s", out)
	case errors.As(err, &exit):
		t.Fatalf("in the child process: %v\n%s", err, out)
	case err != nil:
		t.Skipf("a small disk needs root or user namespaces: %v", err)
	default:
		t.Logf("passed in a process with its own mounts:\n%s", out)
	}
	return false
}

// SmallDisk mounts a file system of the given size and returns a directory on it, readable by its owner only. The
// caller runs InNamespace before.
func SmallDisk(t *testing.T, bytes int64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("autoheal-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	return dir
}

// MakeReadOnly makes the disk of SmallDisk read-only.
func MakeReadOnly(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("make the disk read-only: %v", err)
	}
}

// Fill writes a file until the disk of dir is full, and returns the file's path.
func Fill(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 16; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}
