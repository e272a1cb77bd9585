package shim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/agent/container"
	"autoheal.dev/autoheal/internal/clock"
)

// containerWorker runs the program as a container of an engine. The engine is its parent: a killed shim does not take
// it along, so the agent removes the containers of dead shims.
type containerWorker struct {
	spec     *Spec
	engine   container.Engine
	clk      clock.Clock
	mainGone chan<- unix.WaitStatus
	allGone  chan<- struct{}

	ctx    context.Context // of everything before the program runs
	cancel context.CancelFunc
	sink   *logSink
	out    *container.Output
	reader sync.WaitGroup
	oom    atomic.Bool
	gone   atomic.Bool
}

var _ worker = (*containerWorker)(nil)

func newContainerWorker(s *Spec, clk clock.Clock, mainGone chan<- unix.WaitStatus, allGone chan<- struct{}) *containerWorker {
	w := &containerWorker{spec: s, engine: *s.Engine, clk: clk, mainGone: mainGone, allGone: allGone}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

func (w *containerWorker) start(check func() error) (int, error) {
	c := *w.spec.Container
	if err := w.engine.Pull(w.ctx, c.Image); err != nil {
		return 0, w.refused(err, check)
	}
	if err := w.engine.Create(w.ctx, c); err != nil {
		return 0, w.refused(err, check)
	}
	out, err := w.engine.Attach(w.ctx, c.Name)
	if err != nil {
		return 0, w.refused(err, check)
	}
	w.out, w.sink = out, newLogSink(w.spec.LogBytes, w.spec.LogRate, Boottime, w.clk)
	w.reader.Go(w.copyOutput)
	if err := check(); err != nil {
		return 0, err
	}
	// No context from here on: whether the engine has started it must be known.
	if err := w.engine.Start(context.Background(), c.Name); err != nil {
		if state, lookErr := w.engine.Inspect(context.Background(), c.Name); lookErr != nil || !state.Running {
			return 0, fmt.Errorf("%w: %w", errNotStarted, err)
		}
	}
	state, err := w.engine.Inspect(context.Background(), c.Name)
	if err != nil {
		state.Pid = 0 // it runs; the number is for people
	}
	go w.wait()
	return state.Pid, nil
}

// refused says why the start gave up: because it was stopped, rather than by what that interrupted.
func (w *containerWorker) refused(err error, check func() error) error {
	if stopped := check(); stopped != nil {
		return stopped
	}
	return fmt.Errorf("%w: %w", errNotStarted, err)
}

func (w *containerWorker) abort() { w.cancel() }

func (w *containerWorker) copyOutput() {
	streams := map[byte]*splitter{}
	for n, name := range map[byte]byte{1: 'o', 2: 'e'} {
		streams[n] = &splitter{emit: func(at time.Duration, text string) { w.sink.put(at, name, text) }}
	}
	err := w.out.Copy(func(stream byte, data []byte) { streams[stream].feed(Boottime(), data) })
	now := Boottime()
	streams[1].flush(now)
	streams[2].flush(now)
	if err != nil {
		w.sink.put(now, 'e', "autoheal: "+err.Error())
	}
}

// wait learns the end from the engine. An engine that is being restarted is asked again: only its word counts, since
// containers may outlive it.
func (w *containerWorker) wait() {
	name := w.spec.Container.Name
	for {
		_ = w.engine.Wait(context.Background(), name) // an error is found by looking
		state, err := w.engine.Inspect(context.Background(), name)
		var refused *container.Error
		switch {
		case err == nil && !state.Running:
			w.oom.Store(state.OOMKilled)
			w.end(exitStatus(state.ExitCode))
			return
		case errors.As(err, &refused) && refused.Status == 404: // somebody removed it, and it with it
			w.end(exitStatus(128 + int(unix.SIGKILL)))
			return
		}
		pauseFor(w.clk, time.Second)
	}
}

// end tells the end, after the container is removed: then nothing of it is left.
func (w *containerWorker) end(ws unix.WaitStatus) {
	w.mainGone <- ws
	for w.engine.Remove(context.Background(), w.spec.Container.Name) != nil {
		pauseFor(w.clk, time.Second)
	}
	w.gone.Store(true)
	w.allGone <- struct{}{}
}

// exitStatus makes a wait status of an engine's exit code, in which signals are 128 + number.
func exitStatus(code int) unix.WaitStatus {
	if code > 128 && code < 128+32 {
		return unix.WaitStatus(code - 128)
	}
	return unix.WaitStatus((code & 0xff) << 8)
}

// callTime bounds one request that only has to be taken.
const callTime = 10 * time.Second

func (w *containerWorker) term() {
	go w.signal("SIGTERM") // the engine may be slow; the grace runs meanwhile
}

func (w *containerWorker) signal(name string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t := w.clk.NewTimer(callTime)
	defer t.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.engine.Kill(ctx, w.spec.Container.Name, name) // the wait tells whether it helped
	}()
	select {
	case <-done:
	case <-t.C():
		cancel()
		<-done
	}
}

func (w *containerWorker) kill() {
	for !w.gone.Load() {
		w.signal("SIGKILL")
		pauseFor(w.clk, 200*time.Millisecond)
	}
}

// stat knows only what the engine tells at the end: killed at the container's own limit.
func (w *containerWorker) stat() cgroup.Stat {
	if w.oom.Load() {
		return cgroup.Stat{OOMKills: 1, OwnHits: 1}
	}
	return cgroup.Stat{}
}

func (w *containerWorker) overLimit() bool { return false }

func (w *containerWorker) lastWords() string {
	if w.sink == nil {
		return ""
	}
	return w.sink.lastWords()
}

func (w *containerWorker) finish() error {
	defer w.cancel() // it would end the output
	var errs []error
	if !w.gone.Load() { // the start gave up: what was created is removed
		errs = append(errs, w.engine.Remove(context.Background(), w.spec.Container.Name))
	}
	if w.out != nil {
		w.drain()
		errs = append(errs, w.sink.close())
	}
	return errors.Join(errs...)
}

// drain reads the rest of the output, for a bounded time.
func (w *containerWorker) drain() {
	done := make(chan struct{})
	go func() { w.reader.Wait(); close(done) }()
	t := w.clk.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C():
	}
	_ = w.out.Close() // read only; it ends the reader
	<-done
}

func pauseFor(clk clock.Clock, d time.Duration) {
	t := clk.NewTimer(d)
	<-t.C()
}
