package heal

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// stepTesting tests what was mended before it comes back (behaviour E1, B4). What could not be mended is not tested.
func (c *Core) stepTesting(i *incident) bool {
	step := string(policy.StepTest)
	if !c.stepsBefore(i, policy.StepTest) {
		return false
	}
	if c.takenBack(i) {
		c.stepDone(i, step, "skipped", takenBack)
		return true
	}
	if c.occupied(i, policy.StepTest, autoheal.Test) {
		return false
	}
	if why := c.unmended(i); why != "" {
		c.stepDone(i, step, "skipped", why)
		return true
	}
	n := c.v.nodes[i.at()]
	if n == nil {
		if c.v.synced {
			c.stepDone(i, step, "failed", "its node is not there any more")
		}
		return c.v.synced
	}
	t := test{i: i, k: key{inc: i.ID}, node: n, target: n.Ref(), since: i.lastStep()}
	if i.Subject.Kind == autoheal.RefGPU {
		t.target = autoheal.Ref{Kind: autoheal.RefGPU, ID: i.Subject.ID, Generation: n.BootID}
	}
	switch over, why := c.runTest(t); {
	case !over:
		return false
	case why != "":
		c.stepDone(i, step, "failed", why)
	default:
		c.stepDone(i, step, "done", "")
	}
	return true
}

// unmended says why there is nothing to test: what the evidence asked for was not done, or it asked for nothing and no test
// is configured that could tell more than that the part is there.
func (c *Core) unmended(i *incident) string {
	if !i.asksForRepair() && len(c.pol.Node.ReturnTest.Command) == 0 {
		return "nothing was mended, and autoHeal.node.returnTest.command is not set"
	}
	for _, s := range []policy.Step{policy.StepAdvice, policy.StepResetGPU, policy.StepReboot} {
		if d := i.Steps[string(s)]; d.Result == "failed" || d.Result == "skipped" && i.asksForRepair() {
			return "it was not mended: " + d.Reason
		}
	}
	return ""
}

func (i *incident) asksForRepair() bool {
	return i.Action == autoheal.AdviceResetGPU || i.Action == autoheal.AdviceRebootNode
}

// lastStep is when the latest of the steps on the subject was over.
func (i *incident) lastStep() time.Time {
	at := i.Opened
	for _, t := range i.StepsAt {
		if t.After(at) {
			at = t
		}
	}
	return at
}

// test is one active test of a part that nothing uses, by its command or, without one, by what the node reports.
type test struct {
	i      *incident
	k      key
	node   *autoheal.Node
	target autoheal.Ref
	since  time.Time // it has autoHeal.node.returnTest.timeout from then
	had    *ownMark  // what the node had when it was marked, nil where nothing was noted
}

// runTest says whether a test is over, and if so why it was not passed.
func (c *Core) runTest(t test) (over bool, why string) {
	by := t.since.Add(c.pol.Node.ReturnTest.Timeout)
	late := !c.now.Before(by)
	why = c.unfit(t)
	if why == "" && len(c.pol.Node.ReturnTest.Command) > 0 {
		over, why = c.commandTest(t)
		if over {
			return true, why
		}
	} else if why == "" {
		return true, ""
	}
	if late {
		return true, cmp.Or(why, "the test did not finish in time")
	}
	c.after(t.k, by)
	return false, ""
}

// commandTest runs the command on the node, once for each life of the part.
func (c *Core) commandTest(t test) (over bool, why string) {
	if !t.node.Supports(autoheal.Test) {
		return false, "autoHeal.node.returnTest.command is set, and nothing of this cluster can run it"
	}
	state, a := c.act(&proposal{
		i: t.i, k: t.k, verb: autoheal.Test, target: t.target, step: policy.StepTest, node: t.node, reason: "before it comes back into service",
	})
	switch state {
	case actFailed:
		return true, "the test could not be run: " + a.Detail
	case actDone:
		over, ok, why := jobEnded(t.node, a)
		if over && ok {
			return true, ""
		}
		return over, why
	}
	return false, ""
}

// unfit says what a part lacks that is to come back: a GPU that is not listed or not well, memory that it had.
func (c *Core) unfit(t test) string {
	if t.node.Link != autoheal.LinkUp || !t.node.Ready {
		return fmt.Sprintf("node %s is not ready", t.node.ID)
	}
	if why := t.node.Conditions["driver_hung"]; why != "" && t.i.Kind == autoheal.GPUFailure {
		return "the GPU driver does not answer: " + why
	}
	for _, g := range t.node.GPUs {
		if t.target.Kind == autoheal.RefGPU && string(g.UUID) != t.target.ID || g.Health == autoheal.HealthOK || g.Quarantined != nil && t.target.Kind == autoheal.RefNode {
			continue
		}
		if t.i.Kind == autoheal.GPUFailure {
			return fmt.Sprintf("GPU %d (%s) is %s", g.Index, g.UUID, g.Health)
		}
	}
	if t.target.Kind == autoheal.RefGPU {
		if c.v.NodeOfGPU(autoheal.GPUID(t.target.ID)) != t.node {
			return "the GPU is not listed"
		}
		return ""
	}
	return c.lacks(t)
}

// lacks says what a node had and has no more. A broken GPU that was replaced is not missed (behaviour B4).
func (c *Core) lacks(t test) string {
	had := t.had
	if had == nil {
		had = c.d.Marks[autoheal.NodeRef(t.node.ID).String()]
	}
	if had == nil {
		return ""
	}
	listed := func(id autoheal.GPUID) bool {
		return slices.ContainsFunc(t.node.GPUs, func(g autoheal.GPU) bool { return g.UUID == id })
	}
	missing := slices.DeleteFunc(slices.Clone(had.GPUs), listed)
	broken := 0
	for _, id := range missing {
		if c.brokenGPU(t.i, id) {
			broken++
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(t.node.GPUs), func(g autoheal.GPU) bool { return slices.Contains(had.GPUs, g.UUID) })
	switch {
	case len(missing) > min(broken, len(fresh)):
		return fmt.Sprintf("%d of its %d GPUs are missing: %s", len(missing), len(had.GPUs), joined(missing))
	case t.node.Allocatable.MemoryMB < had.MemoryMB*9/10:
		return fmt.Sprintf("it has %d MiB of memory, and had %d MiB", t.node.Allocatable.MemoryMB, had.MemoryMB)
	}
	return ""
}

// brokenGPU reports whether a GPU was known to be broken: one that is not there any more was taken out for that.
func (c *Core) brokenGPU(i *incident, id autoheal.GPUID) bool {
	if slices.Contains(i.GPUs, id) || c.d.Marks[gpuRef(id).String()] != nil {
		return true
	}
	last := c.d.Incidents[c.ix.last[gpuRef(id).String()]]
	return last != nil && last.Kind == autoheal.GPUFailure
}
