package heal

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// stepIncident is the one place where an incident's phase changes.
func (c *Core) stepIncident(i *incident) {
	switch i.Phase {
	case autoheal.Suspected:
		c.stepSuspected(i)
	case autoheal.Recovering:
		c.stepRecovering(i)
	}
}

func (c *Core) stepSuspected(i *incident) {
	switch {
	case i.Subject.Kind == autoheal.RefCluster:
		c.stepStorm()
	case c.withdrawn(i):
		moved := c.moved(i)
		c.leaveAlone(i, "the node answers again")
		switch {
		case i.Open == 0 && !moved:
			c.phase(i, autoheal.Cleared, "the evidence was withdrawn")
		case moved:
			c.phase(i, autoheal.Recovering, "the node answers again after work was moved")
			c.stepRecovering(i)
		default:
			c.phase(i, autoheal.Recovering, "the node answers again, but some of its work has ended")
			c.stepRecovering(i)
		}
	case c.confirmed(i):
		c.phase(i, autoheal.Recovering, c.confirmation(i))
		c.notifyFailure(i)
		c.stepRecovering(i)
	}
}

// withdrawn reports whether what the incident rests on is over.
func (c *Core) withdrawn(i *incident) bool {
	if i.Conclusive || i.Subject.Kind != autoheal.RefNode {
		return false
	}
	n := c.v.nodes[autoheal.NodeID(i.Subject.ID)]
	return c.v.synced && (n == nil || n.Link == autoheal.LinkUp)
}

// moved reports whether something was done that cannot simply be dropped.
func (c *Core) moved(i *incident) bool {
	for _, w := range i.Order {
		switch rec := i.Recoveries[w]; {
		case rec.Step == autoheal.StepStarting, rec.Step == autoheal.StepVerifying, rec.End == autoheal.EndRecovered:
			return true
		}
	}
	return false
}

// confirmed reports whether the incident may be acted upon, and arranges to look again when it may be.
func (c *Core) confirmed(i *incident) bool {
	if i.Conclusive {
		return true
	}
	if !c.silentNow(i) {
		return false
	}
	at := c.graceOver(i)
	if c.now.Before(at) {
		c.after(key{inc: i.ID}, at)
		return false
	}
	return !c.doubted(&proposal{i: i, k: key{inc: i.ID}, target: i.Subject, silence: true})
}

// doubted holds what rests on silence while the healer has reason to doubt what it sees, and for the cool-down after that:
// nothing is even begun then (behaviour D1, D2, D3, D5).
func (c *Core) doubted(p *proposal) bool {
	c.planning = true // asked only; the gate takes its token when something is sent
	name, v := "observer", gateObserver(c, p)
	if v.OK {
		name, v = "cooldown", gateCooldown(c, p)
	}
	c.planning = false
	if !v.OK {
		c.hold(p, name, v)
		return true
	}
	if _, held := holdTarget(p); p.rec == nil && held != nil {
		switch held.Reason {
		case autoheal.ReasonObserverSuspect, autoheal.ReasonSettling, autoheal.ReasonCooldown:
			c.release(p)
		}
	}
	return false
}

func (c *Core) silentNow(i *incident) bool {
	n := c.v.nodes[autoheal.NodeID(i.Subject.ID)]
	return n != nil && n.Link == autoheal.LinkSilent
}

// graceOver is when a node has been silent for its grace: counted from the last contact, or from the end of a time in
// which the healer was not looking.
func (c *Core) graceOver(i *incident) time.Time {
	return c.silentBase(i).Add(c.pol.Node.OfflineGracePeriod)
}

func (c *Core) silentBase(i *incident) time.Time {
	base := i.Since
	if n := c.v.nodes[autoheal.NodeID(i.Subject.ID)]; n != nil {
		base = n.LastSeen
	}
	if base.Before(c.voidBase) {
		base = c.voidBase
	}
	return base
}

func (c *Core) confirmation(i *incident) string {
	if i.Conclusive {
		return "the evidence is conclusive"
	}
	s := fmt.Sprintf("silent for longer than the grace of %s", c.pol.Node.OfflineGracePeriod)
	if c.persistent(i.Subject) {
		s += "; silent so often that it counts as persistent"
	}
	return s
}

func (c *Core) phase(i *incident, to autoheal.Phase, reason string) {
	n := c.v.nodes[autoheal.NodeID(i.Subject.ID)]
	silent := to.Ended() && i.Subject.Kind == autoheal.RefNode && n != nil && n.Link != autoheal.LinkUp
	if !c.record(i.ID, journal.IncidentPhase{From: i.Phase, To: to, Reason: reason, Silent: silent}) || !to.Ended() {
		return
	}
	c.ended(i)
}

// leaveAlone ends the recoveries in which nothing was done, of what runs on.
func (c *Core) leaveAlone(i *incident, why string) {
	for _, w := range i.Order {
		if rec := i.Recoveries[w]; (rec.Step == autoheal.StepWaiting || rec.Step == autoheal.StepStopping) && !c.anyEnded(rec) {
			c.done(i, rec, autoheal.EndLeftAlone, why)
		}
	}
}

