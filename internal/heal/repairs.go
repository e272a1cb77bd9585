package heal

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// At most so many resets of a GPU, or reboots of a node, in so long a time (behaviour E1).
const (
	repairMost   = 2
	repairWindow = 7 * 24 * time.Hour
)

// foldRepair remembers when a part was repaired last.
func (d *durable) foldRepair(p journal.RepairTried, at time.Time) {
	if d.Repairs == nil { // of a snapshot from before this was kept
		d.Repairs = map[string][]time.Time{}
	}
	k := autoheal.Ref{Kind: p.Target.Kind, ID: p.Target.ID}.String()
	d.Repairs[k] = slices.DeleteFunc(append(d.Repairs[k], at), func(t time.Time) bool { return at.Sub(t) > repairWindow })
}

// repaired counts the repairs of a part that still count.
func (c *Core) repaired(r autoheal.Ref) int {
	n := 0
	for _, t := range c.d.Repairs[autoheal.Ref{Kind: r.Kind, ID: r.ID}.String()] {
		if c.now.Sub(t) <= repairWindow {
			n++
		}
	}
	return n
}
