package heal

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// find takes in a detector's claim: it opens an incident, adds to the one that is open, or lets an open recovery see it.
func (c *Core) find(f autoheal.Finding) {
	open := c.d.Incidents[c.ix.open[f.Subject.String()]]
	if f.Withdrawn {
		c.touchSubject(f.Subject)
		return
	}
	switch f.Kind {
	case autoheal.NodeOffline:
		c.findNode(f, open)
	case autoheal.CrashLoop, autoheal.HealthCheck:
		c.findWorkload(f, open)
	case autoheal.GPUFailure:
		c.findGPU(f, open)
	case autoheal.NetworkPartition:
		c.findNetwork(f, open)
	case autoheal.NodeFault:
		c.findFault(f, open)
	default:
		c.findPart(f, open)
	}
}

func (c *Core) findNode(f autoheal.Finding, open *incident) {
	if c.rebooting(autoheal.NodeID(f.Subject.ID)) {
		return
	}
	if open != nil && precedes(f.Kind, open.Kind) {
		defer func(lower *incident) { c.symptom(lower, c.onNode(autoheal.NodeID(f.Subject.ID))) }(open)
		open = nil
	}
	if open == nil && c.dealtWith(f.Subject) {
		return
	}
	if open != nil {
		c.evidence(open, f)
		c.affected(open, autoheal.NodeID(f.Subject.ID)) // it may have answered in between, and have been left alone
		c.touchSubject(f.Subject)
		return
	}
	c.transient(f.Subject, "silence")
	c.openIncident(f)
}

// back notes that a node answers whose silence had been dealt with: the next one is new.
func (c *Core) back(n *autoheal.Node) {
	if _, gone := c.d.Gone[n.ID]; gone && n.Link == autoheal.LinkUp {
		c.record("", journal.NodeBack{Node: n.ID})
	}
}

// dealtWith reports whether a silent node needs no new incident: this very silence had one, and nothing that is wanted is
// on it but what that one left to a person. It is asked when a silent node is listed anew.
func (c *Core) dealtWith(r autoheal.Ref) bool {
	node := autoheal.NodeID(r.ID)
	id, gone := c.d.Gone[node]
	if !gone {
		return false
	}
	last := c.d.Incidents[id]
	for _, w := range c.v.WorkloadsOn(node) {
		lead := c.leadOf(w)
		if lead == nil || !detect.Wanted(w) {
			continue
		}
		if last == nil || last.Recoveries[lead.ID] == nil || last.Recoveries[lead.ID].End != autoheal.EndEscalated {
			return false
		}
	}
	return true
}

// strand takes care of a workload that is on a silent node whose incident does not know of it: it was placed there at the
// last moment, or was left alone by another incident.
func (c *Core) strand(w *autoheal.Workload) {
	if w == nil || w.State.Ended() || !detect.Wanted(w) || !c.v.synced {
		return
	}
	n := c.v.nodes[w.Node]
	if _, known := c.ix.recOf[w.ID]; known || n == nil || n.Link != autoheal.LinkSilent {
		return
	}
	if i := c.onNode(n.ID); i != nil {
		c.affected(i, n.ID)
		return
	}
	c.detect(detect.Change{Node: n})
}

// findWorkload handles the end of a wanted workload. One that is being recovered is seen by that recovery; one whose
// node has an open incident belongs to it (behaviour A5); a relapse reopens.
func (c *Core) findWorkload(f autoheal.Finding, open *incident) {
	lead := c.lead(f)
	if lead == nil || c.settled(f) || c.outOfSight(f) {
		return
	}
	if at, ok := c.ix.recOf[lead.ID]; ok {
		c.seenByRecovery(c.d.Incidents[at.inc], f, at.lead)
		return
	}
	node := c.onNode(failedNode(c, f))
	last := c.d.Incidents[c.ix.last[f.Subject.String()]]
	if open != nil && open.Kind == autoheal.ResourceExhaustion { // it had its place, and that incident ends: see stepExhausted
		open = nil
	}
	switch {
	case open != nil:
	case node != nil && node.Kind == autoheal.NodeOffline && f.Kind != autoheal.HealthCheck:
		open = node
	case c.openCommon(c.failedOf(f)) != nil:
		open = c.openCommon(c.failedOf(f))
	case last != nil && last.Kind == f.Kind && last.Phase == autoheal.Recovered && c.now.Sub(last.Ended) < c.pol.Verify.Relapse:
		open = last
		c.record(open.ID, journal.IncidentPhase{From: autoheal.Recovered, To: autoheal.Recovering, Reason: "relapse: " + f.Cause})
	default:
		if open = c.openIncident(f); open == nil {
			return
		}
	}
	if len(f.Evidence) > 0 && open.Opened != c.now {
		c.evidence(open, f)
	}
	l := lost{at: f.Since, rung: c.firstRung(open)}
	if open.Reopened > 0 && len(open.nodes()) == 0 {
		l.rung = string(policy.StepMigrate) // see relapse
	}
	if on := failedNode(c, f); slices.Contains(open.nodes(), on) {
		l.node = on
	}
	c.openRecovery(open, lead, l)
	c.seenByRecovery(open, autoheal.Finding{Affected: f.Affected}, lead.ID)
}

