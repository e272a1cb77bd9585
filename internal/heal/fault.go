package heal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/policy"
)

// pressureGrace is how long a node must be short of memory or of processes before that counts (behaviour B7).
const pressureGrace = 2 * time.Minute

// findFault takes in a claim that a node cannot be relied on. What a person has dismissed in this boot is not opened again.
func (c *Core) findFault(f autoheal.Finding, open *incident) {
	if last := c.d.Incidents[c.ix.last[f.Subject.String()]]; open == nil && last != nil && last.Kind == f.Kind && last.Phase == autoheal.Dismissed &&
		last.Subject.Generation == f.Subject.Generation && !f.Since.After(last.Ended.Add(c.pol.Evidence.MaxAge)) {
		return
	}
	c.findPart(f, open)
}

// faults returns what the node of an incident reports of itself now; known is false while nothing is known of it.
func (c *Core) faults(i *incident) (faults []string, known bool) {
	n := c.v.nodes[i.at()]
	if n == nil {
		return nil, c.v.synced
	}
	return n.Faults(), n.Link == autoheal.LinkUp && c.v.synced
}

// followFaults notes since when a node has reported no fault.
func (c *Core) followFaults(n *autoheal.Node) {
	_, clear := c.clearSince[n.ID]
	switch fine := n.Link == autoheal.LinkUp && len(n.Faults()) == 0; {
	case !fine:
		delete(c.clearSince, n.ID)
	case !clear:
		c.clearSince[n.ID] = c.now
	}
}

// stepFaultSuspected waits until a shortage has lasted; everything else counts at once.
func (c *Core) stepFaultSuspected(i *incident) {
	faults, known := c.faults(i)
	pressed := len(faults) > 0 && !slices.ContainsFunc(faults, func(f string) bool { return !autoheal.IsPressure(f) })
	at := i.Since.Add(pressureGrace)
	switch {
	case !known:
		return // its next event wakes the incident
	case len(faults) == 0 && onlyPressure(i):
		c.phase(i, autoheal.Cleared, "the node has what it needs again")
	case pressed && onlyPressure(i) && c.now.Before(at):
		c.after(key{inc: i.ID}, at)
	default:
		c.phase(i, autoheal.Recovering, c.faultConfirmation(i))
		c.notifyFailure(i)
		c.stepRecovering(i)
	}
}

func (c *Core) faultConfirmation(i *incident) string {
	if onlyPressure(i) {
		return fmt.Sprintf("it has lasted for %s", policy.FormatDuration(pressureGrace))
	}
	return "the evidence is conclusive"
}

// onlyPressure reports whether all that an incident has heard of is a shortage.
func onlyPressure(i *incident) bool {
	return !slices.ContainsFunc(i.Evidence, func(s autoheal.Signal) bool {
		name, condition := strings.CutPrefix(s.Rule, "condition/")
		return !condition && detect.MachineFault(&s) || condition && !autoheal.IsPressure(name)
	}) && strings.HasSuffix(i.Because, "_pressure")
}

// faultStep takes one step on a node that cannot be relied on.
func (c *Core) faultStep(i *incident, s policy.Step) bool {
	switch s {
	case policy.StepStopPlacing:
		c.stepDone(i, string(s), "done", fmt.Sprintf("nothing new is placed on %s as long as it reports a fault; it carries no mark", i.at()))
		return true
	case policy.StepCordon:
		return true // the step before says it: there is no mark to be taken away
	case policy.StepCollect:
		return c.stepCollect(i)
	case policy.StepAlertHardware, policy.StepAlert:
		return c.stepFaultAlert(i, s)
	}
	return true
}

// stepFaultAlert tells a person what to look at, once the evidence is there: they need not wait for the work to be moved.
func (c *Core) stepFaultAlert(i *incident, s policy.Step) bool {
	if !c.stepsBefore(i, s) {
		return false
	}
	name := "check-node"
	if faultSeverity(i) == autoheal.SeverityCritical {
		name = "replace-hardware"
	}
	c.alert(i, alertSpec{
		name: name, severity: faultSeverity(i), dedup: string(i.ID) + " fault", text: c.faultText(i),
	})
	c.stepDone(i, string(s), "done", "")
	return true
}

// faultSeverity pages for what does not mend by itself.
func faultSeverity(i *incident) autoheal.Severity {
	if slices.ContainsFunc(i.Evidence, func(s autoheal.Signal) bool { return detect.MachineFault(&s) && s.Action != autoheal.AdviceFreeDisk }) && !onlyPressure(i) {
		return autoheal.SeverityCritical
	}
	return autoheal.SeverityWarning
}

