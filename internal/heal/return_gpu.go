package heal

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// tested reports whether what an incident is about has passed its test.
func (i *incident) tested() bool { return i.Steps[string(policy.StepTest)].Result == "done" }

// mended reports whether a broken part, or its node, may be looked at for its return: it passed its test, it turned out to be a
// symptom of what is over, or somebody has had the node booted since it was given up.
func (c *Core) mended(m *ownMark, i *incident, n *autoheal.Node) bool {
	symptom := i.MergedInto != "" && i.Phase.Ended() && c.leaderTested(i)
	return i.Kind != autoheal.GPUFailure || i.tested() || symptom || i.Phase.Ended() && m.Boot != "" && m.Boot != n.BootID && c.bootedSince(i, n)
}

// bootedSince reports whether a node is in another boot than the one in which its last repair was tested.
func (c *Core) bootedSince(i *incident, n *autoheal.Node) bool {
	return n.LinkSince.After(i.Ended)
}

// stepGPUMark returns a GPU to service once it is tested (behaviour B4): our own quarantine only. One that was taken out of
// its node is forgotten, and whatever is in its place does not inherit its mark.
func (c *Core) stepGPUMark(m *ownMark) {
	i, id := c.d.Incidents[m.Incident], autoheal.GPUID(m.Ref.ID)
	k := key{what: dutyMark, w: autoheal.WorkloadID(m.Ref.String())}
	if i == nil || !c.v.synced {
		return
	}
	n := c.v.NodeOfGPU(id)
	if n == nil {
		c.forgetGPU(k, m, i)
		return
	}
	at := slices.IndexFunc(n.GPUs, func(g autoheal.GPU) bool { return g.UUID == id })
	if q := n.GPUs[at].Quarantined; q == nil || q.By != autoheal.ByAutoheal {
		c.markGone(k, m)
		return
	}
	if n.Link != autoheal.LinkUp || !n.Ready || !c.mended(m, i, n) || i.MergedInto != "" && !c.leaderTested(i) {
		return
	}
	if o := c.d.Offenders[m.Ref.String()]; c.quarantined(o) {
		c.alert(i, alertSpec{
			name: "gpu-quarantined", severity: autoheal.SeverityWarning, dedup: m.Ref.String() + " offender " + string(i.ID),
			text: fmt.Sprintf("%s stays in quarantine: it failed again and again (offender score %.1f). Have it replaced, or run autoheal quarantine clear %s", i.part(), c.score(o), m.Ref),
		})
		return
	}
	target := autoheal.Ref{Kind: autoheal.RefGPU, ID: string(id), Generation: n.BootID}
	why := "it passed its test"
	if !i.tested() {
		why = "its node was booted since it was given up, and it is there and well"
		switch over, why := c.runTest(test{i: i, k: k, node: n, target: target, since: n.LinkSince}); {
		case !over:
			return
		case why != "":
			return // a person was told when it was given up
		}
	}
	c.insist(&proposal{
		i: i, k: k, verb: autoheal.ReleaseGPU, target: target, step: policy.Step(autoheal.ReleaseGPU), node: n, reason: why,
	})
}

// leaderTested reports whether the incident that took over has passed its test: it was about the whole node.
func (c *Core) leaderTested(i *incident) bool {
	lead := c.d.Incidents[i.MergedInto]
	return lead == nil || lead.Kind != autoheal.GPUFailure || lead.tested()
}

// forgetGPU ends the mark of a GPU that its node does not list any more although it answers.
func (c *Core) forgetGPU(k key, m *ownMark, i *incident) {
	n := c.v.nodes[i.Node]
	if n == nil {
		c.forget(m, "its node was forgotten")
		return
	}
	if n.Link != autoheal.LinkUp || !n.Ready || n.BootID == m.Boot || len(n.GPUs) == 0 { // it may only have fallen off the bus
		c.await(k, time.Time{}, "node/"+string(n.ID))
		return
	}
	state, _ := c.act(&proposal{
		i: i, k: k, verb: autoheal.ReleaseGPU, target: m.Ref, step: policy.Step(autoheal.ReleaseGPU), node: n, reason: "it was taken out of its node",
	})
	if state == actDone || state == actFailed {
		c.forget(m, "it was taken out of its node")
	}
}

// forget ends the mark of a GPU that is no more, and all that is remembered of it.
func (c *Core) forget(m *ownMark, why string) {
	c.marksOver(m)
	c.record(m.Incident, journal.MarkCleared{Ref: m.Ref, Reason: why, Gone: true})
}

// gpuMarks asks for the marks on a node's GPUs to be looked at, and takes those of ours into the books that are seen and not
// there.
func (c *Core) gpuMarks(n *autoheal.Node) {
	for _, g := range n.GPUs {
		if g.Quarantined == nil && len(c.d.Marks) == 0 {
			continue
		}
		r := gpuRef(g.UUID)
		m := c.d.Marks[r.String()]
		if q := g.Quarantined; m == nil && q != nil && q.By == autoheal.ByAutoheal && c.d.Incidents[q.Incident] != nil {
			c.setMark(q.Incident, r, autoheal.QuarantineGPU, *q)
		}
		if m != nil || g.Quarantined != nil {
			c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(r.String())}] = true
		}
	}
}

// repairsOver gives back what the repairs of an ended incident took.
func (c *Core) repairsOver(i *incident) {
	for _, a := range i.Actions {
		if !a.pending() {
			c.giveBack(i.ID, budgetDisrupt, a.ID, false)
		}
	}
}

// gpuEnded looks at the marks of a GPU's incident that has ended, and counts it against the part (behaviour B3).
func (c *Core) gpuEnded(i *incident) {
	c.repairsOver(i)
	for _, m := range c.outOfUse(i) {
		c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(m.String())}] = true
	}
	if i.Subject.Kind == autoheal.RefGPU && i.MergedInto == "" && i.Phase != autoheal.Dismissed {
		c.offend(i.Subject)
	}
}

// touchParts looks again at the incidents of GPUs, when something has changed about their node or about what uses them.
func (c *Core) touchParts(node autoheal.NodeID, gpus []autoheal.GPUID) {
	if len(c.ix.openIDs) == 0 {
		return
	}
	c.touchSubject(autoheal.NodeRef(node))
	for _, g := range gpus {
		c.touchSubject(gpuRef(g))
	}
}

// touchGPUs looks again at what concerns the GPUs of a node that has changed; those that it does not list any more included.
func (c *Core) touchGPUs(before, n *autoheal.Node) {
	for _, x := range []*autoheal.Node{before, n} {
		if x == nil || len(c.ix.openIDs) == 0 && len(c.d.Marks) == 0 {
			continue
		}
		for _, g := range x.GPUs {
			r := gpuRef(g.UUID).String()
			if id, open := c.ix.open[r]; open {
				c.markIncident(c.d.Incidents[id])
			}
			if c.d.Marks[r] != nil {
				c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(r)}] = true
			}
		}
	}
}
