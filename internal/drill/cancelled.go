package drill

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"autoheal.dev/autoheal"
)

// cancelled has a person end the healing of a node half-way.
func cancelled() Drill {
	return Drill{
		Name: "cancelled", Kind: autoheal.NodeOffline, Expected: Cleared, Nodes: 3,
		Doc: "Freeze the agent of one node until it is cordoned, then dismiss the incident and uncordon the node as a person: nothing more is done, the workload that was about to be moved stays, and the mark does not come back.",
		Run: runCancelled,
	}
}

func runCancelled(ctx context.Context, s *Session) error {
	// It waits longer than its node's grace: so there is a moment at which its node is marked and it is not moved yet.
	grace := s.profile.LongGrace
	web := spec{Name: "web", Command: sleeper, GPUs: 1, Priority: 70, Labels: map[string]string{
		autoheal.LabelClass: "high", autoheal.LabelKind: "service", autoheal.LabelGrace: grace.String(),
	}}
	ids, err := s.submitOn(ctx, "n1", web)
	if err != nil {
		return err
	}
	if _, err := s.submitOn(ctx, "n2", everyClass("-other")...); err != nil {
		return err
	}
	if err := s.arm(ctx, nil, "n1"); err != nil { // nothing may happen to any workload
		return err
	}
	if err := s.inject("freezing the agent of n1", func() error { return s.signalAgent("n1", syscall.SIGSTOP) }); err != nil {
		return err
	}
	if err := s.cancelHalfWay(ctx); err != nil {
		return err
	}
	s.say("dismissed; looking whether anything more is done")
	if err := s.pauseFor(ctx, s.injected.Add(grace+5*time.Second)); err != nil {
		return err
	}
	st, err := s.cluster.look(ctx)
	if err != nil {
		return err
	}
	if w := st.workload(ids[0]); w.Attempt != 1 {
		s.problem("%s was moved although its incident was dismissed: %s", ids[0], describe(w))
	}
	if n := st.node("n1"); len(n.CordonedBy) > 0 {
		s.problem("n1 was marked again by %q after a person had removed the mark", n.CordonedBy)
	}
	s.say("letting the frozen agent go on")
	if err := s.signalAgent("n1", syscall.SIGCONT); err != nil {
		return err
	}
	_, err = s.wait(ctx, "n1 to answer, unmarked", func(st *state) (bool, string) {
		n := st.node("n1")
		return n.Status == autoheal.StatusReady && len(n.CordonedBy) == 0 && openIncidents(st) == 0, fmt.Sprintf("it is %s, marked by %q", n.Status, n.CordonedBy)
	})
	return err
}

// cancelHalfWay waits until the node is marked, then dismisses the incident and removes the mark as a person would.
func (s *Session) cancelHalfWay(ctx context.Context) error {
	s.say("waiting until the node is cordoned")
	ref := autoheal.NodeRef("n1")
	var inc autoheal.IncidentID
	_, err := s.wait(ctx, "n1 to be cordoned", func(st *state) (bool, string) {
		n, i := st.node("n1"), st.incident(autoheal.NodeOffline, ref)
		if i == nil {
			return false, "no incident is open"
		}
		inc = i.ID
		return slices.Contains(n.CordonedBy, autoheal.ByAutoheal), fmt.Sprintf("it is %s, marked by %q", n.Status, n.CordonedBy)
	})
	if err != nil {
		return err
	}
	s.headline, s.result = inc, Cleared // by a person
	s.expect = append(s.expect, expectedIncident{Kind: autoheal.NodeOffline, Subject: ref, Phase: autoheal.Dismissed})
	at := s.cluster.clock.Now()
	if err := s.cluster.call(ctx, "incident_dismiss", map[string]any{"incidentId": inc, "reason": "drill: we are working on it"}, nil); err != nil {
		return err
	}
	if err := s.cluster.call(ctx, "node_uncordon", map[string]any{"nodeId": "n1"}, nil); err != nil {
		return err
	}
	s.steps = append(s.steps, StepRow{At: stamp(at), Verb: "dismiss", Target: "incident/" + string(inc)})
	_, err = s.wait(ctx, "the mark to be gone", func(st *state) (bool, string) {
		n := st.node("n1")
		return len(n.CordonedBy) == 0, fmt.Sprintf("n1 is marked by %q", n.CordonedBy)
	})
	return err
}
