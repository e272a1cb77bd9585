package heal

import (
	"fmt"
	"slices"
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
	if out := c.outageAround(i); out != nil {
		c.joinOutage(i, out)
		return
	}
	switch {
	case i.Subject.Kind == autoheal.RefCluster:
		c.stepStorm()
	case i.Kind == autoheal.NetworkPartition:
		c.stepSuspectedNetwork(i)
	case i.Kind == autoheal.NodeFault:
		c.stepFaultSuspected(i)
	case c.forgotten(i) && i.Open == 0:
		c.phase(i, autoheal.Cleared, "the node was forgotten, and nothing of it is to be recovered")
	case c.withdrawn(i):
		moved := c.moved(i)
		c.leaveAlone(i, answersAgain(i))
		switch {
		case i.Open == 0 && !moved:
			c.phase(i, autoheal.Cleared, "the evidence was withdrawn")
		case moved:
			c.phase(i, autoheal.Recovering, answersAgain(i)+" after work was moved")
			c.stepRecovering(i)
		default:
			c.phase(i, autoheal.Recovering, answersAgain(i)+", but some of its work has ended")
			c.stepRecovering(i)
		}
	case c.confirmed(i):
		c.phase(i, autoheal.Recovering, c.confirmation(i))
		c.notifyFailure(i)
		c.stepRecovering(i)
	}
}

func answersAgain(i *incident) string {
	if i.Subject.Kind == autoheal.RefDomain {
		return "every node of it answers again"
	}
	return "the node answers again"
}

// withdrawn reports whether what the incident rests on is over.
func (c *Core) withdrawn(i *incident) bool {
	nodes := i.nodes()
	return len(nodes) > 0 && !slices.ContainsFunc(nodes, func(n autoheal.NodeID) bool { return !c.answers(i, n) })
}

// answers reports whether a node answers whose silence an incident rests on.
func (c *Core) answers(i *incident, id autoheal.NodeID) bool {
	if i.Conclusive || id == "" || !c.v.synced {
		return false
	}
	n := c.v.nodes[id]
	return n != nil && n.Link == autoheal.LinkUp
}

// forgotten reports whether all nodes of an incident were taken off the books. That is no answer: what was on them is
// recovered as if they were silent for good, with the same proofs.
func (c *Core) forgotten(i *incident) bool {
	return c.v.synced && len(i.nodes()) > 0 && !slices.ContainsFunc(i.nodes(), func(n autoheal.NodeID) bool { return c.v.nodes[n] != nil })
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
	var first time.Time // when the first of its nodes has been silent for its grace
	for _, n := range i.nodes() {
		if at := c.graceOver(i, n); c.isSilent(n) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if first.IsZero() {
		return false
	}
	if c.now.Before(first) {
		c.after(key{inc: i.ID}, first)
		return false
	}
	return !c.doubted(&proposal{i: i, k: key{inc: i.ID}, target: i.Subject, silence: true})
}

// doubted holds what rests on silence while the healer has reason to doubt what it sees, and for the cool-down after that:
// nothing is even begun then (behaviour D1, D2, D3, D5).
func (c *Core) doubted(p *proposal) bool {
	c.planning = true                     // asked only; the gate takes its token when something is sent
	name, v := "synced", gateSynced(c, p) // what many silences mean is found out once it is known again who answers
	if v.OK {
		name, v = "observer", gateObserver(c, p)
	}
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
		case autoheal.ReasonObserverSuspect, autoheal.ReasonSettling, autoheal.ReasonCooldown, autoheal.ReasonNotSynced:
			c.release(p)
		}
	}
	return false
}

// isSilent reports whether a node does not answer; one that was forgotten never will.
func (c *Core) isSilent(id autoheal.NodeID) bool {
	n := c.v.nodes[id]
	return n == nil && c.v.synced && id != "" || n != nil && n.Link == autoheal.LinkSilent
}

// silentOnes returns the nodes of an incident that are silent.
func (c *Core) silentOnes(i *incident) []autoheal.NodeID {
	return slices.DeleteFunc(slices.Clone(i.nodes()), func(n autoheal.NodeID) bool { return !c.isSilent(n) })
}

// graceOver is when a node has been silent for its grace: counted from the last contact, or from the end of a time in
// which the healer was not looking.
func (c *Core) graceOver(i *incident, id autoheal.NodeID) time.Time {
	return c.silentBase(i, id).Add(c.pol.Node.OfflineGracePeriod)
}

