package claw

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// TestNodeThatNeverAnswers: the first listing does not wait for it for ever; it is unknown, then silent, and what it is
// counted from is our own start.
func TestNodeThatNeverAnswers(t *testing.T) {
	inFleet(t, 2, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", job("train"))
		settle(time.Second)
		on := f.mustRun(t, id, 1).Node
		f.gw.isolate(f.agents[on], true)
		f.restart(t, 8)
		began := time.Now()
		var first *autoheal.Node
		var kinds []autoheal.EventKind
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for e, err := range f.Watch(ctx) {
			if err != nil {
				break
			}
			kinds = append(kinds, e.Kind)
			if e.Kind == autoheal.EventNode && e.Node.ID == on && first == nil {
				first = e.Node
			}
			if e.Kind == autoheal.EventSynced {
				cancel()
			}
		}
		if waited := time.Since(began); waited > 2*f.opts.ProbeTimeout {
			t.Errorf("the first listing took %v", waited)
		}
		if first == nil || first.Link != autoheal.LinkUnknown || first.Ready || !first.LastSeen.Equal(began) {
			t.Errorf("listed as %+v after %v", first, kinds)
		}
		settle(10 * time.Second)
		if n := f.node(on); n.Link != autoheal.LinkSilent || !n.LastSeen.Equal(began) {
			t.Errorf("later: %s, last seen %v, want silent since %v", n.Link, n.LastSeen, began)
		}
		if w := f.last(t, id); w.State.Ended() || w.Node != on {
			t.Errorf("its workload is %s on %q", w.State, w.Node)
		}
	})
}

func TestDrainMovesAGangWhole(t *testing.T) {
	inFleet(t, 4, 2, func(t *testing.T, f *fleet) {
		var ids []autoheal.WorkloadID
		for r := range 2 {
			s := spec(fmt.Sprintf("g-%d", r), autoheal.LabelGang, "g", autoheal.LabelGangSize, "2", autoheal.LabelRank, fmt.Sprint(r))
			s.GPUs = 2
			ids = append(ids, f.submit(t, fmt.Sprint("c/", r), s))
		}
		settle(time.Second)
		from := f.mustRun(t, ids[0], 1).Node
		f.do(t, autoheal.Action{Verb: autoheal.Drain, Target: autoheal.NodeRef(from), Params: autoheal.ActionParams{Grace: 5 * time.Second}})
		settle(time.Minute)
		for _, id := range ids {
			if w := f.mustRun(t, id, 2); w.Node == from {
				t.Errorf("%s is on the drained node again", id)
			}
		}
		f.mu.Lock()
		a, b := f.workloads[ids[0]].current().generation, f.workloads[ids[1]].current().generation
		left := len(f.nominations)
		f.mu.Unlock()
		if a != "2" || b != "2" || left != 0 {
			t.Errorf("generations %s and %s, %d nominations left", a, b, left)
		}
		if n := f.node(from); n.Draining || n.Schedulable {
			t.Errorf("after the drain: draining=%t schedulable=%t", n.Draining, n.Schedulable)
		}
	})
}

