package heal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// bootTime is how long a node may take from an accepted reboot until it answers again: large machines test their memory.
const bootTime = 15 * time.Minute

// stepAdvice mends the part as the evidence asks for: a reset of the GPU, or a reboot of its node.
func (c *Core) stepAdvice(i *incident) bool {
	switch i.Action {
	case autoheal.AdviceResetGPU:
		return c.repair(i, policy.StepAdvice, autoheal.ResetGPU)
	case autoheal.AdviceRebootNode:
		return c.repair(i, policy.StepAdvice, autoheal.Reboot)
	}
	c.stepDone(i, string(policy.StepAdvice), "skipped", "nothing is to be reset or rebooted")
	return true
}

// repair resets or reboots what is out of use and empty (behaviour E1): moving comes before mending. It is tried at most
// twice in 7 days; what that did is seen, not taken on trust.
func (c *Core) repair(i *incident, step policy.Step, verb autoheal.Verb) bool {
	n, a := c.v.nodes[i.at()], i.newest(verb)
	if !c.stepsBefore(i, step) || n == nil && !c.v.synced {
		return false
	}
	reason := string(i.Kind) + ": " + i.Cause
	if a != nil && !a.pending() {
		over, ok, why := c.repairEnded(n, a)
		switch {
		case over && ok:
			c.repairDone(i, step, verb, "done", "")
			return true
		case over && c.repaired(a.Target) >= repairMost:
			c.repairDone(i, step, verb, "failed", fmt.Sprintf("%s; it was tried %d times in 7 days", why, c.repaired(a.Target)))
			return true
		case over:
			a, reason = nil, "once more: "+why
		case a.Outcome == autoheal.OutcomeDone:
			by := a.ResultAt.Add(c.repairTime(verb))
			c.after(key{inc: i.ID}, by)
			return false
		}
	}
	if a != nil {
		return c.repairAgain(i, step, n, a)
	}
	target, why := c.repairable(i, n, verb)
	switch {
	case why != "":
		c.repairDone(i, step, verb, "skipped", why)
		return true
	case !c.occupied(i, step, verb):
		c.sendRepair(i, step, verb, target, n, reason)
	}
	return false
}

// sendRepair asks for one try; each is an action of its own.
func (c *Core) sendRepair(i *incident, step policy.Step, verb autoheal.Verb, target autoheal.Ref, n *autoheal.Node, why string) {
	state, a := c.send(&proposal{
		i: i, k: key{inc: i.ID}, verb: verb, target: target, step: c.repairStep(i, step, verb), node: n, budget: budgetDisrupt, reason: why,
	}, nil)
	if state == actPending && a != nil {
		c.record(i.ID, journal.RepairTried{Target: target, Verb: verb, Action: a.ID})
	}
}

// repairAgain goes on with a try of which it is not known whether it was begun.
func (c *Core) repairAgain(i *incident, step policy.Step, n *autoheal.Node, a *action) bool {
	if c.occupied(i, step, a.Verb) {
		return false
	}
	state, a := c.act(&proposal{
		i: i, k: key{inc: i.ID}, verb: a.Verb, target: a.Target, step: c.repairStep(i, step, a.Verb), node: n, budget: budgetDisrupt, reason: a.Reason,
	})
	if state == actFailed {
		c.repairDone(i, step, a.Verb, "failed", fmt.Sprintf("%s of %s: %s", a.Verb, a.Target, a.Detail))
		return true
	}
	return false
}

// repairTime is how long a repair may take once it was accepted.
func (c *Core) repairTime(verb autoheal.Verb) time.Duration {
	if verb == autoheal.Reboot {
		return bootTime
	}
	return c.pol.Repair.Timeout + time.Minute
}

// repairStep is the step under which the autonomy of a repair is looked up: what a site says of the step advice comes first.
func (c *Core) repairStep(i *incident, step policy.Step, verb autoheal.Verb) policy.Step {
	for _, k := range []string{string(i.Kind) + "." + string(step), string(step)} {
		if _, said := c.pol.Autonomy[k]; said {
			return step
		}
	}
	if verb == autoheal.Reboot {
		return policy.StepReboot
	}
	return policy.StepResetGPU
}

