package heal

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// stepRecovery is the one place where a recovery's step changes.
func (c *Core) stepRecovery(i *incident, rec *recovery) {
	if rec.Step == autoheal.StepDone || i.Phase.Ended() {
		return
	}
	if why := c.unwanted(rec); why != "" {
		c.done(i, rec, autoheal.EndCancelled, why)
		return
	}
	if i.Kind == autoheal.ResourceExhaustion {
		c.stepExhausted(i, rec)
		return
	}
	switch rec.Step {
	case autoheal.StepWaiting:
		c.stepWaiting(i, rec)
	case autoheal.StepStopping:
		c.stepStopping(i, rec)
	case autoheal.StepStarting:
		c.stepStarting(i, rec)
	case autoheal.StepVerifying:
		c.stepVerifying(i, rec)
	}
}

// unwanted says why a recovery has nothing to do any more: its owner stopped or paused it, or it completed.
func (c *Core) unwanted(rec *recovery) string {
	completed := 0
	for _, id := range rec.Members {
		w := c.v.cur[id]
		switch {
		case w == nil && c.v.synced:
			return string(id) + " is no longer known"
		case w == nil:
			return ""
		case w.State == autoheal.Succeeded && rec.Step != autoheal.StepVerifying:
			completed++ // of a gang the others need it all the same
		case w.Desired == autoheal.DesiredCancelled, !rec.pausedByUs() && !detect.Wanted(w):
			return string(id) + " is no longer wanted: " + string(w.Desired)
		}
	}
	if completed == len(rec.Members) {
		return string(rec.Workload) + hasCompleted
	}
	return ""
}

// move takes a recovery to another step.
func (c *Core) move(i *incident, rec *recovery, to autoheal.StepName, p journal.RecoveryStep) bool {
	p.Workload, p.From, p.To = rec.Workload, rec.Step, to
	if p.Rung == "" {
		p.Rung = rec.Rung
	}
	if p.Try == 0 {
		p.Try = rec.Try
	}
	if !c.record(i.ID, p) {
		return false
	}
	c.dirty[key{inc: i.ID, w: rec.Workload}] = true
	if to != autoheal.StepStopping && to != autoheal.StepStarting {
		for _, id := range rec.Members {
			c.unreserve(id)
		}
	}
	if to == autoheal.StepWaiting { // what was up when its objective passed is down again
		c.dirty[key{inc: i.ID, w: rec.Workload, what: dutyPage}] = true
	}
	if to == autoheal.StepDone {
		c.wakeHedged(rec)
		c.dirty[key{inc: i.ID}] = true
	}
	return true
}

// done ends a recovery.
func (c *Core) done(i *incident, rec *recovery, end autoheal.RecoveryEnd, why string) {
	if rec.Step == autoheal.StepDone {
		return
	}
	c.move(i, rec, autoheal.StepDone, journal.RecoveryStep{End: end, Reason: why})
	c.stopsOver(i, rec)
	for _, w := range rec.Members {
		c.touchWorkload(w)
	}
	if end == autoheal.EndLeftAlone {
		for _, w := range rec.Members { // ranks of a gang may be on several silent nodes
			c.strand(c.v.cur[w])
			c.look(c.v.cur[w])
		}
	}
	if end == autoheal.EndLeftAlone || end == autoheal.EndRecovered {
		c.lookAgain(rec)
	}
}

// stepWaiting waits for the grace of this workload, or for the backoff before its next start.
func (c *Core) stepWaiting(i *incident, rec *recovery) {
	k := key{inc: i.ID, w: rec.Workload}
	if c.ailed(i, rec) && !c.readyToEnd(i, rec) || c.faultPassed(i, rec) {
		return
	}
	if rec.Rung == string(policy.StepPause) {
		c.pauseWorkload(i, rec)
		return
	}
	if rec.Rung == rungTrial {
		c.stepTrial(i, rec)
		return
	}
	if c.answers(i, i.nodeOf(rec)) && rec.Try == 1 && !c.anyEnded(rec) {
		c.done(i, rec, autoheal.EndLeftAlone, "the node answers again, and the workload runs on")
		return
	}
	at := rec.NotBefore
	if c.waitsForSilence(i, rec) {
		node := i.nodeOf(rec)
		if !c.isSilent(node) {
			c.await(k, time.Time{}, "node/"+string(node))
			return
		}
		at = c.silentBase(i, node).Add(rec.Grace)
	}
	if c.now.Before(at) {
		c.after(k, at)
		c.hedge(i, rec)
		return
	}
	if i.Kind == autoheal.NetworkPartition && !c.partitionReady(i, rec) {
		return
	}
	if !c.contained(i, rec) {
		return // its steps wake what waits for them
	}
	p := &proposal{i: i, rec: rec, k: k, verb: autoheal.Start, target: autoheal.WorkloadRef(rec.Workload), silence: c.waitsForSilence(i, rec)}
	if p.silence && c.doubted(p) {
		return
	}
	if i.Kind == autoheal.NetworkPartition {
		c.restartGang(i, rec, p)
		return
	}
	if spots, ok := c.roomFirst(p); ok {
		c.countEnded(rec)
		c.move(i, rec, autoheal.StepStopping, journal.RecoveryStep{Reason: waitedFor(i, rec), Spots: spots})
	}
}

