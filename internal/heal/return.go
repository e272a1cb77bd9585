package heal

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// oldChanged follows an older copy of a workload: once it has ended, the overlap with the newer one is known.
func (c *Core) oldChanged(w *autoheal.Workload) {
	c.dirty[key{w: w.ID, what: dutyOld}] = true
	c.touchParts(w.Node, w.GPUs)
	if live(w) {
		return
	}
	c.wake("capacity")
	c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(autoheal.NodeRef(w.Node).String())}] = true
	at := c.ix.lastOf[w.ID]
	i := c.d.Incidents[at.inc]
	if i == nil || i.Recoveries[at.lead] == nil || w.Exit == nil || w.Exit.Reason == autoheal.ExitSuperseded {
		return // given up by the driver, not seen to end
	}
	rec := i.Recoveries[at.lead]
	for n, id := range rec.Members {
		if id == w.ID && rec.Attempts[n] == w.Attempt && rec.unsettled() {
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
}

// stepOld settles older copies of a workload that run beside a newer one, as when a node comes back (behaviour C5): of an
// at-most-once workload the older one is stopped at once; of one that may run twice it is kept until the newer one has
// passed its dwell, or for good when the newer one does not run.
func (c *Core) stepOld(id autoheal.WorkloadID) {
	cur, at := c.v.cur[id], c.ix.lastOf[id]
	i := c.d.Incidents[at.inc]
	if cur == nil || i == nil || !c.v.synced {
		return
	}
	k := key{w: id, what: dutyOld}
	for _, n := range slices.Sorted(maps.Keys(c.v.old[id])) {
		old := c.v.old[id][n]
		node := c.v.nodes[old.Node]
		if node == nil || node.Link != autoheal.LinkUp {
			continue
		}
		if !c.surplus(cur, k) {
			c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(autoheal.NodeRef(node.ID).String())}] = true
			continue
		}
		c.insist(&proposal{
			i: i, rec: i.Recoveries[at.lead], k: k, verb: autoheal.Stop, target: old.Ref(), step: policy.StepMigrate,
			node: node, reason: fmt.Sprintf("attempt %d replaced it", cur.Attempt),
			params: autoheal.ActionParams{Attempt: n, Grace: stopGrace(cur.Class), Force: cur.AtMostOnce},
		})
	}
}

// unsettledOn reports whether an older copy on a node is about to be stopped. One that is kept, because no newer one runs,
// is not: its node returns to service, or a new copy might wait for the very place that it could have there.
func (c *Core) unsettledOn(id autoheal.NodeID) bool {
	for _, w := range c.v.oldOn[id] {
		cur := c.v.cur[w]
		if cur == nil || cur.AtMostOnce || cur.State == autoheal.Succeeded {
			return true
		}
		if node := c.v.nodes[cur.Node]; cur.State == autoheal.Running && node != nil && node.Link == autoheal.LinkUp {
			return true
		}
	}
	return false
}

// surplus reports whether what runs beside cur, an older copy of the same workload, is not needed any more.
func (c *Core) surplus(cur *autoheal.Workload, k key) bool {
	if cur.AtMostOnce || cur.Desired == autoheal.DesiredCancelled || cur.State == autoheal.Succeeded {
		return true
	}
	node := c.v.nodes[cur.Node]
	if _, open := c.ix.recOf[cur.ID]; open || cur.State != autoheal.Running || !cur.Ready || node == nil || node.Link != autoheal.LinkUp {
		return false
	}
	if at := cur.StartedAt.Add(c.pol.Dwell(cur.Class)); c.now.Before(at) {
		c.after(k, at)
		return false
	}
	return true
}

// insist acts, and acts again as long as what it wants is not seen: it is called only while that is so.
func (c *Core) insist(p *proposal) {
	state, a := c.act(p)
	if state != actDone && state != actFailed {
		return
	}
	if at := a.ResultAt.Add(max(insistEvery, p.params.Grace+insistEvery/2)); c.now.Before(at) {
		c.after(p.k, at)
		return
	}
	c.send(p, nil)
}

// insistEvery is how long what was asked for may take to be seen before it is asked for again.
const insistEvery = 30 * time.Second

// marks asks for a node's mark to be looked at.
func (c *Core) marks(n *autoheal.Node) {
	if r := autoheal.NodeRef(n.ID).String(); c.d.Marks[r] != nil || n.MarkedBy(autoheal.ByAutoheal) != nil {
		c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(r)}] = true
	}
	c.gpuMarks(n)
}

