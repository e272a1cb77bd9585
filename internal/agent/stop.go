package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// doStop ends one attempt, or makes sure that it never starts.
func (a *Agent) doStop(ctx context.Context, req nodeproto.StopRequest) (*nodeproto.Accepted, error) {
	if err := a.epoch.admit(req.Epoch); err != nil {
		return nil, err
	}
	if !safeID(req.Workload) || req.Attempt < 1 {
		return nil, refuse(nodeproto.CodeInvalid, "stop: %q attempt %d cannot be an attempt", req.Workload, req.Attempt)
	}
	k := key{req.Workload, req.Attempt}
	at, ended, err := a.awaitStart(ctx, k)
	if err == nil && at == nil {
		at, ended, err = a.closeDoor(ctx, k)
	}
	switch {
	case err != nil:
		return nil, err
	case at == nil:
		return &nodeproto.Accepted{Accepted: true, Unknown: true}, nil
	case ended && req.Forget:
		return &nodeproto.Accepted{Accepted: true, Repeated: true}, a.forget(at)
	case ended:
		return &nodeproto.Accepted{Accepted: true, Repeated: true}, nil
	}
	reason := req.Reason
	if reason == "" {
		reason = autoheal.ExitStopped
	}
	stop := shim.Request{Op: shim.OpStop, GraceMS: max(req.GraceMS, 0), Force: req.Force, Reason: string(reason)}
	select {
	case at.stops <- stop:
	default: // the shim does not read; what follows ends it
	}
	grace := time.Duration(stop.GraceMS) * time.Millisecond
	if req.Force {
		grace = 0
	}
	a.wg.Go(func() { a.enforceStop(at, grace) })
	return &nodeproto.Accepted{Accepted: true}, nil
}

// closeDoor makes sure that a start which is still on its way finds the door closed, also after a restart of this agent.
// One that slipped in before is waited for: only what is not there now never will be.
func (a *Agent) closeDoor(ctx context.Context, k key) (at *attempt, ended bool, err error) {
	if err := a.raiseFloor(k.workload, k.attempt); err != nil {
		return nil, false, err
	}
	return a.awaitStart(ctx, k)
}

// awaitStart returns the attempt, nil if there is none, after a start of it that is under way has come to its end.
func (a *Agent) awaitStart(ctx context.Context, k key) (at *attempt, ended bool, err error) {
	for {
		a.mu.Lock()
		at, starting, changed := a.attempts[k], a.starting[k] != nil, a.changed
		ended := at != nil && at.view.ended()
		a.mu.Unlock()
		if at != nil || !starting {
			return at, ended, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

// raiseFloor makes sure, durably, that no attempt up to n is started here any more.
func (a *Agent) raiseFloor(w autoheal.WorkloadID, n int) error {
	a.floorMu.Lock()
	defer a.floorMu.Unlock()
	set := func(n int) (before int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		before = a.floors[w]
		a.floors[w] = n
		return before
	}
	a.mu.Lock()
	low := a.floors[w] < n
	a.mu.Unlock()
	if !low {
		return nil
	}
	before := set(n) // closes the door before it is durable, so that no start slips in between
	dir := filepath.Join(a.dir, "wl", string(w))
	err := os.MkdirAll(dir, 0o711)
	if err == nil {
		err = shim.WriteDurably(filepath.Join(dir, floorFile), []byte(strconv.Itoa(n)+"\n"))
	}
	if err != nil {
		set(before) // what is not durable was not promised: the same request has to write again
		return fmt.Errorf("refuse attempt: %w", err)
	}
	return nil
}

// floorFile, beside a workload's attempts, holds the highest number that may not be started any more.
const floorFile = "floor"

// forget removes an ended attempt; its number stays used, and its output is kept for a while.
func (a *Agent) forget(at *attempt) error {
	if err := a.raiseFloor(at.key.workload, at.key.attempt); err != nil {
		return err
	}
	a.keepOutput(at)
	if err := os.RemoveAll(at.dir); err != nil {
		return fmt.Errorf("forget attempt: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.attempts, at.key)
	return nil
}

// stopEverything ends all attempts at once: for a cluster that is thrown away with its parent.
func (a *Agent) stopEverything() error {
	// The context of Run has ended, and with it the followers: shims are asked directly.
	a.wg.Wait()
	var errs []error
	a.mu.Lock()
	var live []*attempt
	a.liveLocked(func(at *attempt) { live = append(live, at) })
	a.mu.Unlock()
	for _, at := range live {
		errs = append(errs, a.endDirectly(at))
	}
	if a.parent.Exists() {
		errs = append(errs, a.parent.Remove())
		a.parent.RemoveParent()
	}
	return errors.Join(errs...)
}

// endDirectly returns when the attempt has ended, or an error when its shim does not answer.
func (a *Agent) endDirectly(at *attempt) error {
	var err error
	for range 200 {
		if _, readErr := shim.ReadExited(at.dir); readErr == nil {
			return nil
		}
		if lock, lockErr := shim.Lock(at.dir); lockErr == nil {
			return errors.Join(a.killOrphans(at), lock.Close())
		}
		if err = a.askToEnd(at); err == nil {
			return nil
		}
		t := a.clk.NewTimer(retryDial) // not pause: the context has ended
		<-t.C()
	}
	return fmt.Errorf("end attempt %d of %s: %w", at.key.attempt, at.key.workload, err)
}

func (a *Agent) askToEnd(at *attempt) error {
	client, err := shim.Dial(at.dir, a.clk)
	if err != nil {
		return err
	}
	defer client.Close()
	for _, r := range []shim.Request{{Op: shim.OpSubscribe}, {Op: shim.OpStop, Force: true, Reason: string(autoheal.ExitShutdown)}} {
		if err := client.Send(r); err != nil {
			return err
		}
	}
	for {
		s, err := client.Next()
		if err != nil {
			return err // the next round finds out why
		}
		if s.State == nodeproto.AttemptExited {
			return nil
		}
	}
}
