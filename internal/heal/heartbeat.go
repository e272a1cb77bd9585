package heal

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// BeatEvery is how often the healer says that it is alive (behaviour G2).
const BeatEvery = time.Minute

// heartbeatKey is the key of the one alert that is the heartbeat; each beat renews it.
const heartbeatKey = "heartbeat"

// beat says, as an alert, that the healer is alive and at work: whoever waits for it and hears nothing knows that nobody
// watches the cluster any more. It is no beat of a clock: it goes through the loop, the core and the journal.
func (c *Core) beat() {
	id := fmt.Sprintf("alert-%06d", c.d.Counters.Alert+1)
	if of := c.d.find.keyed[heartbeatKey]; of != "" && c.d.alert(of) != nil {
		id = of
	}
	state := ""
	switch {
	case !c.v.synced:
		state = ", the cluster's state is not known at present"
	case !c.pol.Enabled:
		state = ", switched off"
	case c.pol.Shadow:
		state = ", in the shadow"
	}
	c.record("", journal.AlertQueued{
		ID: id, Severity: autoheal.SeverityInfo, Name: "heartbeat", Channel: "heartbeat", DedupKey: heartbeatKey, Source: "autoheal",
		Text: fmt.Sprintf("the healer of %s is alive%s: %d nodes, %d open incidents. One is due every minute", c.life.Cluster, state, len(c.v.nodes), len(c.ix.openIDs)),
	})
}

// renewed takes in an alert that is told anew under its own ID, and reports whether it is one.
func (d *durable) renewed(p journal.AlertQueued, at time.Time) bool {
	a := d.alert(p.ID)
	if a == nil {
		return false
	}
	a.FiredAt, a.Message, a.Sent, a.Tries = at, p.Text, false, 0
	return true
}
