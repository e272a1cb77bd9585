package heal

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// captureTime is how long stacks may take to be captured before a workload that hangs is stopped (behaviour E6, E8).
const captureTime = 30 * time.Second

// ailing returns the first member of a recovery whose own checks fail.
func (c *Core) ailing(rec *recovery) *autoheal.Workload {
	for _, id := range rec.Members {
		if w := c.v.cur[id]; detect.Ailing(w) {
			return w
		}
	}
	return nil
}

// failing decides what follows when the checks of a copy that runs fail (behaviour E6): restart it where it is, then on
// another node, then pause it. The counter is that of crashes; it counts when the copy is stopped for it.
func (c *Core) failing(i *incident, rec *recovery, w *autoheal.Workload, try int) {
	next := journal.RecoveryStep{
		Try: try, Rung: string(policy.StepRestart), Reason: detect.DescribeFailing(w), Attempts: c.lastAttempts(rec), NotBefore: c.now,
	}
	count := 1
	if r := c.d.Restarts[rec.Workload]; r != nil {
		count += r.Count
	}
	relapsed := c.relapse(i, rec, w, &next)
	if try > 1 {
		c.elsewhere(rec, w, &next)
	}
	switch most := c.pol.MaxRestarts(w); {
	case count > most:
		next.Rung = string(policy.StepPause)
		next.Reason = fmt.Sprintf("%s already, and at most %s: %s", times(count-1, "restart", "restarts"), times(most, "is allowed", "are allowed"), next.Reason)
	case relapsed >= max(1, most):
		next.Rung = string(policy.StepPause)
		next.Reason = fmt.Sprintf("it was restarted %d times and came back each time within %s of its recovery: %s", relapsed, policy.FormatDuration(c.pol.Verify.Relapse), next.Reason)
	default:
		wait := time.Duration(float64(c.pol.RestartWait(w, count)) * spread(fmt.Sprintf("%s/%d", w.ID, w.Attempt)))
		if at := w.Failing.Since.Add(wait); at.After(c.now) {
			next.NotBefore = at
		}
	}
	c.move(i, rec, autoheal.StepWaiting, next)
}

// stillFailing returns the first member that runs and fails, wanted or not: one that was paused has not passed its checks.
func (c *Core) stillFailing(rec *recovery) *autoheal.Workload {
	for _, id := range rec.Members {
		if w := c.v.cur[id]; w != nil && w.State == autoheal.Running && w.Failing != nil {
			return w
		}
	}
	return nil
}

// ailed reports whether a recovery waits to end copies that run and whose checks fail.
func (c *Core) ailed(i *incident, rec *recovery) bool {
	return !c.anyEnded(rec) && (i.Kind == autoheal.HealthCheck || rec.Try > 1 && c.ailing(rec) != nil)
}

// readyToEnd reports whether copies whose checks fail may be ended now: they still fail, their nodes answer, and their
// stacks are captured.
func (c *Core) readyToEnd(i *incident, rec *recovery) bool {
	w := c.stillFailing(rec)
	if w == nil {
		if c.v.synced {
			c.done(i, rec, autoheal.EndLeftAlone, "its checks pass again")
		}
		return false
	}
	if n := c.v.nodes[w.Node]; n == nil || n.Link != autoheal.LinkUp {
		c.await(key{inc: i.ID, w: rec.Workload}, time.Time{}, "node/"+string(w.Node))
		return false
	}
	return rec.Rung == string(policy.StepPause) || c.captured(i, rec) // what is paused is left running
}

// eased leaves a workload alone that was to be ended and whose reason is gone before anything of it was: a stop may have
// been held for long.
func (c *Core) eased(i *incident, rec *recovery) bool {
	if i.Kind != autoheal.HealthCheck && i.Kind != autoheal.NodeFault || c.anyEnded(rec) {
		return false
	}
	for n, id := range rec.Members {
		w := c.v.attempt(id, rec.Attempts[n])
		if w == nil || !c.v.synced {
			return false
		}
		if a := c.newestAction(i, autoheal.Stop, w.Ref()); a != nil && (a.pending() || a.Outcome == autoheal.OutcomeDone) {
			return false // it is on its way; one that nobody knows of is not sent again
		}
	}
	if i.Kind == autoheal.NodeFault {
		return c.faultPassed(i, rec)
	}
	if c.stillFailing(rec) != nil {
		return false
	}
	c.done(i, rec, autoheal.EndLeftAlone, "its checks pass again")
	return true
}

