package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// checksFile, in an attempt's folder, keeps what its checks had found, for the next life of the agent: without it a
// restart would begin the startup time anew, or call well what is not.
const checksFile = "checks.json"

// checkView is what the checks of an attempt say of it; times are CLOCK_BOOTTIME, 0 = never. Health and progress are two
// watchers, each of which writes its own part.
type checkView struct {
	Ready    bool          `json:"ready"`
	ReadyAt  time.Duration `json:"readyAt"`
	Health   finding       `json:"health"`
	Progress finding       `json:"progress"`
	Moved    bool          `json:"moved"` // it has got on at least once
}

// finding is what one check holds against an attempt; the zero finding is nothing.
type finding struct {
	Since    time.Duration `json:"since"`
	Failures int           `json:"failures"`
	Reason   string        `json:"reason"`
	Output   string        `json:"output"`
}

// render tells the checks as of now. What is unhealthy comes before what is stalled.
func (c *checkView) render(now time.Duration) *nodeproto.CheckStatus {
	if c == nil {
		return nil
	}
	s := &nodeproto.CheckStatus{Ready: c.Ready}
	if c.ReadyAt > 0 {
		s.ReadyMS = bootAge(now, int64(c.ReadyAt))
	}
	f := c.Health
	if s.Failing = autoheal.Unhealthy; f.Reason == "" {
		f, s.Failing = c.Progress, autoheal.Stalled
	}
	if f.Reason == "" {
		s.Failing = ""
		return s
	}
	s.FailingMS, s.Failures, s.Reason, s.Output = bootAge(now, int64(f.Since)), f.Failures, clip(f.Reason, maxDetail), clip(f.Output, maxDetail)
	return s
}

// asked returns the checks that an attempt asks for by its labels. They were checked at submit; what is wrong with them
// checks nothing.
func asked(labels map[string]string) (*autoheal.HealthSpec, *autoheal.ProgressSpec) {
	set, _ := autoheal.ParseLabels(labels)
	return set.Options.Health, set.Options.Progress
}

// watchChecks starts what checks an attempt, if it asks for any, for as long as it lives.
func (a *Agent) watchChecks(at *attempt) {
	if at.health != nil {
		a.wg.Go(func() { a.watchHealth(at) })
	}
	if at.progress != nil {
		a.wg.Go(func() { a.watchProgress(at) })
	}
}

// readChecks returns what the checks of an attempt of this boot had found, or that nothing was found yet; nil without any.
func readChecks(at *attempt, boot string) *checkView {
	if at.health == nil && at.progress == nil {
		return nil
	}
	c := &checkView{}
	data, err := os.ReadFile(filepath.Join(at.dir, checksFile))
	if err != nil || at.spec.BootID != boot || json.Unmarshal(data, c) != nil { // cut off by a full disk: it is found out again
		c = &checkView{}
	}
	c.Ready = c.Ready || at.health == nil
	return c
}

// foundOut takes a new finding over, tells it, and keeps it for the next life.
func (a *Agent) foundOut(at *attempt, change func(*checkView)) {
	at.finding.Lock()
	defer at.finding.Unlock()
	a.mu.Lock()
	c := *at.checks
	change(&c)
	told := c != *at.checks
	at.checks = &c
	if told && !at.view.ended() {
		v := *at.view
		v.checks = &c
		a.setViewLocked(at, &v)
	}
	a.mu.Unlock()
	if !told {
		return
	}
	if data, err := json.Marshal(c); err == nil {
		_ = shim.WriteDurably(filepath.Join(at.dir, checksFile), data) // a full disk must not end a workload
	}
}

// awaitRunning returns when the attempt's program was started; false means that it has ended, or the agent does.
func (a *Agent) awaitRunning(at *attempt) bool {
	for {
		a.mu.Lock()
		v, changed := at.view, a.changed
		a.mu.Unlock()
		switch {
		case v.ended():
			return false
		case v.state == nodeproto.AttemptRunning && v.status.Started > 0:
			return true
		}
		select {
		case <-changed:
		case <-at.done:
		case <-a.ctx.Done():
			return false
		}
	}
}

