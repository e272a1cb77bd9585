package heal

import (
	"fmt"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// offerDrains offers a person to drain the nodes that an escalated incident is about, and says so for its message. An offer
// is for one drain of one boot of one node; it expires like any approval, and what it rests on is looked at again when it
// is taken (see voidOffer).
func (c *Core) offerDrains(i *incident) string {
	var offered []string
	for _, id := range c.affectedNodes(i) {
		n := c.v.nodes[id]
		if n == nil || n.Draining || !n.Supports(autoheal.Drain) || c.undrainable(n) != "" {
			continue
		}
		asked := journal.ApprovalAsked{
			ID: c.nextApproval(), Verb: autoheal.Drain, Target: n.Ref(), Generation: n.BootID, Expires: c.now.Add(c.pol.Approval.Expires), Offer: true,
			Cordoned: !n.Schedulable, Reason: fmt.Sprintf("%s could not be healed: %s", subjectName(i), i.Cause),
		}
		if !c.record(i.ID, asked) {
			continue
		}
		c.dirty[key{what: dutyApproval, w: autoheal.WorkloadID(asked.ID)}] = true
		offered = append(offered, fmt.Sprintf("autoheal approve %s drains %s, on which %s", asked.ID, n.ID, times(len(c.workOn(n.ID)), "workload runs", "workloads run")))
	}
	if len(offered) == 0 {
		return ""
	}
	return fmt.Sprintf(". Offered for %s: %s.", policy.FormatDuration(c.pol.Approval.Expires), strings.Join(offered, "; "))
}

// affectedNodes names the nodes to which an incident points: those that are suspected, and, of workloads that were given up,
// those whose hardware ended them. What a workload did by itself points to no node.
func (c *Core) affectedNodes(i *incident) []autoheal.NodeID {
	out := append(slices.Clone(i.Suspects), i.nodes()...)
	for _, id := range i.Order {
		for _, m := range i.Recoveries[id].Members {
			if w := c.v.cur[m]; w != nil && w.State == autoheal.Failed && (w.Exit.MachineFault() || w.Exit != nil && w.Exit.Reason == autoheal.ExitNodeFault) {
				out = append(out, w.Node)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// workOn returns what runs on a node, or holds a place there.
func (c *Core) workOn(id autoheal.NodeID) []*autoheal.Workload {
	return slices.DeleteFunc(c.v.WorkloadsOn(id), func(w *autoheal.Workload) bool { return !live(w) || !detect.Wanted(w) })
}

// undrainable says why there is nothing to drain on a node, or no way to.
func (c *Core) undrainable(n *autoheal.Node) string {
	switch {
	case n.Link != autoheal.LinkUp:
		return fmt.Sprintf("%s does not answer, so nothing on it can be drained", n.ID)
	case len(c.workOn(n.ID)) == 0:
		return fmt.Sprintf("nothing runs on %s any more", n.ID)
	}
	return ""
}

// voidOffer says why an offer no longer stands; what is no offer always does.
func (c *Core) voidOffer(a *approval) string {
	if !a.Offer {
		return ""
	}
	i, n := c.d.Incidents[a.Incident], c.v.nodes[autoheal.NodeID(a.Target.ID)]
	switch {
	case i == nil || i.Phase != autoheal.Escalated:
		return fmt.Sprintf("%s is no longer escalated", a.Incident)
	case n == nil:
		return a.Target.ID + " is no longer known"
	case n.BootID != a.Generation:
		return a.Target.ID + " has booted since"
	case a.Cordoned && n.Schedulable:
		return a.Target.ID + " has been returned to service since"
	case n.Draining:
		return a.Target.ID + " is being drained already"
	case c.runsAgain(i):
		return fmt.Sprintf("everything that %s had given up runs again", i.ID)
	}
	return c.undrainable(n)
}

// runsAgain reports whether there is anything that an incident gave up on, and all of it runs.
func (c *Core) runsAgain(i *incident) bool {
	given := false
	for _, id := range i.Order {
		rec := i.Recoveries[id]
		if rec.End != autoheal.EndEscalated {
			continue
		}
		given = true
		for _, m := range rec.Members {
			if w := c.v.cur[m]; w == nil || w.State != autoheal.Running || !w.Ready {
				return false
			}
		}
	}
	return given
}

// stepOffer carries out an offer that was taken, in the name of the person who took it, once its gates let it.
func (c *Core) stepOffer(a *approval) {
	k := key{what: dutyOffer, w: autoheal.WorkloadID(a.ID)}
	i, n := c.d.Incidents[a.Incident], c.v.nodes[autoheal.NodeID(a.Target.ID)]
	p := &proposal{
		i: i, k: k, verb: a.Verb, target: a.Target, node: n, step: policy.Step(a.Verb), budget: budgetDisrupt, actor: a.By,
		reason: fmt.Sprintf("offered with %s and approved: %s", a.ID, a.Reason),
	}
	void := c.voidOffer(a)
	if void == "" && !active(a.Expires, c.now) {
		void = "it could not be carried out in time"
	}
	if void != "" {
		if i != nil {
			c.release(p)
		}
		c.record(a.Incident, journal.ApprovalExpired{ID: a.ID, Reason: void})
		c.alert(i, alertSpec{
			name: "offer-void", severity: autoheal.SeverityWarning, dedup: a.ID + " void",
			text: fmt.Sprintf("%s %s was approved by %s and is not done: %s", a.Verb, a.Target, a.By, void),
		})
		return
	}
	if state, _ := c.send(p, nil); state == actHeld {
		c.after(key{what: dutyApproval, w: autoheal.WorkloadID(a.ID)}, a.Expires)
		return
	}
	sent := i.Actions[len(i.Actions)-1]
	c.record(a.Incident, journal.ApprovalUsed{ID: a.ID, Action: sent.ID})
}