// TestListingInPages feeds a listing in three pages: what the last page does not show is not missing, and a listing whose
// beginning was lost is asked for again as a whole.
func TestListingInPages(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		var ids []autoheal.WorkloadID
		for i := range 3 {
			ids = append(ids, f.submit(t, fmt.Sprint("c/", i), service(fmt.Sprint("w", i))))
		}
		settle(time.Second)
		f.mu.Lock()
		n := f.nodes["n1"]
		life := n.life
		f.mu.Unlock()
		page := func(i int, first, more bool, seq int64) *nodeproto.PollResponse {
			r := &nodeproto.PollResponse{BootID: "n1-boot-1", Life: life, N: 50 + int64(i), Seq: seq, Full: true, More: more}
			if first {
				r.Node = &nodeproto.NodeStatus{Name: "n1", Allocatable: autoheal.Resources{MemoryMB: 16000, CPUMilli: 8000}, Caps: []autoheal.Verb{autoheal.Start, autoheal.Stop}}
			}
			r.Workloads = []nodeproto.AttemptStatus{{Workload: ids[i], Attempt: 1, State: nodeproto.AttemptRunning, StartedMS: 1}}
			return r
		}
		now := time.Now()
		tell := func(after int64, r *nodeproto.PollResponse) {
			f.pollAnswered(t.Context(), n, nodeproto.PollRequest{After: after, Life: life}, r, now, now)
		}
		tell(0, page(0, true, true, 1000))
		tell(1000, page(1, false, true, 1001))
		tell(1001, page(2, false, false, 1002))
		for _, id := range ids {
			f.mustRun(t, id, 1)
		}
		tell(1001, page(2, false, false, 1002)) // its beginning was given up: it proves nothing missing
		for _, id := range ids {
			f.mustRun(t, id, 1)
		}
		f.mu.Lock()
		after := n.after
		f.mu.Unlock()
		if after != 0 {
			t.Errorf("the next poll asks for what follows %d, want a whole listing", after)
		}
		whole := page(0, true, false, 2000)
		tell(0, whole)
		if w := f.last(t, ids[1]); !w.State.Ended() || !strings.Contains(w.Detail, "keeps nothing of it") {
			t.Errorf("an attempt that its node lost is %s (%s)", w.State, w.Detail)
		}
	})
}

func TestWatcherThatDoesNotKeepUp(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", service("w"))
		settle(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var kinds []autoheal.EventKind
		synced := 0
		for e, err := range f.Watch(ctx) {
			if err != nil {
				break
			}
			kinds = append(kinds, e.Kind)
			if e.Kind == autoheal.EventSynced {
				if synced++; synced == 2 {
					cancel()
					continue
				}
				f.mu.Lock()
				for range watchQueue + 1 {
					w := f.workloads[id]
					f.emitWorkloadLocked(f.workloadViewLocked(w, w.current()), time.Now(), "test")
				}
				f.mu.Unlock()
			}
		}
		tail := kinds[len(kinds)-4:]
		want := fmt.Sprint([]autoheal.EventKind{autoheal.EventLost, autoheal.EventNode, autoheal.EventWorkload, autoheal.EventSynced})
		if fmt.Sprint(tail) != want || len(kinds) > 20 {
			t.Errorf("%d events, the last %v, want %v", len(kinds), tail, want)
		}
	})
}

// TestEndThatCannotBeSaved: while the registry takes no writes, an end is told but the node keeps it; later it is saved.
func TestEndThatCannotBeSaved(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", service("w"))
		settle(10 * time.Second)
		write := func(stmt string) {
			err := f.db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(stmt); return err })
			if err != nil {
				t.Fatal(err)
			}
		}
		write(`CREATE TRIGGER full BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'no space'); END`)
		ag := f.agents["n1"]
		ag.end(attemptRef{id, 1}, &autoheal.Exit{Code: 5, Reason: autoheal.ExitCrashed})
		settle(time.Minute)
		if w := f.last(t, id); w.State != autoheal.Failed {
			t.Errorf("it is told as %s", w.State)
		}
		ag.mu.Lock()
		kept := len(ag.attempts)
		ag.mu.Unlock()
		if kept != 1 {
			t.Error("the node forgot an end that is not durable here")
		}
		write(`DROP TRIGGER full`)
		settle(time.Minute)
		var exit string
		if err := f.db.Read().QueryRow(`SELECT exit FROM attempts WHERE workload = ?`, string(id)).Scan(&exit); err != nil || !strings.Contains(exit, `"code":5`) {
			t.Errorf("saved exit %s (%v)", exit, err)
		}
		ag.mu.Lock()
		defer ag.mu.Unlock()
		if len(ag.attempts) != 0 {
			t.Error("the node still keeps it")
		}
	})
}
