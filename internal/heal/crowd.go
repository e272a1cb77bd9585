package heal

import (
	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// silences counts the silent nodes of which something has still to be made, so that a crowd of them is counted by what
// changed and not by its size. It is derived from the view and from the incidents.
type silences struct {
	of      map[autoheal.NodeID]silence
	undealt moments // of no incident that has ended
	alone   moments // and not part of a domain that is out
}

// silence is one silent node that is counted.
type silence struct {
	since int64
	alone bool
}

// countSilences takes in whose silence began or ended, and of whom an incident opened or ended.
func (c *Core) countSilences() {
	s, heard := &c.silences, c.v.heard
	if len(heard) == 0 {
		return
	}
	c.v.heard = map[autoheal.NodeID]bool{}
	for id := range heard {
		if was, counted := s.of[id]; counted {
			delete(s.of, id)
			s.undealt.remove(was.since)
			if was.alone {
				s.alone.remove(was.since)
			}
		}
		since, silent := c.v.silent[id]
		if !silent || c.d.Gone[id] != "" {
			continue
		}
		i := c.onNode(id)
		is := silence{since: since, alone: i == nil || i.Subject.Kind != autoheal.RefDomain}
		s.of[id] = is
		s.undealt.add(since)
		if is.alone {
			s.alone.add(since)
		}
	}
}

// recountSilences has the nodes of an incident counted again that opened or ended, or a node that is back.
func (c *Core) recountSilences(i *incident, r journal.Record) {
	switch p := r.Data.(type) {
	case journal.IncidentOpened, journal.IncidentPhase:
		for _, id := range i.nodes() {
			c.v.heard[id] = true
		}
	case journal.NodeBack:
		c.v.heard[p.Node] = true
	}
}

// unexplained counts the nodes that fell silent together, without those of a domain that is known to be out.
func (c *Core) unexplained() int {
	c.countSilences()
	return c.silences.alone.from(c.freshFrom())
}
