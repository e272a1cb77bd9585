package shim

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/clock"
)

// hostWorker runs the program as a process of this machine.
type hostWorker struct {
	spec     *Spec
	clk      clock.Clock
	boot     func() time.Duration
	mainGone chan<- unix.WaitStatus
	allGone  chan<- struct{}

	pid     int
	empty   atomic.Bool // no descendant is left
	sink    *logSink
	readers sync.WaitGroup
	pipes   []*os.File
	made    bool // the group
	peak    int64
	over    bool
}

var _ worker = (*hostWorker)(nil)

func (w *hostWorker) start(check func() error) (int, error) {
	if w.spec.Group.Exists() {
		if err := w.spec.Group.Create(w.spec.Limits); err != nil {
			return 0, err
		}
		w.made = true
	}
	w.sink = newLogSink(w.spec.LogBytes, w.spec.LogRate, w.boot, w.clk)
	var ends [2]*os.File
	for i, stream := range []byte{'o', 'e'} {
		r, wr, err := pipe()
		if err != nil {
			return 0, err
		}
		defer wr.Close()
		ends[i] = wr
		w.pipes = append(w.pipes, r)
		w.readers.Go(func() { w.sink.copyLines(r, stream) })
	}
	pid, err := launch(w.spec, ends[0], ends[1], check)
	if err != nil {
		return 0, err
	}
	w.pid = pid
	go w.reap()
	return pid, nil
}

// abort has nothing to do: starting a process waits for nothing.
func (w *hostWorker) abort() {}

// pipe returns a pipe whose write end blocks, as programs expect of their standard output.
func pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("open pipe: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that closing the read end wakes its reader
		return nil, nil, fmt.Errorf("open pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "output"), os.NewFile(uintptr(fds[1]), "output"), nil
}

// reap waits for every descendant: orphans come to this process because it is a subreaper. That no child is left is
// therefore proof that nothing of the program is left, with control groups or without.
func (w *hostWorker) reap() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // ECHILD
			w.empty.Store(true)
			w.allGone <- struct{}{}
			return
		case pid == w.pid:
			w.mainGone <- ws
		}
	}
}

// term asks the program and what it started in its own process group, as a terminal would.
func (w *hostWorker) term() {
	if w.pid <= 1 {
		return // minus nothing would be this shim's own group
	}
	_ = unix.Kill(-w.pid, unix.SIGTERM) // it leads its session; gone already is as good
}

// kill goes on until nothing is left: a process in an uninterruptible wait dies when the wait ends.
func (w *hostWorker) kill() {
	for !w.empty.Load() {
		if w.made {
			_ = w.spec.Group.Kill(w.clk) // what survives is killed in the next round
		}
		killTree()
		pauseFor(w.clk, 20*time.Millisecond)
	}
}

func (w *hostWorker) stat() cgroup.Stat {
	if w.made {
		return w.spec.Group.Read()
	}
	if w.spec.Group.Exists() || w.pid == 0 {
		return cgroup.Stat{}
	}
	used := treeRSS()
	w.peak = max(w.peak, used)
	limit := w.spec.Limits.MemoryMB
	w.over = w.over || limit > 0 && used > limit
	return cgroup.Stat{PeakMB: w.peak, UsageMB: used}
}

func (w *hostWorker) overLimit() bool { return w.over }

// drainTime bounds how long output is read after the end: a pipe that the program handed to a stranger never ends.
const drainTime = time.Second

func (w *hostWorker) lastWords() string {
	if w.sink == nil {
		return ""
	}
	return w.sink.lastWords()
}

func (w *hostWorker) finish() error {
	var errs []error
	if w.sink != nil {
		for _, r := range w.pipes {
			_ = r.SetReadDeadline(w.clk.Now().Add(drainTime)) // without one, closing below ends the read
		}
		w.readers.Wait()
		for _, r := range w.pipes {
			_ = r.Close() // read only
		}
		if err := w.sink.close(); err != nil {
			errs = append(errs, fmt.Errorf("output is incomplete: %w", err))
		}
	}
	if w.made {
		errs = append(errs, w.spec.Group.RemoveSoon(w.clk))
	}
	return errors.Join(errs...)
}