// repairable says what is to be mended, or why it is not.
func (c *Core) repairable(i *incident, n *autoheal.Node, verb autoheal.Verb) (target autoheal.Ref, why string) {
	if n == nil {
		return target, "its node is not there any more"
	}
	target = n.Ref()
	if verb == autoheal.ResetGPU {
		if i.Subject.Kind != autoheal.RefGPU || c.v.NodeOfGPU(autoheal.GPUID(i.Subject.ID)) != n {
			return target, "the GPU is not there any more"
		}
		target = autoheal.Ref{Kind: autoheal.RefGPU, ID: i.Subject.ID, Generation: n.BootID}
	}
	switch {
	case !n.Supports(verb):
		return target, fmt.Sprintf("nothing of this cluster can %s %s", mending(verb), n.ID)
	case c.takenBack(i):
		return target, takenBack
	case c.repaired(target) >= repairMost:
		return target, fmt.Sprintf("it was tried %d times in 7 days", c.repaired(target))
	}
	return target, ""
}

// mending says what a repair does.
func mending(verb autoheal.Verb) string {
	if verb == autoheal.Reboot {
		return "reboot"
	}
	return "reset a GPU of"
}

// repairEnded says what became of a repair: a node tells of a reset as a job, and of a reboot by being another boot. What was
// not accepted before the node booted never will be: the boot was the repair, and the test says whether it mended the part.
func (c *Core) repairEnded(n *autoheal.Node, a *action) (over, ok bool, why string) {
	booted := n != nil && n.Link == autoheal.LinkUp && n.Ready && n.BootID != a.Target.Generation
	if booted && (a.Verb == autoheal.Reboot || a.Outcome != autoheal.OutcomeDone) {
		return true, true, ""
	}
	if over, ok, why := jobEnded(n, a); over && a.Verb != autoheal.Reboot {
		return true, ok, why
	}
	by := a.ResultAt.Add(c.repairTime(a.Verb))
	if a.Outcome != autoheal.OutcomeDone || c.now.Before(by) {
		return false, false, ""
	}
	return true, false, fmt.Sprintf("%s %s: nothing was heard of it by %s", a.Verb, a.Target.ID, by.UTC().Format(time.TimeOnly))
}

// jobEnded says what a node tells of an action that it carries out by itself.
func jobEnded(n *autoheal.Node, a *action) (over, ok bool, why string) {
	if n == nil {
		return false, false, ""
	}
	j := n.Job(a.ID)
	if j == nil || j.State == autoheal.JobRunning {
		return false, false, ""
	}
	return true, j.State == autoheal.JobPassed, fmt.Sprintf("%s %s failed: %s", a.Verb, a.Target.ID, clip(oneLine(j.Detail+" "+j.Output), 300))
}

// repairDone ends the step, and gives back what its actions took.
func (c *Core) repairDone(i *incident, step policy.Step, verb autoheal.Verb, result, why string) {
	for _, a := range i.Actions {
		if a.Verb == verb && !a.pending() {
			c.giveBack(i.ID, budgetDisrupt, a.ID, false)
		}
	}
	c.stepDone(i, string(step), result, why)
	if n := c.v.nodes[i.at()]; n != nil && n.Link == autoheal.LinkSilent { // it was left alone while it booted
		c.detect(detect.Change{Node: n})
	}
}

// rebooting reports whether a node is silent because it was rebooted by us a moment ago: that is no failure yet.
func (c *Core) rebooting(n autoheal.NodeID) bool {
	i := c.onNode(n)
	if i == nil || i.Kind != autoheal.GPUFailure {
		return false
	}
	a := i.newest(autoheal.Reboot)
	if a == nil || a.Target.ID != string(n) || a.Outcome == autoheal.OutcomeNotSent || len(c.inUse(i)) > 0 {
		return false
	}
	from := a.ResultAt
	if a.pending() {
		from = a.IntentAt
	}
	return c.now.Before(from.Add(bootTime)) && i.Steps[string(policy.StepAdvice)].Result == "" && i.Steps[string(policy.StepReboot)].Result == ""
}

