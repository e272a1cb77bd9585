package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// agents keeps the agents of an embedded cluster running. An agent outlives a healer that is killed; the next healer
// finds its lock held, lets it live and takes over only when it ends.
type agents struct {
	self   string // this binary
	data   string
	args   func(name string) []string
	extra  []*os.File // inherited by every agent, from descriptor 3 on
	logger *slog.Logger
	clock  clock.Clock

	wg     sync.WaitGroup
	cancel context.CancelFunc
}

// How often a held lock is tried again, and how soon a dead agent is started again.
const (
	agentPoll    = 500 * time.Millisecond
	agentBackoff = 10 * time.Second
)

// start keeps one agent running for each name, until stop.
func (a *agents) start(names []string) {
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	for _, name := range names {
		a.wg.Go(func() { a.keep(ctx, name) })
	}
}

// keep starts an agent whenever none runs. The first restart comes at once, later ones after a growing wait. Who wants a
// node to stay dead, as a drill does, holds it.
func (a *agents) keep(ctx context.Context, name string) {
	wait := time.Duration(0)
	for ctx.Err() == nil {
		if a.running(name) || a.held(name) {
			a.sleep(ctx, agentPoll)
			continue
		}
		began := a.clock.Now()
		err := a.run(ctx, name)
		if ctx.Err() != nil {
			return
		}
		a.logger.LogAttrs(ctx, slog.LevelWarn, "an agent ended; it is started again", slog.String("node", name), slog.Any("err", err),
			slog.String("said", lastLine(a.logFile(name))), slog.String("log", a.logFile(name)))
		if a.clock.Now().Sub(began) > agentBackoff {
			wait = 0
		}
		a.sleep(ctx, wait)
		wait = min(2*wait+100*time.Millisecond, agentBackoff)
	}
}

func (a *agents) sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := a.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
	case <-ctx.Done():
	}
}

// dir is the agent's own folder.
func (a *agents) dir(name string) string { return filepath.Join(a.data, "agents", name) }

// running reports whether an agent holds the folder's lock.
func (a *agents) running(name string) bool {
	f, err := os.OpenFile(filepath.Join(a.dir(name), "lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Is(err, syscall.EWOULDBLOCK)
	}
	return false
}

// held reports whether somebody asked for this agent not to be started: by a file of its name beside its folder.
func (a *agents) held(name string) bool {
	_, err := os.Stat(filepath.Join(a.data, "agents", name+".hold"))
	return err == nil
}

// run runs one agent process until it ends. It is in a session of its own: what is typed at the terminal does not reach
// it, and it survives this process.
func (a *agents) run(ctx context.Context, name string) error {
	log, err := openLog(a.logFile(name))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(a.self, a.args(name)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = a.extra
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start agent %s: %w", name, err)
	}
	if err := os.WriteFile(a.pidFile(name), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		a.logger.LogAttrs(ctx, slog.LevelWarn, "could not note the agent's process", slog.String("node", name), slog.Any("err", err))
	}
	return cmd.Wait()
}

func (a *agents) logFile(name string) string { return filepath.Join(a.data, "agents", name+".log") }

// lastLine is the last that an agent wrote: mostly why it ended.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	tail := make([]byte, min(end, 1<<10))
	if _, err := f.ReadAt(tail, end-int64(len(tail))); err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(tail)), "\n")
	return lines[len(lines)-1]
}

func (a *agents) pidFile(name string) string { return filepath.Join(a.data, "agents", name+".pid") }

// openLog opens an agent's log; one that has grown large is put aside once.
func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if fi, err := os.Stat(path); err == nil && fi.Size() > 8<<20 {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
}

// stop ends every agent, ours or of an earlier life, and waits for them until ctx ends; then it kills.
func (a *agents) stop(ctx context.Context, names []string) error {
	a.cancel()
	for _, name := range names {
		a.signal(name, syscall.SIGTERM)
	}
	for a.anyRunning(names) && ctx.Err() == nil {
		a.sleep(ctx, 10*time.Millisecond)
	}
	for _, name := range names {
		a.signal(name, syscall.SIGKILL)
	}
	a.wg.Wait()
	return nil
}

func (a *agents) anyRunning(names []string) bool {
	return slices.ContainsFunc(names, a.running)
}

// signal sends a signal to the process that was noted for an agent, if it still holds the lock: the number alone could
// belong to somebody else by now.
func (a *agents) signal(name string, sig syscall.Signal) {
	b, err := os.ReadFile(a.pidFile(name))
	if err != nil || !a.running(name) {
		return
	}
	if pid, err := strconv.Atoi(string(b)); err == nil {
		_ = syscall.Kill(pid, sig) // it may have ended meanwhile
	}
}
