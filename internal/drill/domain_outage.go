package drill

import (
	"context"
	"fmt"
	"slices"

	"autoheal.dev/autoheal"
)

// rack are the nodes of the first of two racks, of six nodes in all.
var rack = []autoheal.NodeID{"n1", "n3", "n5"}

// domainOutage kills one whole rack while the other one answers.
func domainOutage() Drill {
	return Drill{
		Name: "domain-outage", Kind: autoheal.NodeOffline, Expected: Recovered, Nodes: 6, Args: []string{"--racks", "2"},
		Doc: "Kill the three nodes of one rack while the other rack answers: it is one incident and one page, not three, the healer does not suspect itself, and the work of the rack is moved, each workload by its own proof.",
		Run: runDomainOutage,
	}
}

func runDomainOutage(ctx context.Context, s *Session) error {
	var moved []autoheal.WorkloadID
	for i, node := range rack {
		ids, err := s.submitOn(ctx, node, everyClass("")[i])
		if err != nil {
			return err
		}
		moved = append(moved, ids...)
	}
	if _, err := s.submitOn(ctx, "n2", everyClass("-other")...); err != nil {
		return err
	}
	if err := s.arm(ctx, moved, rack...); err != nil {
		return err
	}
	err := s.inject("killing the three nodes of one rack", func() error {
		for _, n := range rack {
			if err := s.killNode(n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.say("waiting until the work of the rack runs elsewhere")
	inc, err := s.ended(ctx, autoheal.NodeOffline, autoheal.Ref{Kind: autoheal.RefDomain, ID: "rack/r1"}, autoheal.Recovered)
	if err != nil {
		return err
	}
	for _, n := range rack { // suspected one by one, until it is seen that they are one rack
		s.expect = append(s.expect, expectedIncident{Kind: autoheal.NodeOffline, Subject: autoheal.NodeRef(n), Phase: autoheal.Cleared, Optional: true})
	}
	s.checkProofs(inc, moved)
	return s.rackOutOfService(ctx, moved)
}

// rackOutOfService waits until the rack is marked, and checks that one page told of it.
func (s *Session) rackOutOfService(ctx context.Context, moved []autoheal.WorkloadID) error {
	st, err := s.wait(ctx, "the rack to be offline and cordoned", func(st *state) (bool, string) {
		for _, id := range rack {
			if n := st.node(id); n.Status != autoheal.StatusOffline || !slices.Contains(n.CordonedBy, autoheal.ByAutoheal) {
				return false, fmt.Sprintf("%s is %s, marked by %q", id, n.Status, n.CordonedBy)
			}
		}
		return allRun(st, moved)
	})
	if err != nil {
		return err
	}
	var pages []string
	for _, a := range st.Alerts {
		if a.Severity == autoheal.SeverityCritical {
			pages = append(pages, a.Name)
		}
	}
	if !slices.Equal(pages, []string{"domain-outage"}) {
		s.problem("the pages were %q, expected one, domain-outage", pages)
	}
	for _, id := range moved {
		if w := st.workload(id); slices.Contains(rack, w.Node) || w.Attempt != 2 || w.Restarts != 0 {
			s.problem("%s should run elsewhere as attempt 2 with no crash held against it: %s", id, describe(w))
		}
	}
	return nil
}
