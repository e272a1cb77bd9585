package heal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// This file renders the core's state in the shapes that everybody shows. Everything is a copy.

func (a *action) view() autoheal.ActionView {
	v := autoheal.ActionView{ID: a.ID, Verb: a.Verb, Target: a.Target, Actor: a.Actor, Reason: a.Reason, Params: a.Params, IntentAt: a.IntentAt}
	if !a.pending() {
		at, out := a.ResultAt, a.Outcome
		v.ResultAt, v.Outcome = &at, &out
		if a.ErrorKind != "" {
			v.Error = &autoheal.Error{Kind: a.ErrorKind, Detail: a.Detail}
		}
	}
	return v
}

func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (rec *recovery) view() autoheal.Recovery {
	v := autoheal.Recovery{
		Workload: rec.Workload, Gang: rec.Gang, Members: slices.Clone(rec.Members), Attempt: slices.Max(rec.Attempts), Class: rec.Class,
		AtMostOnce: rec.AtMostOnce, Step: rec.Step, End: rec.End, Rung: rec.Rung, Try: rec.Try, Proof: rec.Proof, Held: rec.Held,
		From: rec.From, To: rec.Node, Reason: rec.Reason, GPUs: rec.GPUs, EndedAt: timePtr(rec.EndedAt), GPUSecondsLost: rec.gpuSecondsLost(), ObjectiveSeconds: autoheal.Seconds(rec.Objective), FailedAt: rec.FailedAt, Deadline: rec.Deadline,
	}
	if len(rec.NewAttempts) > 0 {
		v.Attempt = slices.Max(rec.NewAttempts)
	}
	v.TimeToSafeSeconds = since(rec.FailedAt, rec.SafeAt)
	if rec.End == autoheal.EndRecovered || rec.End == autoheal.EndNone {
		v.TimeToRunningSeconds = since(rec.FailedAt, rec.RunningAt)
	}
	if rec.Overlap != nil {
		s := autoheal.Seconds(*rec.Overlap)
		v.OverlapSeconds = &s
	}
	if rec.End == autoheal.EndRecovered {
		ok := !rec.RunningAt.After(rec.Deadline)
		v.WithinObjective = &ok
	}
	if rec.End == autoheal.EndEscalated {
		no := false
		v.WithinObjective = &no
	}
	return v
}

func since(from, to time.Time) *autoheal.Seconds {
	if to.IsZero() {
		return nil
	}
	s := autoheal.Seconds(max(0, to.Sub(from)))
	return &s
}

// view renders an incident.
func (i *incident) view() autoheal.Incident {
	v := i.brief()
	v.Evidence, v.Timeline = slices.Clone(i.Evidence), slices.Clone(i.Timeline)
	for _, a := range i.Actions {
		v.Actions = append(v.Actions, a.view())
	}
	neverNil(&v.Evidence)
	neverNil(&v.Actions)
	neverNil(&v.Timeline)
	return v
}

// brief renders an incident without evidence, actions and timeline.
func (i *incident) brief() autoheal.Incident {
	v := autoheal.Incident{
		ID: i.ID, Kind: i.Kind, Phase: i.Phase, Subject: i.Subject, Domains: slices.Clone(i.Domains), Class: i.class(), Since: i.Since,
		OpenedAt: i.Opened, EndedAt: timePtr(i.Ended), Transient: i.transient(), Confidence: i.Confidence, Cause: i.Cause,
		Because: i.Because, Holds: slices.Clone(i.Holds), Repeats: i.Repeats, Held: i.worstHeld(), MergedInto: i.MergedInto, Simulated: i.Simulated, Recommendations: recommend(i),
	}
	for _, rec := range i.Past {
		v.Recoveries = append(v.Recoveries, rec.view())
	}
	for _, w := range i.Order {
		v.Recoveries = append(v.Recoveries, i.Recoveries[w].view())
	}
	neverNil(&v.Domains)
	neverNil(&v.Holds)
	neverNil(&v.Recoveries)
	neverNil(&v.Recommendations)
	v.Shadow = slices.Clone(i.Shadow)
	neverNil(&v.Shadow)
	return v
}

func neverNil[T any](s *[]T) {
	if *s == nil {
		*s = []T{}
	}
}

// class is the most urgent class affected.
func (i *incident) class() autoheal.Class {
	best := autoheal.Low
	for _, rec := range i.Recoveries {
		if slices.Index(autoheal.Classes(), rec.Class) < slices.Index(autoheal.Classes(), best) {
			best = rec.Class
		}
	}
	return best
}

