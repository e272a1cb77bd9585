package claw

import (
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

// TestFirstPageOfASilentNodeIsTold: the answer is acknowledged with the next poll, which extends the lease. Whoever waits
// for the deadline has to count from it, also if the node falls silent before it has listed everything.
func TestFirstPageOfASilentNodeIsTold(t *testing.T) {
	inFleet(t, 2, 0, func(t *testing.T, f *fleet) {
		f.gw.isolate(f.agents["n1"], true)
		settle(20 * time.Second)
		if n := f.node("n1"); n.Link != autoheal.LinkSilent {
			t.Fatalf("n1 is %s", n.Link)
		}
		f.mu.Lock()
		n := f.nodes["n1"]
		status := *n.status
		page := nodeproto.PollResponse{BootID: n.bootID, Life: n.life, N: n.ack + 1, Seq: n.after + 1, Full: true, More: true, Node: &status}
		f.mu.Unlock()
		at := time.Now()
		f.pollAnswered(t.Context(), n, nodeproto.PollRequest{}, &page, at, at)
		f.mu.Lock()
		defer f.mu.Unlock()
		if n.told.Link != autoheal.LinkSilent || !n.told.LastSeen.Equal(n.lastSeen) {
			t.Errorf("told %s, last seen %v; the lease is extended from %v", n.told.Link, n.told.LastSeen, n.lastSeen)
		}
	})
}

// TestRefusalAfterAnUnknownStart: a node refuses the second request while the first one is on its way still. The attempt
// has not ended before the node has promised that it will not begin.
func TestRefusalAfterAnUnknownStart(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		f.gw.inject(&fault{command: nodeproto.CmdStart, late: 5 * time.Second})
		f.gw.inject(&fault{command: nodeproto.CmdStart, refuse: &openclaw.NodeError{Code: openclaw.NodeCommandError, Message: "disk full"}})
		f.gw.inject(&fault{command: nodeproto.CmdStop, drop: true})
		id := f.submit(t, "c/1", job("train"))
		settle(13 * time.Second) // the second start was refused, the first one arrives in two seconds
		if w := f.last(t, id); w.State.Ended() {
			t.Errorf("the attempt is %s (exit %+v) before it is known that it will not begin", w.State, w.Exit)
		}
		settle(time.Minute)
		if live := f.agents["n1"].live(); len(live) > 0 {
			t.Errorf("%v runs, and is taken for %s", live, f.last(t, id).State)
		}
		if w := f.last(t, id); !w.State.Ended() || w.Exit.Reason != autoheal.ExitStartFailed {
			t.Errorf("it is %s, exit %+v", w.State, w.Exit)
		}
	})
}

// TestBusyNodeIsAskedAgain: what a node had no room for was not run, and is nobody's fault.
func TestBusyNodeIsAskedAgain(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		for _, code := range []string{openclaw.NodeBusy, openclaw.NodeExpired} {
			f.gw.inject(&fault{command: nodeproto.CmdStart, refuse: &openclaw.NodeError{Code: code, Message: "not run"}})
		}
		id := f.submit(t, "c/1", job("train"))
		settle(10 * time.Second)
		f.mustRun(t, id, 1)
	})
}

// TestNodeThatCannotStart: the attempt goes to another node, and nothing is held against the workload.
func TestNodeThatCannotStart(t *testing.T) {
	inFleet(t, 2, 0, func(t *testing.T, f *fleet) {
		f.gw.inject(&fault{command: nodeproto.CmdStart, refuse: &openclaw.NodeError{Code: nodeproto.CodeNodeFault, Message: "no control group"}})
		id := f.submit(t, "c/1", job("train"))
		settle(10 * time.Second)
		f.mustRun(t, id, 1)
		if w := f.last(t, id); w.Restarts != 0 || w.Node == "n1" {
			t.Errorf("it runs on %s with %d restarts counted", w.Node, w.Restarts)
		}
	})
}

// TestExitObservedIsKnownHere: the driver itself observes exits. A start that claims one for an attempt which was placed
// meanwhile would make a second copy.
func TestExitObservedIsKnownHere(t *testing.T) {
	inFleet(t, 2, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", job("train"))
		settle(time.Second)
		f.mustRun(t, id, 1)
		r := f.Do(t.Context(), autoheal.Action{
			ID: "inc-000001/1", Epoch: f.opts.Epoch, Actor: autoheal.ActorEngine, Verb: autoheal.Start, Target: autoheal.WorkloadRef(id),
			Params: autoheal.ActionParams{Attempt: 2, Proof: autoheal.ProofExitObserved},
		})
		if r.Outcome != autoheal.OutcomeNotSent || r.Err == nil || r.Err.Kind != autoheal.ErrConflict {
			t.Errorf("a start beside a running copy: %s %v", r.Outcome, r.Err)
		}
		settle(time.Second)
		f.mustRun(t, id, 1)
	})
}

// TestLeasesOfALongerLife: the configuration got a shorter lease and the healer was started anew, while a node was cut
// off. What that node holds from before runs on.
func TestLeasesOfALongerLife(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		f.mustRun(t, func() autoheal.WorkloadID { id := f.submit(t, "c/1", job("train")); settle(time.Second); return id }(), 1)
		a := f.agents["n1"]
		f.gw.isolate(a, true)
		if err := f.Driver.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		const shorter = 20 * time.Second
		for epoch := range uint64(2) { // also the life after
			opts := driverOptions(f.gw, f.db, 8+epoch)
			opts.SelfStop = shorter
			f.Driver = startDriver(t, opts)
			settle(time.Second)
			a.mu.Lock()
			deadline := a.deadline
			a.mu.Unlock()
			if n := f.node("n1"); n.LastSeen.Add(shorter).Before(deadline) {
				t.Errorf("leases of %s count from %v; the node's lasts until %v", shorter, n.LastSeen, deadline)
			}
			if err := f.Driver.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
