package heal

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// crowd looks at a node that has just gone silent or come back: when most nodes go silent at once it is more likely that
// the healer cannot see than that they are all dead (behaviour D1).
func (c *Core) crowd(n *autoheal.Node) {
	c.recount()
	if c.v.synced && n.Link == autoheal.LinkSilent && c.crowdAt.IsZero() && c.tooMany(c.v.silentSince(c.now.Add(-c.pol.Storm.Window))) {
		c.countCrowd() // at once: what waits for an explanation is held meanwhile
	}
}

// recount has the silent nodes counted again: one more fell silent, or answers, or its silence has been dealt with.
func (c *Core) recount() {
	if c.d.Storm != nil {
		c.dirty[key{what: dutyStorm}] = true
	}
	if len(c.v.silent) > 0 || !c.crowdAt.IsZero() {
		c.dirty[key{what: dutyCrowd}] = true
	}
}

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
	before := c.unexplained()
	if at := c.v.settled(""); c.now.Before(at) {
		c.after(key{what: dutyStorm}, at)
	} else {
		c.openOutages()
	}
	left := c.unexplained()
	if !c.tooMany(left) {
		by, why := stormContact, "contact is back"
		switch {
		case left < before && c.now.Sub(s.Since) <= c.pol.Storm.Window:
			by, why = stormDomain, "it is the outage of a domain"
		case left < before:
			why = "contact is back, but for a domain that is out"
		}
		c.record(s.Incident, journal.StormEnded{By: by})
		if i != nil && !i.Phase.Ended() {
			c.phase(i, autoheal.Cleared, why)
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
		text: fmt.Sprintf("for %s now %d nodes do not answer and %s. Decide: autoheal release %s", age.Round(time.Minute), left, c.movedInStorm(), i.ID),
	})
	c.after(key{what: dutyStorm}, s.Since.Add(stormAutoRelease+time.Duration(n)*stormPageEvery))
}

// movedInStorm says what the hold lets go by itself.
func (c *Core) movedInStorm() string {
	if c.pol.Storm.AutoRelease == policy.ReleaseCriticalStateless {
		return "nothing is moved but critical workloads that may run twice, one every 10 s"
	}
	return "nothing is moved"
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