// waitsForSilence reports whether a recovery rests on nothing but that its node does not answer.
func (c *Core) waitsForSilence(i *incident, rec *recovery) bool {
	return i.Kind == autoheal.NodeOffline && !i.Conclusive && rec.Try == 1 && !c.anyEnded(rec)
}

// anyEnded reports whether the end of one of the failed copies was observed.
func (c *Core) anyEnded(rec *recovery) bool {
	for n, id := range rec.Members {
		if w := c.v.attempt(id, rec.Attempts[n]); w != nil && w.State.Ended() {
			return true
		}
	}
	return false
}

// stepStopping waits until every old copy is gone, with a proof good enough for this workload (behaviour C1).
func (c *Core) stepStopping(i *incident, rec *recovery) {
	if c.answers(i, i.nodeOf(rec)) && !c.anyEnded(rec) {
		c.done(i, rec, autoheal.EndLeftAlone, "the node answers again, and the workload runs on")
		return
	}
	if c.eased(i, rec) {
		return
	}
	worst, ok := c.membersGone(i, rec)
	if !ok {
		return
	}
	c.record(i.ID, journal.Safe{Workload: rec.Workload, At: c.safeAt(rec, worst), Proof: worst})
	next := make([]int, len(rec.Members))
	for n, id := range rec.Members {
		next[n] = rec.Attempts[n] + 1
		if w := c.v.cur[id]; w != nil {
			next[n] = max(next[n], w.Attempt+1)
		}
	}
	if rec.Gang != "" { // one generation for all ranks
		for n := range next {
			next[n] = maxOf(next)
		}
	}
	c.move(i, rec, autoheal.StepStarting, journal.RecoveryStep{
		Reason: proofText(worst), Proof: worst, Attempts: next, Deadline: c.now.Add(c.pol.RungDeadline(rec.Objective)), MemoryMB: rec.MemoryMB,
	})
}

// membersGone says whether every member's old copies are gone and how the weakest of them is known to be. Those out of
// reach come first: none that runs is stopped for a gang that cannot go on.
func (c *Core) membersGone(i *incident, rec *recovery) (autoheal.Proof, bool) {
	worst := autoheal.ProofExitObserved
	for _, survivors := range []bool{false, true} {
		for n, id := range rec.Members {
			if c.survivor(id) != survivors {
				continue
			}
			if !c.startSettled(i, rec, id) {
				return "", false
			}
			proof, ok := c.copiesGone(i, rec, id, rec.Attempts[n])
			if !ok {
				return "", false
			}
			worst = weaker(worst, proof)
		}
	}
	return worst, true
}

func maxOf(ns []int) int {
	m := 0
	for _, n := range ns {
		m = max(m, n)
	}
	return m
}

// startSettled waits until it is known what became of the last start of a workload, before another number is used: a
// start whose outcome is unknown is asked for again, under its own ID, until it is seen or refused.
func (c *Core) startSettled(i *incident, rec *recovery, id autoheal.WorkloadID) bool {
	a, w := c.ix.starts[id], c.v.cur[id]
	if a == nil || w == nil || w.Attempt >= a.Params.Attempt {
		return true
	}
	switch a.Outcome {
	case autoheal.OutcomeNotSent:
		return true
	case autoheal.OutcomeUnknown:
		if _, gone := c.copiesGone(i, rec, id, w.Attempt); !gone {
			return false
		}
		p := &proposal{ // of the incident that asked for it, which this one may have taken over
			i: c.d.Incidents[a.Incident], k: key{inc: i.ID, w: rec.Workload}, verb: autoheal.Start, target: a.Target, step: policy.Step(rec.Rung),
			node: c.v.nodes[w.Node], reason: "whether it was started is not known", params: a.Params,
		}
		if state, _ := c.unknown(p, a); state == actFailed {
			c.giveUp(i, rec, fmt.Sprintf("whether attempt %d of %s was started is not known", a.Params.Attempt, id))
		}
	}
	return false
}

