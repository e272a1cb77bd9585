package heal

import (
	"fmt"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// stepQuarantine keeps new work off what is broken: the GPU alone, or the node where that is what the evidence asks for, or
// where a single GPU cannot be kept out of use (behaviour E1).
func (c *Core) stepQuarantine(i *incident) bool {
	return c.containAll(i, policy.StepQuarantineGPU, c.outOfUse(i))
}

// stepCordonGPU cordons the node of a broken GPU where a site's own ladder says so.
func (c *Core) stepCordonGPU(i *incident) bool {
	n := c.v.nodes[i.Node]
	if n == nil {
		return c.containAll(i, policy.StepCordon, nil)
	}
	return c.containAll(i, policy.StepCordon, []autoheal.Ref{n.Ref()})
}

// outOfUse names what is to be marked, in its present boot: nothing of what is not there any more.
func (c *Core) outOfUse(i *incident) []autoheal.Ref {
	n := c.v.nodes[i.Node]
	if n == nil {
		return nil
	}
	if i.Subject.Kind == autoheal.RefNode || !n.Supports(autoheal.QuarantineGPU) && len(i.GPUs) > 0 {
		return []autoheal.Ref{n.Ref()}
	}
	var out []autoheal.Ref
	for _, id := range i.GPUs {
		if c.v.NodeOfGPU(id) == n {
			out = append(out, autoheal.Ref{Kind: autoheal.RefGPU, ID: string(id), Generation: n.BootID})
		}
	}
	return out
}

// containAll marks parts, and ends the step with what became of each.
func (c *Core) containAll(i *incident, step policy.Step, parts []autoheal.Ref) bool {
	switch {
	case c.v.nodes[i.Node] == nil && !c.v.synced:
		return false
	case len(parts) == 0:
		c.stepDone(i, string(step), "skipped", "it is not there any more")
		return true
	case !c.pol.Node.AutoCordon:
		c.stepDone(i, string(step), "skipped", "autoHeal.node.autoCordon is false: no mark, and what is moved from there does not come back")
		return true
	}
	result, said := "done", []string{}
	for _, r := range parts {
		over, ok, why := c.contain(i, step, r)
		if !over {
			c.wakeWaiting(i)
			return false
		}
		if !ok {
			result = "failed"
		}
		if why != "" {
			said = append(said, why)
		}
	}
	c.stepDone(i, string(step), result, strings.Join(said, "; "))
	return true
}

// wakeWaiting looks again at what waits for a mark that may be held.
func (c *Core) wakeWaiting(i *incident) {
	if i.Held == nil {
		return
	}
	for _, w := range i.Order {
		if i.Recoveries[w].Step == autoheal.StepWaiting {
			c.dirty[key{inc: i.ID, w: w}] = true
		}
	}
}

// contain marks one part. What is marked already, by whomever, is left as it is.
func (c *Core) contain(i *incident, step policy.Step, r autoheal.Ref) (over, ok bool, why string) {
	n := c.v.nodes[i.Node]
	p := &proposal{
		i: i, k: key{inc: i.ID}, verb: autoheal.QuarantineGPU, target: r, step: step, node: n, budget: budgetContain,
		reason: string(i.Kind) + ": " + i.Cause,
	}
	if r.Kind == autoheal.RefNode {
		p.verb = autoheal.Cordon
	}
	if c.existing(p) == nil && c.outOfService(r) {
		return true, true, r.String() + " is marked already"
	}
	switch state, a := c.act(p); state {
	case actDone:
		return true, true, ""
	case actFailed:
		return true, false, fmt.Sprintf("%s %s: %s", p.verb, r, a.Detail)
	}
	return false, false, ""
}

// outOfService reports whether a mark of anybody keeps new work off a node or a GPU.
func (c *Core) outOfService(r autoheal.Ref) bool {
	if r.Kind == autoheal.RefNode {
		n := c.v.nodes[autoheal.NodeID(r.ID)]
		return n != nil && len(n.Marks) > 0
	}
	n := c.v.NodeOfGPU(autoheal.GPUID(r.ID))
	return n != nil && slices.ContainsFunc(n.GPUs, func(g autoheal.GPU) bool { return string(g.UUID) == r.ID && g.Quarantined != nil })
}
