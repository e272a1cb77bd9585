package agent

import (
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// key names an attempt.
type key struct {
	workload autoheal.WorkloadID
	attempt  int
}

// attempt is one attempt on this node. Its view is replaced, never changed, so that the ring can keep old ones.
type attempt struct {
	key  key
	dir  string
	spec *shim.Spec
	view *view

	renew chan struct{}     // wakes the sender: the lease has changed; the latest is what it sends
	stops chan shim.Request // to the sender
	done  chan struct{}     // closed when it has ended

	output   *output
	health   *autoheal.HealthSpec
	progress *autoheal.ProgressSpec
	finding  sync.Mutex // serialises findings, over the disk; taken before Agent.mu
	checks   *checkView // what these two say, nil without them; guarded by Agent.mu, replaced, never changed
	unheard  int64      // lines of its output that nobody could look at
	enforced bool       // the shim has confirmed that it enforces the lease
}

// view is what is told of an attempt; times are as in shim.Exited.
type view struct {
	start  *nodeproto.StartRequest
	spec   *shim.Spec
	state  nodeproto.AttemptState
	status shim.Status
	exited *shim.Exited
	detail string
	checks *checkView
}

// ended reports whether nothing of the attempt is left.
func (v *view) ended() bool { return v.state == nodeproto.AttemptExited }

// maxDetail bounds texts that may quote a workload.
const maxDetail = 1 << 10

// render tells the attempt as of now.
func (v *view) render(now time.Duration, bootID string, clk clock.Clock) *nodeproto.AttemptStatus {
	s := &nodeproto.AttemptStatus{
		Workload: v.start.Workload, Attempt: v.start.Attempt, State: v.state, Pid: v.status.Pid, ShimPid: v.status.ShimPid,
		GPUs: v.start.GPUs, MemoryMB: v.start.Spec.MemoryMB, AtMostOnce: v.start.AtMostOnce, Generation: v.start.Generation,
		PeakMB: v.status.PeakMB, Detail: clip(v.detail, maxDetail), Checks: v.checks.render(now),
	}
	if s.GPUs == nil {
		s.GPUs = []autoheal.GPUID{}
	}
	if v.status.Started > 0 {
		s.StartedMS = bootAge(now, v.status.Started)
	}
	if x := v.exited; x != nil {
		exit := x.Exit
		exit.Detail = clip(exit.Detail, maxDetail)
		s.Exit, s.Pid, s.ShimPid, s.PeakMB, s.Checks = &exit, x.Pid, 0, x.PeakMB, nil
		s.StartedMS, s.EndedMS = 0, 0
		if x.BootID == bootID {
			s.EndedMS = bootAge(now, x.Ended)
			if x.Started > 0 {
				s.StartedMS = bootAge(now, x.Started)
			}
		} else { // of an earlier boot: the wall clock is all there is
			wall := clk.Now().UnixMilli()
			s.EndedMS = max(wall-x.EndedWall, 1)
			if x.StartedWall > 0 {
				s.StartedMS = max(wall-x.StartedWall, s.EndedMS)
			}
		}
	}
	return s
}

// bootAge is at least 1: on the wire 0 means "not yet".
func bootAge(now time.Duration, at int64) int64 {
	return max((now - time.Duration(at)).Milliseconds(), 1)
}

// clip cuts a text at a rune boundary.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

func (a *Agent) attemptDir(k key) string {
	return filepath.Join(a.dir, "wl", string(k.workload), strconv.Itoa(k.attempt))
}

// safeID reports whether a workload ID may become a folder name.
func safeID(id autoheal.WorkloadID) bool {
	if id == "" || len(id) > 128 || id[0] == '.' || id[0] == '-' {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// setViewLocked publishes a new view of an attempt.
func (a *Agent) setViewLocked(at *attempt, v *view) {
	at.view = v
	a.publishLocked(change{attempt: v})
}

// liveLocked calls fn for every attempt that has not ended.
func (a *Agent) liveLocked(fn func(*attempt)) {
	for _, at := range a.attempts { // fn must not depend on the order
		if !at.view.ended() {
			fn(at)
		}
	}
}

// renewAll hands the present lease to the shims of at-most-once attempts.
func (a *Agent) renewAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.liveLocked(func(at *attempt) {
		if at.spec.Start.AtMostOnce {
			select {
			case at.renew <- struct{}{}:
			default: // the sender is awake already
			}
		}
	})
	a.checkSelfStopLocked()
}

// shimLeaseLocked is the present lease in a shim's terms. SIGTERM comes a sixth of the length before the deadline, at
// most 10 s.
func (a *Agent) shimLeaseLocked() shim.Lease {
	l := &a.lease
	return shim.Lease{
		Enforced: l.selfStop > 0, At: int64(l.deadline), SelfStopMS: l.selfStop.Milliseconds(),
		GraceMS: min(l.selfStop/6, 10*time.Second).Milliseconds(),
	}
}

// checkSelfStopLocked tells whether the healer may count on the deadlines: only when every shim that has one confirmed
// that it enforces it.
func (a *Agent) checkSelfStopLocked() {
	on := a.lease.selfStop > 0 && a.lease.deadline > 0
	a.liveLocked(func(at *attempt) { on = on && (!at.spec.Start.AtMostOnce || at.enforced) })
	if a.node.SelfStop != on {
		a.node.SelfStop = on
		a.publishNodeLocked()
	}
}

func (a *Agent) publishNodeLocked() {
	n := a.node
	a.publishLocked(change{node: &n})
}

// rememberedSelfStopLocked is the length that the shims were given last, by an earlier life of this agent.
func (a *Agent) rememberedSelfStopLocked() time.Duration {
	var longest int64
	a.liveLocked(func(at *attempt) { longest = max(longest, at.view.status.Lease.SelfStopMS) })
	return time.Duration(longest) * time.Millisecond
}
