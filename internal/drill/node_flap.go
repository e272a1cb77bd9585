package drill

import (
	"context"
	"fmt"
	"syscall"

	"autoheal.dev/autoheal"
)

// nodeFlap stops an agent for less than the grace.
func nodeFlap() Drill {
	return Drill{
		Name: "node-flap", Kind: autoheal.NodeOffline, Expected: Cleared, Nodes: 3, Settings: patientFence,
		Doc: "Freeze the agent of one node for less than the grace: the node is suspected, nothing is moved, and the incident is cleared.",
		Run: func(ctx context.Context, s *Session) error {
			ids, err := s.prepareNodes(ctx, "n1", "n2")
			if err != nil {
				return err
			}
			s.spare(ids...)
			return s.flap(ctx)
		},
	}
}

// flap freezes the agent of n1 until the node is suspected, and lets it go on.
func (s *Session) flap(ctx context.Context) error {
	if err := s.inject("freezing the agent of n1", func() error { return s.signalAgent("n1", syscall.SIGSTOP) }); err != nil {
		return err
	}
	if err := s.suspected(ctx, "n1"); err != nil {
		return err
	}
	s.say("letting the frozen agent go on")
	if err := s.signalAgent("n1", syscall.SIGCONT); err != nil {
		return err
	}
	inc, err := s.ended(ctx, autoheal.NodeOffline, autoheal.NodeRef("n1"), autoheal.Cleared)
	if err != nil {
		return err
	}
	for _, a := range inc.Actions {
		if a.Verb != autoheal.Refresh {
			s.problem("%s acted on a node that was only suspected: %s %s", inc.ID, a.Verb, a.Target)
		}
	}
	_, err = s.wait(ctx, "n1 to be ready again", func(st *state) (bool, string) {
		return st.node("n1").Status == autoheal.StatusReady, fmt.Sprintf("it is %s", st.node("n1").Status)
	})
	return err
}

// suspected waits until a node is suspected.
func (s *Session) suspected(ctx context.Context, node autoheal.NodeID) error {
	_, err := s.wait(ctx, fmt.Sprintf("%s to be suspected", node), func(st *state) (bool, string) {
		n, inc := st.node(node), st.incident(autoheal.NodeOffline, autoheal.NodeRef(node))
		return n.Status == autoheal.StatusNotReady && inc != nil, fmt.Sprintf("it is %s", n.Status)
	})
	return err
}

// selfStop stops an agent for longer than the deadline of its at-most-once workloads, but less than the grace.
func selfStop() Drill {
	return Drill{
		Name: "self-stop", Kind: autoheal.NodeOffline, Expected: Recovered, Nodes: 3,
		Settings: []string{"autoHeal.node.offlineGracePeriod=45s"},
		Doc:      "Freeze the agent of one node until its at-most-once jobs have stopped themselves, but less than the grace: each is started again once, with no crash held against it; the service never stops.",
		Run:      runSelfStop,
	}
}

func runSelfStop(ctx context.Context, s *Session) error {
	ids, err := s.prepareNodes(ctx, "n1", "n2")
	if err != nil {
		return err
	}
	if !s.profile.EarlyMove {
		s.spare(ids[0]) // the service may run twice: it does not stop itself
	}
	if err := s.inject("freezing the agent of n1", func() error { return s.signalAgent("n1", syscall.SIGSTOP) }); err != nil {
		return err
	}
	s.say("waiting until the jobs have stopped themselves")
	if err := s.suspected(ctx, "n1"); err != nil {
		return err
	}
	_, err = s.wait(ctx, "the jobs to stop themselves", func(*state) (bool, string) {
		left, err := s.cluster.processes(func(p process) bool { return p.Node == "n1" && p.Role == roleWorkload && p.Workload != ids[0] })
		return err == nil && len(left) == 0, fmt.Sprintf("%d processes of them are left", len(left))
	})
	if err != nil {
		return err
	}
	s.say("letting the frozen agent go on")
	if err := s.signalAgent("n1", syscall.SIGCONT); err != nil {
		return err
	}
	inc, err := s.ended(ctx, autoheal.NodeOffline, autoheal.NodeRef("n1"), autoheal.Recovered)
	if err != nil {
		return err
	}
	st, err := s.wait(ctx, "the jobs to run again", func(st *state) (bool, string) { return allRun(st, ids) })
	if err != nil {
		return err
	}
	for _, id := range ids[1:] {
		if w := st.workload(id); w.Attempt != 2 || w.Restarts != 0 {
			s.problem("%s should run as attempt 2 with no crash held against it: %s, %d counted", id, describe(w), w.Restarts)
		}
	}
	for _, r := range inc.Recoveries {
		if r.Workload != ids[0] && r.Proof != autoheal.ProofExitObserved {
			s.problem("%s was started again on proof %q, its exit was seen", r.Workload, r.Proof)
		}
	}
	return nil
}

func openIncidents(st *state) int {
	n := 0
	for _, i := range st.Incidents {
		if !i.Phase.Ended() {
			n++
		}
	}
	return n
}