// stepRecovering takes the steps on the subject in the order of the ladder and ends the incident when all is done. The
// steps on workloads are taken by their recoveries.
func (c *Core) stepRecovering(i *incident) {
	finished := true
	for _, s := range c.pol.Ladder(i.Kind) {
		finished = c.subjectStep(i, s) && finished
	}
	if !finished || i.Open > 0 {
		return
	}
	to, why := autoheal.Recovered, "every workload runs again"
	moved := false
	for _, w := range i.Order {
		switch i.Recoveries[w].End {
		case autoheal.EndEscalated:
			to, why = autoheal.Escalated, fmt.Sprintf("%s needs a person", w)
		case autoheal.EndRecovered:
			moved = true
		}
	}
	if to == autoheal.Recovered && !moved {
		why = "nothing had to be moved"
		if i.Subject.Kind == autoheal.RefNode && c.silentNow(i) {
			why = "it carried no workload that had to be moved"
		}
	}
	if i.MergedInto != "" {
		to, why = autoheal.Cleared, "a symptom of "+string(i.MergedInto)
	}
	c.phase(i, to, why)
}

// subjectStep takes one step of the ladder that concerns the subject itself; steps on workloads are none of its business.
func (c *Core) subjectStep(i *incident, s policy.Step) bool {
	if _, done := i.Steps[string(s)]; done {
		return true
	}
	switch s {
	case policy.StepCordon:
		return i.Subject.Kind != autoheal.RefNode || c.cordon(i)
	case policy.StepAlertHardware:
		if gone, finished := c.goneForNow(i); !gone {
			return finished
		}
		c.alertHardware(i)
		c.stepDone(i, s, "done", "")
	}
	return true
}

// goneForNow reports whether a node has been silent for its grace, and if not, whether there is nothing to do for it: it
// answers. A step is not over then: the node may fall silent again while the incident goes on.
func (c *Core) goneForNow(i *incident) (gone, finished bool) {
	switch {
	case i.Subject.Kind != autoheal.RefNode || c.withdrawn(i):
		return false, true
	case !c.silentNow(i):
		return false, false // nothing is known of it: its next event wakes the incident
	}
	if at := c.graceOver(i); c.now.Before(at) {
		c.after(key{inc: i.ID}, at)
		return false, false
	}
	return true, true
}

func (c *Core) stepDone(i *incident, s policy.Step, result, reason string) {
	c.record(i.ID, journal.StepDone{Step: string(s), Result: result, Reason: reason})
}

// cordon keeps new work away from the subject. To mark what does not answer is recovery and takes from no budget
// (behaviour D4).
func (c *Core) cordon(i *incident) bool {
	n := c.v.nodes[autoheal.NodeID(i.Subject.ID)]
	var sent *action
	if n != nil {
		sent = i.findAction(autoheal.Cordon, n.Ref())
	}
	if sent == nil || !sent.pending() { // one that is seen late is adopted (see stepMark)
		if gone, finished := c.goneForNow(i); !gone {
			return finished
		}
	}
	switch {
	case sent != nil && (sent.pending() || sent.Outcome == autoheal.OutcomeDone):
	case sent == nil && !c.pol.Node.AutoCordon:
		c.stepDone(i, policy.StepCordon, "skipped", "autoHeal.node.autoCordon is false: no mark, and no placement while it is silent")
		return true
	case n == nil || n.MarkedBy(autoheal.ByAutoheal) != nil:
		c.stepDone(i, policy.StepCordon, "skipped", "it is cordoned already")
		return true
	}
	state, a := c.act(&proposal{
		i: i, k: key{inc: i.ID}, verb: autoheal.Cordon, target: n.Ref(), step: policy.StepCordon, node: n, silence: true,
		reason: string(i.Kind) + ": " + i.Cause,
	})
	switch state {
	case actDone:
		c.stepDone(i, policy.StepCordon, "done", "")
		return true
	case actFailed:
		c.stepDone(i, policy.StepCordon, "failed", a.Detail)
		return true
	}
	return false
}

// wordUsed ends a person's word that a node is off: it is good for one outage, and for everything that was on the node.
func (c *Core) wordUsed(id autoheal.NodeID) {
	if word := c.d.FenceWords[id]; word != nil && !word.Used {
		c.record("", journal.FenceUsed{Node: id, By: word.By})
	}
}

// ended does what an incident's end asks for: its message, its post-mortem, its place in the statistics.
func (c *Core) ended(i *incident) {
	if i.Subject.Kind == autoheal.RefNode && !c.silentNow(i) {
		c.wordUsed(autoheal.NodeID(i.Subject.ID))
	}
	if i.Phase == autoheal.Recovered && i.Subject.Kind == autoheal.RefNode {
		c.offend(i.Subject)
	}
	c.notifyEnd(i)
	c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(i.Subject.String())}] = true
}