// faultText names the part and its place, and what to do.
func (c *Core) faultText(i *incident) string {
	id := i.at()
	var b strings.Builder
	fmt.Fprintf(&b, "node %s: %s. Nothing new is placed there.", id, strings.TrimSuffix(i.Cause, "."))
	if part := faultyPart(i); part != "" {
		fmt.Fprintf(&b, " Part: %s.", part)
	}
	fmt.Fprintf(&b, " %s. It takes work again by itself when it has reported no fault for %s.", faultAdvice(i), policy.FormatDuration(c.pol.Node.ReturnDwell))
	fmt.Fprintf(&b, " See autoheal nodes show %s and autoheal bundle %s", id, i.ID)
	return b.String()
}

// partFields are the fields of signals that name a part or its place, most telling first.
var partFields = []string{"dimm", "slot", "label", "device", "array", "port", "controller", "cpu", "bank", "page", "pci", "address"}

// faultyPart names the part that the kernel reported, with its place.
func faultyPart(i *incident) string {
	var out []string
	for _, s := range i.Evidence {
		for _, f := range partFields {
			if v := s.Fields[f]; v != "" && detect.MachineFault(&s) {
				out = append(out, f+" "+clip(oneLine(v), 100))
			}
		}
		if len(out) > 0 {
			break
		}
	}
	return strings.Join(out, ", ")
}

// faultAdvice says what a person should do.
func faultAdvice(i *incident) string {
	var action autoheal.Advice
	for _, s := range i.Evidence {
		action = cmp.Or(action, s.Action)
	}
	switch {
	case onlyPressure(i):
		return "Nothing is ended there, as nobody knows what is its cause: the largest processes are in the evidence"
	case action == autoheal.AdviceFreeDisk:
		return "Free its disk"
	case action == autoheal.AdviceReplaceHW:
		return "Replace the part, or the machine"
	case action == autoheal.AdviceRebootNode:
		return "Boot it once it is empty"
	default:
		return "Look at its kernel log"
	}
}

// faultPassed leaves a workload alone that was to be moved off a node which reports no fault any more.
func (c *Core) faultPassed(i *incident, rec *recovery) bool {
	faults, known := c.faults(i)
	if i.Kind != autoheal.NodeFault || !known || len(faults) > 0 || rec.Try > 1 || c.anyEnded(rec) || !reportsFaults(i) {
		return false
	}
	c.done(i, rec, autoheal.EndLeftAlone, "the node reports no fault any more")
	return true
}

// reportsFaults reports whether what an incident rests on is said by conditions of the node, too: then their end is its end.
func reportsFaults(i *incident) bool {
	return strings.HasPrefix(i.Because, "node_fault."+autoheal.CondFault) || slices.ContainsFunc(i.Evidence, func(s autoheal.Signal) bool { return strings.HasPrefix(s.Rule, "condition/") })
}

// lookAtNode has the detectors look again at a node whose other incident has ended.
func (c *Core) lookAtNode(id autoheal.NodeID) {
	if n := c.v.nodes[id]; n != nil && n.Link == autoheal.LinkUp && len(n.Faults()) > 0 && c.v.synced {
		c.detect(detect.Change{Node: n})
	}
}

// stopBudget is the budget from which a copy that runs is ended: what is taken off a node that answers is disruption
// (behaviour D4), counted in nodes.
func stopBudget(i *incident, w *autoheal.Workload) string {
	if i.Kind == autoheal.NodeFault && w.Node == i.at() { // a copy elsewhere that does not come up is no further disruption
		return budgetDisrupt
	}
	return ""
}

// stopsOver gives back what the stops of a recovery took from the budget: its work is settled elsewhere.
func (c *Core) stopsOver(i *incident, rec *recovery) {
	for _, budget := range slices.Sorted(maps.Keys(c.d.Budgets)) {
		for _, id := range slices.Sorted(maps.Keys(c.d.Budgets[budget].Open)) { // an incident may have many actions, a budget has few
			if inc, a := c.findAction(id); a != nil && inc == i.ID && a.Verb == autoheal.Stop && a.Workload == rec.Workload {
				c.giveBack(inc, budget, id, false)
			}
		}
	}
}

// lasting keeps the incident of a node open while the node reports a fault, and for as long after that as it takes a node to
// return to service (behaviour B4). Then whatever comes is another incident.
func (c *Core) lasting(i *incident) bool {
	if i.Kind != autoheal.NodeFault || i.MergedInto != "" || i.at() == "" {
		return false
	}
	if slices.ContainsFunc(i.Order, func(w autoheal.WorkloadID) bool { return i.Recoveries[w].End == autoheal.EndEscalated }) {
		return false // a person is needed now, whatever becomes of the node
	}
	id := i.at()
	n := c.v.nodes[id]
	if n == nil {
		return !c.v.synced
	}
	since, fine := c.clearSince[id]
	if !fine {
		return true // its next event wakes the incident
	}
	if at := since.Add(c.pol.Node.ReturnDwell); c.now.Before(at) {
		c.after(key{inc: i.ID}, at)
		return true
	}
	return false
}
