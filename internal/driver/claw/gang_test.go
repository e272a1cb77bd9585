package claw

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// rankOf is a rank of a gang of two that takes a whole node of two GPUs.
func rankOf(r int) autoheal.Spec {
	s := spec(fmt.Sprintf("g-%d", r), autoheal.LabelGang, "g", autoheal.LabelGangSize, "2", autoheal.LabelRank, fmt.Sprint(r))
	s.GPUs = 2
	return s
}

// submitGang submits a gang of two and sees it run.
func (f *fleet) submitGang(t *testing.T) (a, b autoheal.WorkloadID) {
	t.Helper()
	var ids [2]autoheal.WorkloadID
	for r := range ids {
		ids[r] = f.submit(t, fmt.Sprint("c/", r), rankOf(r))
	}
	settle(time.Second)
	for _, id := range ids {
		f.mustRun(t, id, 1)
	}
	return ids[0], ids[1]
}

// fakeOf is what the node on which an attempt runs or ran knows of it.
func (f *fleet) fakeOf(t *testing.T, w autoheal.Workload) (state nodeproto.AttemptState, started time.Time) {
	t.Helper()
	a := f.agents[w.Node]
	if a == nil {
		t.Fatalf("%s/%d is on no node", w.ID, w.Attempt)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.attempts[attemptRef{w.ID, w.Attempt}]
	if p == nil {
		t.Fatalf("%s knows nothing of %s/%d", w.Node, w.ID, w.Attempt)
	}
	return p.state, p.started
}

// TestDrainedRankWaitsForASlowOne: a drain stops a gang whole, and its ranks do not end at the same time. The first one
// that did does not begin anew beside one that is still ending.
func TestDrainedRankWaitsForASlowOne(t *testing.T) {
	inFleet(t, 4, 2, func(t *testing.T, f *fleet) {
		quick, slow := f.submitGang(t)
		late := f.last(t, slow)
		a := f.agents[late.Node]
		a.mu.Lock()
		a.slow = 10 * time.Second
		a.mu.Unlock()
		from := f.last(t, quick).Node
		f.do(t, autoheal.Action{Verb: autoheal.Drain, Target: autoheal.NodeRef(from), Params: autoheal.ActionParams{Grace: 30 * time.Second}})
		settle(5 * time.Second)
		if state, _ := f.fakeOf(t, late); state == nodeproto.AttemptExited {
			t.Fatal("the slow rank has ended already: this shows nothing")
		}
		if w := f.last(t, quick); w.Attempt != 2 || w.State != autoheal.Pending || !strings.Contains(w.Detail, "1 of 2 members ready") {
			t.Errorf("beside an old rank that is still ending, %s/%d is %s on %q (%s)", quick, w.Attempt, w.State, w.Node, w.Detail)
		}
		settle(time.Minute)
		_, one := f.fakeOf(t, f.mustRun(t, quick, 2))
		_, other := f.fakeOf(t, f.mustRun(t, slow, 2))
		if apart := other.Sub(one).Abs(); apart > time.Second {
			t.Errorf("the ranks began %v apart", apart)
		}
	})
}

// TestDrainLeavesAGangWithALostRank: a drain stops nothing of a gang of which a rank is on a node that does not answer, and
// says so; once it answers again, the gang moves as a whole.
func TestDrainLeavesAGangWithALostRank(t *testing.T) {
	inFleet(t, 4, 2, func(t *testing.T, f *fleet) {
		here, there := f.submitGang(t)
		from, lost := f.last(t, here).Node, f.last(t, there).Node
		f.gw.isolate(f.agents[lost], true)
		settle(time.Minute)
		f.do(t, autoheal.Action{Verb: autoheal.Drain, Target: autoheal.NodeRef(from), Params: autoheal.ActionParams{Grace: time.Second}})
		settle(10 * time.Second)
		f.mustRun(t, here, 1)
		if why := f.node(from).Conditions["drain"]; !strings.Contains(why, string(here)+" stays: "+string(there)+" of its gang is on "+string(lost)+", which does not answer") {
			t.Errorf("the drain says %q", why)
		}
		f.gw.rejoin(f.agents[lost], false, false)
		settle(time.Minute)
		for _, id := range []autoheal.WorkloadID{here, there} {
			if w := f.mustRun(t, id, 2); w.Node == from {
				t.Errorf("%s runs on %s, which is drained", id, from)
			}
		}
	})
}

// TestRanksOfTwoGenerationsAreNotPlaced: a rank that is started anew waits until every other one is, with the same number.
func TestRanksOfTwoGenerationsAreNotPlaced(t *testing.T) {
	inFleet(t, 4, 2, func(t *testing.T, f *fleet) {
		one, other := f.submitGang(t)
		stop := func(id autoheal.WorkloadID) {
			f.do(t, autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(id), Params: autoheal.ActionParams{Attempt: 1, Grace: time.Second}})
			settle(5 * time.Second)
		}
		start := func(id autoheal.WorkloadID, n int) {
			f.do(t, autoheal.Action{Verb: autoheal.Start, Target: autoheal.WorkloadRef(id), Params: autoheal.ActionParams{Attempt: n, Proof: autoheal.ProofExitObserved}})
			settle(5 * time.Second)
		}
		waits := func(id autoheal.WorkloadID, beside string) {
			t.Helper()
			if w := f.last(t, id); w.State != autoheal.Pending || w.Node != "" {
				t.Errorf("beside %s, %s/%d is %s on %q", beside, id, w.Attempt, w.State, w.Node)
			}
		}
		stop(one)
		start(one, 3)
		waits(one, "a rank of the first generation that runs")
		stop(other)
		start(other, 2)
		waits(one, "a rank of the second generation")
		waits(other, "a rank of the third generation")
		start(other, 3)
		f.mustRun(t, one, 3)
		f.mustRun(t, other, 3)
	})
}

