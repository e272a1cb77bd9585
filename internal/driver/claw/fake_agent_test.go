package claw

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

// fakeAgent is a node agent with its machine: attempts are entries that run until something ends them.
type fakeAgent struct {
	name, device string

	mu       sync.Mutex // mu guards what follows
	online   bool       // connected to the gateway
	frozen   bool       // half open: connected, and nothing is answered
	busy     bool       // answers status only
	life     string
	lives    int
	boot     string
	epoch    uint64
	n        int64
	sent     map[int64]time.Time
	deadline time.Time
	selfStop time.Duration
	status   nodeproto.NodeStatus
	attempts map[attemptRef]*fakeAttempt
	floor    map[autoheal.WorkloadID]int
	ring     []nodeproto.Change
	seq      int64
	at       map[int64]time.Time
	notify   chan struct{}
	gone     chan struct{}      // closed when the connection breaks
	starts   map[attemptRef]int // how often an attempt really began
	jobs     map[autoheal.ActionID]int
	holds    []int64 // milliseconds for which it was asked to stay empty
	asked    nodeproto.CollectRequest
	began    map[autoheal.ActionID]time.Time
	slow     time.Duration // time from SIGTERM to the end
	network  func(nodeproto.NetworkRequest) nodeproto.NetworkFacts
}

type fakeAttempt struct {
	req     nodeproto.StartRequest
	state   nodeproto.AttemptState
	started time.Time
	ended   time.Time
	exit    *autoheal.Exit
}

func newFakeAgent(name string, gpus int) *fakeAgent {
	a := &fakeAgent{
		name: name, device: "dev-" + name, online: true, life: name + "-life-1", lives: 1, boot: name + "-boot-1",
		sent: map[int64]time.Time{}, attempts: map[attemptRef]*fakeAttempt{}, floor: map[autoheal.WorkloadID]int{},
		at: map[int64]time.Time{}, notify: make(chan struct{}), gone: make(chan struct{}), starts: map[attemptRef]int{},
		jobs: map[autoheal.ActionID]int{}, began: map[autoheal.ActionID]time.Time{},
		status: nodeproto.NodeStatus{
			Name: name, Platform: "linux", SelfStop: true, Probe: []string{name + ":7"},
			Labels:      map[string]string{autoheal.LabelRack: "r1", "host": name},
			Allocatable: autoheal.Resources{CPUMilli: 8000, MemoryMB: 16000, GPUs: gpus},
			Capacity:    autoheal.Resources{CPUMilli: 8000, MemoryMB: 16000, GPUs: gpus},
			Caps:        []autoheal.Verb{autoheal.Start, autoheal.Stop, autoheal.Collect, autoheal.Refresh, autoheal.Reboot, autoheal.ResetGPU},
			Programs:    true,
		},
	}
	for i := range gpus {
		a.status.GPUs = append(a.status.GPUs, autoheal.GPU{
			UUID: autoheal.GPUID(fmt.Sprintf("%s-g%d", name, i)), Index: i, Model: "H100", MemoryMB: 80000,
			Health: autoheal.HealthOK, Simulated: true,
		})
	}
	return a
}

func (a *fakeAgent) isOnline() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.online
}

