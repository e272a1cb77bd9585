package heal

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// TestReleasedZoneMovesByDeadline loses a zone, which is held, and releases it: every Step looks at a bounded number of
// things, and the moves are asked for at the pace, the most urgent first.
func TestReleasedZoneMovesByDeadline(t *testing.T) {
	s := settled(t, 2000, 10, suspicious)
	s.lose(200)
	s.quiet(s.now.Add(10 * time.Minute)) // every grace and every fence is over
	s.reset()
	s.step(Input{Commands: []autoheal.Command{{ID: "release", Verb: autoheal.CmdRelease, Actor: "ann", Incident: s.core.d.Storm.Incident}}})
	released := s.now
	var starts []*action
	for n := 0; len(starts) < 2000 && n < 100_000; n++ {
		before := s.records
		asked := s.asked
		s.quietOnce()
		if got := s.records - before; got > 5*stepMost {
			t.Fatalf("%d records in one Step", got)
		}
		for _, a := range asked {
			if a.Verb == autoheal.Start {
				starts = append(starts, s.core.d.action(a.ID, a.Incident))
			}
		}
	}
	if len(starts) != 2000 {
		t.Fatalf("%d of 2000 workloads were started elsewhere", len(starts))
	}
	deadline := func(a *action) time.Time { return s.core.d.Incidents[a.Incident].Recoveries[a.Workload].Deadline }
	for n, a := range starts[1:] {
		if b := starts[n]; deadline(a).Before(deadline(b)) && a.IntentAt.After(b.IntentAt) {
			t.Fatalf("%s is due at %s and was started after %s, which is due at %s", a.Workload, deadline(a), b.Workload, deadline(b))
		}
	}
	pace := s.core.pol.Budgets.Pace
	if took, least := starts[len(starts)-1].IntentAt.Sub(released).Seconds(), (2000-2*pace)/pace; took < least-1 {
		t.Errorf("all were started within %.0f s, at the pace it takes %.0f s", took, least)
	}
	if len(s.core.turns.queue)+len(s.core.turns.in) > 0 {
		t.Errorf("%d still wait for their turn", len(s.core.turns.queue))
	}
}