// worstHeld is the hold with the nearest deadline of its recovery, the subject's own first.
func (i *incident) worstHeld() *autoheal.Held {
	if i.Held != nil {
		h := *i.Held
		return &h
	}
	var worst *recovery
	for _, w := range i.Order {
		if rec := i.Recoveries[w]; rec.Held != nil && (worst == nil || rec.Deadline.Before(worst.Deadline)) {
			worst = rec
		}
	}
	if worst == nil {
		return nil
	}
	h := *worst.Held
	return &h
}

// nodeStatus is the word that tools show for a node.
func (c *Core) nodeStatus(n *autoheal.Node) autoheal.NodeStatus {
	inc := c.d.Incidents[c.ix.open[autoheal.NodeRef(n.ID).String()]]
	switch {
	case n.Link != autoheal.LinkUp && (inc != nil && inc.Phase == autoheal.Recovering || c.now.Sub(n.LastSeen) >= c.pol.Node.OfflineGracePeriod):
		return autoheal.StatusOffline
	case n.Link != autoheal.LinkUp || !n.Ready:
		return autoheal.StatusNotReady
	case n.Draining:
		return autoheal.StatusDraining
	case !n.Schedulable:
		return autoheal.StatusCordoned
	}
	return autoheal.StatusReady
}

func (c *Core) nodeViews() []autoheal.NodeView {
	out := make([]autoheal.NodeView, 0, len(c.v.nodes))
	for _, id := range slices.Sorted(maps.Keys(c.v.nodes)) {
		n := c.v.nodes[id]
		v := autoheal.NodeView{Node: *n, Status: c.nodeStatus(n)}
		if inc, ok := c.ix.open[autoheal.NodeRef(id).String()]; ok {
			v.Incident = &inc
		}
		if o := c.d.Offenders[autoheal.NodeRef(id).String()]; o != nil {
			v.Offender = c.score(o)
		}
		out = append(out, v)
	}
	return out
}

func (c *Core) workloadViews() []autoheal.WorkloadView {
	out := make([]autoheal.WorkloadView, 0, len(c.v.cur))
	for _, id := range slices.Sorted(maps.Keys(c.v.cur)) {
		w := c.v.cur[id]
		v := autoheal.WorkloadView{Workload: *w, ObjectiveSeconds: autoheal.Seconds(c.pol.Objective(w))}
		lead := id
		if at, ok := c.ix.recOf[id]; ok {
			lead = at.lead
			v.Incident = &at.inc
			if rec := c.d.Incidents[at.inc].Recoveries[at.lead]; rec.Step == autoheal.StepWaiting && rec.NotBefore.After(c.now) {
				v.NextRestart = timePtr(rec.NotBefore)
			}
		}
		if r := c.d.Restarts[lead]; r != nil {
			v.CrashCount = r.Count
		}
		out = append(out, v)
	}
	return out
}

// incidentsOf returns the IDs of the incidents that match, newest first.
func (c *Core) incidentsOf(f autoheal.IncidentFilter) []autoheal.IncidentID {
	var ids []autoheal.IncidentID
	for id, i := range c.d.Incidents {
		if f.Open && i.Phase.Ended() || f.Kind != "" && f.Kind != i.Kind || !f.Since.IsZero() && i.Opened.Before(f.Since) || !i.concerns(f) {
			continue
		}
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b autoheal.IncidentID) int { return number(string(b), "inc-") - number(string(a), "inc-") })
	if f.Limit > 0 && len(ids) > f.Limit {
		ids = ids[:f.Limit]
	}
	return ids
}

// incidentViews renders those of ids that are still kept.
func (c *Core) incidentViews(ids []autoheal.IncidentID, brief bool) []autoheal.Incident {
	var out []autoheal.Incident
	for _, id := range ids {
		switch i := c.d.Incidents[id]; {
		case i == nil:
		case brief:
			out = append(out, i.brief())
		default:
			out = append(out, i.view())
		}
	}
	return out
}

func (i *incident) concerns(f autoheal.IncidentFilter) bool {
	if f.Node != "" && !slices.Contains(i.nodes(), f.Node) && !slices.ContainsFunc(i.Order, func(w autoheal.WorkloadID) bool { return i.Recoveries[w].From == f.Node }) {
		return false
	}
	if f.Workload == "" || i.Subject.ID == string(f.Workload) {
		return true
	}
	for _, rec := range i.Recoveries {
		if slices.Contains(rec.Members, f.Workload) {
			return true
		}
	}
	return false
}

