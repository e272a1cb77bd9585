package heal

import (
	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// stepCollect captures what a repair would destroy (behaviour F4): for as long as autoHeal.evidence.collect says, then the
// rest goes on without it.
func (c *Core) stepCollect(i *incident) bool {
	step := string(policy.StepCollect)
	n := c.v.nodes[i.at()]
	switch {
	case n == nil && !c.v.synced:
		return false
	case n == nil:
		c.stepDone(i, step, "skipped", "its node is not there any more")
		return true
	case !n.Supports(autoheal.Collect):
		c.stepDone(i, step, "skipped", "nothing can collect on "+string(n.ID))
		return true
	}
	p := &proposal{i: i, k: key{inc: i.ID}, verb: autoheal.Collect, target: n.Ref(), step: policy.StepCollect, node: n, reason: "evidence before anything is changed"}
	if i.Subject.Kind == autoheal.RefGPU && c.v.NodeOfGPU(autoheal.GPUID(i.Subject.ID)) == n {
		p.target = autoheal.Ref{Kind: autoheal.RefGPU, ID: i.Subject.ID, Generation: n.BootID}
	}
	if len(i.Order) > 0 {
		p.params.For = i.Order[0]
	}
	switch state, a := c.act(p); {
	case state == actDone:
		c.stepDone(i, step, "done", "")
		return true
	case state == actFailed:
		c.stepDone(i, step, "failed", a.Detail)
		return true
	case state == actHeld && i.Held != nil && (i.Held.Reason == autoheal.ReasonAutonomyObserve || i.Held.Reason == autoheal.ReasonAutonomySuggest):
		c.release(p) // nobody wants any, and what is moved must not wait for it
		c.stepDone(i, step, "skipped", "not by itself, as configured")
		return true
	}
	first := c.newestAction(i, autoheal.Collect, p.target)
	if first == nil {
		first = &action{IntentAt: c.now}
	}
	at := first.IntentAt.Add(c.pol.Evidence.Collect)
	if c.now.Before(at) {
		c.after(p.k, at)
		return false
	}
	c.stepDone(i, step, "failed", "it took longer than autoHeal.evidence.collect")
	return true
}

// at is the node that an incident's part is in, or is; "" when it is about none.
func (i *incident) at() autoheal.NodeID {
	switch {
	case i.Node != "":
		return i.Node
	case i.Subject.Kind == autoheal.RefNode:
		return autoheal.NodeID(i.Subject.ID)
	case len(i.Suspects) > 0:
		return i.Suspects[0]
	}
	return ""
}
