package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os/exec"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// retryDial is between two tries to reach a shim that lives and does not answer; it doubles up to maxRetry.
const (
	retryDial = 50 * time.Millisecond
	maxRetry  = 2 * time.Second
)

// follow keeps one attempt's view true until it has ended or the agent stops. client is nil for an attempt found on
// disk; cmd is nil unless this life started the shim and has to reap it.
func (a *Agent) follow(at *attempt, client *shim.Client, cmd *exec.Cmd) {
	retry := retryDial
	for a.ctx.Err() == nil {
		if client != nil {
			a.converse(at, client)
			retry = retryDial
		}
		if a.ctx.Err() != nil {
			return
		}
		if a.settle(at) {
			if cmd != nil {
				_ = cmd.Wait() // how the shim ended says nothing more: exit.json is there
			}
			return
		}
		var err error
		if client, err = shim.Dial(at.dir, a.clk); err != nil {
			client = nil
			a.pause(retry)
			retry = min(2*retry, maxRetry)
			continue
		}
		if err := client.Send(shim.Request{Op: shim.OpSubscribe}); err != nil {
			_ = client.Close() // it is dialled again
			client = nil
		}
	}
}

// converse reads the shim's words until the connection ends, and sends it what is due meanwhile.
func (a *Agent) converse(at *attempt, client *shim.Client) {
	ctx, cancel := context.WithCancel(a.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		a.sendTo(ctx, at, client)
		_ = client.Close() // wakes the reader below
	})
	for {
		s, err := client.Next()
		if err != nil {
			return
		}
		a.mu.Lock()
		a.heardLocked(at, s)
		a.mu.Unlock()
		if s.State == nodeproto.AttemptExited {
			return // exit.json is durable before this is said; the shim's own end has nothing to add
		}
	}
}

func (a *Agent) sendTo(ctx context.Context, at *attempt, client *shim.Client) {
	// Renewed at once: an adopted shim may have heard nothing for long.
	for r := a.renewal(at); ; {
		if r.Op != "" && client.Send(r) != nil {
			return
		}
		select {
		case <-at.renew:
			r = a.renewal(at)
		case r = <-at.stops:
		case <-ctx.Done():
			return
		}
	}
}

// renewal is the request that carries the present lease, or none for an attempt without a deadline or before this life
// knows of any lease: what an earlier life gave then stands.
func (a *Agent) renewal(at *attempt) shim.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !at.spec.Start.AtMostOnce || !a.lease.known() {
		return shim.Request{}
	}
	return shim.Request{Op: shim.OpRenew, Lease: a.shimLeaseLocked()}
}

// heardLocked takes a status. What only the deadline changed is no news for the healer.
func (a *Agent) heardLocked(at *attempt, s shim.Status) {
	at.enforced = s.Lease.Enforced
	old := at.view
	v := *old
	if old.ended() {
		return
	}
	if s.State == nodeproto.AttemptExited {
		return // exit.json says it, which the follower reads next
	}
	v.status, v.state, v.detail = s, s.State, s.Detail
	if old.state == v.state && old.status.Pid == s.Pid && old.detail == v.detail {
		at.view = &v
	} else {
		a.setViewLocked(at, &v)
	}
	a.checkSelfStopLocked()
}

// settle reports whether the attempt has ended, and ends one whose shim is gone without a word.
func (a *Agent) settle(at *attempt) bool {
	x, err := shim.ReadExited(at.dir)
	switch {
	case err == nil:
		if x.Exit.OwnFault() {
			a.explain(at, x)
		}
		a.setExited(at, x)
		return true
	case !errors.Is(err, fs.ErrNotExist):
		a.log.Error("exit of an attempt cannot be read", slog.String("workload", string(at.key.workload)), slog.Int("attempt", at.key.attempt), slog.Any("error", err))
	}
	lock, err := shim.Lock(at.dir)
	if err != nil {
		if !errors.Is(err, shim.ErrLocked) {
			a.log.Error("attempt cannot be locked", slog.String("workload", string(at.key.workload)), slog.Int("attempt", at.key.attempt), slog.Any("error", err))
		}
		return false
	}
	defer lock.Close()
	if _, err := shim.ReadExited(at.dir); err == nil {
		return false // written between the two looks: the next round reads it
	}
	return a.bury(at, autoheal.ExitShimKilled, "its shim was killed, and it with it")
}

// bury ends what a dead shim left and writes its exit, durably, before it is told.
func (a *Agent) bury(at *attempt, reason autoheal.ExitReason, detail string) bool {
	if err := a.killOrphans(at); err != nil {
		a.log.Warn("processes of a killed shim are still there", slog.String("workload", string(at.key.workload)), slog.Int("attempt", at.key.attempt), slog.Any("error", err))
		a.setDetail(at, err.Error())
		return false
	}
	now := a.boot()
	a.mu.Lock()
	s := at.view.status
	a.mu.Unlock()
	x := &shim.Exited{
		Exit: autoheal.Exit{Code: -1, Reason: reason, Detail: detail}, BootID: at.spec.BootID, Pid: s.Pid, Started: s.Started,
		Ended: int64(now), EndedWall: a.clk.Now().UnixMilli(), PeakMB: s.PeakMB,
	}
	if s.Started > 0 {
		x.StartedWall = x.EndedWall - (now - time.Duration(s.Started)).Milliseconds()
	}
	if err := shim.WriteExited(at.dir, x); err != nil {
		a.log.Error("exit of an attempt cannot be written", slog.String("workload", string(at.key.workload)), slog.Int("attempt", at.key.attempt), slog.Any("error", err))
		return false
	}
	a.setExited(at, x)
	return true
}

func (a *Agent) setExited(at *attempt, x *shim.Exited) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at.view.exited != nil {
		return
	}
	v := *at.view
	v.state, v.exited, v.detail = nodeproto.AttemptExited, x, ""
	close(at.done)
	a.setViewLocked(at, &v)
	a.checkSelfStopLocked()
}

func (a *Agent) setDetail(at *attempt, detail string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at.view.detail == detail || at.view.ended() {
		return
	}
	v := *at.view
	v.detail = detail
	a.setViewLocked(at, &v)
}

// pause waits, or returns early when the agent stops.
func (a *Agent) pause(d time.Duration) {
	t := a.clk.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
	case <-a.ctx.Done():
	}
}