func (c *Core) alertViews() []autoheal.Alert {
	out := make([]autoheal.Alert, 0, len(c.d.Alerts))
	for _, a := range c.d.Alerts {
		out = append(out, a.Alert)
	}
	slices.SortStableFunc(out, func(a, b autoheal.Alert) int { return cmp.Or(b.FiredAt.Compare(a.FiredAt), cmp.Compare(b.ID, a.ID)) })
	return out
}

func (c *Core) status() autoheal.HealerStatus {
	s := autoheal.HealerStatus{
		Cluster: c.life.Cluster, Version: c.life.Version, Epoch: c.life.Epoch, Enabled: c.pol.Enabled, Shadow: c.pol.Shadow, Synced: c.v.synced,
		Simulated: c.v.simulated, Incidents: len(c.ix.openIDs), Stalls: c.stalls, JournalSeq: c.d.Seq, StartedAt: c.startedAt, ConfigHash: c.life.ConfigHash,
		Vetoes: []string{}, Vetoed: []autoheal.Held{}, Maintenance: []autoheal.Held{}, Approvals: []autoheal.Approval{},
	}
	c.statusVetoes(&s)
	for _, scope := range slices.Sorted(maps.Keys(c.d.Pauses)) {
		p := c.d.Pauses[scope]
		h := autoheal.Held{Reason: autoheal.ReasonPaused, Detail: "by " + p.who(), Since: p.At, Until: p.Until, On: "person"}
		if !active(p.Until, c.now) {
			continue
		}
		if scope == "" {
			s.Paused = &h
			continue
		}
		h.Reason, h.Detail = autoheal.ReasonMaintenance, scope+", by "+p.who()
		s.Maintenance = append(s.Maintenance, h)
	}
	if st := c.d.Storm; st != nil && !st.Released {
		s.Observer = &autoheal.Held{Reason: autoheal.ReasonObserverSuspect, Detail: fmt.Sprintf("%d of %d nodes went silent (%s)", st.Silent, st.Of, st.Incident), Since: st.Since, On: "person"}
	}
	s.Stuck = c.stuck()
	for _, id := range slices.Sorted(maps.Keys(c.d.Approvals)) {
		a := c.d.Approvals[id]
		s.Approvals = append(s.Approvals, autoheal.Approval{
			ID: id, Incident: a.Incident, Verb: a.Verb, Target: a.Target, Reason: a.Reason, AskedAt: a.At, Expires: a.Expires, State: a.State, By: a.By,
		})
	}
	return s
}

// statusVetoes lists what is left alone, and on whose word.
func (c *Core) statusVetoes(s *autoheal.HealerStatus) {
	for _, ref := range slices.Sorted(maps.Keys(c.d.Vetoes)) {
		if v := c.d.Vetoes[ref]; active(v.Until, c.now) {
			s.Vetoes = append(s.Vetoes, ref)
			s.Vetoed = append(s.Vetoed, autoheal.Held{Reason: autoheal.ReasonVetoed, Detail: ref + ", by " + v.who(), Since: v.At, Until: v.Until, On: "person"})
		}
	}
	for _, v := range c.pol.Veto {
		s.Vetoes = append(s.Vetoes, v.String())
		s.Vetoed = append(s.Vetoed, autoheal.Held{Reason: autoheal.ReasonVetoed, Detail: v.String() + ", by the configuration", On: "config"})
	}
}

// stuck names what the healer gave up on, for as long as it stays that way.
func (c *Core) stuck() []autoheal.Stuck {
	out := []autoheal.Stuck{}
	for _, id := range slices.Sorted(maps.Keys(c.d.Settled)) {
		w := c.v.cur[id]
		if w == nil || w.State != autoheal.Failed || w.Attempt > c.d.Settled[id] || w.Desired == autoheal.DesiredCancelled || w.Desired == autoheal.DesiredStopped {
			continue
		}
		s := autoheal.Stuck{Workload: id, Name: w.Name, Next: "autoheal logs " + string(id) + ", then autoheal workloads resume " + string(id)}
		if at, ok := c.ix.lastOf[id]; ok {
			s.Incident = at.inc
			if i := c.d.Incidents[at.inc]; i != nil && i.Recoveries[at.lead] != nil {
				s.Why = i.Recoveries[at.lead].Reason
			}
		}
		out = append(out, s)
	}
	return out
}

