package heal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// How long the ranks of a gang are listened to before it is judged who holds them up (behaviour E9): until nothing new was
// said for partitionSettle, and no longer than partitionMost, for a critical gang partitionCritical.
const (
	partitionSettle   = 5 * time.Second
	partitionMost     = 30 * time.Second
	partitionCritical = 10 * time.Second
)

// findNetwork takes in the claim that a gang's ranks have lost each other, or that a node has lost a link.
func (c *Core) findNetwork(f autoheal.Finding, open *incident) {
	if f.Subject.Kind == autoheal.RefNode {
		c.findLink(f, open)
		return
	}
	lead := c.lead(f)
	if lead == nil || c.settled(f) && c.anyFailed(f) {
		return
	}
	if i := c.silentUnder(lead.Gang); i != nil { // its node may be gone: that comes first, and says what becomes of the gang
		c.evidence(i, f)
		return
	}
	if at, ok := c.ix.recOf[lead.ID]; ok && precedes(c.d.Incidents[at.inc].Kind, f.Kind) { // so does what has begun to replace it
		c.evidence(c.d.Incidents[at.inc], f)
		return
	}
	last := c.d.Incidents[c.ix.last[f.Subject.String()]]
	if open == nil && last != nil && last.Kind == f.Kind && last.Phase == autoheal.Recovered && c.now.Sub(last.Ended) < c.pol.Verify.Relapse {
		open = last
		c.record(open.ID, journal.IncidentPhase{From: autoheal.Recovered, To: autoheal.Recovering, Reason: "relapse: " + f.Cause})
	}
	c.findPart(f, open)
	if i := c.d.Incidents[c.ix.open[f.Subject.String()]]; i != nil && i.Kind == autoheal.NetworkPartition {
		c.lostAgain(i, i.Recoveries[lead.ID])
	}
}

// anyFailed reports whether a claim names an attempt that has ended.
func (c *Core) anyFailed(f autoheal.Finding) bool {
	return slices.ContainsFunc(f.Affected, func(r autoheal.Ref) bool {
		w := c.v.cur[autoheal.WorkloadID(r.ID)]
		return w != nil && w.State == autoheal.Failed
	})
}

// silentUnder returns the open incident of a node that does not answer and carries a rank of the gang, or nil.
func (c *Core) silentUnder(g autoheal.GangID) *incident {
	for _, w := range c.v.Gang(g) {
		if i := c.onNode(w.Node); i != nil && i.Kind == autoheal.NodeOffline && c.isSilent(w.Node) && !w.State.Ended() {
			return i
		}
	}
	return nil
}

// lookAgain has a gang judged anew that was left alone: what its ranks have said meanwhile may stand.
func (c *Core) lookAgain(rec *recovery) {
	if w := c.v.cur[rec.Workload]; rec.Gang != "" && w != nil && c.v.synced {
		c.detect(detect.Change{Workload: w})
	}
}

// lostAgain begins anew with a gang whose new ranks have lost each other, too.
func (c *Core) lostAgain(i *incident, rec *recovery) bool {
	if rec == nil || i.Kind != autoheal.NetworkPartition || rec.Step != autoheal.StepStarting && rec.Step != autoheal.StepVerifying {
		return false
	}
	r, ok := detect.ReportGang(sight{c.v, c.d}, rec.Gang, c.now)
	w := c.v.cur[rec.Workload]
	if !ok || !r.Broken || w == nil || len(rec.NewAttempts) == 0 || w.Attempt < rec.NewAttempts[0] {
		return false
	}
	next := journal.RecoveryStep{Try: rec.Try + 1, Rung: string(policy.StepRestartGang), Reason: r.Cause(rec.Gang), Attempts: c.lastAttempts(rec)}
	if next.Try > c.pol.Rung.Attempts {
		c.giveUp(i, rec, fmt.Sprintf("its ranks lost each other %d times: %s", rec.Try, next.Reason))
		return true
	}
	next.NotBefore = c.now.Add(c.pol.RestartWait(w, rec.Try))
	return c.move(i, rec, autoheal.StepWaiting, next)
}

// toldInTime reports whether it was judged who holds a gang up since its recovery began to wait, and judges as soon as
// the ranks have had time to speak. False means that there is nothing to go on with yet, or any more.
func (c *Core) toldInTime(i *incident, rec *recovery) bool {
	if i.Told != nil && !i.Told.At.Before(rec.StepAt) {
		return true
	}
	r, ok := detect.ReportGang(sight{c.v, c.d}, rec.Gang, c.now)
	if !ok {
		return c.tell(i, rec, &r) // somebody else has begun to replace its ranks: nothing can be said of those
	}
	most := partitionMost
	if rec.Class == autoheal.Critical {
		most = partitionCritical
	}
	at := r.Latest.Add(partitionSettle)
	if last := rec.StepAt.Add(most); at.After(last) {
		at = last
	}
	switch {
	case r.Crashed:
		c.crashAfterAll(i, rec, &r)
		return false
	case c.now.Before(at):
		c.after(key{inc: i.ID, w: rec.Workload}, at)
		return false
	case !r.Broken:
		c.done(i, rec, autoheal.EndLeftAlone, "its ranks do not say any more that they have lost each other")
		return false
	}
	return c.tell(i, rec, &r)
}

