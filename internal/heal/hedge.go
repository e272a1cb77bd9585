package heal

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// hedge gives a critical workload that may run twice one more copy while its node is only suspected (behaviour B2h).
// Nothing is given up for it: it takes free capacity only, a share of the class at a time, and never while the healer has
// reason to doubt what it sees. What refuses it is no hold: the workload's own grace goes on meanwhile.
func (c *Core) hedge(i *incident, rec *recovery) {
	node := i.nodeOf(rec)
	if !c.hedgeable(i, rec) || !c.isSilent(node) {
		return
	}
	k := key{inc: i.ID, w: rec.Workload}
	if at := c.hedgeAt(i, node); c.now.Before(at) {
		c.after(k, at)
		return
	}
	need := c.needs(rec, c.avoid(i, rec))
	p := &proposal{
		i: i, rec: rec, k: k, verb: autoheal.Start, target: autoheal.WorkloadRef(rec.Workload), step: policy.StepMigrate,
		node: c.v.nodes[node], silence: true, need: need, inShadow: true,
	}
	c.planning = true // a gate that refuses a hedge holds nothing
	_, v := c.ask(p)
	c.planning = false
	if v.OK {
		v = c.hedgeShare(rec.Class)
	}
	if !v.OK {
		c.await(k, v.Until, v.On)
		return
	}
	spots, no := c.fitAll(need)
	if no != nil {
		return
	}
	c.reserve(need, spots)
	c.move(i, rec, autoheal.StepStopping, journal.RecoveryStep{
		Hedge: true, Spots: []autoheal.NodeID{spots[0].Node},
		Reason: fmt.Sprintf("its node has not answered for %s: an extra copy, nothing is given up", policy.FormatDuration(c.now.Sub(c.silentBase(i, node)).Round(time.Second))),
	})
}

// hedgeable reports whether a recovery is of the sort that is hedged, and waits for its grace only.
func (c *Core) hedgeable(i *incident, rec *recovery) bool {
	s := c.d.Storm
	return c.pol.Node.Hedge.Enabled && rec.Class == autoheal.Critical && !rec.AtMostOnce && rec.Gang == "" &&
		c.waitsForSilence(i, rec) && (s == nil || s.Released)
}

// hedgeableClass reports whether a workload is of the sort that is hedged.
func hedgeableClass(w *autoheal.Workload) bool {
	return w.Class == autoheal.Critical && !w.AtMostOnce && w.Gang == ""
}

// hedgeAt is when what is on a silent node gets its extra copy: so long after the last contact, and not before every other
// node has had the time to miss a probe, because a healer that sees nobody must not take it for the fault of one node.
func (c *Core) hedgeAt(i *incident, id autoheal.NodeID) time.Time {
	at := c.silentBase(i, id).Add(c.pol.Node.Hedge.After)
	if n := c.v.nodes[id]; n != nil {
		if all := n.LinkSince.Add(c.pol.Node.ProbeInterval); all.After(at) {
			return all
		}
	}
	return at
}

// hedgeShare keeps the extra copies of a class within their share of it, at least one.
func (c *Core) hedgeShare(class autoheal.Class) verdict {
	whole := c.v.classes[class]
	most := c.pol.Node.Hedge.Max.Of(whole, 1)
	if n := len(c.ix.hedges[class]); n >= most {
		return verdict{Detail: fmt.Sprintf("%d of at most %d extra copies (of %d workloads) are under way", n, most, whole), On: wakeHedge}
	}
	return pass
}

// wakeHedge is what a hedge waits for when its class has its share already.
const wakeHedge = "hedge"

// setHedge follows which recoveries under way are extra copies.
func (x *index) setHedge(at recAt, rec *recovery) {
	if !rec.Hedge || rec.Step == autoheal.StepDone {
		delete(x.hedges[rec.Class], at)
		return
	}
	if x.hedges[rec.Class] == nil {
		x.hedges[rec.Class] = map[recAt]bool{}
	}
	x.hedges[rec.Class][at] = true
}

// countClass keeps how many workloads of each class hold a place or want one.
func (v *view) countClass(w *autoheal.Workload, d int) {
	if w != nil && !w.State.Ended() {
		v.classes[w.Class] += d
	}
}

// wakeHedged lets others have the share that an extra copy had.
func (c *Core) wakeHedged(rec *recovery) {
	if rec.Hedge {
		c.wake(wakeHedge)
	}
}
