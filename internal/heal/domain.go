package heal

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// nodes returns the nodes on whose silence an incident rests: one, those of a domain that fell silent together, or none.
func (i *incident) nodes() []autoheal.NodeID {
	if i.Kind != autoheal.NodeOffline {
		return nil
	}
	switch i.Subject.Kind {
	case autoheal.RefNode:
		return []autoheal.NodeID{autoheal.NodeID(i.Subject.ID)}
	case autoheal.RefDomain:
		return i.Members
	}
	return nil
}

// subjects returns the names under which an incident is found: its own, and those of a domain's nodes.
func (i *incident) subjects() []string {
	out := []string{i.Subject.String()}
	for _, n := range i.Members {
		out = append(out, autoheal.NodeRef(n).String())
	}
	return out
}

// nodeOf returns the node whose silence a recovery rests on; "" when it rests on something else.
func (i *incident) nodeOf(rec *recovery) autoheal.NodeID {
	if i.Kind != autoheal.NodeOffline {
		return ""
	}
	switch i.Subject.Kind {
	case autoheal.RefNode:
		return autoheal.NodeID(i.Subject.ID)
	case autoheal.RefDomain:
		return rec.From
	}
	return ""
}

// untouched reports whether an incident on nodes has done nothing yet, so that a larger cause can take its place.
func (i *incident) untouched() bool {
	if i.Phase != autoheal.Suspected || len(i.Actions) > 0 {
		return false
	}
	for _, w := range i.Order {
		if s := i.Recoveries[w].Step; s != autoheal.StepWaiting && s != autoheal.StepDone {
			return false
		}
	}
	return true
}

// onNode returns the open incident that a node is part of, or nil.
func (c *Core) onNode(id autoheal.NodeID) *incident {
	return c.d.Incidents[c.ix.open[autoheal.NodeRef(id).String()]]
}

// outage is a domain of which every node is silent, enough of them since a moment ago.
type outage struct {
	domain   autoheal.Domain
	size     int
	fresh    []autoheal.NodeID // those that fell silent at once and have not been acted upon
	up, rest int               // of so many other nodes so many answer
}

// openOutages opens an incident for each domain that is out, the largest first: a zone is one cause and not one a rack.
func (c *Core) openOutages() {
	for c.silences.undealt.from(c.freshFrom()) >= c.pol.Storm.MinNodes {
		var largest *outage
		for _, d := range slices.Sorted(maps.Keys(c.v.dark)) {
			if o := c.outageOf(d); o != nil && (largest == nil || c.larger(o, largest)) {
				largest = o
			}
		}
		if largest == nil || !c.openOutage(largest) {
			return
		}
		c.countSilences()
	}
}

// larger reports whether a is the cause rather than b: it has more nodes or, of the same ones, stands first in their list.
func (c *Core) larger(a, b *outage) bool {
	if a.size != b.size {
		return a.size > b.size
	}
	if a.fresh[0] != b.fresh[0] {
		return a.fresh[0] < b.fresh[0]
	}
	domains := c.v.nodes[a.fresh[0]].Domains
	return slices.Index(domains, a.domain) < slices.Index(domains, b.domain)
}

// outageOf reports whether a dark domain is out (behaviour D1): none of its nodes answers, at least storm.minNodes of them
// fell silent at once, and more than storm.fraction of the others answer. Silences that have been dealt with are old news:
// they neither make an outage nor count among the others.
func (c *Core) outageOf(d autoheal.Domain) *outage {
	nodes, joining := c.v.domain[d], map[*incident]bool{}
	o := &outage{domain: d, size: len(nodes), up: c.v.ready, rest: c.v.ready + len(c.silences.undealt)}
	for id := range nodes {
		if c.d.Gone[id] == "" {
			o.rest--
		}
		i := c.onNode(id)
		joins, asked := joining[i]
		if !asked {
			joins = c.joins(i, o)
			joining[i] = joins
		}
		if joins && c.fresh(c.v.nodes[id]) {
			o.fresh = append(o.fresh, id)
		}
	}
	if o.rest < c.pol.Storm.MinNodes { // one of one that answers vouches for nothing
		return nil
	}
	if len(o.fresh) < max(c.pol.Storm.MinNodes, 1) || float64(o.up) <= c.pol.Storm.Fraction*float64(o.rest) {
		return nil
	}
	slices.Sort(o.fresh)
	return o
}

// freshFrom is since when a silence is fresh: lately, or when the storm under way began.
func (c *Core) freshFrom() time.Time {
	at := c.now
	if s := c.d.Storm; s != nil {
		at = s.Since
	}
	return at.Add(-c.pol.Storm.Window)
}

// fresh reports whether a silent node fell silent together with others, and nothing has been made of it.
func (c *Core) fresh(n *autoheal.Node) bool {
	return c.d.Gone[n.ID] == "" && !n.LinkSince.Before(c.freshFrom())
}