// handle answers one command; lost means that the connection broke before the answer.
func (a *fakeAgent) handle(ctx context.Context, p openclaw.InvokeParams) (payload any, lost bool, err error) {
	a.mu.Lock()
	gone, frozen := a.gone, a.frozen || (a.busy && p.Command != nodeproto.CmdStatus)
	a.mu.Unlock()
	if frozen {
		select {
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-gone:
			return nil, true, nil
		}
	}
	switch p.Command {
	case nodeproto.CmdPoll:
		return answer(p, func(r nodeproto.PollRequest) (any, bool, error) { return a.poll(ctx, r) })
	case nodeproto.CmdStatus:
		return answer(p, a.doStatus)
	case nodeproto.CmdStart:
		return answer(p, a.start)
	case nodeproto.CmdStop:
		return answer(p, a.stop)
	case nodeproto.CmdLogs:
		return answer(p, a.logs)
	case nodeproto.CmdCollect:
		return answer(p, a.collect)
	case nodeproto.CmdReset:
		return answer(p, func(r nodeproto.ResetRequest) (any, bool, error) {
			return a.job(r.Epoch, nodeproto.JobStatus{Action: r.Action, Verb: autoheal.ResetGPU, Target: autoheal.Ref{Kind: autoheal.RefGPU, ID: string(r.GPU)}})
		})
	case nodeproto.CmdTest:
		return answer(p, func(r nodeproto.TestRequest) (any, bool, error) {
			return a.job(r.Epoch, nodeproto.JobStatus{Action: r.Action, Verb: autoheal.Test, Target: r.Target, Output: strings.Join(r.Program.Argv, " ")})
		})
	case nodeproto.CmdReboot:
		return answer(p, a.hold)
	}
	if a.network != nil && p.Command == nodeproto.CmdNetwork {
		return answer(p, func(r nodeproto.NetworkRequest) (any, bool, error) { return a.network(r), false, nil })
	}
	return nil, false, errNode(nodeproto.CodeUnsupported, p.Command)
}

func answer[R any](p openclaw.InvokeParams, f func(R) (any, bool, error)) (any, bool, error) {
	var r R
	if err := json.Unmarshal(p.Params, &r); err != nil {
		return nil, false, errNode(nodeproto.CodeInvalid, err.Error())
	}
	return f(r)
}

func (a *fakeAgent) admitLocked(epoch uint64) error {
	if epoch < a.epoch {
		return errNode(nodeproto.CodeStaleEpoch, "a newer healer is in charge")
	}
	a.epoch = epoch
	return nil
}

func (a *fakeAgent) doStatus(r nodeproto.StatusRequest) (any, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.admitLocked(r.Epoch); err != nil {
		return nil, false, err
	}
	return nodeproto.StatusResponse{Life: a.life, BootID: a.boot, LeaseLeftMS: time.Until(a.deadline).Milliseconds(), N: a.n}, false, nil
}

func (a *fakeAgent) poll(ctx context.Context, r nodeproto.PollRequest) (any, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.admitLocked(r.Epoch); err != nil {
		return nil, false, err
	}
	a.ackLocked(r)
	wait := time.NewTimer(time.Duration(r.WaitMS) * time.Millisecond)
	defer wait.Stop()
	for over := false; ; {
		if resp := a.answerLocked(r); resp.Full || len(resp.Changes) > 0 || over {
			a.n++
			resp.N = a.n
			a.sent[a.n] = time.Now()
			return resp, false, nil
		}
		notify, gone := a.notify, a.gone
		a.mu.Unlock()
		lost := false
		select {
		case <-notify:
		case <-gone:
			lost = true
		case <-ctx.Done():
		case <-wait.C:
			over = true
		}
		a.mu.Lock()
		if lost || ctx.Err() != nil {
			return nil, lost, context.Cause(ctx)
		}
	}
}

// ackLocked is the lease by echo: the deadline counts from when the acknowledged answer was sent.
func (a *fakeAgent) ackLocked(r nodeproto.PollRequest) {
	a.selfStop = time.Duration(r.SelfStopMS) * time.Millisecond
	if r.Life != a.life {
		return
	}
	if at, ok := a.sent[r.Ack]; ok && at.Add(a.selfStop).After(a.deadline) {
		a.deadline = at.Add(a.selfStop)
	}
}