// why says what would happen if the target died now.
func (c *Core) why(r autoheal.Ref) (autoheal.Why, error) {
	out := autoheal.Why{Target: r, Proof: autoheal.ProofNone, Gates: []autoheal.Held{}, Warnings: []string{}}
	if r.Kind == autoheal.RefNode {
		return c.whyNode(r, out)
	}
	w := c.v.cur[autoheal.WorkloadID(r.ID)]
	if w == nil {
		return out, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: "Workload not found: " + r.ID}
	}
	obj, grace := autoheal.Seconds(c.pol.Objective(w)), autoheal.Seconds(c.pol.Grace(w))
	out.Target, out.Class, out.ClassRule, out.AtMostOnce = w.Ref(), w.Class, w.ClassRule, w.AtMostOnce
	out.ObjectiveSeconds, out.GraceSeconds = &obj, &grace
	if no := whyNot(w); no != "" {
		out.Text = append(out.Text, no)
		return out, nil
	}
	node := c.v.nodes[w.Node]
	c.whyProof(w, node, &out)
	c.whyPlace(w, &out)
	out.Text = append(out.Text,
		fmt.Sprintf("%s is of class %s (by %s): it should be back within %s.", w.ID, w.Class, w.ClassRule, c.pol.Objective(w)),
		fmt.Sprintf("If its process ends, it is restarted after %s; at %d crashes it is paused.", c.pol.RestartWait(w, 1), c.pol.MaxRestarts(w)+1),
		fmt.Sprintf("If its node goes silent, it waits %s.", c.pol.Grace(w)))
	if c.pol.Node.Hedge.Enabled && hedgeableClass(w) {
		out.Text = append(out.Text, fmt.Sprintf("Before that, %s after the last contact or as soon as every other node had the time to miss a probe, it has an extra copy elsewhere, if there is room.", c.pol.Node.Hedge.After))
	}
	c.givesWay(w, &out)
	out.Warnings = append(out.Warnings, c.pol.SubmitWarnings(w)...)
	if no := c.tooLarge(w); no != "" {
		out.Warnings = append(out.Warnings, no)
	}
	if usual, known := c.usualStart(w); known {
		out.Warnings = append(out.Warnings, c.pol.StartWarnings(w, usual)...)
	}
	out.Text = append(out.Text, out.Warnings...)
	if node != nil {
		out.Gates = c.askAll(&proposal{verb: autoheal.Start, target: autoheal.WorkloadRef(w.ID), node: node, step: policy.StepMigrate, k: key{}})
	}
	return out, nil
}

// whyNot says why nothing at all would be done for a workload, empty when something would.
func whyNot(w *autoheal.Workload) string {
	switch {
	case w.Desired == autoheal.DesiredCancelled:
		return "It was stopped for good: it is not started again."
	case w.State == autoheal.Succeeded:
		return "It has done its work and ended: there is nothing to heal."
	case w.Paused != nil:
		return fmt.Sprintf("It is paused by %s: no new attempt is started, whatever happens to it, until autoheal workloads resume %s.", w.Paused.By, w.ID)
	case w.Options.Heal == autoheal.HealOff:
		return "Its owner switched healing off for it: it is left alone."
	}
	return ""
}

func (c *Core) whyProof(w *autoheal.Workload, node *autoheal.Node, out *autoheal.Why) {
	wait, trusted := c.pol.FenceWait()
	switch {
	case !w.AtMostOnce:
		zero := autoheal.Seconds(0)
		out.FenceSeconds = &zero
		out.Text = append(out.Text, "It may run twice: no proof is needed that the old copy is gone.")
	case !live(w):
		zero := autoheal.Seconds(0)
		out.FenceSeconds, out.Proof = &zero, autoheal.ProofExitObserved
		out.Text = append(out.Text, "Nothing of it runs now: a new copy needs no other proof.")
	case trusted && node != nil && node.SelfStop:
		s := autoheal.Seconds(wait)
		out.FenceSeconds, out.Proof = &s, autoheal.ProofSelfStop
		out.Text = append(out.Text, fmt.Sprintf("It must not run twice: %s after the last contact its shim is known to have stopped it.", wait))
	default:
		out.Text = append(out.Text, "It must not run twice and nothing here proves a stop by itself: a person has to confirm that the node is off (autoheal fence confirm).")
	}
}

