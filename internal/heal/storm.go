package heal

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// crowd looks at a node that has just gone silent or come back: when most nodes go silent at once it is more likely that
// the healer cannot see than that they are all dead (behaviour D1).
func (c *Core) crowd(n *autoheal.Node) {
	switch {
	case c.d.Storm != nil:
		c.dirty[key{what: dutyStorm}] = true
	case n.Link == autoheal.LinkSilent && c.v.synced:
		silent := c.silentInWindow()
		if of := c.v.ready + silent; silent >= c.pol.Storm.MinNodes && float64(silent) > c.pol.Storm.Fraction*float64(of) {
			c.beginStorm(silent, of)
		}
	}
}

// silentInWindow counts the nodes that fell silent within the window and still are.
func (c *Core) silentInWindow() int { return c.v.silentSince(c.now.Add(-c.pol.Storm.Window)) }

func (c *Core) beginStorm(silent, of int) {
	cause := fmt.Sprintf("%d of %d nodes went silent within %s", silent, of, c.pol.Storm.Window)
	i := c.openIncident(autoheal.Finding{
		Kind: autoheal.NodeOffline, Subject: autoheal.Ref{Kind: autoheal.RefCluster, ID: c.life.Cluster}, Confidence: 0.5, Since: c.now,
		Cause: cause, Because: "storm.observer_suspect",
	})
	if i == nil {
		return
	}
	c.record(i.ID, journal.StormBegan{Silent: silent, Of: of})
	c.record(i.ID, journal.Held{
		Target: i.Subject, Gate: "observer", Reason: autoheal.ReasonObserverSuspect, On: "person",
		Detail: "nothing is moved until they answer, or a person says autoheal release " + string(i.ID),
	})
	c.alert(i, alertSpec{
		name: "observer-suspect", severity: autoheal.SeverityCritical, dedup: string(i.ID),
		text: fmt.Sprintf("%s. The healer suspects its own view: nothing is moved. If they are really gone: autoheal release %s", cause, i.ID),
	})
	c.after(key{what: dutyStorm}, c.now.Add(stormAutoRelease))
}

// stepStorm ends a storm when contact is back, and pages again while it lasts (behaviour D2).
func (c *Core) stepStorm() {
	s := c.d.Storm
	if s == nil || !c.v.synced {
		return
	}
	i := c.d.Incidents[s.Incident]
	left := len(c.v.silent)
	if left < c.pol.Storm.MinNodes || float64(left) <= c.pol.Storm.Fraction*float64(c.v.ready+left) {
		c.record(s.Incident, journal.StormEnded{By: "contact"})
		if i != nil && !i.Phase.Ended() {
			c.phase(i, autoheal.Cleared, "contact is back")
		}
		c.wake("storm")
		return
	}
	if s.Released || i == nil || i.Phase.Ended() {
		return
	}
	age := c.now.Sub(s.Since)
	if age < stormAutoRelease {
		c.after(key{what: dutyStorm}, s.Since.Add(stormAutoRelease))
		return
	}
	n := 1 + int((age-stormAutoRelease)/stormPageEvery)
	c.alert(i, alertSpec{
		name: "observer-suspect", severity: autoheal.SeverityCritical, dedup: fmt.Sprintf("%s page %d", i.ID, n),
		text: fmt.Sprintf("for %s now %d nodes do not answer and nothing is moved. Decide: autoheal release %s", age.Round(time.Minute), left, i.ID),
	})
	c.after(key{what: dutyStorm}, s.Since.Add(stormAutoRelease+time.Duration(n)*stormPageEvery))
}

const stormPageEvery = 30 * time.Minute

// releaseStorm is a person's word that the nodes are really gone.
func (c *Core) releaseStorm(i *incident, by string) {
	c.record(c.d.Storm.Incident, journal.StormEnded{By: stormReleased})
	if s := c.d.Incidents[c.d.Storm.Incident]; s != nil && !s.Phase.Ended() {
		c.phase(s, autoheal.Cleared, "released by "+by)
	}
	c.wake("storm")
	c.markOpen()
}
