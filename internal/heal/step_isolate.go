package heal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// What takes a node out of use because of its network (behaviour E9).
const (
	culpritWindow = 24 * time.Hour
	culpritTimes  = 2
	culpritSure   = 0.8
	isolateEvery  = time.Hour // of one gang
)

// stepIsolate takes a node out of use because of its network: nothing is placed there, and what runs is moved. It does so on
// the stated evidence only, and never for want of knowing better.
func (c *Core) stepIsolate(i *incident) bool {
	step := string(policy.StepIsolate)
	if i.Kind != autoheal.NetworkPartition {
		return true
	}
	if !c.collected(i) || !c.restarted(i) && !c.waitsForRoom(i) {
		return false
	}
	if i.Told == nil {
		c.stepDone(i, step, "skipped", "nobody is suspected")
		return true
	}
	id, evidence := c.whomToIsolate(i)
	if id == "" {
		if at := i.Told.At.Add(compareTime + pairsTime); c.now.Before(at) && !c.compared(i) { // what was asked may still come
			c.after(key{inc: i.ID}, at)
			return false
		}
		c.stepDone(i, step, "skipped", "no evidence that would justify it")
		return true
	}
	n := c.v.nodes[id]
	switch {
	case n == nil || n.Link != autoheal.LinkUp:
		c.stepDone(i, step, "skipped", fmt.Sprintf("%s does not answer", id))
		return true
	case c.d.isolated(id) != nil:
		c.stepDone(i, step, "skipped", fmt.Sprintf("%s is isolated already", id))
		return true
	}
	return c.isolate(i, n, evidence)
}

// isolate drains a node, at most one for each gang in an hour.
func (c *Core) isolate(i *incident, n *autoheal.Node, evidence string) bool {
	p := &proposal{
		i: i, k: key{inc: i.ID}, verb: autoheal.Drain, target: n.Ref(), step: policy.StepIsolate, node: n, budget: budgetDisrupt,
		reason: string(i.Kind) + ": " + evidence, params: autoheal.ActionParams{Grace: 30 * time.Second},
	}
	gangs := c.gangsOn(i, n.ID)
	sent := c.existing(p)
	if sent != nil && sent.IntentAt.Before(i.Told.At) { // of before a relapse
		sent = nil
	}
	if sent == nil {
		if at, busy := c.isolatedLately(gangs); busy {
			c.hold(p, "isolate", verdict{
				Reason: autoheal.ReasonBudgetRate, Until: at, Detail: fmt.Sprintf("a node was isolated for gang %s within the hour: at most one is", gangs[0]),
			})
			return false
		}
		if i.comparison(n.ID, time.Time{}) == evidence && !c.stillFails(i, n.ID) {
			return false
		}
		c.send(p, nil)
		return false
	}
	state, a := c.act(p)
	switch state {
	case actDone:
		c.record(i.ID, journal.Isolated{Node: n.ID, Gangs: gangs, Evidence: evidence})
		c.stepDone(i, string(policy.StepIsolate), "done", fmt.Sprintf("%s: %s", n.ID, evidence))
		c.marks(n)
		return true
	case actFailed:
		c.stepDone(i, string(policy.StepIsolate), "failed", a.Detail)
		return true
	}
	return false
}

// stillFails reports whether what comparing a node with its peers has said is no older than what may be acted upon (behaviour
// A6). If something has held the step for so long, they are asked anew, and what does not hold any more isolates nobody.
func (c *Core) stillFails(i *incident, id autoheal.NodeID) bool {
	old := c.now.Add(-c.pol.Evidence.MaxAge)
	if i.comparison(id, old) != "" {
		return true
	}
	asked, finished := slices.Concat(i.Told.Suspects, i.Told.Peers), true
	for _, n := range asked {
		finished = c.compare(i, n, asked, old) && finished
	}
	if finished {
		c.stepDone(i, string(policy.StepIsolate), "skipped", fmt.Sprintf("what comparing %s with its peers has said does not hold any more", id))
	}
	return false
}

// waitsForRoom reports whether what is not restarted yet only waits for a place, which may take for ever.
func (c *Core) waitsForRoom(i *incident) bool {
	return !slices.ContainsFunc(i.Order, func(w autoheal.WorkloadID) bool {
		rec := i.Recoveries[w]
		waits := rec.Held != nil && rec.Held.Reason == autoheal.ReasonNoCapacity
		return (rec.Step == autoheal.StepWaiting || rec.Step == autoheal.StepStopping) && !waits
	})
}

// whomToIsolate returns the suspect that there is evidence against, and the evidence. Of several suspects nobody is
// isolated, but where the hardware or the comparison tells one of them from the others.
func (c *Core) whomToIsolate(i *incident) (autoheal.NodeID, string) {
	var guilty []autoheal.NodeID
	found := map[autoheal.NodeID]string{}
	for _, id := range i.Told.Suspects {
		why := c.linkEvidence(id)
		if why == "" {
			why = i.comparison(id, time.Time{})
		}
		if why == "" && id == i.Told.Node {
			why = c.record24(id)
		}
		if why != "" {
			guilty, found[id] = append(guilty, id), why
		}
	}
	if len(guilty) != 1 {
		return "", ""
	}
	return guilty[0], found[guilty[0]]
}

