package drill

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"autoheal.dev/autoheal"
)

// nodeCrash kills a whole node and keeps it dead.
func nodeCrash() Drill {
	return Drill{
		Name: "node-crash", Kind: autoheal.NodeOffline, Expected: Recovered, Nodes: 3,
		Doc: "Kill agent, shims and workloads of one node together: its workloads are moved, those that may run once only after a proof, and the node is cordoned.",
		Run: func(ctx context.Context, s *Session) error {
			moved, err := s.prepareNodes(ctx, "n1", "n2")
			if err != nil {
				return err
			}
			if err := s.inject("killing node n1", func() error { return s.killNode("n1") }); err != nil {
				return err
			}
			return s.nodeLost(ctx, "n1", moved)
		},
	}
}

// prepareNodes puts workloads of every class on the node that will be hit, and bystanders on another.
func (s *Session) prepareNodes(ctx context.Context, hit, other autoheal.NodeID) ([]autoheal.WorkloadID, error) {
	moved, err := s.submitOn(ctx, hit, everyClass("")...)
	if err != nil {
		return nil, err
	}
	if _, err := s.submitOn(ctx, other, everyClass("-other")...); err != nil {
		return nil, err
	}
	return moved, s.arm(ctx, moved, hit)
}

// nodeLost waits until everything of a dead node runs elsewhere, and checks how.
func (s *Session) nodeLost(ctx context.Context, node autoheal.NodeID, moved []autoheal.WorkloadID) error {
	s.say("waiting until its workloads run elsewhere")
	inc, err := s.ended(ctx, autoheal.NodeOffline, autoheal.NodeRef(node), autoheal.Recovered)
	if err != nil {
		return err
	}
	st, err := s.cluster.look(ctx)
	if err != nil {
		return err
	}
	for _, id := range moved {
		w := st.workload(id)
		if w == nil || w.State != autoheal.Running || w.Node == node || w.Attempt != 2 || w.Restarts != 0 {
			s.problem("%s should run elsewhere as attempt 2 with no crash held against it: %s", id, describe(w))
		}
	}
	s.checkProofs(inc, moved)
	return s.outOfService(ctx, node)
}

// outOfService waits until a node that does not answer is shown as offline, with the healer's mark, and all others are
// ready: a healer that has just started says so only after it has looked for the grace itself.
func (s *Session) outOfService(ctx context.Context, node autoheal.NodeID) error {
	_, err := s.wait(ctx, fmt.Sprintf("%s to be offline and cordoned", node), func(st *state) (bool, string) {
		for _, n := range st.Nodes {
			if n.ID != node && n.Status != autoheal.StatusReady {
				return false, fmt.Sprintf("%s is %s", n.ID, n.Status)
			}
		}
		n := st.node(node)
		return n.Status == autoheal.StatusOffline && slices.Contains(n.CordonedBy, autoheal.ByAutoheal) && openIncidents(st) == 0,
			fmt.Sprintf("it is %s, marked by %q, %d incidents are open", n.Status, n.CordonedBy, openIncidents(st))
	})
	return err
}

// checkProofs checks that every workload was moved on the proof that it needs: what may run at most once on a passed
// deadline, or another one that the drill says, the others without waiting for any.
func (s *Session) checkProofs(inc *autoheal.Incident, moved []autoheal.WorkloadID) {
	if len(inc.Recoveries) != len(moved) {
		s.problem("%s has %d recoveries, expected %d", inc.ID, len(inc.Recoveries), len(moved))
	}
	for _, r := range inc.Recoveries {
		want := autoheal.ProofNone
		if r.AtMostOnce {
			want = cmp.Or(s.proof, autoheal.ProofSelfStop)
		}
		if r.Proof != want {
			s.problem("%s (%s) was moved on proof %q, expected %q", r.Workload, r.Class, r.Proof, want)
		}
		if !slices.Contains(moved, r.Workload) {
			s.problem("%s was recovered and was not on the node", r.Workload)
		}
	}
}

// phaseResult is the word of the report for the phase that an incident ended in.
func phaseResult(p autoheal.Phase) string {
	switch p {
	case autoheal.Recovered:
		return Recovered
	case autoheal.Escalated:
		return Escalated
	case autoheal.Cleared:
		return Cleared
	}
	return ""
}