// crashAfterAll ends what looked like a failure of the network: a rank has failed by itself, and the others lost it.
func (c *Core) crashAfterAll(i *incident, rec *recovery, r *detect.GangReport) {
	why := "that is a crash and no failure of the network: " + r.Because
	c.done(i, rec, autoheal.EndCancelled, why)
	c.phase(i, autoheal.Cleared, why)
	for _, id := range rec.Members {
		if w := c.v.cur[id]; w != nil && w.State == autoheal.Failed {
			c.detect(detect.Change{Workload: w})
		}
	}
}

// tell journals who holds a gang up, with the nodes that the suspects are compared with.
func (c *Core) tell(i *incident, rec *recovery, r *detect.GangReport) bool {
	p := journal.CulpritTold{Gang: rec.Gang, Role: r.Role, Confidence: r.Confidence, Because: r.Because}
	if r.Culprit != nil {
		p.Node, p.Workload = r.Culprit.Node, r.Culprit.ID
	}
	p.Suspects, p.Accusers = nodesOfRanks(r.Suspects), nodesOfRanks(r.Victims)
	p.Accusers = slices.DeleteFunc(p.Accusers, func(n autoheal.NodeID) bool { return slices.Contains(p.Suspects, n) })
	if len(p.Accusers) == 0 {
		p.Accusers = nil // as it reads back
	}
	var mates []autoheal.NodeID
	for _, id := range rec.Members {
		if w := c.v.cur[id]; w != nil {
			mates = append(mates, w.Node)
		}
	}
	p.Peers = c.peers(p.Suspects, mates)
	if r.Broken {
		c.record(i.ID, journal.EvidenceAdded{Cause: r.Cause(rec.Gang)})
	}
	return c.record(i.ID, p)
}

func nodesOfRanks(ranks []*autoheal.Workload) []autoheal.NodeID {
	var out []autoheal.NodeID
	for _, w := range ranks {
		if w.Node != "" && !slices.Contains(out, w.Node) {
			out = append(out, w.Node)
		}
	}
	slices.Sort(out)
	return out
}

// partitionReady reports whether a gang may be stopped and started again: it is known what to keep off, the state of the
// network is kept, and so is where each rank stood. What is critical waits for no more than to be told.
func (c *Core) partitionReady(i *incident, rec *recovery) bool {
	if !c.toldInTime(i, rec) {
		return false
	}
	c.dirty[key{inc: i.ID}] = true // its steps on nodes begin with what was told
	kept := c.stacksKept(i, rec)
	if rec.Class == autoheal.Critical {
		return true
	}
	_, over := i.Steps[string(policy.StepCollectNetwork)]
	return kept && (over || !slices.Contains(c.ladder(i), policy.StepCollectNetwork))
}

// stackTime is how long capturing where each rank stands may take (behaviour E8).
const stackTime = 30 * time.Second

// stacksKept asks for the state of every rank that still runs, before it is stopped, and reports whether that was kept or
// took too long.
func (c *Core) stacksKept(i *incident, rec *recovery) bool {
	over := i.Told.At.Add(stackTime)
	kept := true
	for _, id := range rec.Members {
		w := c.v.cur[id]
		if !c.survivor(id) || !c.v.nodes[w.Node].Supports(autoheal.Collect) {
			continue
		}
		k := key{inc: i.ID, w: rec.Workload}
		kept = c.once(&proposal{
			i: i, rec: rec, k: k, verb: autoheal.Collect, target: w.Ref(), step: policy.StepCollect, node: c.v.nodes[w.Node], reason: "where it stands, before it is stopped",
		}, i.Told.At) && kept
		if !kept {
			c.after(k, over)
		}
	}
	return kept || !c.now.Before(over)
}

// once asks for something that only looks, one time since then, and reports whether that is over. What a gate refuses is not
// waited for: the step that it prepares has gates of its own.
func (c *Core) once(p *proposal, since time.Time) bool {
	a := c.existing(p)
	switch {
	case a == nil || a.IntentAt.Before(since):
		if _, v := c.ask(p); !v.OK {
			return true
		}
		c.intend(p, nil)
		return false
	case a.pending():
		return false
	case a.Outcome == autoheal.OutcomeNotSent && a.ErrorKind == autoheal.ErrUnavailable && a.Try < 3:
		state, _ := c.notSent(p, a)
		return state == actFailed || state == actHeld
	}
	return true
}

