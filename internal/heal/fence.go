package heal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// copiesGone says whether every copy of a workload that could disturb a new one is gone, and how the weakest of them is
// known to be: the copy that failed, the current one if somebody started it meanwhile, and, of an at-most-once workload,
// whatever older one may run.
func (c *Core) copiesGone(i *incident, rec *recovery, id autoheal.WorkloadID, failed int) (autoheal.Proof, bool) {
	attempts := []int{failed}
	if w := c.v.cur[id]; w != nil && w.Attempt > failed {
		attempts = append(attempts, w.Attempt)
	}
	if rec.AtMostOnce {
		for _, n := range slices.Sorted(maps.Keys(c.v.old[id])) {
			if n != failed {
				attempts = append(attempts, n)
			}
		}
	}
	worst := autoheal.ProofExitObserved
	for _, n := range attempts {
		proof, ok := c.copyGone(i, rec, id, n)
		if !ok {
			return "", false
		}
		worst = weaker(worst, proof)
	}
	return worst, true
}

// copyGone says whether one old copy is gone and how that is known. A live copy that can be reached is stopped; one that
// cannot waits for proof, unless the workload may run twice.
func (c *Core) copyGone(i *incident, rec *recovery, id autoheal.WorkloadID, attempt int) (autoheal.Proof, bool) {
	w := c.v.attempt(id, attempt)
	if w == nil && !c.v.synced { // of a copy that was not listed yet nothing is known
		c.holdUnsynced(i, rec)
		return "", false
	}
	if !live(w) {
		return autoheal.ProofExitObserved, true
	}
	n := c.v.nodes[w.Node]
	if n != nil && n.Link == autoheal.LinkUp {
		c.stopCopy(i, rec, w, whyStopped(i, rec))
		return "", false
	}
	if !c.v.synced {
		c.holdUnsynced(i, rec)
		return "", false
	}
	if !rec.AtMostOnce {
		return autoheal.ProofNone, n == nil || n.Link == autoheal.LinkSilent
	}
	return c.fenceProof(i, rec, w.Node)
}

func (c *Core) holdUnsynced(i *incident, rec *recovery) {
	c.hold(&proposal{i: i, rec: rec, k: key{inc: i.ID, w: rec.Workload}, verb: autoheal.Start}, "synced", verdict{
		Reason: autoheal.ReasonNotSynced, On: "sync", Detail: "the cluster's state is not known at present",
	})
}

// whyStopped says why a copy that runs is ended.
func whyStopped(i *incident, rec *recovery) string {
	switch {
	case rec.Gang != "":
		return "the gang is restarted as one"
	case i.Kind == autoheal.GPUFailure:
		return i.part() + " has failed"
	case i.Kind == autoheal.HealthCheck:
		return "its checks fail, and it is started anew"
	default:
		return "it is moved: " + i.Cause
	}
}

// stopCopy ends one attempt that runs on a node which answers.
func (c *Core) stopCopy(i *incident, rec *recovery, w *autoheal.Workload, why string) {
	c.insist(&proposal{
		i: i, rec: rec, k: key{inc: i.ID, w: rec.Workload}, verb: autoheal.Stop, target: w.Ref(), step: policy.Step(rec.Rung),
		node: c.v.nodes[w.Node], reason: why, params: autoheal.ActionParams{Attempt: w.Attempt, Grace: stopGrace(rec.Class)}, budget: stopBudget(i, w),
	})
}

// stopGrace is how long a workload has between SIGTERM and SIGKILL.
func stopGrace(class autoheal.Class) time.Duration {
	if class == autoheal.Critical {
		return 10 * time.Second
	}
	return 30 * time.Second
}

// fenceProof asks what proves that a copy on a silent node is gone: a person's word, the acknowledged power-off of its node,
// or the deadline after which its shim has stopped it. Both clocks run from the last contact (behaviour A4, C3).
func (c *Core) fenceProof(i *incident, rec *recovery, id autoheal.NodeID) (autoheal.Proof, bool) {
	n := c.v.nodes[id]
	if n == nil {
		n = c.v.forgot[id]
	}
	if n == nil { // forgotten before this life of the healer: nothing is known of it but what a person says
		n = &autoheal.Node{ID: id, Link: autoheal.LinkSilent}
	}
	p := &proposal{i: i, rec: rec, k: key{inc: i.ID, w: rec.Workload}, verb: autoheal.Start, target: autoheal.WorkloadRef(rec.Workload)}
	if word := c.d.FenceWords[n.ID]; word != nil && word.holds(n) {
		return autoheal.ProofOperator, true
	}
	if c.poweredOff(i, n) {
		return autoheal.ProofPowerOff, true
	}
	wait, trusted := c.pol.FenceWait()
	if n.Link != autoheal.LinkSilent {
		c.await(p.k, time.Time{}, "node/"+string(n.ID))
		return "", false
	}
	if !trusted || !n.SelfStop {
		c.powerOff(i, rec, n)
		return "", false
	}
	if at := n.LastSeen.Add(wait); c.now.Before(at) {
		c.hold(p, "fence", verdict{
			Reason: autoheal.ReasonFenceUnproven, Until: at, On: "node/" + string(n.ID),
			Detail: fmt.Sprintf("a copy on %s may run until %s; it stops itself by then", n.ID, at.Format(time.TimeOnly)),
		})
		return "", false
	}
	return autoheal.ProofSelfStop, true
}

// holds reports whether a person's word that a node is off is about the life of the node that was last seen.
func (w *fenceWord) holds(n *autoheal.Node) bool {
	return !w.Used && (w.Boot == "" || w.Boot == n.BootID)
}

// safeAt is the moment from which at most one copy can run.
func (c *Core) safeAt(rec *recovery, proof autoheal.Proof) time.Time {
	var at time.Time
	switch proof {
	case autoheal.ProofExitObserved:
	case autoheal.ProofSelfStop:
		if n := cmp.Or(c.v.nodes[rec.From], c.v.forgot[rec.From]); n != nil {
			return n.LastSeen.Add(c.pol.Fence.Wait)
		}
		return c.now
	default:
		return c.now
	}
	for n, id := range rec.Members {
		if w := c.v.attempt(id, rec.Attempts[n]); w != nil && w.EndedAt.After(at) {
			at = w.EndedAt
		}
	}
	if at.IsZero() || at.After(c.now) {
		return c.now
	}
	return at
}

// weaker returns the weaker of two proofs.
func weaker(a, b autoheal.Proof) autoheal.Proof {
	order := []autoheal.Proof{autoheal.ProofExitObserved, autoheal.ProofPowerOff, autoheal.ProofSelfStop, autoheal.ProofOperator, autoheal.ProofNone}
	for n := len(order) - 1; n >= 0; n-- {
		if a == order[n] || b == order[n] {
			return order[n]
		}
	}
	return autoheal.ProofNone
}

func proofText(p autoheal.Proof) string {
	switch p {
	case autoheal.ProofExitObserved:
		return "its exit was observed"
	case autoheal.ProofPowerOff:
		return "the node's power-off was acknowledged"
	case autoheal.ProofSelfStop:
		return "its self-stop deadline has passed"
	case autoheal.ProofOperator:
		return "an operator confirmed that the node is off"
	default:
		return "it may run twice, no proof is needed"
	}
}