// seenByRecovery lets an open recovery know of the end of a copy that it had given up on, or begins with it.
func (c *Core) seenByRecovery(i *incident, f autoheal.Finding, lead autoheal.WorkloadID) {
	c.evidence(i, f)
	rec := i.Recoveries[lead]
	if rec == nil || rec.Step != autoheal.StepWaiting || i.Kind == autoheal.NetworkPartition { // the latter judges all its ranks together
		return
	}
	if i.Kind == autoheal.ResourceExhaustion { // see stepExhausted
		c.dirty[key{inc: i.ID, w: lead}] = true
		return
	}
	for _, id := range rec.Members {
		switch w := c.v.cur[id]; {
		case w == nil || w.Attempt <= rec.Decided:
		case w.State == autoheal.Failed && w.Exit != nil:
			c.crashed(i, rec, w, rec.Try)
			return
		case detect.Ailing(w) && i.Kind == autoheal.HealthCheck:
			c.failing(i, rec, w, rec.Try)
			return
		}
	}
}

// failedOf returns the attempt that a workload finding is about.
func (c *Core) failedOf(f autoheal.Finding) *autoheal.Workload {
	for _, s := range f.Evidence {
		if w := c.v.cur[autoheal.WorkloadID(s.Subject.ID)]; w != nil {
			return w
		}
	}
	return nil
}

// failedNode returns the node of the attempt that a workload finding is about.
func failedNode(c *Core, f autoheal.Finding) autoheal.NodeID {
	if w := c.failedOf(f); w != nil {
		return w.Node
	}
	return ""
}

// lead returns the workload under which a recovery is kept: itself, or the first rank of its gang.
func (c *Core) lead(f autoheal.Finding) *autoheal.Workload {
	if f.Subject.Kind == autoheal.RefGang {
		return c.leadOf(&autoheal.Workload{Gang: autoheal.GangID(f.Subject.ID)})
	}
	return c.v.cur[autoheal.WorkloadID(f.Subject.ID)]
}

func (c *Core) leadOf(w *autoheal.Workload) *autoheal.Workload {
	if w.Gang == "" {
		return w
	}
	if members := c.v.Gang(w.Gang); len(members) > 0 {
		return members[0]
	}
	return nil
}

// settled reports whether the ends that a finding tells of have been dealt with: escalated or dismissed.
func (c *Core) settled(f autoheal.Finding) bool {
	if last := c.d.Incidents[c.ix.last[f.Subject.String()]]; f.Kind == autoheal.HealthCheck && (last == nil || last.Phase != autoheal.Dismissed) {
		return false // what runs and fails is settled by a person only; once it is paused it is no failure
	}
	for _, r := range f.Affected {
		n, _ := strconv.Atoi(r.Generation)
		w := c.v.cur[autoheal.WorkloadID(r.ID)]
		if w != nil && (w.State == autoheal.Failed || detect.Ailing(w)) && n > c.d.Settled[w.ID] {
			return false
		}
	}
	return true
}

func (c *Core) openIncident(f autoheal.Finding) *incident {
	id := autoheal.IncidentID(fmt.Sprintf("inc-%06d", c.d.Counters.Incident+1))
	p := journal.IncidentOpened{
		Kind: f.Kind, Subject: f.Subject, Since: f.Since, Seen: c.now, Confidence: f.Confidence, Conclusive: f.Conclusive,
		Cause: f.Cause, Because: f.Because, Whole: c.v.whole(), Simulated: c.v.simulated, Action: f.Action,
		Repeats: c.ix.repeats(f.Kind, f.Subject, c.now),
	}
	p.Suspects, p.GPUs = suspects(f)
	p.Ladder = c.ladderFor(f)
	c.claimed(&p, f)
	if n := c.v.nodes[autoheal.NodeID(f.Subject.ID)]; f.Subject.Kind == autoheal.RefNode && n != nil {
		p.Domains = n.Domains
		p.Whole = max(p.Whole, 1)
	}
	if !c.record(id, p) {
		return nil
	}
	i := c.d.Incidents[id]
	c.evidence(i, f)
	if f.Kind == autoheal.NodeOffline {
		c.affected(i, autoheal.NodeID(f.Subject.ID))
	}
	c.dirty[key{inc: id}] = true
	return i
}