// linkEvidence is what the node's own kernel says of its links.
func (c *Core) linkEvidence(id autoheal.NodeID) string {
	lost, o := c.v.lostLinks(id), c.pol.Transient.Link
	for _, s := range lost {
		if !detect.Passes(c.v.Catalogue(), &s) {
			return fmt.Sprintf("its kernel says %q", clip(s.Excerpt, 200))
		}
	}
	if c.persistentLink(id) {
		return fmt.Sprintf("it has lost a link %d times within %s", o.Count, policy.FormatDuration(o.Window))
	}
	for _, s := range lost {
		if c.now.Sub(s.At) >= o.Window {
			return fmt.Sprintf("its link has been away for %s: %q", policy.FormatDuration(o.Window), clip(s.Excerpt, 200))
		}
	}
	return ""
}

// comparison is what comparing a node with its peers has said since then: it fails with two or more of them, which reach each
// other.
func (i *incident) comparison(id autoheal.NodeID, since time.Time) string {
	lost := map[[2]autoheal.NodeID]bool{} // whether a direction is lost
	for _, p := range i.Pairs {
		if p.Sent > 0 && !p.At.Before(since) {
			lost[[2]autoheal.NodeID{p.From, p.To}] = 2*p.Lost >= p.Sent
		}
	}
	var failed []autoheal.NodeID
	for _, p := range i.Told.Peers {
		if lost[[2]autoheal.NodeID{id, p}] || lost[[2]autoheal.NodeID{p, id}] {
			failed = append(failed, p)
		}
	}
	healthy := 0
	for _, a := range failed {
		reaches := slices.ContainsFunc(failed, func(b autoheal.NodeID) bool {
			there, t1 := lost[[2]autoheal.NodeID{a, b}]
			back, t2 := lost[[2]autoheal.NodeID{b, a}]
			return a != b && t1 && t2 && !there && !back
		})
		if reaches {
			healthy++
		}
	}
	if healthy < comparedPeers {
		return ""
	}
	return fmt.Sprintf("it and each of %s do not reach each other, while those do", joinNodes(failed))
}

func joinNodes(ids []autoheal.NodeID) string {
	var out []string
	for _, id := range ids {
		out = append(out, string(id))
	}
	return strings.Join(out, ", ")
}

// record24 is what gangs have said of a node within a day: it held them up in two incidents, as told by two gangs or peers.
func (c *Core) record24(id autoheal.NodeID) string {
	incidents, gangs, accusers := map[string]bool{}, map[autoheal.GangID]bool{}, map[autoheal.NodeID]bool{}
	for _, o := range c.d.Culprits[id] {
		if o.Confidence < culpritSure || c.now.Sub(o.At) > culpritWindow {
			continue
		}
		incidents[fmt.Sprintf("%s %d", o.Incident, o.At.UnixMilli())], gangs[o.Gang] = true, true
		for _, a := range o.Accusers {
			accusers[a] = true
		}
	}
	if len(incidents) < culpritTimes || len(gangs) < 2 && len(accusers) < 2 {
		return ""
	}
	return fmt.Sprintf("it held up %d gangs in %d incidents within a day, as %d other nodes say", len(gangs), len(incidents), len(accusers))
}

// compared reports whether every node that was asked has told of every other.
func (c *Core) compared(i *incident) bool {
	n := len(i.Told.Suspects) + len(i.Told.Peers)
	return len(i.Pairs) >= n*(n-1)
}

// gangsOn lists the gangs that lose a node: that of the incident first.
func (c *Core) gangsOn(i *incident, id autoheal.NodeID) []autoheal.GangID {
	var out []autoheal.GangID
	if i.Told.Gang != "" {
		out = append(out, i.Told.Gang)
	}
	for _, w := range c.v.WorkloadsOn(id) {
		if w.Gang != "" && !slices.Contains(out, w.Gang) {
			out = append(out, w.Gang)
		}
	}
	return out
}

// isolatedLately reports whether a node was isolated for one of these gangs within the hour, and until when that counts.
func (c *Core) isolatedLately(gangs []autoheal.GangID) (time.Time, bool) {
	var until time.Time
	for _, o := range c.d.Isolations {
		at := o.At.Add(isolateEvery)
		if c.now.Before(at) && at.After(until) && slices.ContainsFunc(o.Gangs, func(g autoheal.GangID) bool { return slices.Contains(gangs, g) }) {
			until = at
		}
	}
	return until, !until.IsZero()
}

// alertIsolated tells that a node stays out of use until a person has looked at it.
func (c *Core) alertIsolated(i *incident, n *autoheal.Node, o *isolation) {
	c.alert(i, alertSpec{
		name: "node-quarantined", severity: autoheal.SeverityCritical, dedup: autoheal.NodeRef(n.ID).String() + " isolated " + string(o.Incident),
		text: fmt.Sprintf("node %s is isolated because of its network: %s. Nothing is placed there, and what ran there is moved. Look at its adapter, its cable and its port of the switch, then run autoheal uncordon %s", n.ID, o.Evidence, n.ID),
	})
}
