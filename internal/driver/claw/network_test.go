package claw

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// TestNetworkIsToldAsSignals: a collect with peers asks the node with the places where those answer, keeps the text, and
// tells each pair; what the agent is too old for is refused, and nothing is told.
func TestNetworkIsToldAsSignals(t *testing.T) {
	inFleet(t, 3, 0, func(t *testing.T, f *fleet) {
		a := f.agents["n1"]
		a.mu.Lock()
		a.network = func(r nodeproto.NetworkRequest) nodeproto.NetworkFacts {
			if len(r.Peers) != 2 || r.Peers[0].Node != "n2" || len(r.Peers[0].Addresses) != 1 || r.Peers[0].Addresses[0] != "n2:7" || r.Probes != probesPerPair {
				t.Errorf("asked %+v", r)
			}
			return nodeproto.NetworkFacts{
				Links: []nodeproto.Link{{Name: "eth0", State: "up", CarrierChanges: 2}}, Missing: []string{"rdma not available: none"},
				Pairs: []nodeproto.Pair{{Node: "n2", Sent: 20, Lost: 20}, {Node: "n3", Sent: 20, RTTUS: 150}},
			}
		}
		a.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		var told []autoheal.Signal
		done := make(chan struct{})
		go func() {
			defer close(done)
			for e, err := range f.Watch(ctx) {
				if err == nil && e.Kind == autoheal.EventSignal {
					told = append(told, *e.Signal)
				}
			}
		}()
		synctest.Wait()
		act := autoheal.Action{ID: "inc-000004/1", Incident: "inc-000004", Verb: autoheal.Collect, Target: autoheal.NodeRef("n1"), Params: autoheal.ActionParams{Peers: []autoheal.NodeID{"n2", "n3"}}}
		if res := f.do(t, act); res.Outcome != autoheal.OutcomeDone {
			t.Fatalf("%+v", res)
		}
		old := act
		old.ID, old.Target = "inc-000004/2", autoheal.NodeRef("n2")
		old.Epoch = f.opts.Epoch
		if res := f.Do(t.Context(), old); res.Outcome != autoheal.OutcomeNotSent || res.Err == nil {
			t.Errorf("an agent without the command: %+v", res)
		}
		settle(time.Second)
		cancel()
		<-done
		if len(told) != 3 {
			t.Fatalf("told %+v", told)
		}
		for _, s := range told {
			if s.Subject.ID != "n1" || s.Source != "collect" || s.Fields["incident"] != "inc-000004" {
				t.Errorf("%+v", s)
			}
		}
		if s := told[1]; s.Rule != ruleNetworkPair || s.Failure != autoheal.FailureNetwork || s.Fields["peer"] != "n2" || s.Fields["lost"] != "20" || s.Excerpt != "n1 to n2: 20 of 20 probes lost" {
			t.Errorf("the lost pair: %+v", s)
		}
		if s := told[2]; s.Failure != autoheal.FailureNone || s.Fields["lost"] != "0" || s.Fields["rtt_us"] != "150" {
			t.Errorf("the pair that works: %+v", s)
		}
		if got, err := f.Captures(t.Context(), "inc-000004"); err != nil || len(got) != 1 || len(got[0].Parts) != 1 || got[0].Parts[0].Name != "network" {
			t.Errorf("kept %v, %v", got, err)
		}
	})
}
