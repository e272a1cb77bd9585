package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"autoheal.dev/autoheal/internal/clock"
)

// TestRealKillOnVersion2 uses the unified mount of a hybrid machine as well: it has no controllers, but groups can be
// entered and killed there as anywhere.
func TestRealKillOnVersion2(t *testing.T) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	_, mount, _ := parseMounts(string(data))
	if mount == "" {
		t.Skip("no version 2 hierarchy is mounted")
	}
	g := Group{Version: V2, Dirs: map[string]string{"": mount}}.Child(fmt.Sprintf("autoheal-test-%d", os.Getpid()))
	if err := g.Create(Limits{}); errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(clock.Real{}), g.RemoveSoon(clock.Real{})); err != nil {
			t.Error(err)
		}
	})
	fd, err := g.OpenFD()
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	cmd := exec.Command("/bin/sh", "-c", "sleep 1000 & sleep 1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if pids := g.Procs(); len(pids) == 0 {
		t.Error("the process did not begin its life in the group")
	}
	if err := g.Remove(); err == nil {
		t.Error("a group with processes was removed")
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if err := g.Kill(clock.Real{}); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("the process ended well though it was killed")
	}
	if pids := g.Procs(); len(pids) != 0 {
		t.Errorf("processes %v survive", pids)
	}
}
