package heal

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// When crash loops have a cause in common (behaviour E4): so many of those that share it, within a window. A share of very
// few says nothing.
const (
	commonWindow = 5 * time.Minute
	commonMost   = 5
	commonShare  = 0.2
	commonLeast  = 3
)

// A cause that lasts is tried less often, so that what nobody mends for days does not fill the journal.
const (
	commonPatience = time.Hour
	commonSeldom   = 30 * time.Minute
)

// likeness counts and finds workloads by what they share.
type likeness struct {
	alike    map[autoheal.RefKind]map[string]int           // that have a thing in common
	replicas map[autoheal.WorkloadID][]autoheal.WorkloadID // by what was scaled, in order
}

func newLikeness() likeness {
	return likeness{alike: map[autoheal.RefKind]map[string]int{}, replicas: map[autoheal.WorkloadID][]autoheal.WorkloadID{}}
}

// placeReplica follows of what a workload is a replica. Either may be nil.
func (l *likeness) placeReplica(before, w *autoheal.Workload) {
	var was, is autoheal.WorkloadID
	if before != nil {
		was = before.Parent
	}
	if w != nil {
		is = w.Parent
	}
	if was == is {
		return
	}
	if was != "" {
		remove(l.replicas, was, before.ID)
	}
	if is != "" {
		insert(l.replicas, is, w.ID)
	}
}

// isCommon reports whether an incident is about what workloads have in common, and not about one of them.
func (i *incident) isCommon() bool {
	switch i.Subject.Kind {
	case autoheal.RefSpec, autoheal.RefImage, autoheal.RefDependency:
		return true
	}
	return false
}

// givesUpToCommon reports whether what crashes in an incident is taken over by that of a cause in common: of a crash, and of
// a node that is gone once the new copy has crashed.
func (i *incident) givesUpToCommon() bool {
	return (i.Kind == autoheal.CrashLoop || i.Kind == autoheal.NodeOffline) && !i.isCommon()
}

// sharedBy returns what a workload may have in common with others, the narrowest first.
func sharedBy(w *autoheal.Workload) []autoheal.Ref {
	var out []autoheal.Ref
	if w.SpecHash != "" {
		out = append(out, autoheal.Ref{Kind: autoheal.RefSpec, ID: w.SpecHash})
	}
	if w.Image != "" && w.Image != autoheal.ImageHost {
		out = append(out, autoheal.Ref{Kind: autoheal.RefImage, ID: w.Image})
	}
	for _, d := range autoheal.DependenciesOf(w.Labels) {
		out = append(out, autoheal.Ref{Kind: autoheal.RefDependency, ID: d})
	}
	return out
}

// countAlike keeps how many workloads have a thing in common: those that ended for good are left out.
func (l *likeness) countAlike(before, w *autoheal.Workload) {
	counted := func(w *autoheal.Workload) bool {
		return w != nil && w.State != autoheal.Succeeded && w.State != autoheal.Cancelled
	}
	if before != nil && w != nil && counted(before) == counted(w) && before.Image == w.Image && before.SpecHash == w.SpecHash &&
		before.Labels[autoheal.LabelDependsOn] == w.Labels[autoheal.LabelDependsOn] {
		return
	}
	add := func(w *autoheal.Workload, d int) {
		if !counted(w) {
			return
		}
		for _, r := range sharedBy(w) {
			if l.alike[r.Kind] == nil {
				l.alike[r.Kind] = map[string]int{}
			}
			if l.alike[r.Kind][r.ID] += d; l.alike[r.Kind][r.ID] == 0 {
				delete(l.alike[r.Kind], r.ID)
			}
		}
	}
	add(before, -1)
	add(w, +1)
}

// ownCrash reports whether the end of an attempt may tell of a cause in common: its own fault, and not for want of memory,
// which has a rung of its own (behaviour E5).
func ownCrash(w *autoheal.Workload) bool {
	return w != nil && w.Exit.OwnFault() && w.Exit.OOM == autoheal.OOMNone && !w.Exit.MachineFault()
}

// openCommon returns the open incident of what a workload that crashed has in common with others, or nil.
func (c *Core) openCommon(w *autoheal.Workload) *incident {
	if !ownCrash(w) {
		return nil
	}
	for _, r := range sharedBy(w) {
		if i := c.d.Incidents[c.ix.open[r.String()]]; i != nil {
			return i
		}
	}
	return nil
}

