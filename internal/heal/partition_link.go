package heal

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// whatLink is under what the losses of a node's links are counted (behaviour B3).
const whatLink = "link"

// findLink takes in that a node has lost a link of its own. One loss may pass; so many within the window do not, nor does a
// link that stays away for that long, nor an adapter that says that it has failed.
func (c *Core) findLink(f autoheal.Finding, open *incident) {
	s := &f.Evidence[0]
	if !f.Conclusive && s.Count <= 1 && s.At.After(c.lastLink(f.Subject)) {
		c.transient(f.Subject, whatLink)
	}
	if open == nil && c.d.isolated(autoheal.NodeID(f.Subject.ID)) != nil {
		return // a person has been told
	}
	if open != nil && open.Kind == f.Kind && open.knows(s) {
		c.touchSubject(f.Subject)
		return
	}
	c.findPart(f, open)
}

func (c *Core) linkLosses(r autoheal.Ref) []time.Time {
	return c.d.Transients[autoheal.Ref{Kind: r.Kind, ID: r.ID}.String()+" "+whatLink]
}

func (c *Core) lastLink(r autoheal.Ref) time.Time {
	if all := c.linkLosses(r); len(all) > 0 {
		return all[len(all)-1]
	}
	return time.Time{}
}

// persistentLink reports whether a node has lost links so often that it is no transient any more (behaviour B3).
func (c *Core) persistentLink(id autoheal.NodeID) bool {
	o, n := c.pol.Transient.Link, 0
	for _, t := range c.linkLosses(autoheal.NodeRef(id)) {
		if c.now.Sub(t) <= o.Window {
			n++
		}
	}
	return o.Count > 0 && n >= o.Count
}

// stepSuspectedNetwork decides whether what was claimed holds: of a gang enough of its ranks have said so, of a link it is
// seen whether it comes back.
func (c *Core) stepSuspectedNetwork(i *incident) {
	why := "its ranks cannot go on"
	if i.Subject.Kind == autoheal.RefNode {
		if why = c.linkHolds(i); why == "" {
			return
		}
	}
	c.phase(i, autoheal.Recovering, why)
	c.notifyFailure(i)
	c.stepRecovering(i)
}

// linkHolds says why a lost link is no transient; "" while that is not known, or when it is back.
func (c *Core) linkHolds(i *incident) string {
	id := autoheal.NodeID(i.Subject.ID)
	lost, o := c.v.lostLinks(id), c.pol.Transient.Link
	switch {
	case slices.ContainsFunc(lost, func(s autoheal.Signal) bool { return !detect.Passes(c.v.Catalogue(), &s) }):
		return "its adapter has failed"
	case c.persistentLink(id):
		return fmt.Sprintf("it has lost a link %d times within %s, which is persistent", o.Count, policy.FormatDuration(o.Window))
	case len(lost) == 0 && c.v.synced:
		c.phase(i, autoheal.Cleared, "the link is back")
		return ""
	}
	if at := i.Since.Add(o.Window); c.now.Before(at) {
		c.after(key{inc: i.ID}, at)
		return ""
	}
	return fmt.Sprintf("the link has been away for %s, which is persistent", policy.FormatDuration(o.Window))
}

// tellLink journals that a node is suspected because of its own link.
func (c *Core) tellLink(i *incident) {
	id := autoheal.NodeID(i.Subject.ID)
	var mates []autoheal.NodeID
	for _, w := range c.v.WorkloadsOn(id) {
		for _, m := range c.v.Gang(w.Gang) {
			mates = append(mates, m.Node)
		}
	}
	suspects := []autoheal.NodeID{id}
	c.record(i.ID, journal.CulpritTold{
		Node: id, Role: roleLink, Confidence: i.Confidence, Because: i.Cause, Suspects: suspects, Peers: c.peers(suspects, mates),
	})
}