// stepStarting asks for the new attempts and waits until every one of them is ready.
func (c *Core) stepStarting(i *incident, rec *recovery) {
	k := key{inc: i.ID, w: rec.Workload}
	begun := c.begun(i, rec)
	if c.answers(i, i.nodeOf(rec)) && !begun && !c.anyEnded(rec) {
		c.done(i, rec, autoheal.EndLeftAlone, "the node answers again before another copy was started: the one there stays")
		return
	}
	ready, latest := 0, time.Time{}
	var node autoheal.NodeID
	for n, id := range rec.Members {
		w := c.v.cur[id]
		if w == nil || w.Attempt < rec.NewAttempts[n] {
			if !c.startMember(i, rec, n, begun) {
				return
			}
			continue
		}
		if w.State != autoheal.Pending {
			c.unreserve(id)
		} else if c.outdated(i, rec) {
			c.askAgain(i, rec)
			return
		}
		switch {
		case w.State == autoheal.Failed:
			c.diedAgain(i, rec, w)
			return
		case detect.Ailing(w):
			c.failing(i, rec, w, rec.Try+1)
			return
		case w.State == autoheal.Succeeded:
			ready++
		case w.State == autoheal.Running && w.Ready:
			ready++
			if at := readySince(w); at.After(latest) {
				latest = at
			}
			if n == 0 {
				node = w.Node
			}
		}
	}
	if ready == len(rec.Members) {
		if latest.IsZero() || latest.After(c.now) {
			latest = c.now
		}
		c.running(i, rec, latest, node)
		c.move(i, rec, autoheal.StepVerifying, journal.RecoveryStep{Reason: "every copy runs", Attempts: rec.NewAttempts, Node: node, Proof: rec.Proof})
		return
	}
	c.overdue(i, rec, k)
}

// running records when a recovery's new copies were ready, and how long that took since the last of them was asked for.
func (c *Core) running(i *incident, rec *recovery, at time.Time, node autoheal.NodeID) {
	p := journal.Running{Workload: rec.Workload, At: at, Attempt: maxOf(rec.NewAttempts), Node: node}
	if a, w := c.ix.starts[rec.Workload], c.v.cur[rec.Workload]; a != nil && w != nil && a.Params.Attempt == w.Attempt && at.After(a.IntentAt) {
		p.Like, p.Took = startedLike(w), at.Sub(a.IntentAt)
	}
	c.record(i.ID, p)
}

// begun reports whether a new copy of a recovery exists, or may exist because its start was sent.
func (c *Core) begun(i *incident, rec *recovery) bool {
	for n, id := range rec.Members {
		if w := c.v.cur[id]; w != nil && w.Attempt >= rec.NewAttempts[n] {
			return true
		}
		if a := c.ix.starts[id]; a != nil && a.Params.Attempt >= rec.NewAttempts[n] && a.Outcome != autoheal.OutcomeNotSent {
			return true
		}
	}
	return false
}

// startMember asks for one new attempt; false when the rest has to wait. What proved that the old copy is gone is asked
// for anew each time: a start may have been held for long, and its node may have answered in between.
func (c *Core) startMember(i *incident, rec *recovery, n int, begun bool) bool {
	id := rec.Members[n]
	w := c.v.cur[id]
	if w == nil {
		return false
	}
	p := &proposal{
		i: i, rec: rec, k: key{inc: i.ID, w: rec.Workload}, verb: autoheal.Start, step: policy.Step(rec.Rung),
		target: autoheal.Ref{Kind: autoheal.RefWorkload, ID: string(id), Generation: fmt.Sprint(rec.NewAttempts[n])},
		reason: rec.Reason, node: c.v.nodes[rec.From], silence: !begun && c.waitsForSilence(i, rec),
		params: autoheal.ActionParams{
			Attempt: rec.NewAttempts[n], MemoryMB: rec.MemoryMB, Avoid: c.avoid(i, rec), AvoidGPUs: i.GPUs, Proof: rec.Proof,
			// Nothing says that every older copy is gone: this is one more.
			Hedge: !rec.AtMostOnce && (rec.Proof == autoheal.ProofNone || len(c.v.old[id]) > 0),
		},
	}
	existing := c.existing(p)
	again := existing != nil && existing.Outcome != autoheal.OutcomeNotSent
	if (!again || existing.Outcome == autoheal.OutcomeUnknown) && !c.allGone(i, rec) {
		return false
	}
	if !again {
		p.params.Proof, _ = c.copiesGone(i, rec, id, rec.Attempts[n]) // of this member: what proves that another is gone says nothing of it
	} else {
		p.params.Proof = existing.Params.Proof // one that is sent again says what it said
	}
	if existing == nil {
		if n == 0 { // the whole gang must fit before its first rank is started
			p.need = c.needs(rec, p.params.Avoid)
		}
		if p.silence && !c.paced(p) {
			return false
		}
	}
	if n < len(rec.Spots) {
		p.params.Nominated = rec.Spots[n]
	}
	state, a := c.act(p)
	if state == actFailed {
		why := "the start was refused"
		if a != nil {
			why += ": " + a.Detail
		}
		c.giveUp(i, rec, why)
		return false
	}
	return state != actHeld
}