func (c *Core) silentBase(i *incident, id autoheal.NodeID) time.Time {
	base := i.Since
	if n := c.v.nodes[id]; n != nil {
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
	p := journal.IncidentPhase{From: i.Phase, To: to, Reason: reason}
	if p.Persistent = to == autoheal.Cleared && i.Subject.Kind == autoheal.RefNode && i.MergedInto == "" && c.persistent(i.Subject); p.Persistent {
		p.Reason += fmt.Sprintf("; %s: that is persistent", c.howOften())
	}
	if to.Ended() && i.MergedInto == "" {
		for _, id := range i.nodes() {
			switch n := c.v.nodes[id]; {
			case n == nil || n.Link == autoheal.LinkUp:
			case i.Subject.Kind == autoheal.RefNode:
				p.Silent = true
			default:
				p.Gone = append(p.Gone, id)
			}
		}
	}
	if !c.record(i.ID, p) || !to.Ended() {
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
	for _, s := range c.ladder(i) {
		finished = c.subjectStep(i, s) && finished
	}
	if !finished || i.Open > 0 || i.Phase.Ended() || c.lasting(i) {
		return
	}
	to, why := autoheal.Recovered, "every workload runs again"
	moved, others := false, false
	for _, w := range i.Order {
		others = others || endWord(i.Recoveries[w]) == movedOn
		switch i.Recoveries[w].End {
		case autoheal.EndEscalated:
			to, why = autoheal.Escalated, fmt.Sprintf("%s needs a person", w)
		case autoheal.EndRecovered:
			moved = true
		}
	}
	if to == autoheal.Recovered && !moved {
		why = "nothing had to be moved"
		switch {
		case others:
			why = "somebody else went on with its work"
		case len(c.silentOnes(i)) > 0:
			why = "it carried no workload that had to be moved"
		}
	}
	if s := i.Steps[string(policy.StepIsolate)]; s.Result == "done" && to == autoheal.Recovered {
		why += ", and a node is isolated"
	}
	if i.Steps[string(policy.StepAlertHardware)].Result == "done" && i.Kind == autoheal.GPUFailure {
		to, why = autoheal.Escalated, i.part()+" waits for a person"
	}
	if i.Kind == autoheal.HealthCheck && allLeftAlone(i) {
		to, why = autoheal.Cleared, "its checks pass again, and nothing was done"
	}
	if i.Kind == autoheal.ResourceExhaustion && to == autoheal.Recovered && !moved {
		to, why = autoheal.Cleared, "nobody waits for a place any more"
	}
	if i.MergedInto != "" {
		to, why = autoheal.Cleared, "a symptom of "+string(i.MergedInto)
	}
	c.phase(i, to, why)
}

// goneForNow reports whether a node has been silent for its grace, and if not, whether there is nothing to do for it: it
// answers. A step is not over then: the node may fall silent again while the incident goes on.
func (c *Core) goneForNow(i *incident, id autoheal.NodeID) (gone, finished bool) {
	switch {
	case c.answers(i, id):
		return false, true
	case !c.isSilent(id):
		return false, false // nothing is known of it: its next event wakes the incident
	}
	if at := c.graceOver(i, id); c.now.Before(at) {
		c.after(key{inc: i.ID}, at)
		return false, false
	}
	return true, true
}

// stepDone ends a step on the subject, and looks again at what may have waited for it.
func (c *Core) stepDone(i *incident, step, result, reason string) {
	c.record(i.ID, journal.StepDone{Step: step, Result: result, Reason: reason})
	if i.Kind == autoheal.NodeOffline {
		return
	}
	c.dirty[key{inc: i.ID}] = true
	for _, w := range i.Order {
		if i.Recoveries[w].Step == autoheal.StepWaiting {
			c.dirty[key{inc: i.ID, w: w}] = true
		}
	}
}

// cordon keeps new work away from a node. To mark what does not answer is recovery and takes from no budget
// (behaviour D4).
func (c *Core) cordon(i *incident, id autoheal.NodeID) bool {
	step := cordonStep(i, id)
	if _, done := i.Steps[step]; done {
		return true
	}
	n := c.v.nodes[id]
	var sent *action
	if n != nil {
		sent = c.newestAction(i, autoheal.Cordon, n.Ref())
	}
	if sent == nil || !sent.pending() { // one that is seen late is adopted (see stepMark)
		if gone, finished := c.goneForNow(i, id); !gone {
			return finished
		}
	}
	switch {
	case sent != nil && (sent.pending() || sent.Outcome == autoheal.OutcomeDone):
	case sent == nil && !c.pol.Node.AutoCordon:
		c.stepDone(i, step, "skipped", "autoHeal.node.autoCordon is false: no mark, and no placement while it is silent")
		return true
	case n == nil:
		c.stepDone(i, step, "skipped", "the node was forgotten")
		return true
	case n.MarkedBy(autoheal.ByAutoheal) != nil:
		c.stepDone(i, step, "skipped", "it is cordoned already")
		return true
	}
	state, a := c.act(&proposal{
		i: i, k: key{inc: i.ID}, verb: autoheal.Cordon, target: n.Ref(), step: policy.StepCordon, node: n, silence: true,
		reason: string(i.Kind) + ": " + i.Cause,
	})
	switch state {
	case actDone:
		c.stepDone(i, step, "done", "")
		return true
	case actFailed:
		c.stepDone(i, step, "failed", a.Detail)
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
	c.voidApprovals(i)
	delete(c.uncordoned, i.ID)
	for _, n := range i.nodes() {
		c.recount()
		if !c.isSilent(n) {
			c.wordUsed(n)
		}
		c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(autoheal.NodeRef(n).String())}] = true
	}
	if i.Subject.Kind == autoheal.RefNode && (i.Phase == autoheal.Recovered || i.Persistent) {
		c.offend(i.Subject)
	}
	if i.Persistent {
		c.alertFlapping(i)
	}
	if i.Kind == autoheal.GPUFailure {
		c.gpuEnded(i)
	}
	c.notifyEnd(i)
	for _, w := range i.Order { // however it ended
		c.stopsOver(i, i.Recoveries[w])
	}
	if i.Subject.Kind == autoheal.RefNode && i.Kind != autoheal.NodeFault {
		c.lookAtNode(autoheal.NodeID(i.Subject.ID))
	}
}
