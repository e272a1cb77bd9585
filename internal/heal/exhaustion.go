package heal

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// waits arranges for a workload that waits for a place to be looked at once it has waited long enough (behaviour E7), and
// notes that a victim of preemption runs again.
func (c *Core) waits(w *autoheal.Workload) {
	if was, ok := c.d.Displaced[w.ID]; ok && w.Attempt > was.Attempt {
		switch {
		case w.State == autoheal.Running:
			c.record("", journal.DisplacedOver{Workload: w.ID, Reason: "it runs again"})
		case w.State.Ended() || !detect.Wanted(w):
			c.record("", journal.DisplacedOver{Workload: w.ID, Reason: "it is not waiting any more"})
		}
	}
	if _, since, ok := detect.Starved(sight{c.v, c.d}, w); ok {
		c.after(key{w: w.ID, what: dutyStarved}, since.Add(c.pol.Preemption.PendingFor))
	}
}

// stepStarved asks the detectors again about a workload that waits for a place, for as long as no recovery looks after it.
func (c *Core) stepStarved(id autoheal.WorkloadID) {
	w := c.v.cur[id]
	_, since, ok := detect.Starved(sight{c.v, c.d}, w)
	if !ok {
		return
	}
	if _, open := c.ix.recOf[id]; open {
		return
	}
	k := key{w: id, what: dutyStarved}
	if at := since.Add(c.pol.Preemption.PendingFor); c.now.Before(at) {
		c.after(k, at)
		return
	}
	if c.v.synced {
		c.detect(detect.Change{Workload: w})
	}
	c.after(k, c.now.Add(c.pol.Node.ProbeInterval)) // a place may be found, and lost again
}

// stepAlertCapacity says at the trigger what is missing: once an incident.
func (c *Core) stepAlertCapacity(i *incident) bool {
	for _, w := range i.Order {
		c.alertCapacity(i, i.Recoveries[w], i.Cause)
	}
	c.stepDone(i, string(policy.StepAlertCapacity), "done", "")
	return true
}

func (c *Core) alertCapacity(i *incident, rec *recovery, missing string) {
	steps := c.pol.Ladder(autoheal.ResourceExhaustion)
	if !slices.Contains(steps, policy.StepAlertCapacity) {
		return
	}
	next := "Add capacity, or stop something: autoheal workloads"
	if slices.Contains(steps, policy.StepPreempt) && c.pol.Preemption.Enabled || slices.Contains(steps, policy.StepScaleDown) {
		next = "Less important work gives way if that makes room (autoheal heal --dry-run shows what); else add capacity"
	}
	c.alert(i, alertSpec{
		name: "capacity", severity: autoheal.SeverityWarning, dedup: fmt.Sprintf("%s capacity %s", i.ID, rec.Workload),
		text: fmt.Sprintf("%s. It is %s. %s", missing, rec.Class, next),
	})
}

// stepMakeRoom hands the steps preempt and scale_down to the duty that takes them, in the order of the ladder.
func (c *Core) stepMakeRoom(i *incident) bool {
	for _, w := range i.Order {
		if i.Recoveries[w].Step != autoheal.StepDone {
			c.dirty[key{w: w, what: dutyRoom}] = true
		}
	}
	return i.Open == 0
}

// stepExhausted follows a workload or gang that had no place: it waits until all of it has one, then it is held to its dwell
// like any other. What ends then is another failure, and another incident.
func (c *Core) stepExhausted(i *incident, rec *recovery) {
	waits, failed := c.membersWait(rec)
	switch {
	case failed != nil:
		c.done(i, rec, autoheal.EndCancelled, "it had its place, and ended there: "+detect.DescribeExit(failed))
		c.detect(detect.Change{Workload: failed})
	case waits && (rec.Step == autoheal.StepStarting || rec.Step == autoheal.StepVerifying):
		c.move(i, rec, autoheal.StepWaiting, journal.RecoveryStep{Reason: "it lost its place before it ran", Attempts: c.lastAttempts(rec)})
	case waits:
		c.holdStarved(i, rec)
	case rec.Step == autoheal.StepWaiting:
		c.release(&proposal{i: i, rec: rec, k: key{inc: i.ID, w: rec.Workload}})
		c.move(i, rec, autoheal.StepStopping, journal.RecoveryStep{Reason: "it has a place"})
	case rec.Step == autoheal.StepStopping:
		c.move(i, rec, autoheal.StepStarting, journal.RecoveryStep{
			Reason: "it has a place", Attempts: c.lastAttempts(rec), Deadline: c.now.Add(c.pol.RungDeadline(rec.Objective)), Proof: rec.Proof,
		})
	case rec.Step == autoheal.StepStarting:
		c.stepStarting(i, rec)
	default:
		c.stepVerifying(i, rec)
	}
}

