package heal

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// What ends a storm's hold: a person (the silent nodes are then acted upon), contact that is back, or the insight that a
// domain is out.
const (
	stormReleased = "released"
	stormContact  = "contact"
	stormDomain   = "domain"
)

// legalPhase and legalStep are the transition tables; whatever is missing is illegal.
var legalPhase = map[autoheal.Phase][]autoheal.Phase{
	autoheal.Suspected:  {autoheal.Cleared, autoheal.Recovering, autoheal.Dismissed},
	autoheal.Recovering: {autoheal.Recovered, autoheal.Escalated, autoheal.Dismissed, autoheal.Cleared},
	autoheal.Recovered:  {autoheal.Recovering},
}

var legalStep = map[autoheal.StepName][]autoheal.StepName{
	autoheal.StepWaiting:   {autoheal.StepStopping, autoheal.StepDone, autoheal.StepWaiting},
	autoheal.StepStopping:  {autoheal.StepStarting, autoheal.StepDone, autoheal.StepWaiting},
	autoheal.StepStarting:  {autoheal.StepVerifying, autoheal.StepWaiting, autoheal.StepDone},
	autoheal.StepVerifying: {autoheal.StepWaiting, autoheal.StepDone},
}

func (d *durable) foldIncident(r journal.Record) error {
	if p, ok := r.Data.(journal.IncidentOpened); ok {
		return d.openIncident(p, r)
	}
	i := d.Incidents[r.Incident]
	if i == nil {
		return fmt.Errorf("incident %q is not known", r.Incident)
	}
	switch p := r.Data.(type) {
	case journal.EvidenceAdded:
		i.addEvidence(p)
	case journal.IncidentMerged:
		i.MergedInto = p.Into
	case journal.IncidentPhase:
		return d.setPhase(i, p, r.At)
	case journal.StepDone:
		i.stepOver(p, r.At)
	case journal.RecoveryOpened:
		return i.openRecovery(p, r.At)
	case journal.CulpritTold, journal.PairChecked, journal.Isolated:
		d.foldNetwork(i, r)
	case journal.Shadowed:
		i.Shadow = append(i.Shadow, p.Action)
	case journal.PostMortem:
		i.SHA256 = p.SHA256
	case journal.Held:
		i.holdBegins(p, r.At)
		h := &autoheal.Held{Reason: p.Reason, Detail: p.Detail, Since: r.At, Until: p.Until, On: p.On}
		if rec := i.heldRecovery(p.Target, p.Verb); rec != nil {
			rec.Held = h
			return nil
		}
		i.Held = h
	case journal.Released:
		i.holdEnds(p.Target, r.At)
		if rec := i.heldRecovery(p.Target, p.Verb); rec != nil {
			rec.Held = nil
			return nil
		}
		i.Held = nil
	default:
		return d.foldRecovery(i, r)
	}
	return nil
}

// heldRecovery returns the recovery that a hold is about, nil if it is about the incident: a plan to make room is.
func (i *incident) heldRecovery(target autoheal.Ref, verb string) *recovery {
	if target.Kind != autoheal.RefWorkload || verb == string(verbMakeRoom) {
		return nil
	}
	return i.Recoveries[autoheal.WorkloadID(target.ID)]
}

func (d *durable) openIncident(p journal.IncidentOpened, r journal.Record) error {
	if d.Incidents[r.Incident] != nil {
		return fmt.Errorf("incident %s is open already", r.Incident)
	}
	d.Counters.Incident = max(d.Counters.Incident, number(string(r.Incident), "inc-"))
	d.Incidents[r.Incident] = &incident{
		ID: r.Incident, Kind: p.Kind, Phase: autoheal.Suspected, Subject: p.Subject, Domains: p.Domains, Members: p.Members, Since: p.Since, Opened: r.At,
		Suspects: p.Suspects, GPUs: p.GPUs, Node: p.Node, Parts: p.Parts, Action: p.Action, Ladder: p.Ladder,
		Confidence: p.Confidence, Conclusive: p.Conclusive, Cause: p.Cause, Because: p.Because, Simulated: p.Simulated, Whole: p.Whole,
		Repeats: p.Repeats,
		Steps:   map[string]journal.StepDone{}, Recoveries: map[autoheal.WorkloadID]*recovery{},
	}
	return nil
}