// allGone asks for every member that has no new attempt yet whether its old copies are gone: a rank does not start beside
// an older one of its gang, and a start of unknown outcome is not repeated beside a copy that turned out to run.
func (c *Core) allGone(i *incident, rec *recovery) bool {
	all := true
	for n, id := range rec.Members {
		if w := c.v.cur[id]; w == nil || w.Attempt < rec.NewAttempts[n] {
			_, gone := c.copiesGone(i, rec, id, rec.Attempts[n])
			all = all && gone
		}
	}
	return all
}

// avoid names where the new attempt must not go: the suspects, those that were silent until they are back in service.
func (c *Core) avoid(i *incident, rec *recovery) []autoheal.NodeID {
	out := slices.DeleteFunc(c.suspected(i, rec), func(n autoheal.NodeID) bool { return c.inService(n, key{inc: i.ID, w: rec.Workload}) })
	suspects := i.Suspects
	if rec.OldNodes {
		suspects = nil
	}
	for _, n := range slices.Concat(suspects, rec.Avoid) {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// inService reports whether a suspect may get work again: it answers, nothing is marked, and that for the time after which
// a mark of ours would be lifted (behaviour B4). It has k looked at again when that is a matter of time only.
func (c *Core) inService(id autoheal.NodeID, k key) bool {
	n := c.v.nodes[id]
	if n == nil || n.Link != autoheal.LinkUp || !n.Ready || !n.Schedulable {
		return false
	}
	at := n.LinkSince.Add(c.returnDwell(n.Ref().String()))
	if c.now.Before(at) {
		c.after(k, at)
	}
	return !c.now.Before(at)
}

func (c *Core) needs(rec *recovery, avoid []autoheal.NodeID) []place.Request {
	var out []place.Request
	for _, id := range rec.Members {
		w := c.v.cur[id]
		if w == nil {
			continue
		}
		r := place.RequestOf(w)
		r.Avoid = append(r.Avoid, avoid...)
		if rec.MemoryMB > 0 {
			r.Need.MemoryMB = rec.MemoryMB
		}
		out = append(out, r)
	}
	return out
}

// stepVerifying holds the new copies to their dwell (behaviour F1): up and ready all the time.
func (c *Core) stepVerifying(i *incident, rec *recovery) {
	completed := 0
	for n, id := range rec.Members {
		w := c.v.cur[id]
		if w == nil {
			return
		}
		if w.Attempt > rec.NewAttempts[n] {
			c.done(i, rec, autoheal.EndCancelled, fmt.Sprintf("attempt %d of %s %s", w.Attempt, id, madeByOther))
			return
		}
		if w.State == autoheal.Failed {
			c.diedAgain(i, rec, w)
			return
		}
		if detect.Ailing(w) {
			c.failing(i, rec, w, rec.Try+1)
			return
		}
		if w.State == autoheal.Succeeded {
			completed++
			continue
		}
		if node := c.v.nodes[w.Node]; w.State != autoheal.Running || !w.Ready || node == nil || node.Link != autoheal.LinkUp {
			return
		}
	}
	if completed == len(rec.Members) {
		c.done(i, rec, autoheal.EndRecovered, "it completed")
		return
	}
	if at := rec.RunningAt.Add(c.dwell(rec)); c.now.Before(at) {
		c.after(key{inc: i.ID, w: rec.Workload}, at)
		return
	}
	c.done(i, rec, autoheal.EndRecovered, "it stayed up for its dwell")
}

// dwell is how long a workload must stay up: after a crash at least twice as long as the run that crashed.
func (c *Core) dwell(rec *recovery) time.Duration {
	d := c.pol.Dwell(rec.Class)
	return min(max(d, 2*rec.Ran), max(d, 10*time.Minute))
}