// common takes in that a workload crashed and returns the incident of the cause that it shares, which opens when this one
// makes it too many (behaviour E4). A crash counts here when it is not the first, or the workload never came up.
func (c *Core) common(w *autoheal.Workload, lead autoheal.WorkloadID) *incident {
	if i := c.openCommon(w); i != nil || !ownCrash(w) {
		return i
	}
	r := c.d.Restarts[lead]
	if ran(w) >= c.pol.Dwell(w.Class) && (r == nil || r.Count == 0) {
		return nil
	}
	shared := sharedBy(w)
	for _, s := range shared {
		c.noteLoop(s, lead, c.now)
	}
	for _, s := range shared {
		n, all := len(c.loops[s]), c.v.alike[s.Kind][s.ID]
		if n >= commonMost || n >= commonLeast && float64(n) >= commonShare*float64(all) {
			return c.beginCommon(s, w, all)
		}
	}
	return nil
}

// noteLoop notes that a workload is in a crash loop, under what it shares with others, and forgets what is too old.
func (c *Core) noteLoop(s autoheal.Ref, lead autoheal.WorkloadID, at time.Time) {
	if c.loops[s] == nil {
		c.loops[s] = map[autoheal.WorkloadID]time.Time{}
	}
	c.loops[s][lead] = at
	maps.DeleteFunc(c.loops[s], func(_ autoheal.WorkloadID, at time.Time) bool { return c.now.Sub(at) > commonWindow })
}

// rememberLoops notes, after a listing, who is in a crash loop by the counters of the life before.
func (c *Core) rememberLoops() {
	for _, id := range slices.Sorted(maps.Keys(c.d.Restarts)) {
		r, w := c.d.Restarts[id], c.v.cur[id]
		if w == nil || r.Count < 2 || c.now.Sub(r.At) > commonWindow {
			continue
		}
		for _, s := range sharedBy(w) {
			c.noteLoop(s, id, r.At)
		}
	}
}

// beginCommon opens the one incident of a cause that workloads have in common. It takes the place of the incidents of each.
func (c *Core) beginCommon(s autoheal.Ref, w *autoheal.Workload, all int) *incident {
	leads := slices.Sorted(maps.Keys(c.loops[s]))
	for _, x := range sharedBy(w) {
		delete(c.loops, x)
	}
	i := c.openIncident(autoheal.Finding{
		Kind: autoheal.CrashLoop, Subject: s, Conclusive: true, Confidence: 0.8, Since: c.firstOf(leads, w.EndedAt), Because: "crash_loop.common_" + string(s.Kind),
		Cause: fmt.Sprintf("%d of the %d workloads %s went into a crash loop within %s: %s", len(leads), all, inCommon(s), policy.FormatDuration(commonWindow), detect.DescribeExit(w)),
	})
	if i == nil {
		return nil
	}
	for _, lead := range leads {
		at, ok := c.ix.recOf[lead]
		if part := c.d.Incidents[at.inc]; ok && part.givesUpToCommon() && part.Recoveries[at.lead].Step == autoheal.StepWaiting {
			if last := c.lastCrash(part.Recoveries[at.lead]); last != nil {
				c.join(i, part, part.Recoveries[at.lead], last)
			}
		}
	}
	return i
}

// firstOf returns when the first of the incidents of some workloads began.
func (c *Core) firstOf(leads []autoheal.WorkloadID, first time.Time) time.Time {
	for _, lead := range leads {
		if at, ok := c.ix.recOf[lead]; ok && c.d.Incidents[at.inc].Since.Before(first) {
			first = c.d.Incidents[at.inc].Since
		}
	}
	return first
}

// inCommon says what workloads share.
func inCommon(s autoheal.Ref) string {
	switch s.Kind {
	case autoheal.RefSpec:
		return "that run the same program (specification " + s.ID + ")"
	case autoheal.RefDependency:
		return "that depend on " + s.ID
	}
	return "of the image " + s.ID
}

// lastCrash returns the copy of a recovery that crashed and is not replaced yet.
func (c *Core) lastCrash(rec *recovery) *autoheal.Workload {
	for _, id := range rec.Members {
		if w := c.v.cur[id]; w != nil && w.State == autoheal.Failed && ownCrash(w) {
			return w
		}
	}
	return nil
}

