package drill

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"autoheal.dev/autoheal"
)

// lost are the nodes that a mass outage takes; n4 stays.
var lost = []autoheal.NodeID{"n1", "n2", "n3"}

// massOutage takes most of the cluster away at once, first for a moment and then for good.
func massOutage() Drill {
	return Drill{
		Name: "mass-outage", Kind: autoheal.NodeOffline, Expected: Held, Nodes: 4,
		// Nothing stops itself while the first part lasts.
		Settings: []string{"autoHeal.fence.selfStop=20s", "autoHeal.fence.wait=22s"},
		Doc:      "Freeze the agents of three of four nodes: the healer suspects itself, sends one critical alert and moves nothing until contact is back; then kill the three nodes, which is held again until a person releases it.",
		Run:      runMassOutage,
	}
}

func runMassOutage(ctx context.Context, s *Session) error {
	var ids []autoheal.WorkloadID
	for i, node := range lost {
		got, err := s.submitOn(ctx, node, everyClass("")[i:i+1]...)
		if err != nil {
			return err
		}
		ids = append(ids, got...)
	}
	if _, err := s.submitOn(ctx, "n4", everyClass("-other")...); err != nil {
		return err
	}
	if err := s.arm(ctx, nil); err != nil {
		return err
	}
	if err := s.momentary(ctx); err != nil {
		return err
	}
	return s.forGood(ctx, ids)
}

// momentary freezes the agents for a while, looks that nothing was done, and lets them go on.
func (s *Session) momentary(ctx context.Context) error {
	err := s.inject("freezing the agents of three of four nodes", func() error {
		for _, n := range lost {
			if err := s.signalAgent(n, syscall.SIGSTOP); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	storm, err := s.heldStorm(ctx, 1)
	if err != nil {
		return err
	}
	s.headline = storm
	s.say("held; looking whether nothing is done")
	if err := s.pauseFor(ctx, s.injected.Add(s.profile.Still)); err != nil {
		return err
	}
	if err := s.nothingMoved(ctx); err != nil {
		return err
	}
	s.result = Held
	s.say("letting the frozen agents go on")
	for _, n := range lost {
		if err := s.signalAgent(n, syscall.SIGCONT); err != nil {
			return err
		}
	}
	_, err = s.wait(ctx, "the hold to end by contact", func(st *state) (bool, string) {
		for _, n := range lost {
			if st.node(n).Status != autoheal.StatusReady {
				return false, fmt.Sprintf("%s is %s", n, st.node(n).Status)
			}
		}
		return openIncidents(st) == 0 && st.Healer.Observer == nil, fmt.Sprintf("%d incidents are open", openIncidents(st))
	})
	if err != nil {
		return err
	}
	s.expect = append(s.expect, expectedIncident{Kind: autoheal.NodeOffline, Subject: stormRef, Phase: autoheal.Cleared, Times: 2})
	for _, n := range lost {
		s.expect = append(s.expect, expectedIncident{Kind: autoheal.NodeOffline, Subject: autoheal.NodeRef(n), Phase: autoheal.Cleared})
	}
	return s.nothingMoved(ctx)
}

// stormRef is the subject of the incident by which the healer doubts itself.
var stormRef = autoheal.Ref{Kind: autoheal.RefCluster, ID: "default"}

// heldStorm waits until the healer holds everything, and checks that it said so by n critical alerts in all.
func (s *Session) heldStorm(ctx context.Context, n int) (autoheal.IncidentID, error) {
	var storm autoheal.IncidentID
	s.say("waiting until the healer suspects itself")
	st, err := s.wait(ctx, "the healer to suspect itself", func(st *state) (bool, string) {
		inc := st.incident(autoheal.NodeOffline, stormRef)
		if inc == nil || inc.Phase.Ended() {
			return false, "no incident of the cluster is open"
		}
		storm = inc.ID
		return inc.Held != nil && inc.Held.Reason == autoheal.ReasonObserverSuspect, fmt.Sprintf("%s is %s and not held", inc.ID, inc.Phase)
	})
	if err != nil {
		return "", err
	}
	critical := 0
	for _, a := range st.Alerts {
		if a.Severity == autoheal.SeverityCritical {
			critical++
		}
	}
	if critical != n {
		s.problem("%d critical alerts were sent, expected %d", critical, n)
	}
	return storm, nil
}

// nothingMoved checks that nothing was done since before the fault: no node was marked and no workload has another
// attempt; what was not killed by the drill itself has the same process, too.
func (s *Session) nothingMoved(ctx context.Context) error {
	now, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	for _, n := range now.state.Nodes {
		if len(n.CordonedBy) > 0 {
			s.problem("node %s was marked during the hold", n.ID)
		}
	}
	ignore := map[autoheal.NodeID]bool{}
	for _, n := range lost {
		ignore[n] = true
	}
	s.problems = append(s.problems, judgeBystanders(s.before, now, s.hit, ignore)...)
	for id := range s.hit {
		if b, a := s.before.state.workload(id), now.state.workload(id); a == nil || a.Attempt != b.Attempt || a.Node != b.Node {
			s.problem("%s was moved during the hold: %s", id, describe(a))
		}
	}
	return nil
}

// forGood kills the nodes and has a person release the hold.
func (s *Session) forGood(ctx context.Context, ids []autoheal.WorkloadID) error {
	if err := s.arm(ctx, ids, lost...); err != nil {
		return err
	}
	s.say("killing three of four nodes")
	for _, n := range lost {
		if err := s.killNode(n); err != nil {
			return err
		}
	}
	storm, err := s.heldStorm(ctx, 2)
	if err != nil {
		return err
	}
	if err := s.nothingMoved(ctx); err != nil {
		return err
	}
	s.say("releasing the hold")
	at := s.cluster.clock.Now()
	if err := s.cluster.call(ctx, "incident_release", map[string]any{"incidentId": storm, "reason": "drill: they are dead"}, nil); err != nil {
		return err
	}
	s.steps = append(s.steps, StepRow{At: stamp(at), Verb: "release", Target: "incident/" + string(storm)})
	for _, n := range lost {
		s.expect = append(s.expect, expectedIncident{Kind: autoheal.NodeOffline, Subject: autoheal.NodeRef(n), Phase: autoheal.Recovered})
	}
	st, err := s.wait(ctx, "the workloads to run on what is left", func(st *state) (bool, string) {
		if ok, why := allRun(st, ids); !ok {
			return false, why
		}
		return openIncidents(st) == 0, fmt.Sprintf("%d incidents are open", openIncidents(st))
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if w := st.workload(id); w.Node != "n4" || w.Attempt != 2 || w.Restarts != 0 {
			s.problem("%s should run on n4 as attempt 2 with no crash held against it: %s", id, describe(w))
		}
	}
	return nil
}

// pauseFor waits until a time, which is needed to see that nothing happens.
func (s *Session) pauseFor(ctx context.Context, until time.Time) error {
	t := s.cluster.clock.NewTimer(until.Sub(s.cluster.clock.Now()))
	defer t.Stop()
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