func (a *fakeAgent) answerLocked(r nodeproto.PollRequest) *nodeproto.PollResponse {
	resp := &nodeproto.PollResponse{BootID: a.boot, Life: a.life, Seq: r.After}
	first := len(a.ring) > 0 && r.After < a.ring[0].Seq-1
	if r.Life != a.life || r.After == 0 || first {
		return a.listLocked(resp)
	}
	for _, c := range a.ring {
		if c.Seq > r.After {
			c.AgeMS = time.Since(a.at[c.Seq]).Milliseconds()
			if c.Node != nil {
				status := a.describeLocked()
				c.Node = &status
			}
			if c.Workload != nil {
				s := a.viewLocked(attemptRef{c.Workload.Workload, c.Workload.Attempt})
				if s != nil {
					s.State, s.Exit = c.Workload.State, c.Workload.Exit
					c.Workload = s
				}
			}
			resp.Changes = append(resp.Changes, c)
			resp.Seq = c.Seq
		}
	}
	return resp
}

// listLocked answers with everything in one page; seq is at least 1, because 0 asks for a listing.
func (a *fakeAgent) listLocked(resp *nodeproto.PollResponse) *nodeproto.PollResponse {
	a.seq = max(a.seq, 1)
	status := a.describeLocked()
	resp.Full, resp.Node, resp.Seq = true, &status, a.seq
	for _, ref := range slices.SortedFunc(maps.Keys(a.attempts), attemptRef.compare) {
		resp.Workloads = append(resp.Workloads, *a.viewLocked(ref))
	}
	return resp
}

func (a *fakeAgent) viewLocked(ref attemptRef) *nodeproto.AttemptStatus {
	at := a.attempts[ref]
	if at == nil {
		return nil
	}
	s := &nodeproto.AttemptStatus{
		Workload: ref.id, Attempt: ref.n, State: at.state, Exit: at.exit, GPUs: at.req.GPUs, MemoryMB: at.req.Spec.MemoryMB,
		AtMostOnce: at.req.AtMostOnce, Generation: at.req.Generation, StartedMS: max(time.Since(at.started).Milliseconds(), 1),
	}
	if !at.ended.IsZero() {
		s.EndedMS = max(time.Since(at.ended).Milliseconds(), 1)
	}
	return s
}

func (a *fakeAgent) changeLocked(c nodeproto.Change) {
	a.seq = max(a.seq, 1) + 1
	c.Seq = a.seq
	a.at[c.Seq] = time.Now()
	a.ring = append(a.ring, c)
	if len(a.ring) > 64 {
		a.ring = a.ring[1:]
	}
	close(a.notify)
	a.notify = make(chan struct{})
}

func (a *fakeAgent) tellLocked(ref attemptRef) {
	if s := a.viewLocked(ref); s != nil {
		a.changeLocked(nodeproto.Change{Workload: s})
	}
}

func (a *fakeAgent) start(r nodeproto.StartRequest) (any, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.admitLocked(r.Epoch); err != nil {
		return nil, false, err
	}
	ref := attemptRef{r.Workload, r.Attempt}
	switch {
	case a.attempts[ref] != nil:
		return nodeproto.Accepted{Accepted: true, Repeated: true}, false, nil
	case r.Attempt <= a.floor[r.Workload]:
		return nil, false, errNode(nodeproto.CodeInvalid, "given up here")
	case r.AtMostOnce && a.selfStop > 0 && !time.Now().Before(a.deadline):
		return nil, false, errNode(nodeproto.CodeLeaseExpired, "contact is not proven")
	case r.Spec.Command[0] == "/missing":
		return nil, false, errNode(nodeproto.CodeInvalid, "no such program: /missing")
	}
	for _, other := range a.attempts {
		for _, g := range r.GPUs {
			if other.exit == nil && slices.Contains(other.req.GPUs, g) {
				return nil, false, errNode(nodeproto.CodeGPUBusy, string(g))
			}
		}
	}
	a.attempts[ref] = &fakeAttempt{req: r, state: nodeproto.AttemptStarting, started: time.Now()}
	a.starts[ref]++
	a.tellLocked(ref)
	a.attempts[ref].state = nodeproto.AttemptRunning
	a.tellLocked(ref)
	return nodeproto.Accepted{Accepted: true}, false, nil
}

