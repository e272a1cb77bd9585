package heal

import (
	"fmt"
	"math"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// diedAgain handles a new copy that ended while it was being started or verified.
func (c *Core) diedAgain(i *incident, rec *recovery, w *autoheal.Workload) {
	if c.lostAgain(i, rec) {
		return
	}
	c.crashed(i, rec, w, rec.Try+1)
}

// crashed decides what follows the end of one copy: it counts it against the workload when it is the workload's own
// fault (behaviour E3), and takes the rung that fits: restart after a backoff, restart with more memory (E5), or pause.
func (c *Core) crashed(i *incident, rec *recovery, w *autoheal.Workload, try int) {
	own := w.Exit.OwnFault() && w.Exit.OOM != autoheal.OOMHostGlobal && !w.Exit.MachineFault()
	if c.crashedInCommon(i, rec, w, try) {
		return
	}
	count, steps := c.count(rec, w, own)
	next := journal.RecoveryStep{Try: try, Rung: string(policy.StepRestart), Reason: detect.DescribeExit(w), Ran: ran(w), Attempts: c.lastAttempts(rec)}
	next.NotBefore = c.now
	if w.Exit.OOM == autoheal.OOMHostGlobal && w.Node != "" {
		next.Avoid = []autoheal.NodeID{w.Node}
	}
	relapsed := c.relapse(i, rec, w, &next)
	if (w.Exit.Reason == autoheal.ExitNodeFault || w.Exit.MachineFault()) && i.Kind != autoheal.GPUFailure { // that keeps off its part alone
		c.elsewhere(rec, w, &next)
	}
	switch {
	case !own:
		if try > c.pol.Rung.Attempts {
			c.giveUp(i, rec, fmt.Sprintf("it ended %d times for reasons that are not its own, last: %s", try, next.Reason))
			return
		}
		if try > 1 {
			next.NotBefore = c.now.Add(c.pol.RestartWait(w, try))
		}
	case count > c.pol.MaxRestarts(w):
		next.Rung = string(policy.StepPause)
		next.Reason = fmt.Sprintf("%s, and at most %s: %s", times(count, "crash", "crashes"), times(c.pol.MaxRestarts(w), "restart is allowed", "restarts are allowed"), next.Reason)
	case relapsed >= max(1, c.pol.MaxRestarts(w)):
		next.Rung = string(policy.StepPause)
		next.Reason = fmt.Sprintf("it was restarted %d times and came back each time within %s of its recovery: %s", relapsed, policy.FormatDuration(c.pol.Verify.Relapse), next.Reason)
	case w.Exit.OOM == autoheal.OOMHostCgroup:
		c.grow(rec, w, steps, &next)
	default:
		wait := time.Duration(float64(c.pol.RestartWait(w, count)) * spread(fmt.Sprintf("%s/%d", w.ID, w.Attempt)))
		if next.NotBefore = w.EndedAt.Add(wait); next.NotBefore.Before(c.now) {
			next.NotBefore = c.now
		}
	}
	if next.Rung == string(policy.StepPause) && c.lastReplica(w) {
		c.keepTrying(w, &next)
	}
	c.move(i, rec, autoheal.StepWaiting, next)
}

// relapse takes the rung after the one that did not last (behaviour F1): what came back in place is tried elsewhere, if
// there is room. It returns how often the incident has come back.
func (c *Core) relapse(i *incident, rec *recovery, w *autoheal.Workload, next *journal.RecoveryStep) int {
	if i.Reopened == 0 || len(i.nodes()) > 0 || w.Node == "" {
		return 0
	}
	c.elsewhere(rec, w, next)
	return i.Reopened
}

// elsewhere keeps the next try off the node of an attempt, if there is room without it.
func (c *Core) elsewhere(rec *recovery, w *autoheal.Workload, next *journal.RecoveryStep) {
	if w.Node == "" || next.Rung == string(policy.StepMigrate) {
		return
	}
	there := append(slices.Clone(next.Avoid), w.Node)
	if _, no := c.fitAll(c.needs(rec, there)); no == nil {
		next.Avoid, next.Rung = there, string(policy.StepMigrate)
	}
}

// startedLike names what takes as long to start as w: its image, or for a process of the node its name.
func startedLike(w *autoheal.Workload) string {
	if w.Image == "host" || w.Image == "" {
		return "host " + w.Name
	}
	return w.Image
}

// usualStart is the median of the last starts of the like of w; false while too few are known.
func (c *Core) usualStart(w *autoheal.Workload) (time.Duration, bool) {
	last := slices.Sorted(slices.Values(c.d.Starts[startedLike(w)]))
	if len(last) < keepStarts {
		return 0, false
	}
	return last[len(last)/2], true
}

func times(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// ran is how long an attempt ran.
func ran(w *autoheal.Workload) time.Duration {
	if w.StartedAt.IsZero() || w.EndedAt.Before(w.StartedAt) {
		return 0
	}
	return w.EndedAt.Sub(w.StartedAt)
}

func (c *Core) lastAttempts(rec *recovery) []int {
	out := make([]int, len(rec.Members))
	for n, id := range rec.Members {
		out[n] = rec.Attempts[n]
		if w := c.v.cur[id]; w != nil {
			out[n] = w.Attempt
		}
	}
	return out
}

// count holds a crash against the workload, each attempt once; of a gang all ranks share one counter.
func (c *Core) count(rec *recovery, w *autoheal.Workload, own bool) (count, oomSteps int) {
	r := c.d.Restarts[rec.Workload]
	if r == nil {
		r = &restarts{}
	}
	if !own || r.Attempt >= w.Attempt || r.Count > c.pol.MaxRestarts(w) { // a trial counts no more (behaviour E4)
		return r.Count, r.OOMSteps
	}
	next := journal.RestartCounted{Workload: rec.Workload, Attempt: w.Attempt, Count: r.Count + 1, OOMSteps: r.OOMSteps}
	if w.Exit != nil && w.Exit.OOM == autoheal.OOMHostCgroup {
		next.OOMSteps++
	}
	c.record("", next)
	c.dirty[key{what: dutyReset, w: rec.Workload}] = true
	return next.Count, r.OOMSteps
}

// grow takes the rung grow_memory: × oomFactor of the original at each step, never above what is placeable, the cap or
// the number of steps; all ranks of a gang together (behaviour E5). What cannot grow is paused and the size named.
func (c *Core) grow(rec *recovery, w *autoheal.Workload, steps int, next *journal.RecoveryStep) {
	original := w.OriginalMemoryMB
	if original == 0 {
		original = w.Request.MemoryMB
	}
	size := int64(math.Ceil(float64(original) * math.Pow(c.pol.Workload.OOMFactor, float64(steps+1))))
	refuse := func(why string) {
		next.Rung = string(policy.StepPause)
		next.Reason = fmt.Sprintf("%s; it needs more than %d MiB, next would be %d MiB: %s", detect.DescribeExit(w), w.Request.MemoryMB, size, why)
	}
	largest := c.v.index.LargestMemory(place.RequestOf(w))
	switch cap := c.pol.Workload.OOMMaxMemoryMB; {
	case original == 0:
		refuse("it was submitted without a memory limit")
	case !c.pol.Workload.OOMAutoScale:
		refuse("autoHeal.workload.oomAutoScale is false")
	case steps >= c.pol.Workload.OOMMaxSteps:
		refuse(fmt.Sprintf("it has grown %d times already", steps))
	case cap > 0 && size > cap:
		refuse(fmt.Sprintf("autoHeal.workload.oomMaxMemory is %d MiB", cap))
	case size > largest:
		refuse(fmt.Sprintf("the largest node that it may use offers %d MiB", largest))
	default:
		next.Rung = string(policy.StepGrowMemory)
		next.MemoryMB = size
		next.Reason = fmt.Sprintf("%s; restarted with %d MiB", detect.DescribeExit(w), size)
	}
}

// pauseWorkload stops the restarting, of a gang that of every rank: nothing is killed, a person decides.
func (c *Core) pauseWorkload(i *incident, rec *recovery) {
	asked, paused := 0, 0
	for _, id := range rec.Members {
		w := c.v.cur[id]
		if w == nil {
			return
		}
		if w.Paused != nil && asked > 0 { // a driver may pause a gang as a whole
			paused++
			continue
		}
		asked++
		state, a := c.act(&proposal{
			i: i, rec: rec, k: key{inc: i.ID, w: rec.Workload}, verb: autoheal.Pause, target: w.Ref(), step: policy.StepPause,
			node: c.v.nodes[w.Node], reason: rec.Reason,
		})
		switch state {
		case actDone:
			paused++
		case actFailed:
			c.giveUp(i, rec, "not even paused ("+a.Detail+"): "+rec.Reason)
			return
		case actHeld:
			return
		}
	}
	if paused == len(rec.Members) && rec.Class == autoheal.Critical && c.keepInHand(i, rec) {
		return
	}
	if paused == len(rec.Members) {
		c.giveUp(i, rec, "paused: "+rec.Reason)
	}
}

// giveUp ends a recovery for a person to go on.
func (c *Core) giveUp(i *incident, rec *recovery, why string) {
	c.done(i, rec, autoheal.EndEscalated, why)
}

// forgive arranges for a restart counter to be reset once the workload has run long enough.
func (c *Core) forgive(w *autoheal.Workload) {
	if c.d.Restarts[w.ID] != nil && w.State == autoheal.Running {
		c.after(key{what: dutyReset, w: w.ID}, w.StartedAt.Add(c.pol.Workload.RestartReset))
	}
}

func (c *Core) stepReset(id autoheal.WorkloadID) {
	w, r := c.v.cur[id], c.d.Restarts[id]
	if w == nil || r == nil || w.State != autoheal.Running || w.Attempt <= r.Attempt || r.Count == 0 && r.OOMSteps == 0 {
		return // what has been counted is not forgiven for having run before
	}
	if r.Attempt >= w.Attempt { // it is what was counted: it runs, and is about to be ended for its checks
		return
	}
	if at := w.StartedAt.Add(c.pol.Workload.RestartReset); c.now.Before(at) {
		c.after(key{what: dutyReset, w: id}, at)
		return
	}
	c.record("", journal.RestartReset{Workload: id, Reason: fmt.Sprintf("it ran for %s", c.pol.Workload.RestartReset)})
}
