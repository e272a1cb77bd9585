package heal

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// endsByItself is how long a workload that has lost its context on a GPU gets to end by itself: then its exit says more than
// a stop of ours would.
const endsByItself = 5 * time.Second

// findGPU takes in a claim about a GPU. What is said of one GPU, or of what runs on it, belongs to the incident of its node
// where there is one; one that widens from a GPU to its node leaves the former as a symptom (behaviour A5).
func (c *Core) findGPU(f autoheal.Finding, open *incident) {
	if open == nil {
		open = c.wider(f)
	}
	if open == nil && c.knownBroken(f) {
		return
	}
	if open != nil && open.Kind == autoheal.GPUFailure && c.hurtAgain(open, f) {
		return
	}
	c.findPart(f, open)
	i := c.d.Incidents[c.ix.open[f.Subject.String()]]
	if i == nil {
		return
	}
	if f.Subject.Kind == autoheal.RefNode {
		c.narrower(i)
	}
	if restartOnly(f) {
		c.holdAgainst(i, f)
	}
}

// restartOnly reports whether a claim concerns nothing but the workload: the GPU stays in service.
func restartOnly(f autoheal.Finding) bool {
	return f.Kind == autoheal.GPUFailure && (f.Subject.Kind == autoheal.RefWorkload || f.Subject.Kind == autoheal.RefGang)
}

// wider returns the open incident that a claim belongs to although it has another subject: that of the GPU that a workload
// uses, or that of the node that the GPU is in.
func (c *Core) wider(f autoheal.Finding) *incident {
	for _, s := range f.Evidence {
		if i := c.d.Incidents[c.ix.open[s.Subject.String()]]; i != nil && i.Kind == autoheal.GPUFailure && s.Subject.Kind == autoheal.RefGPU {
			return i
		}
	}
	if f.Subject.Kind == autoheal.RefNode {
		return nil
	}
	if i := c.d.Incidents[c.ix.open[autoheal.NodeRef(c.nodeOfClaim(f)).String()]]; i != nil && i.Kind == autoheal.GPUFailure {
		return i
	}
	return nil
}

// nodeOfClaim is the node that the part is in which a claim is about.
func (c *Core) nodeOfClaim(f autoheal.Finding) autoheal.NodeID {
	switch f.Subject.Kind {
	case autoheal.RefNode:
		return autoheal.NodeID(f.Subject.ID)
	case autoheal.RefGPU:
		return c.v.gpuAt[autoheal.GPUID(f.Subject.ID)]
	}
	for _, r := range f.Affected {
		if w := c.v.cur[autoheal.WorkloadID(r.ID)]; r.Kind == autoheal.RefWorkload && w != nil {
			return w.Node
		}
	}
	return ""
}

// narrower leaves the incidents of single GPUs of a node to that of the node.
func (c *Core) narrower(i *incident) {
	n := c.v.nodes[autoheal.NodeID(i.Subject.ID)]
	if n == nil {
		return
	}
	for _, g := range n.GPUs {
		lower := c.d.Incidents[c.ix.open[gpuRef(g.UUID).String()]]
		if lower != nil && lower.Kind == autoheal.GPUFailure {
			c.symptom(lower, i)
		}
	}
}

// gpuRef names a GPU without a generation.
func gpuRef(id autoheal.GPUID) autoheal.Ref {
	return autoheal.Ref{Kind: autoheal.RefGPU, ID: string(id)}
}

// knownBroken reports whether a claim tells nothing new: it was dealt with in this boot, and nothing that is wanted is there.
// It is asked when a part is listed anew that is out of service, or that waits for a person.
func (c *Core) knownBroken(f autoheal.Finding) bool {
	last := c.d.Incidents[c.ix.last[f.Subject.String()]]
	if f.Subject.Kind == autoheal.RefGPU {
		node := c.d.Incidents[c.ix.last[autoheal.NodeRef(c.nodeOfClaim(f)).String()]]
		if node != nil && node.Kind == autoheal.GPUFailure && (last == nil || node.Opened.After(last.Opened)) {
			last = node
		}
	}
	if last == nil || last.Kind != autoheal.GPUFailure || !last.Phase.Ended() {
		return false
	}
	if !f.Since.After(last.Ended) { // a log that is read again
		return true
	}
	if restartOnly(f) || last.Subject.Generation != f.Subject.Generation {
		return false
	}
	out := c.d.Marks[last.Subject.String()] != nil || last.Phase == autoheal.Escalated || last.Phase == autoheal.Dismissed
	return out && !slices.ContainsFunc(f.Affected, func(r autoheal.Ref) bool {
		w := c.v.cur[autoheal.WorkloadID(r.ID)]
		return r.Kind == autoheal.RefWorkload && w != nil && w.Ref() == r && w.Attempt > c.d.Settled[w.ID]
	})
}

