package heal

import (
	"encoding/json"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// snapshot makes a record of the whole durable state, without what ended before keep. Folding it gives the state anew.
func (c *Core) snapshot(keep time.Time) (journal.Record, error) {
	slim := *c.d
	slim.Incidents = map[autoheal.IncidentID]*incident{}
	for id, i := range c.d.Incidents {
		if !i.Phase.Ended() || i.Ended.After(keep) || c.marksOf(id) {
			slim.Incidents[id] = i
		}
	}
	state, err := json.Marshal(&slim)
	if err != nil {
		return journal.Record{}, err
	}
	return journal.Record{
		V: journal.Version, Seq: c.d.Seq + 1, Step: c.d.Step + 1, Epoch: c.life.Epoch, At: c.now, Type: journal.TypeSnapshot,
		Data: journal.Snapshot{State: state},
	}, nil
}

// marksOf reports whether a mark of this incident is still in force, or something that it took is to be given back.
func (c *Core) marksOf(id autoheal.IncidentID) bool {
	for _, m := range c.d.Marks {
		if m.Incident == id {
			return true
		}
	}
	for _, s := range c.d.Scaled {
		if s.Incident == id {
			return true
		}
	}
	return false
}

// adopt folds a snapshot that was made durable, so that the running core is what a restart would give.
func (c *Core) adopt(r journal.Record) error {
	if err := c.d.apply(r); err != nil {
		return err
	}
	c.ix.rebuild(c.d)
	return nil
}