func (c *Core) whyPlace(w *autoheal.Workload, out *autoheal.Why) {
	req := place.RequestOf(w)
	if w.Node != "" {
		req.Avoid = append(req.Avoid, w.Node)
	}
	spot, no := c.v.index.Fit(req)
	if no != nil {
		out.Placement = no.Detail
		out.Text = append(out.Text, "It could not be placed elsewhere now: "+no.Detail)
		c.whyRoom(w, req, out)
		return
	}
	out.GoesTo, out.Placement = spot.Node, "fits on "+string(spot.Node)
	out.Text = append(out.Text, fmt.Sprintf("It would go to %s.", spot.Node))
}

func (c *Core) whyNode(r autoheal.Ref, out autoheal.Why) (autoheal.Why, error) {
	n := c.v.nodes[autoheal.NodeID(r.ID)]
	if n == nil {
		return out, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: "Node not found: " + r.ID}
	}
	grace := autoheal.Seconds(c.pol.Node.OfflineGracePeriod)
	out.Target, out.GraceSeconds = n.Ref(), &grace
	ws := slices.DeleteFunc(c.v.WorkloadsOn(n.ID), func(w *autoheal.Workload) bool { return !detect.Wanted(w) })
	out.Text = append(out.Text, fmt.Sprintf("If %s goes silent it is suspected at once, and after %s it is cordoned%s.", n.ID, c.pol.Node.OfflineGracePeriod, thenMoved(len(ws))))
	var stuck []string
	for _, w := range ws {
		req := place.RequestOf(w)
		req.Avoid = append(req.Avoid, n.ID)
		if _, no := c.v.index.Fit(req); no != nil {
			stuck = append(stuck, string(w.ID))
		}
	}
	out.Placement = fmt.Sprintf("%d of %d workloads fit elsewhere now", len(ws)-len(stuck), len(ws))
	if len(stuck) > 0 {
		out.Text = append(out.Text, "No room elsewhere for: "+strings.Join(stuck, ", ")+".")
	}
	out.Gates = c.askAll(&proposal{verb: autoheal.Cordon, target: n.Ref(), node: n, step: policy.StepCordon, budget: budgetContain, k: key{}})
	return out, nil
}

// thenMoved says what becomes of the n workloads of a node that is cordoned.
func thenMoved(n int) string {
	switch n {
	case 0:
		return "; no workload that would be moved is on it"
	case 1:
		return " and its 1 workload is moved"
	}
	return fmt.Sprintf(" and its %d workloads are moved", n)
}

// plan says what the open incidents wait for and what would be done next.
func (c *Core) plan(_ autoheal.Command, reply *autoheal.Reply) {
	reply.Plan = []autoheal.Planned{}
	for _, id := range slices.Sorted(maps.Keys(c.ix.openIDs)) {
		i := c.d.Incidents[id]
		for _, node := range i.nodes() {
			if n := c.v.nodes[node]; c.pol.Node.AutoCordon && n != nil && n.MarkedBy(autoheal.ByAutoheal) == nil {
				p := &proposal{i: i, verb: autoheal.Cordon, target: n.Ref(), node: n, step: policy.StepCordon, silence: true, budget: budgetContain}
				reply.Plan = append(reply.Plan, autoheal.Planned{Incident: id, Verb: "cordon", Target: n.Ref(), Text: i.Cause, Held: c.askAll(p)})
			}
		}
		for _, w := range i.Order {
			rec := i.Recoveries[w]
			if rec.Step == autoheal.StepDone {
				continue
			}
			room, wants := c.planRoomFor(i, rec)
			if wants {
				reply.Plan = append(reply.Plan, room)
			}
			if !wants || i.Kind != autoheal.ResourceExhaustion {
				reply.Plan = append(reply.Plan, c.planRecovery(i, rec))
			}
		}
	}
	reply.Message = fmt.Sprintf("%d steps would be taken", len(reply.Plan))
}

func (c *Core) planRecovery(i *incident, rec *recovery) autoheal.Planned {
	p := &proposal{
		i: i, rec: rec, verb: autoheal.Start, target: autoheal.WorkloadRef(rec.Workload), step: policy.Step(rec.Rung),
		node: c.v.nodes[rec.From], silence: c.waitsForSilence(i, rec), need: c.needs(rec, c.avoid(i, rec)),
	}
	return autoheal.Planned{
		Incident: i.ID, Verb: rec.Rung, Target: autoheal.WorkloadRef(rec.Workload),
		Text: fmt.Sprintf("%s, step %s: %s", rec.Class, rec.Step, cmp.Or(rec.Reason, i.Cause)), Held: c.askAll(p),
	}
}