// stepMark returns a node to service (behaviour B4): our own cordon only, after steady contact for the dwell, with stale
// copies settled. A node that fails again and again waits for a person.
func (c *Core) stepMark(ref string) {
	c.adoptMark(ref)
	if _, id, _ := strings.Cut(ref, "/"); c.v.nodes[autoheal.NodeID(id)] != nil {
		c.drained(c.v.nodes[autoheal.NodeID(id)])
	}
	m := c.d.Marks[ref]
	switch {
	case m == nil:
		return
	case m.Verb == autoheal.QuarantineGPU:
		c.stepGPUMark(m)
		return
	}
	n := c.v.nodes[autoheal.NodeID(m.Ref.ID)]
	if n == nil && c.v.synced {
		c.clearMark(m.Ref, "the node was forgotten")
		return
	}
	if n == nil || n.Link != autoheal.LinkUp || !n.Ready {
		return
	}
	k := key{what: dutyMark, w: autoheal.WorkloadID(ref)}
	i := c.d.Incidents[m.Incident]
	if n.MarkedBy(autoheal.ByAutoheal) == nil {
		c.markGone(k, m)
		return
	}
	// An incident that only waits for room must not keep the room away: its node is back.
	if c.notYet(ref, n) || c.unsettledOn(n.ID) || i == nil || !c.mended(m, i, n) {
		return
	}
	if o := c.d.isolated(n.ID); o != nil {
		c.alertIsolated(i, n, o)
		return
	}
	if o := c.d.Offenders[ref]; c.quarantined(o) {
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
	switch over, why := c.runTest(test{i: i, k: k, node: n, target: n.Ref(), since: n.LinkSince.Add(c.returnDwell(ref)), had: m}); {
	case !over:
		return
	case why != "":
		c.failReturn(i, n, ref, why)
		return
	}
	c.insist(&proposal{
		i: i, k: k, verb: autoheal.Uncordon, target: n.Ref(), step: policy.Step(autoheal.Uncordon), node: n,
		reason: fmt.Sprintf("it has answered for %s", c.returnDwell(ref)),
	})
}

// setMark notes a mark of ours, with what the node has.
func (c *Core) setMark(inc autoheal.IncidentID, r autoheal.Ref, verb autoheal.Verb, m autoheal.Mark) {
	p := journal.MarkSet{Ref: r, Verb: verb, Mark: m}
	if n := c.v.NodeOfGPU(autoheal.GPUID(r.ID)); n != nil && r.Kind == autoheal.RefGPU {
		p.Boot = n.BootID
	}
	if n := c.v.nodes[autoheal.NodeID(r.ID)]; n != nil && r.Kind == autoheal.RefNode {
		p.Boot = n.BootID
		p.MemoryMB = n.Allocatable.MemoryMB
		for _, g := range n.GPUs {
			p.GPUs = append(p.GPUs, g.UUID)
		}
	}
	c.record(inc, p)
}

func joined(ids []autoheal.GPUID) string {
	var out []string
	for _, id := range ids {
		out = append(out, string(id))
	}
	return strings.Join(out, ", ")
}

// failReturn quarantines a node that is back and did not pass its test in time, and pages somebody. If what it lacks is there
// later, it returns all the same.
func (c *Core) failReturn(i *incident, n *autoheal.Node, ref, why string) {
	c.alert(i, alertSpec{
		name: "node-quarantined", severity: autoheal.SeverityCritical, dedup: ref + " unfit " + string(i.ID),
		text: fmt.Sprintf("node %s answers again and stays cordoned: %s. Check it, then run autoheal uncordon %s", n.ID, why, n.ID),
	})
}

// notYet reports whether the incident on a node is still at work there. One that only waits for room must not keep the room
// away: its node is back, or has passed its test.
func (c *Core) notYet(ref string, n *autoheal.Node) bool {
	i := c.d.Incidents[c.ix.open[ref]]
	return i != nil && !c.answers(i, n.ID) && !i.tested()
}

// adoptMark takes a mark of ours into the books that is seen and not there: a cordon whose outcome was unknown, or that
// took effect after its incident had ended.
func (c *Core) adoptMark(ref string) {
	kind, id, _ := strings.Cut(ref, "/")
	n := c.v.nodes[autoheal.NodeID(id)]
	if c.d.Marks[ref] != nil || kind != string(autoheal.RefNode) || n == nil {
		return
	}
	m := n.MarkedBy(autoheal.ByAutoheal)
	if m == nil {
		return
	}
	inc := m.Incident
	if c.d.Incidents[inc] == nil {
		inc = c.ix.last[ref]
	}
	if c.d.Incidents[inc] != nil {
		c.setMark(inc, autoheal.NodeRef(n.ID), autoheal.Cordon, *m)
	}
}

// markGone notices that somebody else removed our mark: a person's uncordon is remembered, not fought.
func (c *Core) markGone(k key, m *ownMark) {
	if i := c.d.Incidents[m.Incident]; i != nil {
		for n := len(i.Actions) - 1; n >= 0; n-- {
			if a := i.Actions[n]; (a.Verb == autoheal.Uncordon || a.Verb == autoheal.ReleaseGPU) && a.Target.Same(m.Ref) && a.IntentAt.After(m.Mark.At) {
				c.clearMark(m.Ref, "returned to service")
				return
			}
		}
	}
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
	c.marksOver(m)
	c.record(m.Incident, journal.MarkCleared{Ref: r, Reason: reason})
}

// marksOver gives back what a mark took, for whichever incident it was set.
func (c *Core) marksOver(m *ownMark) {
	b := c.d.Budgets[budgetContain]
	if b == nil {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(b.Open)) {
		if inc, a := c.findAction(id); a != nil && a.Target.Same(m.Ref) {
			c.giveBack(inc, budgetContain, id, false)
		}
	}
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

// quarantined reports whether a subject failed so often that a person decides: by its score, or 3 incidents in 7 days,
// which the score, halving all the while, never shows (behaviour B3, B4).
func (c *Core) quarantined(o *offender) bool {
	if o == nil {
		return false
	}
	n := 0
	for _, t := range o.Ends {
		if c.now.Sub(t) <= 7*24*time.Hour {
			n++
		}
	}
	return n >= 3 || c.score(o) >= c.pol.Offender.Score
}

// score is an offender's score now: it halves every half-life.
func (c *Core) score(o *offender) float64 {
	if o.HalfLife <= 0 {
		return o.Score
	}
	return o.Score * math.Pow(0.5, float64(c.now.Sub(o.At))/float64(o.HalfLife))
}