// newest returns the latest action of an incident with a verb, of whatever boot, or nil.
func (i *incident) newest(verb autoheal.Verb) *action {
	for n := len(i.Actions) - 1; n >= 0; n-- {
		if i.Actions[n].Verb == verb {
			return i.Actions[n]
		}
	}
	return nil
}

// onParts are the steps on a part that those after them wait for.
var onParts = []policy.Step{
	policy.StepStopPlacing, policy.StepCordon, policy.StepQuarantineGPU, policy.StepCollect, policy.StepAdvice, policy.StepResetGPU, policy.StepReboot, policy.StepTest,
}

// stepsBefore reports whether all steps on the subject are over that come before one in the ladder.
func (c *Core) stepsBefore(i *incident, step policy.Step) bool {
	for _, s := range c.ladder(i) {
		if s == step {
			return true
		}
		if _, over := i.Steps[string(s)]; !over && slices.Contains(onParts, s) {
			return false
		}
	}
	return true
}

// occupied reports whether something may still run on a part; who leaves it wakes the step. What nobody is going to move is
// named, so that a person can.
func (c *Core) occupied(i *incident, step policy.Step, verb autoheal.Verb) bool {
	users := c.inUse(i)
	p := &proposal{i: i, k: key{inc: i.ID}, verb: verb, target: i.Subject, step: step}
	if len(users) == 0 {
		if _, held := holdTarget(p); held != nil && held.Reason == autoheal.ReasonForeignOwner {
			c.release(p)
		}
		return false
	}
	c.takeIn(i, users)
	if i.Open == 0 {
		c.hold(p, "in_use", verdict{
			Reason: autoheal.ReasonForeignOwner, On: "node/" + string(i.at()),
			Detail: fmt.Sprintf("%s is still there, and nothing of ours moves it: autoheal stop %s", users[0], users[0]),
		})
		c.blockedRepair(i)
	}
	return true
}

// blockedRepair tells a person of a repair that waits for what only they can move.
func (c *Core) blockedRepair(i *incident) {
	if i.Held == nil || i.Held.Reason != autoheal.ReasonForeignOwner {
		return
	}
	if at := i.Held.Since.Add(ticketWaits); c.now.Before(at) {
		c.after(key{inc: i.ID}, at)
		return
	}
	c.alert(i, alertSpec{
		name: "repair-blocked", severity: autoheal.SeverityCritical, dedup: string(i.ID) + " blocked",
		text: fmt.Sprintf("%s cannot be mended: %s. %s", i.part(), i.Held.Detail, strings.TrimSuffix(i.Cause, ".")),
	})
}

// takeIn opens a recovery for what came to a part at the last moment, or was left there by somebody else's incident. What was
// given up stays given up.
func (c *Core) takeIn(i *incident, users []autoheal.WorkloadID) {
	rung := c.firstRung(i)
	for _, id := range users {
		w := c.v.cur[id]
		if _, open := c.ix.recOf[id]; open || w == nil || rung == "" || !detect.Wanted(w) {
			continue
		}
		lead := c.leadOf(w)
		if lead == nil || i.Recoveries[lead.ID] != nil && i.Recoveries[lead.ID].End == autoheal.EndEscalated {
			continue
		}
		c.openRecovery(i, lead, lost{at: c.now, rung: rung})
	}
}

// inUse names the workloads of which a copy may run on the part that an incident is about.
func (c *Core) inUse(i *incident) []autoheal.WorkloadID {
	node := i.at()
	var out []autoheal.WorkloadID
	add := func(w *autoheal.Workload) {
		whole := i.Subject.Kind != autoheal.RefGPU
		if w != nil && w.Node == node && live(w) && (whole || slices.Contains(w.GPUs, autoheal.GPUID(i.Subject.ID))) && !slices.Contains(out, w.ID) {
			out = append(out, w.ID)
		}
	}
	for _, w := range c.v.WorkloadsOn(node) {
		add(w)
	}
	for _, id := range c.v.oldOn[node] {
		for _, w := range c.v.old[id] {
			add(w)
		}
	}
	return out
}