// join makes the recovery of one workload part of the incident of a cause in common; the counters stand still from here.
func (c *Core) join(common, part *incident, rec *recovery, w *autoheal.Workload) {
	lead, at := c.v.cur[rec.Workload], rec.FailedAt
	if lead == nil {
		return
	}
	c.evidence(common, autoheal.Finding{Evidence: part.Evidence})
	c.done(part, rec, autoheal.EndCancelled, "taken over by "+string(common.ID))
	if part.Open == 0 && part.Kind == autoheal.CrashLoop {
		c.record(part.ID, journal.IncidentMerged{Into: common.ID, Reason: "part of"})
		c.phase(part, autoheal.Cleared, "it has its cause in common with others: "+common.Subject.String())
	}
	c.openRecovery(common, lead, lost{at: at, rung: string(policy.StepRestart)})
	if n := common.Recoveries[lead.ID]; n != nil && n.Step == autoheal.StepWaiting {
		c.restartInCommon(common, n, w, 1)
	}
}

// crashedInCommon takes in a crash whose cause others share, and reports whether there is one.
func (c *Core) crashedInCommon(i *incident, rec *recovery, w *autoheal.Workload, try int) bool {
	common := c.common(w, rec.Workload)
	if common == nil && i.isCommon() && ownCrash(w) {
		common = i // a rank whose own image is another one: its gang is in it all the same
	}
	switch {
	case common == nil:
		return false
	case rec.Step == autoheal.StepDone: // it made the cause known, and is part of it already
	case common != i && i.givesUpToCommon():
		c.join(common, i, rec, w)
	default:
		c.restartInCommon(i, rec, w, try)
	}
	return true
}

// restartInCommon decides on a crash with a cause that others share: it counts against nobody and pauses nothing; who had
// its restart already is tried again at the longest backoff.
func (c *Core) restartInCommon(i *incident, rec *recovery, w *autoheal.Workload, try int) {
	wait, r := c.pol.RestartWait(w, 1), c.d.Restarts[rec.Workload]
	switch again := try > 1 || r != nil && r.Count > 1; {
	case again && w.Class != autoheal.Critical && c.now.Sub(rec.Opened) > commonPatience:
		wait = max(commonSeldom, c.pol.LongestRestartWait())
	case again:
		wait = c.pol.LongestRestartWait()
	}
	next := journal.RecoveryStep{
		Try: try, Rung: string(policy.StepRestart), Reason: detect.DescribeExit(w), Ran: ran(w), Attempts: c.lastAttempts(rec),
		NotBefore: w.EndedAt.Add(time.Duration(float64(wait) * spread(fmt.Sprintf("%s/%d", w.ID, w.Attempt)))),
	}
	if next.NotBefore.Before(c.now) {
		next.NotBefore = c.now
	}
	c.move(i, rec, autoheal.StepWaiting, next)
}

// alertCommon is the one alert about a cause in common.
func (c *Core) alertCommon(i *incident) {
	c.alert(i, alertSpec{
		name: "common-cause", severity: autoheal.SeverityCritical, dedup: string(i.ID) + " failure",
		text: fmt.Sprintf("%s. What they have in common is the likely cause: undo its last change, or mend it. Nothing is counted against them and none is paused; each is tried again every %s. See: autoheal incidents show %s",
			i.Cause, policy.FormatDuration(c.pol.LongestRestartWait()), i.ID),
	})
}

// pageCommon pages once for each class of an incident with a cause in common: a page for each workload would hide it.
func (c *Core) pageCommon(i *incident, rec *recovery) {
	late := 0
	for _, w := range i.Order {
		if r := i.Recoveries[w]; r.Class == rec.Class && r.Step != autoheal.StepDone {
			late++
		}
	}
	c.alert(i, alertSpec{
		name: "objective-missed", severity: autoheal.SeverityCritical, dedup: fmt.Sprintf("%s late %s", i.ID, rec.Class),
		text: fmt.Sprintf("%s of class %s not back after the objective of %s: %s. See: autoheal incidents show %s", times(late, "workload", "workloads"), rec.Class, rec.Objective, i.Cause, i.ID),
	})
}