// hurtAgain reports whether a claim hits the very copy that a recovery of the same incident has made: that try has failed.
func (c *Core) hurtAgain(i *incident, f autoheal.Finding) bool {
	hurt := false
	for _, r := range f.Affected {
		w := c.v.cur[autoheal.WorkloadID(r.ID)]
		if r.Kind != autoheal.RefWorkload || w == nil || w.Ref() != r {
			continue
		}
		at, ok := c.ix.recOf[w.ID]
		if !ok || at.inc != i.ID || !i.Recoveries[at.lead].made(w) {
			continue
		}
		rec := i.Recoveries[at.lead]
		hurt = true
		c.evidence(i, f)
		if rec.Try >= c.pol.Rung.Attempts && !ownError(f) {
			c.giveUp(i, rec, "its new copy was hit again: "+f.Cause)
			continue
		}
		c.move(i, rec, autoheal.StepWaiting, journal.RecoveryStep{
			Try: rec.Try + 1, Reason: "its new copy was hit again: " + f.Cause, Attempts: c.lastAttempts(rec),
			NotBefore: c.now.Add(max(endsByItself, c.pol.RestartWait(w, rec.Try+1))),
		})
		c.holdAgainst(i, f)
	}
	return hurt
}

// ownError reports whether a claim is about an error that is the application's, by what the catalogue says of it.
func ownError(f autoheal.Finding) bool {
	return restartOnly(f) && len(f.Evidence) > 0 && f.Evidence[0].Failure == autoheal.FailureApp
}

// holdAgainst counts an error that is the application's own against the workload, before it has ended: at the limit it is
// paused like one that crashes (behaviour E3).
func (c *Core) holdAgainst(i *incident, f autoheal.Finding) {
	if !ownError(f) {
		return
	}
	for _, r := range f.Affected {
		w := c.v.cur[autoheal.WorkloadID(r.ID)]
		if r.Kind != autoheal.RefWorkload || w == nil || c.ix.recOf[w.ID].inc != i.ID {
			continue
		}
		rec := i.Recoveries[c.ix.recOf[w.ID].lead]
		count, _ := c.count(rec, w, true)
		if count > c.pol.MaxRestarts(w) && rec.Step == autoheal.StepWaiting {
			c.move(i, rec, autoheal.StepWaiting, journal.RecoveryStep{
				Rung: string(policy.StepPause), NotBefore: c.now,
				Reason: times(count, "error", "errors") + " of its own on GPUs, and at most " + times(c.pol.MaxRestarts(w), "restart is allowed", "restarts are allowed") + ": " + f.Cause,
			})
		}
	}
}

// claimed adds to the record of an incident what is known of the GPUs that it names.
func (c *Core) claimed(p *journal.IncidentOpened, f autoheal.Finding) {
	if f.Kind != autoheal.GPUFailure {
		return
	}
	p.Node = c.nodeOfClaim(f)
	n := c.v.nodes[p.Node]
	if n == nil {
		return
	}
	p.Domains = n.Domains
	named := p.GPUs
	for _, s := range f.Evidence { // of a workload's error: the GPU that it came from
		if s.Subject.Kind == autoheal.RefGPU && !slices.Contains(named, autoheal.GPUID(s.Subject.ID)) {
			named = append(slices.Clone(named), autoheal.GPUID(s.Subject.ID))
		}
	}
	for _, g := range n.GPUs {
		if slices.Contains(named, g.UUID) {
			g.Quarantined, g.UsedBy = nil, ""
			p.Parts = append(p.Parts, g)
		}
	}
}