// TestReplacedRankIsNotBegun: a rank whose start could not be sent does not begin when its node is back, once a newer
// generation of its gang is on the way.
func TestReplacedRankIsNotBegun(t *testing.T) {
	inFleet(t, 4, 2, func(t *testing.T, f *fleet) {
		f.gw.inject(&fault{command: nodeproto.CmdStart, drop: true})
		var ids [2]autoheal.WorkloadID
		for r := range ids {
			ids[r] = f.submit(t, fmt.Sprint("c/", r), rankOf(r))
		}
		synctest.Wait()
		lost := slices.IndexFunc(ids[:], func(id autoheal.WorkloadID) bool { return f.last(t, id).State == autoheal.Scheduled })
		if lost < 0 {
			t.Fatal("both starts arrived")
		}
		old := f.last(t, ids[lost])
		f.gw.isolate(f.agents[old.Node], true)
		settle(2 * time.Minute)
		other := ids[1-lost]
		f.do(t, autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(other), Params: autoheal.ActionParams{Attempt: 1, Grace: time.Second}})
		settle(5 * time.Second)
		f.do(t, autoheal.Action{Verb: autoheal.Start, Target: autoheal.WorkloadRef(other), Params: autoheal.ActionParams{Attempt: 2, Proof: autoheal.ProofExitObserved}})
		f.gw.rejoin(f.agents[old.Node], false, false)
		settle(time.Minute)
		if n := f.node(old.Node); n.Link != autoheal.LinkUp {
			t.Fatalf("%s is %s", old.Node, n.Link)
		}
		if live := f.agents[old.Node].live(); len(live) > 0 {
			t.Errorf("%v began while the second generation waits for its start", live)
		}
		f.do(t, autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(old.ID), Params: autoheal.ActionParams{Attempt: 1, Grace: time.Second}})
		settle(5 * time.Second)
		f.do(t, autoheal.Action{Verb: autoheal.Start, Target: autoheal.WorkloadRef(old.ID), Params: autoheal.ActionParams{Attempt: 2, Proof: autoheal.ProofExitObserved}})
		settle(time.Minute)
		f.mustRun(t, other, 2)
		f.mustRun(t, old.ID, 2)
	})
}