// joins reports whether the silence of nodes may become part of an outage: nothing has been done for it, and what it is part
// of already (nil = nothing) is smaller and lies within.
func (c *Core) joins(i *incident, o *outage) bool {
	if i == nil || i.Subject.Kind == autoheal.RefNode {
		return i == nil || i.untouched()
	}
	within := func(m autoheal.NodeID) bool { _, ok := c.v.domain[o.domain][m]; return ok }
	return len(c.v.domain[autoheal.Domain(i.Subject.ID)]) < o.size && i.untouched() && !slices.ContainsFunc(i.Members, func(m autoheal.NodeID) bool { return !within(m) })
}

// openOutage opens the one incident of a domain that is out. The incidents on its nodes end in it, one after the other (see
// outageAround): a zone may have ten thousand of them.
func (c *Core) openOutage(o *outage) bool {
	id := autoheal.IncidentID(fmt.Sprintf("inc-%06d", c.d.Counters.Incident+1))
	p := journal.IncidentOpened{
		Kind: autoheal.NodeOffline, Subject: autoheal.Ref{Kind: autoheal.RefDomain, ID: string(o.domain)}, Since: c.now, Seen: c.now,
		Domains: []autoheal.Domain{o.domain}, Members: o.fresh, Confidence: 0.8, Because: "node_offline.domain", Whole: max(c.v.whole(), 1), Simulated: c.v.simulated,
		Cause: fmt.Sprintf("%s is out: none of its %d nodes answers, while %d of the %d others do", o.domain, o.size, o.up, o.rest),
	}
	p.Repeats = c.ix.repeats(p.Kind, p.Subject, c.now)
	var parts []autoheal.IncidentID
	var alone []autoheal.NodeID // of no incident yet
	known := map[autoheal.IncidentID]bool{}
	for _, n := range o.fresh {
		if seen := c.v.nodes[n].LastSeen; seen.Before(p.Since) {
			p.Since = seen
		}
		switch i := c.onNode(n); {
		case i == nil:
			alone = append(alone, n)
		case !known[i.ID]:
			known[i.ID] = true
			p.Whole = max(p.Whole, i.Whole)
			parts = append(parts, i.ID)
		}
	}
	if !c.record(id, p) {
		return false
	}
	for _, n := range alone {
		c.affected(c.d.Incidents[id], n)
	}
	for n, part := range parts {
		c.mark(n, key{inc: part})
	}
	c.dirty[key{inc: id}] = true
	return true
}

// outageAround returns the incident of the domain that is out around an incident which has done nothing yet, or nil.
func (c *Core) outageAround(i *incident) *incident {
	nodes := i.nodes()
	if len(nodes) == 0 {
		return nil
	}
	out := c.onNode(nodes[0])
	if out == nil || out == i || out.Subject.Kind != autoheal.RefDomain || out.Phase.Ended() || !i.untouched() {
		return nil
	}
	return out
}

// joinOutage ends an incident in that of the domain around it, which takes its place; each workload keeps its own clock,
// counted from the last contact with its own node.
func (c *Core) joinOutage(part, out *incident) {
	c.evidence(out, autoheal.Finding{Evidence: part.Evidence})
	for _, w := range slices.Clone(part.Order) {
		c.done(part, part.Recoveries[w], autoheal.EndCancelled, takenOverBy+string(out.ID))
	}
	c.record(part.ID, journal.IncidentMerged{Into: out.ID, Reason: "part of"})
	c.phase(part, autoheal.Cleared, "part of the outage of "+out.Subject.ID)
	for _, n := range part.nodes() {
		c.affected(out, n)
	}
	c.dirty[key{inc: out.ID}] = true
}

// stepCrowd decides what it means that many nodes fell silent, once no more do: a domain is out, or the healer suspects its
// own view. It gives every node the time to miss a probe first, so that one cause is one message.
func (c *Core) stepCrowd() {
	if !c.v.synced {
		return
	}
	k := key{what: dutyCrowd}
	if at := c.v.settled(""); c.now.Before(at) {
		c.after(k, at)
		return
	}
	c.countSilences()
	if c.d.Storm == nil { // else stepStorm does
		c.openOutages()
	}
	c.countCrowd()
	switch at := c.crowdUntil(); {
	case c.crowdAt.IsZero():
	case c.now.Before(at):
		c.after(k, at)
	default:
		silent := c.unexplained()
		c.crowdAt = time.Time{}
		c.beginStorm(silent, c.v.ready+silent)
	}
}

// countCrowd notes since when so many nodes are silent that it needs an explanation.
func (c *Core) countCrowd() {
	switch {
	case c.d.Storm != nil || !c.tooMany(c.unexplained()):
		c.crowdAt = time.Time{}
	case c.crowdAt.IsZero():
		c.crowdAt = c.now
	}
}

func (c *Core) tooMany(silent int) bool {
	return silent >= c.pol.Storm.MinNodes && float64(silent) > c.pol.Storm.Fraction*float64(c.v.ready+silent)
}

func (c *Core) crowdUntil() time.Time {
	at, settled := c.crowdAt.Add(c.pol.Node.ProbeInterval+c.pol.Node.ProbeTimeout), c.v.settled("")
	if settled.After(at) {
		return settled
	}
	return at
}
