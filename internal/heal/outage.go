package heal

import (
	"slices"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// A domain that is out may have ten thousand nodes and a hundred thousand workloads, all in one incident. What is done for
// one of them must not look at all of them.

// setResting keeps which recoveries rest on the silence of each node of a domain.
func (x *index) setResting(i *incident, rec *recovery) {
	if i.Subject.Kind != autoheal.RefDomain {
		return
	}
	at, on := recAt{i.ID, rec.Workload}, x.resting[rec.From]
	if rec.Step == autoheal.StepDone {
		if delete(on, at); len(on) == 0 {
			delete(x.resting, rec.From)
		}
		return
	}
	if on == nil {
		on = map[recAt]bool{}
		x.resting[rec.From] = on
	}
	on[at] = true
}

// touchMember marks what rests on one node of a domain; nothing is new for the others.
func (c *Core) touchMember(i *incident, id autoheal.NodeID) {
	for at := range c.ix.resting[id] {
		if at.inc == i.ID {
			c.dirty[key{inc: i.ID, w: at.lead}] = true
		}
	}
}

// cordonMost is how many nodes of a domain are cordoned in one Step.
const cordonMost = 500

// cordonMembers cordons the nodes of a domain, some in each Step, and passes by those with which it is through.
func (c *Core) cordonMembers(i *incident) bool {
	left, begun := c.uncordoned[i.ID]
	if !begun {
		left = slices.Clone(i.Members)
	}
	finished, asked := true, len(i.Actions)
	kept := left[:0]
	for n, id := range left {
		if len(i.Actions)-asked >= cordonMost {
			c.backlog = append(c.backlog, key{inc: i.ID})
			finished, kept = false, append(kept, left[n:]...)
			break
		}
		finished = c.cordon(i, id) && finished
		if _, through := i.Steps[cordonStep(i, id)]; !through {
			kept = append(kept, id)
		}
	}
	c.uncordoned[i.ID] = kept
	return finished
}

// cordonStep names the step of the ladder that cordons a node: of a domain, each has its own.
func cordonStep(i *incident, id autoheal.NodeID) string {
	if i.Subject.Kind == autoheal.RefDomain {
		return string(policy.StepCordon) + " " + string(id)
	}
	return string(policy.StepCordon)
}

// mostAvoided is how many nodes of an incident every start is told to keep off.
const mostAvoided = 64

// suspected returns the nodes of an incident that a new attempt must not go to. Of many only those are named that answer,
// and its own: what is silent gets nothing, and ten thousand names in each of a hundred thousand starts are too many.
func (c *Core) suspected(i *incident, rec *recovery) []autoheal.NodeID {
	nodes := i.nodes()
	if len(nodes) <= mostAvoided {
		return slices.Clone(nodes)
	}
	out := []autoheal.NodeID{rec.From}
	if c.v.dark[autoheal.Domain(i.Subject.ID)] {
		return out
	}
	for _, id := range nodes {
		if n := c.v.nodes[id]; n != nil && n.Link != autoheal.LinkSilent && id != rec.From {
			out = append(out, id)
		}
	}
	return out
}