func (i *incident) stepOver(p journal.StepDone, at time.Time) {
	i.Steps[p.Step] = p
	if i.StepsAt == nil {
		i.StepsAt = map[string]time.Time{}
	}
	i.StepsAt[p.Step] = at
}

func (i *incident) addEvidence(p journal.EvidenceAdded) {
	i.EvidenceN += p.Count
	if p.Signal != nil && len(i.Evidence) < keepEvidence {
		i.Evidence = append(i.Evidence, *p.Signal)
	}
	if p.Cause != "" {
		i.Cause = p.Cause
	}
}

func (d *durable) setPhase(i *incident, p journal.IncidentPhase, at time.Time) error {
	if i.Phase != p.From || !slices.Contains(legalPhase[p.From], p.To) {
		return fmt.Errorf("incident %s: illegal transition %s -> %s (it is %s)", i.ID, p.From, p.To, i.Phase)
	}
	if i.Phase == autoheal.Recovered {
		i.reopen()
	}
	i.Phase, i.Persistent = p.To, p.Persistent
	if p.To == autoheal.Recovered && i.Kind == autoheal.NodeOffline && len(i.Order) > 0 {
		d.countRecovery(i, at)
	}
	if p.Silent {
		d.Gone[autoheal.NodeID(i.Subject.ID)] = i.ID
	}
	for _, n := range p.Gone {
		d.Gone[n] = i.ID
	}
	if p.To.Ended() {
		i.Ended, i.Held = at, nil
		i.holdEnds(autoheal.Ref{}, at)
		for _, a := range d.find.alertsOf[i.ID] {
			if a.Active {
				// What needs a person stays; that something was being recovered does not.
				a.Active, a.ResolvedAt = p.To == autoheal.Escalated && a.Severity == autoheal.SeverityCritical, nil
				if !a.Active {
					a.ResolvedAt = &at
				}
			}
		}
	}
	return nil
}

// countRecovery notes that the work of a node was recovered, or of each node of a domain (behaviour D5).
func (d *durable) countRecovery(i *incident, at time.Time) {
	for range i.nodes() {
		d.CooldownFrom = append(d.CooldownFrom, at)
	}
	for len(d.CooldownFrom) > 0 && at.Sub(d.CooldownFrom[0]) > time.Hour {
		d.CooldownFrom = d.CooldownFrom[1:]
	}
}

// reopen makes room for the recoveries of a relapse.
func (i *incident) reopen() {
	i.Ended, i.SHA256 = time.Time{}, ""
	i.Reopened++
	for _, w := range i.Order {
		i.Past = append(i.Past, i.Recoveries[w])
	}
	i.Order, i.Recoveries = nil, map[autoheal.WorkloadID]*recovery{}
	i.Steps, i.StepsAt = map[string]journal.StepDone{}, nil
}

func (i *incident) openRecovery(p journal.RecoveryOpened, at time.Time) error {
	if old := i.Recoveries[p.Workload]; old != nil {
		if old.Step != autoheal.StepDone {
			return fmt.Errorf("incident %s: %s is being recovered already", i.ID, p.Workload)
		}
		i.Past = append(i.Past, old)
		i.Order = slices.DeleteFunc(i.Order, func(w autoheal.WorkloadID) bool { return w == p.Workload })
	}
	i.Recoveries[p.Workload] = &recovery{
		RecoveryOpened: p, Step: autoheal.StepWaiting, Rung: p.Rung, Try: 1, Proof: autoheal.ProofNone, Opened: at, StepAt: at,
		NotBefore: p.FailedAt.Add(p.Grace),
	}
	i.Order = append(i.Order, p.Workload)
	i.Open++
	return nil
}

