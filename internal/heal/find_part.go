package heal

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// findPart takes in a claim about a part: a GPU, a node that answers, the network of a gang, the room in the cluster. One
// that is open already gets the evidence, and takes in what else is affected; a claim of a kind that comes first opens an
// incident of its own and leaves the other as its symptom (behaviour A5).
func (c *Core) findPart(f autoheal.Finding, open *incident) {
	if open != nil && !precedes(f.Kind, open.Kind) {
		c.evidence(open, f)
		c.partAffected(open, f)
		c.touchSubject(f.Subject)
		return
	}
	i := c.openIncident(f)
	if i == nil {
		return
	}
	c.partAffected(i, f)
	c.symptom(open, i)
}

// partAffected opens a recovery for every wanted workload that a claim names, with the first step of the incident's ladder
// that concerns workloads. A claim of a lower kind than the incident's own is evidence only.
func (c *Core) partAffected(i *incident, f autoheal.Finding) {
	rung := c.firstRung(i)
	if f.Kind != i.Kind || rung == "" {
		return
	}
	for _, r := range f.Affected {
		w := c.v.cur[autoheal.WorkloadID(r.ID)]
		if r.Kind != autoheal.RefWorkload || w == nil || w.Ref() != r || !detect.Wanted(w) {
			continue
		}
		if lead := c.leadOf(w); lead != nil {
			c.openRecovery(i, lead, lost{at: f.Since, rung: rung, grace: graceOfPart(f, w)})
		}
	}
}

// graceOfPart is how long a workload is left alone that runs on, and may end by itself any moment.
func graceOfPart(f autoheal.Finding, w *autoheal.Workload) time.Duration {
	if restartOnly(f) && live(w) {
		return endsByItself
	}
	return 0
}

// symptom links the incident of a lower kind to the one that leads on the same subject: it takes no further step on the
// subject, and ends when what it has begun for workloads has ended.
func (c *Core) symptom(lower, leading *incident) {
	if lower == nil || leading == nil || lower == leading || lower.Phase.Ended() || lower.MergedInto != "" {
		return
	}
	c.record(lower.ID, journal.IncidentMerged{Into: leading.ID, Reason: "a symptom of"})
	c.dirty[key{inc: lower.ID}] = true
}

// precedes reports whether a kind leads where another is open on the same subject (behaviour A5).
func precedes(a, b autoheal.FailureKind) bool {
	kinds := autoheal.FailureKinds()
	return slices.Index(kinds, a) < slices.Index(kinds, b)
}

// suspects returns the nodes and the GPUs that a claim about a part names.
func suspects(f autoheal.Finding) (nodes []autoheal.NodeID, gpus []autoheal.GPUID) {
	if f.Kind == autoheal.NodeOffline {
		return nil, nil
	}
	for _, r := range append([]autoheal.Ref{f.Subject}, f.Affected...) {
		switch r.Kind {
		case autoheal.RefNode:
			nodes = append(nodes, autoheal.NodeID(r.ID))
		case autoheal.RefGPU:
			gpus = append(gpus, autoheal.GPUID(r.ID))
		}
	}
	slices.Sort(nodes)
	slices.Sort(gpus)
	return slices.Compact(nodes), slices.Compact(gpus)
}

// ladderFor returns the ladder that the table gives to what failed and what the evidence asks for (behaviour E10); none
// when it is that of the kind.
func (c *Core) ladderFor(f autoheal.Finding) []string {
	if f.Failure == "" {
		return nil
	}
	r, ok := c.pol.Respond(f.Failure, f.Action)
	if !ok || r.Kind != f.Kind || slices.Equal(r.Steps, c.pol.Ladder(f.Kind)) {
		return nil
	}
	var out []string
	for _, s := range r.Steps {
		out = append(out, string(s))
	}
	return out
}

// ladder returns the steps of an incident: those that its evidence asked for, or those of its kind, as configured.
func (c *Core) ladder(i *incident) []policy.Step {
	if len(i.Ladder) == 0 {
		return c.pol.Ladder(i.Kind)
	}
	out := make([]policy.Step, len(i.Ladder))
	for n, s := range i.Ladder {
		out[n] = policy.Step(s)
	}
	return out
}

// onWorkloads are the steps that a recovery takes, one for each workload; all others are taken once, on the subject.
var onWorkloads = []policy.Step{policy.StepMigrate, policy.StepRestart, policy.StepRestartGang, policy.StepGrowMemory, policy.StepPause}

// firstRung is the step with which the recoveries of an incident begin; "" when its ladder touches no workload.
func (c *Core) firstRung(i *incident) string {
	switch i.Kind {
	case autoheal.NodeOffline:
		return string(policy.StepMigrate)
	case autoheal.CrashLoop:
		return string(policy.StepRestart)
	case autoheal.ResourceExhaustion:
		return string(policy.StepPreempt)
	}
	for _, s := range c.ladder(i) {
		if slices.Contains(onWorkloads, s) {
			return string(s)
		}
	}
	return ""
}

// contained reports whether nothing new can come to a broken part, and its evidence is kept: before that nothing of it is
// stopped (behaviour E1). What is critical does not wait for evidence (F4), and nothing waits for a mark that is held: what is
// moved keeps off the part by itself.
func (c *Core) contained(i *incident, rec *recovery) bool {
	if i.Kind == autoheal.NodeOffline || i.MergedInto != "" { // of a symptom the steps are the leader's
		return true
	}
	for _, s := range c.ladder(i) {
		if slices.Contains(onWorkloads, s) {
			return true
		}
		evidence := s == policy.StepCollect || s == policy.StepCollectNetwork
		if evidence && rec.Class == autoheal.Critical {
			continue
		}
		if !evidence && i.Held != nil {
			continue
		}
		if _, over := i.Steps[string(s)]; !over && (evidence || s == policy.StepStopPlacing || s == policy.StepCordon || s == policy.StepQuarantineGPU) {
			return false
		}
	}
	return true
}