// membersWait reports whether a member waits for a place, and which one has failed.
func (c *Core) membersWait(rec *recovery) (waits bool, failed *autoheal.Workload) {
	for _, id := range rec.Members {
		w := c.v.cur[id]
		switch {
		case w == nil:
		case w.State == autoheal.Pending:
			waits = true
		case w.State == autoheal.Failed && failed == nil:
			failed = w
		}
	}
	return waits, failed
}

// holdStarved says what is missing, and follows the ladder: it is stopping while others stop for it.
func (c *Core) holdStarved(i *incident, rec *recovery) {
	rm := c.d.Rooms[rec.Workload]
	begun := rm != nil && !rm.Begun.IsZero()
	if begun && rec.Step == autoheal.StepWaiting {
		c.move(i, rec, autoheal.StepStopping, journal.RecoveryStep{Rung: rm.Step, Reason: rm.Text})
	}
	c.dirty[key{w: rec.Workload, what: dutyRoom}] = true
	v := verdict{Reason: autoheal.ReasonNoCapacity, Detail: c.missing(i, rec), On: "capacity"}
	if begun {
		v.Detail = "its place is being made: " + rm.Text
	}
	c.hold(&proposal{i: i, rec: rec, k: key{inc: i.ID, w: rec.Workload}}, "capacity", v)
}

// missing says what a recovery lacks, in words.
func (c *Core) missing(i *incident, rec *recovery) string {
	need := c.needs(rec, c.avoid(i, rec))
	if len(need) == 0 {
		return "it waits for a place"
	}
	return c.v.index.Shortage(need)
}

// starving has the recovery of an urgent workload that is held for want of room looked at once others may be stopped for
// it: it waits for a place as one that is pending does.
func (c *Core) starving(p *proposal, v verdict) {
	if p.rec == nil || p.i == nil || v.Reason != autoheal.ReasonNoCapacity || p.i.Kind == autoheal.ResourceExhaustion {
		return
	}
	if slices.Contains(c.pol.Preemption.ForClasses, p.rec.Class) && p.rec.Held != nil {
		c.after(key{w: p.rec.Workload, what: dutyRoom}, p.rec.Held.Since.Add(c.pol.Preemption.PendingFor))
	}
}

// wantsRoom returns the recovery that waits for room under a workload's name, and for how long it must still wait before
// others are stopped for it.
func (c *Core) wantsRoom(lead autoheal.WorkloadID) (*incident, *recovery, time.Duration) {
	at, open := c.ix.recOf[lead]
	if !open || at.lead != lead {
		return nil, nil, 0
	}
	i := c.d.Incidents[at.inc]
	rec := i.Recoveries[lead]
	switch waits, _ := c.membersWait(rec); {
	case !slices.Contains(c.pol.Preemption.ForClasses, rec.Class) || c.unwanted(rec) != "":
		return nil, nil, 0
	case i.Kind == autoheal.ResourceExhaustion:
		if !waits {
			return nil, nil, 0
		}
		return i, rec, 0
	case rec.Held == nil || rec.Held.Reason != autoheal.ReasonNoCapacity:
		return nil, nil, 0
	}
	return i, rec, max(0, rec.Held.Since.Add(c.pol.Preemption.PendingFor).Sub(c.now))
}

// placed reports whether who waited has its place now.
func (c *Core) placed(i *incident, rec *recovery) bool {
	if rec.Step == autoheal.StepVerifying {
		return true
	}
	for n, id := range rec.Members {
		w := c.v.cur[id]
		if w == nil || w.State == autoheal.Pending || w.State.Ended() {
			return false
		}
		if i.Kind != autoheal.ResourceExhaustion && (rec.Step != autoheal.StepStarting || n >= len(rec.NewAttempts) || w.Attempt < rec.NewAttempts[n]) {
			return false
		}
	}
	return true
}

// nodesOf names the nodes of places, each once.
func nodesOf(spots []place.Spot) []autoheal.NodeID {
	var out []autoheal.NodeID
	for _, s := range spots {
		if !slices.Contains(out, s.Node) {
			out = append(out, s.Node)
		}
	}
	return out
}