// captured asks for the stacks of every copy that is about to be ended and reports whether they are there, or took too
// long. What is critical is not delayed by it (behaviour F4).
func (c *Core) captured(i *incident, rec *recovery) bool {
	k := key{inc: i.ID, w: rec.Workload}
	late := rec.NotBefore
	if rec.StepAt.After(late) {
		late = rec.StepAt
	}
	late = late.Add(captureTime)
	missing := false
	for _, id := range rec.Members {
		w := c.v.cur[id]
		if !c.survivor(id) || !c.v.nodes[w.Node].Supports(autoheal.Collect) || c.pol.Mode(i.Kind, policy.StepCollect, w.Options.Heal) != autoheal.HealAct {
			continue
		}
		state, _ := c.act(&proposal{
			i: i, rec: rec, k: k, verb: autoheal.Collect, target: w.Ref(), step: policy.StepCollect, node: c.v.nodes[w.Node],
			reason: "its stacks, before it is restarted",
		})
		missing = missing || state == actPending || state == actHeld
	}
	if !missing || rec.Class == autoheal.Critical || !c.now.Before(late) {
		return true
	}
	c.after(k, late)
	return false
}

// countEnded counts that a copy is ended because its checks fail, as one crash (behaviour E6). Its exit, when it is seen,
// is none of its own.
func (c *Core) countEnded(rec *recovery) {
	w := c.ailing(rec)
	if w == nil {
		return
	}
	r := c.d.Restarts[rec.Workload]
	if r == nil {
		r = &restarts{}
	}
	if r.Attempt < w.Attempt {
		c.record("", journal.RestartCounted{Workload: rec.Workload, Attempt: w.Attempt, Count: r.Count + 1, OOMSteps: r.OOMSteps})
		c.dirty[key{what: dutyReset, w: rec.Workload}] = true
	}
}

// startingUp reports whether a copy that is not ready has time left to pass its health check for the first time, and has k
// looked at again when it has none. That its time is over is its node's to say; we wait a little longer than that.
func (c *Core) startingUp(w *autoheal.Workload, k key) bool {
	h := w.Options.Health
	if h == nil || w.State != autoheal.Running || w.Failing != nil {
		return false
	}
	at := w.StartedAt.Add(h.Startup + time.Duration(h.Failures)*h.Interval + h.Timeout + c.pol.Node.ProbeInterval)
	if c.now.Before(at) {
		c.after(k, at)
		return true
	}
	return false
}

// readySince is when a copy was ready: when its health check first passed or, without one, when it started.
func readySince(w *autoheal.Workload) time.Time {
	if w.ReadyAt.After(w.StartedAt) {
		return w.ReadyAt
	}
	return w.StartedAt
}

// inPlace has what is restarted come back where it is, if it has room there: its own.
func (c *Core) inPlace(i *incident, rec *recovery) bool {
	return i.Kind == autoheal.HealthCheck && rec.Rung == string(policy.StepRestart)
}

// outOfSight reports whether a claim is about what runs on a node that does not answer: what was last known of it is
// nothing to act upon. It is looked at again when the node is back.
func (c *Core) outOfSight(f autoheal.Finding) bool {
	n := c.v.nodes[failedNode(c, f)]
	return f.Kind == autoheal.HealthCheck && (n == nil || n.Link != autoheal.LinkUp)
}

// lookOn looks again at what runs on a node that answers again.
func (c *Core) lookOn(ch detect.Change) {
	if b := ch.NodeBefore; b == nil || b.Link == autoheal.LinkUp || ch.Node.Link != autoheal.LinkUp {
		return
	}
	for _, w := range c.v.WorkloadsOn(ch.Node.ID) {
		c.look(w)
	}
}

// look has the detectors look again at a workload that another incident has left alone.
func (c *Core) look(w *autoheal.Workload) {
	if detect.Ailing(w) && c.v.synced {
		c.detect(detect.Change{Workload: w})
	}
}

// allLeftAlone reports whether nothing was done for any workload of an incident.
func allLeftAlone(i *incident) bool {
	return len(i.Order) > 0 && !slices.ContainsFunc(i.Order, func(w autoheal.WorkloadID) bool { return i.Recoveries[w].End != autoheal.EndLeftAlone })
}

// waitedFor names what a recovery has waited for: its backoff, or at first the grace.
func waitedFor(i *incident, rec *recovery) string {
	if i.Kind == autoheal.HealthCheck && rec.Reason != "" {
		return "its checks still fail"
	}
	if i.Kind == autoheal.NodeFault && rec.Reason == "" {
		return "it cannot run there, and has a place elsewhere"
	}
	if rec.Reason != "" {
		return "its backoff is over"
	}
	return fmt.Sprintf("its grace of %s is over", rec.Grace)
}
