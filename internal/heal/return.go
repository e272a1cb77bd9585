package heal

import (
	"fmt"
	"math"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// oldChanged follows a copy that was replaced: once it has ended, the overlap of the two is known.
func (c *Core) oldChanged(w *autoheal.Workload) {
	at, ok := c.ix.oldOf[w.ID]
	if !ok {
		return
	}
	i := c.d.Incidents[at.inc]
	rec := i.Recoveries[at.lead]
	if live(w) {
		c.dirty[key{inc: at.inc, w: at.lead, what: dutyOld}] = true
		return
	}
	for n, id := range rec.Members {
		if id == w.ID && rec.Attempts[n] == w.Attempt {
			c.overlap(i, rec, w, rec.NewAttempts[n])
		}
	}
}

// overlap records for how long the old and the new copy both ran; for an at-most-once workload it must be nothing.
func (c *Core) overlap(i *incident, rec *recovery, old *autoheal.Workload, attempt int) {
	began := rec.RunningAt
	if w := c.v.attempt(old.ID, attempt); w != nil && !w.StartedAt.IsZero() {
		began = w.StartedAt
	}
	both := time.Duration(0)
	if !began.IsZero() && old.EndedAt.After(began) {
		both = old.EndedAt.Sub(began)
	}
	c.record(i.ID, journal.Overlap{Workload: rec.Workload, For: both, Attempts: []int{old.Attempt, attempt}})
	if both > 0 && rec.AtMostOnce {
		c.alert(i, alertSpec{
			name: "two-copies", severity: autoheal.SeverityCritical, dedup: string(i.ID) + " overlap " + string(old.ID),
			text: fmt.Sprintf("two copies of the at-most-once workload %s ran at once for %s: attempt %d on %s and attempt %d; check what it wrote", old.ID, both, old.Attempt, old.Node, attempt),
		})
	}
	c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(autoheal.NodeRef(rec.From).String())}] = true
}

// stepOld settles copies that came back after they were replaced (behaviour C5): of an at-most-once workload the old one
// is stopped at once; of one that may run twice it is kept until the replacement has passed its dwell.
func (c *Core) stepOld(i *incident, lead autoheal.WorkloadID) {
	rec := i.Recoveries[lead]
	if rec == nil || !rec.unsettled() {
		return
	}
	node := c.v.nodes[rec.From]
	if node == nil || node.Link != autoheal.LinkUp {
		return
	}
	for n, id := range rec.Members {
		old := c.v.old[id][rec.Attempts[n]]
		if !live(old) || !rec.AtMostOnce && rec.End != autoheal.EndRecovered {
			continue
		}
		c.act(&proposal{
			i: i, rec: rec, k: key{inc: i.ID, w: lead, what: dutyOld}, verb: autoheal.Stop, target: old.Ref(), step: policy.StepMigrate,
			node: node, reason: fmt.Sprintf("attempt %d replaced it", rec.NewAttempts[n]),
			params: autoheal.ActionParams{Attempt: old.Attempt, Grace: stopGrace(rec.Class), Force: rec.AtMostOnce},
		})
	}
}

// marks asks for a node's mark to be looked at.
func (c *Core) marks(n *autoheal.Node) {
	if r := autoheal.NodeRef(n.ID).String(); c.d.Marks[r] != nil {
		c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(r)}] = true
	}
}

// stepMark returns a node to service (behaviour B4): our own cordon only, after steady contact for the dwell, with stale
// copies settled. A node that fails again and again waits for a person.
func (c *Core) stepMark(ref string) {
	m := c.d.Marks[ref]
	if m == nil || m.Verb != autoheal.Cordon {
		return
	}
	n := c.v.nodes[autoheal.NodeID(m.Ref.ID)]
	if n == nil || n.Link != autoheal.LinkUp || !n.Ready {
		return
	}
	k := key{what: dutyMark, w: autoheal.WorkloadID(ref)}
	i := c.d.Incidents[m.Incident]
	if n.MarkedBy(autoheal.ByAutoheal) == nil {
		c.markGone(k, m)
		return
	}
	if _, open := c.ix.open[ref]; open || len(c.ix.oldOn[n.ID]) > 0 || i == nil {
		return
	}
	if o := c.d.Offenders[ref]; o != nil && c.score(o) >= c.pol.Offender.Score {
		c.alert(i, alertSpec{
			name: "node-quarantined", severity: autoheal.SeverityWarning, dedup: ref + " offender " + string(i.ID),
			text: fmt.Sprintf("node %s stays cordoned: it failed again and again (offender score %.1f). Check it, then run autoheal uncordon %s", n.ID, c.score(o), n.ID),
		})
		return
	}
	if at := n.LinkSince.Add(c.returnDwell(ref)); c.now.Before(at) {
		c.after(k, at)
		return
	}
	c.act(&proposal{
		i: i, k: k, verb: autoheal.Uncordon, target: n.Ref(), step: policy.Step(autoheal.Uncordon), node: n,
		reason: fmt.Sprintf("it has answered for %s", c.returnDwell(ref)),
	})
}

// markGone notices that somebody else removed our mark: a person's uncordon is remembered, not fought.
func (c *Core) markGone(k key, m *ownMark) {
	if at := m.Mark.At.Add(3 * c.pol.Node.ProbeInterval); c.now.Before(at) {
		c.after(k, at) // the listing may be older than our mark
		return
	}
	c.clearMark(m.Ref, "removed by somebody else")
}

func (c *Core) clearMark(r autoheal.Ref, reason string) {
	m := c.d.Marks[r.String()]
	if m == nil {
		return
	}
	if i := c.d.Incidents[m.Incident]; i != nil {
		for _, a := range i.Actions {
			c.giveBack(i.ID, budgetContain, a.ID, false)
		}
	}
	c.record(m.Incident, journal.MarkCleared{Ref: r, Reason: reason})
}

// returnDwell doubles with each relapse in 24 h, up to 4 h.
func (c *Core) returnDwell(ref string) time.Duration {
	d, n := c.pol.Node.ReturnDwell, 0
	if o := c.d.Offenders[ref]; o != nil {
		for _, t := range o.Ends {
			if c.now.Sub(t) <= 24*time.Hour {
				n++
			}
		}
	}
	for ; n > 1 && d < 4*time.Hour; n-- {
		d *= 2
	}
	return min(d, max(4*time.Hour, c.pol.Node.ReturnDwell))
}

// offend adds one to a subject's decaying score (behaviour B3).
func (c *Core) offend(r autoheal.Ref) {
	r.Generation = ""
	score := 1.0
	if o := c.d.Offenders[r.String()]; o != nil {
		score += c.score(o)
	}
	c.record("", journal.Offender{Subject: r, Score: score, HalfLife: c.pol.Offender.HalfLife, At: c.now})
}

// score is an offender's score now: it halves every half-life.
func (c *Core) score(o *offender) float64 {
	if o.HalfLife <= 0 {
		return o.Score
	}
	return o.Score * math.Pow(0.5, float64(c.now.Sub(o.At))/float64(o.HalfLife))
}
