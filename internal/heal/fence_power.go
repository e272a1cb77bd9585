package heal

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// fenceTimeout is what powering a node off may take: three tries of a minute, and the pauses between them.
const fenceTimeout = 3*time.Minute + 10*time.Second

// poweredOff reports whether the power-off of a silent node was acknowledged after all that was heard of it (behaviour C6).
func (c *Core) poweredOff(i *incident, n *autoheal.Node) bool {
	a := c.newestAction(i, autoheal.Fence, n.Ref())
	return a != nil && a.Outcome == autoheal.OutcomeDone && a.Proof == autoheal.ProofPowerOff && !n.LastSeen.After(a.ResultAt)
}

// powerOff has a silent node powered off whose workloads give no proof by themselves, where the site has a program for it.
// Otherwise, and where that fails, a person has to do it.
func (c *Core) powerOff(i *incident, rec *recovery, n *autoheal.Node) {
	p := &proposal{i: i, rec: rec, k: key{inc: i.ID, w: rec.Workload}, verb: autoheal.Start, target: autoheal.WorkloadRef(rec.Workload)}
	unproven := func(detail string) {
		if h := rec.Held; h != nil && h.Reason == autoheal.ReasonFenceUnproven && h.Detail != detail {
			c.release(p) // so that what is to be done now is on record
		}
		c.hold(p, "fence", verdict{Reason: autoheal.ReasonFenceUnproven, On: "node/" + string(n.ID), Detail: detail})
	}
	byHand := fmt.Sprintf("power it off, then run autoheal fence confirm %s --powered-off", n.ID)
	if len(c.pol.Fence.Command) == 0 || !n.Supports(autoheal.Fence) {
		unproven(fmt.Sprintf("workloads on %s do not stop themselves: %s", n.ID, byHand))
		return
	}
	switch state, a := c.act(&proposal{
		i: i, rec: rec, k: p.k, verb: autoheal.Fence, target: n.Ref(), step: policy.Step(autoheal.Fence), node: n, silence: true, budget: budgetDisrupt,
		reason: "its workloads do not stop themselves, and it has not answered since " + n.LastSeen.UTC().Format(time.TimeOnly),
	}); state {
	case actPending:
		unproven(fmt.Sprintf("workloads on %s do not stop themselves: it is being powered off", n.ID))
	case actFailed:
		unproven(fmt.Sprintf("%s could not be powered off (%s): %s", n.ID, clip(oneLine(a.Detail), 200), byHand))
	case actDone:
		unproven(fmt.Sprintf("%s was heard of after it was powered off: %s", n.ID, byHand))
	case actHeld: // by its gate, which is on record
	}
}