func (d *durable) foldRecovery(i *incident, r journal.Record) error {
	switch p := r.Data.(type) {
	case journal.RecoveryStep:
		return d.stepTo(i, p, r.At)
	case journal.Safe:
		if rec := i.Recoveries[p.Workload]; rec != nil {
			rec.SafeAt, rec.Proof = p.At, p.Proof
		}
	case journal.Running:
		if rec := i.Recoveries[p.Workload]; rec != nil {
			rec.RunningAt, rec.Node = p.At, p.Node
		}
		d.countStart(p)
	case journal.Overlap:
		if rec := i.Recoveries[p.Workload]; rec != nil {
			rec.Overlap, rec.OldGone = &p.For, true
		}
	default:
		return fmt.Errorf("type %s has no meaning here", r.Type)
	}
	return nil
}

// countStart keeps how long the last starts of an image took, for the newest images.
func (d *durable) countStart(p journal.Running) {
	if p.Like == "" {
		return
	}
	if d.Starts == nil { // of a snapshot from before this was kept
		d.Starts = map[string][]time.Duration{}
	}
	last := append(d.Starts[p.Like], p.Took)
	d.Starts[p.Like] = last[max(0, len(last)-keepStarts):]
	if len(d.Starts) > keepImages {
		for _, k := range slices.Sorted(maps.Keys(d.Starts)) {
			if k != p.Like {
				delete(d.Starts, k)
				break
			}
		}
	}
}

func (d *durable) stepTo(i *incident, p journal.RecoveryStep, at time.Time) error {
	rec := i.Recoveries[p.Workload]
	if rec == nil || rec.Step != p.From || !slices.Contains(legalStep[p.From], p.To) {
		return fmt.Errorf("incident %s, recovery of %s: illegal step %s -> %s", i.ID, p.Workload, p.From, p.To)
	}
	if p.To == autoheal.StepWaiting {
		rec.RunningAt, rec.NewAttempts, rec.Node = time.Time{}, nil, ""
		if len(p.Attempts) > 0 {
			rec.Attempts = p.Attempts
			rec.Decided = max(rec.Decided, slices.Max(p.Attempts))
		}
	} else if len(p.Attempts) > 0 {
		rec.NewAttempts = p.Attempts
	}
	i.holdEnds(autoheal.WorkloadRef(p.Workload), at)
	rec.Step, rec.Rung, rec.Try, rec.Reason, rec.StepAt, rec.StepBy, rec.Held = p.To, p.Rung, p.Try, p.Reason, at, p.Deadline, nil
	rec.NotBefore, rec.Hedge = p.NotBefore, rec.Hedge || p.Hedge
	if p.MemoryMB > 0 {
		rec.MemoryMB = p.MemoryMB
	}
	if p.Ran > 0 {
		rec.Ran = p.Ran
	}
	if p.Proof != "" {
		rec.Proof = p.Proof
	}
	if p.Node != "" {
		rec.Node = p.Node
	}
	switch p.To {
	case autoheal.StepStopping:
		rec.Spots, rec.OldNodes = p.Spots, p.OldNodes
	case autoheal.StepWaiting:
		rec.Spots, rec.OldNodes, rec.Avoid = nil, false, p.Avoid
	}
	if p.To == autoheal.StepDone {
		d.endRecovery(i, rec, p, at)
	}
	return nil
}

func (d *durable) endRecovery(i *incident, rec *recovery, p journal.RecoveryStep, at time.Time) {
	rec.End, rec.EndedAt = p.End, at
	i.Open--
	if p.End == autoheal.EndEscalated && rec.Decided > 0 { // what had not ended then is a new failure when it does
		for n, w := range rec.Members {
			d.Settled[w] = max(d.Settled[w], rec.Attempts[n])
		}
	}
}

// number returns N of an ID such as inc-000017, 0 for anything else.
func number(id, prefix string) int {
	rest, ok := strings.CutPrefix(id, prefix)
	if !ok {
		return 0
	}
	n, _ := strconv.Atoi(rest)
	return n
}
