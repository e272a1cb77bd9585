package agent

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// stopMargin is how much longer than the grace a shim may take before it is taken for hung.
const stopMargin = 10 * time.Second

// enforceStop kills the shim of an attempt that does not end although it should: a stopped or hung shim would keep its
// workload for ever. The workload goes with it, by the parent-death signal and the follower's look at the group.
func (a *Agent) enforceStop(at *attempt, grace time.Duration) {
	t := a.clk.NewTimer(grace + stopMargin)
	defer t.Stop()
	select {
	case <-at.done:
		return
	case <-a.ctx.Done():
		return // the next life is asked again
	case <-t.C():
	}
	a.log.Warn("shim does not stop its workload and is killed", slog.String("workload", string(at.key.workload)), slog.Int("attempt", at.key.attempt))
	if err := killShim(at.dir); err != nil {
		a.log.Error("hung shim cannot be killed", slog.String("workload", string(at.key.workload)), slog.Int("attempt", at.key.attempt), slog.Any("error", err))
		a.setDetail(at, err.Error())
	}
}

// killShim kills the shim that was started with --dir dir. The process is held by a descriptor before it is looked at,
// so that its number cannot pass to another one in between.
func killShim(dir string) error {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return fmt.Errorf("find shim: %w", err)
	}
	want := []byte("\x00--dir\x00" + dir + "\x00")
	isShim := func(cmdline string) bool {
		data, err := os.ReadFile(cmdline)
		return err == nil && bytes.HasSuffix(data, want)
	}
	for _, f := range files {
		if !isShim(f) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			continue // not a process
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it ended
		}
		if isShim(f) {
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return fmt.Errorf("kill shim %d: %w", pid, err)
		}
		return nil
	}
	return fmt.Errorf("%w with %s", errNoShim, dir)
}

var errNoShim = errors.New("find shim: no process runs")
