package heal

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// trialEvery is how often a critical workload that is paused gets a trial restart (behaviour E4).
const trialEvery = 5 * time.Minute

// lastReplica reports whether a critical service would be left without any replica that runs.
func (c *Core) lastReplica(w *autoheal.Workload) bool {
	if w.Class != autoheal.Critical || w.Parent == "" {
		return false
	}
	others := false
	for _, o := range c.v.current(c.v.replicas[w.Parent]) {
		if o.ID == w.ID {
			continue
		}
		others = true
		if n := c.v.nodes[o.Node]; o.State == autoheal.Running && n != nil && n.Link == autoheal.LinkUp {
			return false
		}
	}
	return others
}

// keepTrying takes the place of a pause for the last replica of a critical service: it is never paused.
func (c *Core) keepTrying(w *autoheal.Workload, next *journal.RecoveryStep) {
	next.Rung, next.NotBefore = string(policy.StepRestart), c.now.Add(c.pol.LongestRestartWait())
	next.Reason = fmt.Sprintf("no other replica of %s runs, so it is not paused: %s", w.Parent, next.Reason)
}

// rungTrial is where a recovery is whose workload is paused and tried again now and then.
const rungTrial = "trial"

// pausedByUs reports whether a recovery has paused its workload: then that it is not wanted says nothing.
func (rec *recovery) pausedByUs() bool {
	return rec.Rung == string(policy.StepPause) || rec.Rung == rungTrial
}

// keepInHand does not give up on a critical workload that was paused: a person is told, and it is tried again (behaviour E4).
// False when it was not we who paused it: then it is a person's.
func (c *Core) keepInHand(i *incident, rec *recovery) bool {
	for _, id := range rec.Members {
		switch w := c.v.cur[id]; {
		case w == nil, w.Paused == nil:
			return true // the pause was accepted and is not seen yet
		case w.Paused.By != autoheal.ByAutoheal:
			return false
		}
	}
	c.move(i, rec, autoheal.StepWaiting, journal.RecoveryStep{Rung: rungTrial, Reason: "paused: " + rec.Reason, NotBefore: c.now.Add(trialEvery)})
	c.alertPaused(i, rec)
	return true
}

// stepTrial resumes a paused critical workload for one try when it is time. Who resumes it before that is as welcome.
func (c *Core) stepTrial(i *incident, rec *recovery) {
	for _, id := range rec.Members {
		switch w := c.v.cur[id]; {
		case w == nil:
			return
		case w.Paused == nil:
			c.move(i, rec, autoheal.StepStopping, journal.RecoveryStep{Rung: string(policy.StepRestart), Reason: "a trial restart"})
			return
		case w.Paused.By != autoheal.ByAutoheal:
			c.giveUp(i, rec, "paused by "+w.Paused.By)
			return
		}
	}
	w := c.v.cur[rec.Workload] // a driver resumes a gang as a whole, as it pauses it
	p := &proposal{
		i: i, rec: rec, k: key{inc: i.ID, w: rec.Workload}, verb: autoheal.Resume, target: w.Ref(), step: policy.StepRestart, node: c.v.nodes[w.Node], reason: "a trial restart",
	}
	if c.now.Before(rec.NotBefore) {
		c.hold(p, "restarts", verdict{
			Reason: autoheal.ReasonMaxRestarts, Until: rec.NotBefore, Detail: fmt.Sprintf("it is tried again every %s; %s", policy.FormatDuration(trialEvery), rec.Reason),
		})
		return
	}
	if state, a := c.act(p); state == actFailed {
		c.giveUp(i, rec, "not even resumed for a trial: "+a.Detail)
	}
}

// alertPaused asks for a person, once for each recovery.
func (c *Core) alertPaused(i *incident, rec *recovery) {
	c.alert(i, alertSpec{
		name: "needs-a-person", severity: autoheal.SeverityCritical, dedup: fmt.Sprintf("%s paused %s %d", i.ID, rec.Workload, rec.Opened.UnixMilli()),
		text: fmt.Sprintf("%s needs a person, %s. Because it is critical it is tried again every %s. Next: find the cause in its output (autoheal logs %s), then run autoheal workloads resume %s",
			autoheal.WorkloadRef(rec.Workload), rec.Reason, policy.FormatDuration(trialEvery), rec.Workload, rec.Workload),
	})
}