// affected opens a recovery for every wanted workload that holds a place on a node of the incident.
func (c *Core) affected(i *incident, id autoheal.NodeID) {
	n := c.v.nodes[id]
	if n == nil || n.Link != autoheal.LinkSilent {
		return
	}
	for _, w := range c.v.WorkloadsOn(n.ID) {
		lead := c.leadOf(w)
		if lead == nil || !detect.Wanted(w) {
			continue
		}
		if rec := i.Recoveries[lead.ID]; rec != nil && rec.Step != autoheal.StepDone {
			if !rec.made(w) {
				continue
			}
			// It went to another node of the same domain, or back to the suspect, and is lost with that.
			c.done(i, rec, autoheal.EndCancelled, "its new copy was lost with "+string(n.ID))
		}
		c.openRecovery(i, lead, lost{n.LastSeen, c.pol.Grace(w), c.firstRung(i), n.ID})
	}
}

// made reports whether w is a copy that a recovery has asked for, and not one that it replaces.
func (rec *recovery) made(w *autoheal.Workload) bool {
	n := slices.Index(rec.Members, w.ID)
	return (rec.Step == autoheal.StepStarting || rec.Step == autoheal.StepVerifying) && n >= 0 && n < len(rec.NewAttempts) && w.Attempt >= rec.NewAttempts[n]
}

// lost says when a workload was lost, how long to wait, with which rung to begin, and, when that is the cause, with which
// node.
type lost struct {
	at    time.Time
	grace time.Duration
	rung  string
	node  autoheal.NodeID
}

// openRecovery begins the recovery of a workload, or of its whole gang. One that another incident has open ends there
// when this cause comes first (behaviour A5).
func (c *Core) openRecovery(i *incident, lead *autoheal.Workload, l lost) {
	if at, ok := c.ix.recOf[lead.ID]; ok {
		other := c.d.Incidents[at.inc]
		if at.inc == i.ID || !c.takesOver(i, other, other.Recoveries[at.lead]) {
			return
		}
		c.done(other, other.Recoveries[at.lead], autoheal.EndCancelled, takenOverBy+string(i.ID))
		if other.Kind != i.Kind {
			c.record(other.ID, journal.IncidentMerged{Into: i.ID, Reason: "a symptom of"})
		}
		c.dirty[key{inc: other.ID}] = true
	}
	p := journal.RecoveryOpened{
		Workload: lead.ID, Gang: lead.Gang, From: lead.Node, Class: lead.Class, Objective: c.pol.Objective(lead), Grace: l.grace,
		FailedAt: l.at, AtMostOnce: lead.AtMostOnce, Rung: l.rung,
	}
	p.Deadline = l.at.Add(p.Objective)
	if l.node != "" {
		p.From = l.node
	}
	members := []*autoheal.Workload{lead}
	if lead.Gang != "" {
		members = c.v.Gang(lead.Gang)
	}
	for _, m := range members {
		p.Members = append(p.Members, m.ID)
		p.Attempts = append(p.Attempts, m.Attempt)
		p.AtMostOnce = p.AtMostOnce || m.AtMostOnce
		p.GPUs += m.Request.GPUs
	}
	if c.record(i.ID, p) {
		c.dirty[key{inc: i.ID, w: lead.ID}] = true
		c.dirty[key{inc: i.ID}] = true
		c.dirty[key{inc: i.ID, w: lead.ID, what: dutyPage}] = true
	}
}

// takesOver reports whether i goes on with what other has begun: its kind comes first (behaviour A5), or it is the same
// kind and the copy that other made is the one that i has lost.
func (c *Core) takesOver(i, other *incident, rec *recovery) bool {
	if i.Kind == other.Kind {
		return rec.Step == autoheal.StepStarting || rec.Step == autoheal.StepVerifying
	}
	return precedes(i.Kind, other.Kind)
}

// evidence adds a finding's signals.
func (c *Core) evidence(i *incident, f autoheal.Finding) {
	for n := range f.Evidence {
		if slices.ContainsFunc(i.Evidence, func(s autoheal.Signal) bool {
			return s.Rule == f.Evidence[n].Rule && s.Subject == f.Evidence[n].Subject && s.At.Equal(f.Evidence[n].At)
		}) {
			continue // listed anew
		}
		e := journal.EvidenceAdded{Count: 1}
		if len(i.Evidence) < keepEvidence {
			e.Signal = &f.Evidence[n]
		}
		c.record(i.ID, e)
	}
}

// transient counts a failure that may go away by itself; enough of them in a window are persistent (behaviour B3).
func (c *Core) transient(r autoheal.Ref, what string) {
	r.Generation = ""
	c.record("", journal.TransientSeen{Subject: r, What: what})
}

// persistent reports whether a node went silent so often that it is no longer transient.
func (c *Core) persistent(r autoheal.Ref) bool {
	o := c.pol.Transient.Silence
	n := 0
	for _, t := range c.d.Transients[autoheal.Ref{Kind: r.Kind, ID: r.ID}.String()+" silence"] {
		if c.now.Sub(t) <= o.Window {
			n++
		}
	}
	return o.Count > 0 && n >= o.Count
}