// TestTimersFireInOrder compares the timers with a sorted list.
func TestTimersFireInOrder(t *testing.T) {
	rnd, start := rand.New(rand.NewPCG(5, 6)), time.Unix(1000, 0)
	var ts timers
	want := map[key]time.Time{}
	for round := range 200 {
		for range rnd.IntN(40) {
			k, at := key{w: autoheal.WorkloadID(fmt.Sprint(rnd.IntN(50)))}, start.Add(time.Duration(round*10+rnd.IntN(100))*time.Second)
			if old, ok := want[k]; !ok || at.Before(old) {
				want[k] = at
			}
			ts.set(k, at)
		}
		now := start.Add(time.Duration(round*10) * time.Second)
		var last time.Time
		for k, ok := ts.pop(now); ok; k, ok = ts.pop(now) {
			if want[k].After(now) || want[k].Before(last) {
				t.Fatalf("%s fired at %s, is due at %s, after one due at %s", k.w, now, want[k], last)
			}
			last = want[k]
			delete(want, k)
		}
		next := time.Time{}
		for _, at := range want {
			if !at.After(now) {
				t.Fatalf("due at %s and not fired by %s", at, now)
			}
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
		if got := ts.next(); !got.Equal(next) {
			t.Fatalf("the next is due at %s, not %s", next, got)
		}
	}
}

// TestViewKeepsItsLists gives a view random events and listings, and compares what it keeps by key with what follows from
// nodes and attempts alone.
func TestViewKeepsItsLists(t *testing.T) {
	rnd, now := rand.New(rand.NewPCG(7, 8)), time.Unix(1000, 0).UTC()
	v := newView(actPolicy(t))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	for step := range 5000 {
		now = now.Add(time.Second)
		e := autoheal.Event{At: now}
		switch n := rnd.IntN(100); {
		case n < 30:
			e.Kind, e.Node = autoheal.EventNode, &autoheal.Node{ID: autoheal.NodeID(pick("a", "b", "c")), LinkSince: now, Link: autoheal.LinkState(pick("up", "silent", "unknown"))}
		case n < 90:
			e.Kind, e.Workload = autoheal.EventWorkload, &autoheal.Workload{
				ID: autoheal.WorkloadID(pick("v", "w", "x", "y")), Attempt: 1 + step/500 + rnd.IntN(3), Node: autoheal.NodeID(pick("", "a", "b", "c")),
				Gang: autoheal.GangID(pick("", "g")), State: autoheal.WorkloadState(pick("running", "scheduled", "pending", "failed")),
			}
		case n < 96:
			e.Kind, e.Gone = autoheal.EventGone, &autoheal.Ref{Kind: autoheal.RefWorkload, ID: pick("v", "w", "x", "y")}
			if rnd.IntN(2) == 0 {
				e.Gone = &autoheal.Ref{Kind: autoheal.RefNode, ID: pick("a", "b", "c")}
			}
		default:
			e.Kind = autoheal.EventKind(pick("lost", "synced"))
		}
		v.apply(e, now)
		v.compare(t, step)
	}
}

func (v *view) compare(t *testing.T, step int) {
	t.Helper()
	onNode, oldOn := map[autoheal.NodeID][]autoheal.WorkloadID{}, map[autoheal.NodeID][]autoheal.WorkloadID{}
	gangs, silent := map[autoheal.GangID][]autoheal.WorkloadID{}, 0
	for _, id := range sortedKeys(v.cur) {
		w := v.cur[id]
		if w.Node != "" && !w.State.Ended() {
			onNode[w.Node] = append(onNode[w.Node], id)
		}
		if w.Gang != "" {
			gangs[w.Gang] = append(gangs[w.Gang], id)
		}
		for n, old := range v.old[id] {
			if n == w.Attempt || !live(old) {
				t.Fatalf("step %d: attempt %d of %s is kept as an older one", step, n, id)
			}
		}
	}
	for _, id := range sortedKeys(v.old) {
		for _, w := range v.old[id] {
			oldOn[w.Node] = append(oldOn[w.Node], id)
		}
	}
	for _, n := range v.nodes {
		if n.Link == autoheal.LinkSilent {
			silent++
		}
	}
	same(t, step, "on nodes", v.onNode, onNode)
	same(t, step, "older ones on nodes", v.oldOn, oldOn)
	same(t, step, "in gangs", v.gangs, gangs)
	if len(v.silent) != silent || len(v.since) != silent || !slices.IsSorted(v.since) {
		t.Fatalf("step %d: %d are silent, counted %d and %v", step, silent, len(v.silent), v.since)
	}
}

func same[K cmp.Ordered](t *testing.T, step int, what string, got, want map[K][]autoheal.WorkloadID) {
	t.Helper()
	if a, b := sortedKeys(got), sortedKeys(want); !slices.Equal(a, b) {
		t.Fatalf("step %d: %s: %v, want %v", step, what, a, b)
	}
	for k := range want {
		if !slices.Equal(got[k], want[k]) {
			t.Fatalf("step %d: %s %v: %v, want %v", step, what, k, got[k], want[k])
		}
	}
}

// TestListingDropsWhatItLacks lists a cluster anew, at random without some of it: what was not listed is gone, older
// attempts one by one.
func TestListingDropsWhatItLacks(t *testing.T) {
	rnd, now := rand.New(rand.NewPCG(9, 10)), time.Unix(1000, 0).UTC()
	v := newView(actPolicy(t))
	for range 300 {
		v.apply(autoheal.Event{Kind: autoheal.EventLost}, now)
		nodes, attempts := map[autoheal.NodeID]bool{}, map[attemptID]bool{}
		highest := map[autoheal.WorkloadID]int{}
		for range rnd.IntN(30) {
			n := &autoheal.Node{ID: autoheal.NodeID(fmt.Sprint("n", rnd.IntN(6))), Link: autoheal.LinkUp}
			nodes[n.ID] = true
			v.apply(autoheal.Event{Kind: autoheal.EventNode, Node: n}, now)
			w := &autoheal.Workload{ID: autoheal.WorkloadID(fmt.Sprint("w", rnd.IntN(6))), Attempt: 1 + rnd.IntN(4), Node: n.ID, State: autoheal.Running}
			attempts[attemptID{w.ID, w.Attempt}] = true
			highest[w.ID] = max(highest[w.ID], w.Attempt)
			v.apply(autoheal.Event{Kind: autoheal.EventWorkload, Workload: w}, now)
			if rnd.IntN(10) == 0 { // it goes while the rest is being listed
				ref := w.Ref()
				v.apply(autoheal.Event{Kind: autoheal.EventGone, Gone: &ref}, now)
				delete(highest, w.ID)
				maps.DeleteFunc(attempts, func(a attemptID, _ bool) bool { return a.id == w.ID })
			}
		}
		v.apply(autoheal.Event{Kind: autoheal.EventSynced}, now)
		if !slices.Equal(sortedKeys(v.nodes), sortedKeys(nodes)) || !slices.Equal(sortedKeys(v.cur), sortedKeys(highest)) {
			t.Fatalf("nodes %v, want %v; workloads %v, want %v", sortedKeys(v.nodes), sortedKeys(nodes), sortedKeys(v.cur), sortedKeys(highest))
		}
		for id := range v.old {
			for n := range v.old[id] {
				if !attempts[attemptID{id, n}] {
					t.Fatalf("attempt %d of %s was not listed and is kept", n, id)
				}
			}
		}
	}
}