// countRestart counts the restart of a gang, once for each generation, and reports whether it has had its last one.
func (c *Core) countRestart(rec *recovery) (count int, last bool) {
	w, r := c.v.cur[rec.Workload], c.d.Restarts[rec.Workload]
	if w == nil {
		return 0, false
	}
	if r == nil {
		r = &restarts{}
	}
	count = r.Count
	if r.Attempt < w.Attempt && r.Count <= c.pol.MaxRestarts(w) { // a trial counts no more (behaviour E4)
		count++
		c.record("", journal.RestartCounted{Workload: rec.Workload, Attempt: w.Attempt, Count: count, OOMSteps: r.OOMSteps})
		c.dirty[key{what: dutyReset, w: rec.Workload}] = true
	}
	return count, count > c.pol.MaxRestarts(w)
}

// pauseInstead pauses a gang that was restarted as often as it may be.
func (c *Core) pauseInstead(i *incident, rec *recovery, count int) bool {
	w := c.v.cur[rec.Workload]
	return c.move(i, rec, autoheal.StepWaiting, journal.RecoveryStep{
		Rung: string(policy.StepPause), Attempts: c.lastAttempts(rec),
		Reason: fmt.Sprintf("%s, and at most %s: %s", times(count, "failure", "failures"), times(c.pol.MaxRestarts(w), "restart is allowed", "restarts are allowed"), i.Cause),
	})
}

// restartGang stops a gang to start it elsewhere, as one: once all of it has a place without the suspects, or, where there is
// none for as long as a rung may take, with them, if they are well (behaviour E8).
func (c *Core) restartGang(i *incident, rec *recovery, p *proposal) {
	if count, last := c.countRestart(rec); last {
		c.pauseInstead(i, rec, count)
		return
	}
	spots, no := c.placeAll(rec, c.avoid(i, rec))
	old := false
	if at := rec.StepAt.Add(c.pol.RungDeadline(rec.Objective)); no != nil && len(i.Suspects) > 0 {
		if c.now.Before(at) {
			c.after(p.k, at)
		} else if again, refusal := c.placeAll(rec, rec.Avoid); refusal == nil {
			spots, no, old = again, nil, true
		}
	}
	if no != nil {
		c.hold(p, "capacity", verdict{Reason: no.Reason, On: "capacity", Detail: "nothing of it is stopped before all of it has a place: " + no.Detail})
		return
	}
	reason := "all of it has a place without the suspects"
	if old {
		reason = "there is no room without the suspects, and they are well"
	}
	c.move(i, rec, autoheal.StepStopping, journal.RecoveryStep{Reason: reason, Spots: spots, OldNodes: old})
}

// placeAll finds and reserves a place for every rank of a gang.
func (c *Core) placeAll(rec *recovery, avoid []autoheal.NodeID) ([]autoheal.NodeID, *place.Refusal) {
	need := c.needs(rec, avoid)
	spots, no := c.fitAll(need)
	if no != nil {
		return nil, no
	}
	c.reserve(need, spots)
	nodes := make([]autoheal.NodeID, len(spots))
	for n := range spots {
		nodes[n] = spots[n].Node
	}
	return nodes, nil
}

// lookAtWords looks, after a listing, at every gang that a rank of has said something.
func (c *Core) lookAtWords() {
	seen := map[autoheal.GangID]bool{}
	for _, id := range slices.Sorted(maps.Keys(c.v.said.work)) {
		if w := c.v.cur[id]; w != nil && w.Gang != "" && !seen[w.Gang] {
			seen[w.Gang] = true
			c.detect(detect.Change{Workload: w})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.v.said.links)) {
		for _, s := range c.v.lostLinks(id) {
			c.detect(detect.Change{Signal: &s})
		}
	}
}

// describeCulprit says whom the ranks of a gang hold responsible.
func describeCulprit(p journal.CulpritTold) string {
	text := "nobody stands out"
	switch {
	case p.Node != "":
		text = fmt.Sprintf("%s is the suspect (%s, confidence %.2g)", p.Node, p.Role, p.Confidence)
	case len(p.Suspects) > 0:
		text = fmt.Sprintf("it is %s, which cannot be told", strings.ReplaceAll(joinNodes(p.Suspects), ", ", " or "))
	}
	if text += ": " + p.Because; len(p.Accusers) > 0 {
		text += "; victims on " + joinNodes(p.Accusers)
	}
	if len(p.Peers) > 0 {
		text += "; compared with " + joinNodes(p.Peers)
	}
	return text
}
