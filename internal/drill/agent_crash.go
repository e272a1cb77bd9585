package drill

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"autoheal.dev/autoheal"
)

// patientFence keeps workloads from stopping themselves while a drill breaks the contact for a moment, however busy the
// machine is.
var patientFence = []string{"autoHeal.fence.selfStop=20s", "autoHeal.fence.wait=25s", "autoHeal.node.offlineGracePeriod=30s"}

// agentCrash kills an agent alone.
func agentCrash() Drill {
	return Drill{
		Name: "agent-crash", Kind: autoheal.NodeOffline, Expected: Cleared, Nodes: 3, Settings: patientFence,
		Doc: "Kill the agent of one node alone: it is started again and adopts its workloads, which never notice; nothing is moved and no restart is counted.",
		Run: func(ctx context.Context, s *Session) error {
			ids, err := s.prepareNodes(ctx, "n1", "n2")
			if err != nil {
				return err
			}
			s.spare(ids...)
			if err := s.inject("killing the agent of n1", func() error { return s.signalAgent("n1", syscall.SIGKILL) }); err != nil {
				return err
			}
			if err := s.agentBack(ctx, "n1"); err != nil {
				return err
			}
			s.expect = append(s.expect, expectedIncident{Kind: autoheal.NodeOffline, Subject: autoheal.NodeRef("n1"), Phase: autoheal.Cleared, Optional: true})
			s.result = Cleared
			return s.proveAdopted(ctx, ids[3])
		},
	}
}

// spare takes workloads back from what may be hit: they must not change either.
func (s *Session) spare(ids ...autoheal.WorkloadID) {
	for _, id := range ids {
		delete(s.hit, id)
	}
}

// agentBack waits until a new agent of the node has told what it found, and no incident of the node is open.
func (s *Session) agentBack(ctx context.Context, node autoheal.NodeID) error {
	s.say("waiting until the agent is back")
	_, err := s.wait(ctx, fmt.Sprintf("a new agent of %s", node), func(st *state) (bool, string) {
		var n struct {
			Link        autoheal.LinkState   `json:"link"`
			ConnectedAt time.Time            `json:"connectedAt"`
			Incident    *autoheal.IncidentID `json:"incident"`
		}
		if err := s.cluster.call(ctx, "node_get", map[string]any{"nodeId": node}, &n); err != nil {
			return false, err.Error()
		}
		if n.Link != autoheal.LinkUp || !n.ConnectedAt.After(s.injected) || n.Incident != nil {
			return false, fmt.Sprintf("link %s, connected at %s", n.Link, stamp(n.ConnectedAt))
		}
		return st.node(node).Status == autoheal.StatusReady, "the node is not ready"
	})
	return err
}

// proveAdopted stops one workload through its new agent: what is not adopted cannot be stopped and seen to end.
func (s *Session) proveAdopted(ctx context.Context, id autoheal.WorkloadID) error {
	after, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	s.problems = append(s.problems, judgeBystanders(s.before, after, s.hit, s.nodes)...)
	s.hit[id] = true
	if err := s.cluster.call(ctx, "workload_stop", map[string]any{"workloadId": id}, nil); err != nil {
		return err
	}
	_, err = s.wait(ctx, "an adopted workload to be stopped", func(st *state) (bool, string) {
		w := st.workload(id)
		return w != nil && w.State == autoheal.Cancelled, describe(w)
	})
	return err
}