func (a *fakeAgent) stop(r nodeproto.StopRequest) (any, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.admitLocked(r.Epoch); err != nil {
		return nil, false, err
	}
	ref := attemptRef{r.Workload, r.Attempt}
	at := a.attempts[ref]
	switch {
	case at == nil:
		a.floor[r.Workload] = max(a.floor[r.Workload], r.Attempt)
		return nodeproto.Accepted{Accepted: true, Unknown: true}, false, nil
	case at.exit != nil:
		if r.Forget {
			delete(a.attempts, ref)
			a.floor[r.Workload] = max(a.floor[r.Workload], r.Attempt)
		}
		return nodeproto.Accepted{Accepted: true, Repeated: true}, false, nil
	}
	reason, wait := r.Reason, min(a.slow, time.Duration(r.GraceMS)*time.Millisecond)
	if wait == 0 {
		a.endLocked(ref, &autoheal.Exit{Code: -1, Signal: "SIGTERM", Reason: reason})
		return nodeproto.Accepted{Accepted: true}, false, nil
	}
	at.state = nodeproto.AttemptStopping
	a.tellLocked(ref)
	time.AfterFunc(wait, func() { a.end(ref, &autoheal.Exit{Code: -1, Signal: "SIGTERM", Reason: reason}) })
	return nodeproto.Accepted{Accepted: true}, false, nil
}

func (a *fakeAgent) logs(r nodeproto.LogsRequest) (any, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.attempts[attemptRef{r.Workload, r.Attempt}] == nil {
		return nil, false, errNode(nodeproto.CodeNotFound, "no such attempt")
	}
	return nodeproto.LogsResponse{Lines: []nodeproto.LogLine{
		{AgeMS: 2000, Stream: "stdout", Attempt: r.Attempt, Message: "hello from " + a.name},
		{AgeMS: 1000, Stream: "stderr", Attempt: r.Attempt, Message: "second line"},
	}}, false, nil
}

func (a *fakeAgent) end(ref attemptRef, exit *autoheal.Exit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endLocked(ref, exit)
}

func (a *fakeAgent) endLocked(ref attemptRef, exit *autoheal.Exit) {
	if at := a.attempts[ref]; at != nil && at.exit == nil {
		at.exit, at.ended, at.state = exit, time.Now(), nodeproto.AttemptExited
		a.tellLocked(ref)
	}
}

// disturbLocked breaks what is under way.
func (a *fakeAgent) disturbLocked() {
	close(a.gone)
	a.gone = make(chan struct{})
}

// isolate cuts the node off. A half-open cut leaves it connected in the gateway's eyes.
func (g *fakeGateway) isolate(a *fakeAgent, halfOpen bool) {
	a.mu.Lock()
	if halfOpen {
		a.frozen = true
	} else {
		a.online = false
		a.disturbLocked()
	}
	a.mu.Unlock()
	if !halfOpen {
		g.presence()
	}
}

// rejoin ends an isolation. A new life has forgotten everything but its attempts; a new boot has ended those.
func (g *fakeGateway) rejoin(a *fakeAgent, newLife, newBoot bool) {
	a.mu.Lock()
	a.frozen, a.online = false, true
	if newLife || newBoot {
		a.lives++
		a.life = fmt.Sprintf("%s-life-%d", a.name, a.lives)
		a.n, a.sent, a.deadline = 0, map[int64]time.Time{}, time.Time{}
		a.ring, a.seq = nil, 0
	}
	if newBoot {
		a.boot = fmt.Sprintf("%s-boot-%d", a.name, a.lives)
		for _, at := range a.attempts {
			if at.exit == nil {
				at.exit, at.ended, at.state = &autoheal.Exit{Code: -1, Reason: autoheal.ExitRebooted}, time.Now(), nodeproto.AttemptExited
			}
		}
	}
	a.disturbLocked()
	a.mu.Unlock()
	g.presence()
}

// live lists the attempts that run on the node.
func (a *fakeAgent) live() []attemptRef {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []attemptRef
	for ref, at := range a.attempts {
		if at.exit == nil {
			out = append(out, ref)
		}
	}
	slices.SortFunc(out, attemptRef.compare)
	return out
}