// rest waits between two looks; false means that there is nothing to look at any more.
func (a *Agent) rest(at *attempt, d time.Duration) bool {
	t := a.clk.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
	case <-at.done:
		return false
	case <-a.ctx.Done():
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return at.view.state == nodeproto.AttemptRunning
}

// watchHealth asks an attempt again and again, one question at a time.
func (a *Agent) watchHealth(at *attempt) {
	h := at.health
	if !a.awaitRunning(at) {
		return
	}
	row := finding{}
	for {
		asked := a.boot()
		output, err := a.ask(at, h)
		if a.ctx.Err() != nil {
			return
		}
		row = a.answered(at, h, row, asked, output, err)
		if !a.rest(at, h.Interval) {
			return
		}
	}
}

// answered takes one answer and returns the failures in a row so far.
func (a *Agent) answered(at *attempt, h *autoheal.HealthSpec, row finding, asked time.Duration, output string, err error) finding {
	if err == nil {
		a.foundOut(at, func(c *checkView) {
			if c.ReadyAt == 0 {
				c.ReadyAt = a.boot()
			}
			c.Ready, c.Health = true, finding{}
		})
		return finding{}
	}
	a.mu.Lock()
	c, started := *at.checks, time.Duration(at.view.status.Started)
	a.mu.Unlock()
	if c.ReadyAt == 0 && asked < started+h.Startup {
		return finding{}
	}
	if row.Failures++; row.Since == 0 {
		row.Since = asked
	}
	row.Output = strings.TrimSpace(strings.ToValidUTF8(output, "\uFFFD"))
	switch {
	case c.ReadyAt == 0:
		row.Since = started + h.Startup
		row.Reason = fmt.Sprintf("it did not pass its %s within its startup time of %s, the last time: %v", describeHealth(h), h.Startup, err)
	case row.Failures >= h.Failures:
		row.Reason = fmt.Sprintf("%s failed %d times in a row, the last time: %v", describeHealth(h), row.Failures, err)
	default:
		return row
	}
	a.foundOut(at, func(c *checkView) {
		c.Ready = false
		if c.Health.Reason == "" { // what it says is said once: a count that goes on is no news
			c.Health = row
		}
	})
	return row
}

func describeHealth(h *autoheal.HealthSpec) string {
	switch h.Kind {
	case autoheal.CheckExec:
		return "health check exec " + clip(strings.Join(h.Exec, " "), 100)
	case autoheal.CheckHTTP:
		return fmt.Sprintf("health check http :%d%s", h.Port, h.Path)
	default:
		return fmt.Sprintf("health check %s :%d", h.Kind, h.Port)
	}
}

// ask makes one check within its time. A process that is stopped is one that hangs, whatever its kernel answers for it.
func (a *Agent) ask(at *attempt, h *autoheal.HealthSpec) (output string, err error) {
	a.mu.Lock()
	pid := at.view.status.Pid
	a.mu.Unlock()
	if isStopped(pid) {
		return "", fmt.Errorf("its process %d is stopped", pid)
	}
	ctx, cancel := context.WithTimeoutCause(a.ctx, h.Timeout, fmt.Errorf("no answer within %s", h.Timeout))
	defer cancel()
	switch h.Kind {
	case autoheal.CheckExec:
		output, err = shim.RunCheck(ctx, at.dir, at.spec, h.Exec)
	case autoheal.CheckHTTP:
		output, err = a.getHTTP(ctx, at, h.Port, h.Path)
	default:
		err = a.dialTCP(ctx, at, h.Port)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return output, err
}

// isStopped reports whether a process was stopped by a signal.
func isStopped(pid int) bool {
	if pid <= 0 {
		return false
	}
	state := processState(pid)
	return state == "T" || state == "t"
}

// processState is the letter of proc(5), "" of a process that is gone.
func processState(pid int) string {
	_, rest, _ := cutLast(readProc(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// cutLast cuts around the last sep: the name of a process may hold anything.
func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
