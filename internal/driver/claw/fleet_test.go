package claw

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

// settle lets d of virtual time pass and everything come to rest.
func settle(d time.Duration) {
	time.Sleep(d) // virtual: these tests run in a bubble
	synctest.Wait()
}

func (f *fleet) submit(t *testing.T, id string, s autoheal.Spec) autoheal.WorkloadID {
	t.Helper()
	w, err := f.Submit(t.Context(), autoheal.ActionID(id), s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// last returns the newest attempt.
func (f *fleet) last(t *testing.T, id autoheal.WorkloadID) autoheal.Workload {
	t.Helper()
	l, err := f.Lineage(t.Context(), id)
	if err != nil || len(l) == 0 {
		t.Fatalf("lineage of %s: %v %v", id, l, err)
	}
	return l[len(l)-1]
}

func (f *fleet) mustRun(t *testing.T, id autoheal.WorkloadID, n int) autoheal.Workload {
	t.Helper()
	w := f.last(t, id)
	if w.State != autoheal.Running || w.Attempt != n {
		t.Fatalf("%s/%d is %s (%s, exit %+v), want attempt %d running", id, w.Attempt, w.State, w.Detail, w.Exit, n)
	}
	return w
}

func (f *fleet) node(id autoheal.NodeID) *autoheal.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.viewLocked(f.nodes[id])
}

func (f *fleet) do(t *testing.T, a autoheal.Action) autoheal.Result {
	t.Helper()
	if a.Epoch == 0 {
		a.Epoch = f.opts.Epoch
	}
	if a.ID == "" {
		a.ID = autoheal.ActionID(fmt.Sprintf("inc-000001/%d", f.pollN.next()))
	}
	if a.Actor == "" {
		a.Actor = autoheal.ActorEngine
	}
	r := f.Do(t.Context(), a)
	if r.Outcome != autoheal.OutcomeDone {
		t.Fatalf("%s %s: %s %v", a.Verb, a.Target, r.Outcome, r.Err)
	}
	return r
}

func TestShutdownAndStartAgain(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *fleet) {
		a, b := f.submit(t, "c/1", service("web")), f.submit(t, "c/2", job("train"))
		huge := job("huge")
		huge.GPUs = 100
		p := f.submit(t, "c/3", huge)
		settle(time.Second)
		f.mustRun(t, a, 1)
		for _, ag := range f.agents {
			ag.slow = 3 * time.Second
		}
		if err := f.Shutdown(t.Context(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		for _, ag := range f.agents {
			if l := ag.live(); len(l) != 0 {
				t.Errorf("%s still runs %v", ag.name, l)
			}
		}
		if w := f.last(t, a); w.Exit == nil || w.Exit.Reason != autoheal.ExitShutdown || w.Attempt != 1 || w.Desired != autoheal.DesiredRunning {
			t.Errorf("after the shutdown: %+v exit %+v", w, w.Exit)
		}
		if _, err := f.Submit(t.Context(), "c/9", service("late")); autoheal.KindOf(err) != autoheal.ErrUnavailable {
			t.Errorf("submit while closing: %v", err)
		}
		f.restart(t, 8)
		settle(2 * time.Second)
		for _, id := range []autoheal.WorkloadID{a, b} {
			if w := f.mustRun(t, id, 2); w.Restarts != 0 {
				t.Errorf("%s has %d restarts counted", id, w.Restarts)
			}
		}
		if w := f.last(t, p); w.Attempt != 1 || w.State != autoheal.Pending {
			t.Errorf("the pending one is attempt %d, %s", w.Attempt, w.State)
		}
	})
}

func TestShutdownNamesWhatItCouldNotStop(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", service("web"))
		settle(time.Second)
		f.gw.isolate(f.agents["n1"], true)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := f.Shutdown(ctx, time.Second)
		if autoheal.KindOf(err) != autoheal.ErrTimeout || !strings.Contains(err.Error(), string(id)) {
			t.Errorf("got %v, want the workload named", err)
		}
	})
}

// TestSecondShutdownIsForced: who asks again without grace does not wait for the first grace to pass.
func TestSecondShutdownIsForced(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		f.submit(t, "c/1", service("stubborn"))
		settle(time.Second)
		f.agents["n1"].slow = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Shutdown(ctx, 10*time.Minute); autoheal.KindOf(err) != autoheal.ErrTimeout {
			t.Fatalf("the first one: %v", err)
		}
		began := time.Now()
		if err := f.Shutdown(t.Context(), 0); err != nil || time.Since(began) > 10*time.Second {
			t.Errorf("the forced one took %v: %v", time.Since(began), err)
		}
	})
}

func TestDriverRestartAdopts(t *testing.T) {
	inFleet(t, 3, 2, func(t *testing.T, f *fleet) {
		a, b := f.submit(t, "c/1", service("web")), f.submit(t, "c/2", job("train"))
		settle(time.Second)
		on := f.mustRun(t, b, 1).Node
		f.restart(t, 8)
		settle(time.Second)
		f.mustRun(t, a, 1)
		if w := f.mustRun(t, b, 1); w.Node != on || !f.node(on).LastSeen.After(w.StartedAt) {
			t.Errorf("after a restart: %+v", w)
		}
		for _, id := range []autoheal.WorkloadID{a, b} {
			if got := f.started(id); len(got) != 1 || got[1] != 1 {
				t.Errorf("%s began %v", id, got)
			}
		}
		again := f.submit(t, "c/1", service("web"))
		if again != a {
			t.Errorf("the same submit made %s after a restart, want %s", again, a)
		}
		if next := f.submit(t, "c/3", service("new")); next == a || next == b {
			t.Errorf("a new workload got the ID %s again", next)
		}
	})
}

// TestCrashBetweenRowAndStart ends a driver after it wrote an attempt's row and sent the start, before it learned
// anything: the next life sends the same start to the same node, and the attempt begins once.
func TestCrashBetweenRowAndStart(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		t.Run(fmt.Sprintf("arrives=%t", arrives), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := openFleet(t, 3, 0)
				settle(time.Second)
				f.gw.inject(&fault{command: nodeproto.CmdStart, loseAnswer: arrives, drop: !arrives})
				id := f.submit(t, "c/1", job("train"))
				settle(time.Millisecond)
				on := f.last(t, id).Node
				f.restart(t, 8)
				settle(30 * time.Second)
				if w := f.mustRun(t, id, 1); w.Node != on {
					t.Errorf("moved from %s to %s", on, w.Node)
				}
				if got := f.started(id); got[1] != 1 {
					t.Errorf("began %v", got)
				}
			})
		})
	}
}

func TestExitIsDurableBeforeItIsForgotten(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", service("web"))
		settle(time.Second)
		ag := f.agents["n1"]
		f.gw.isolate(ag, true)
		ag.end(attemptRef{id, 1}, &autoheal.Exit{Code: 9, Reason: autoheal.ExitCrashed})
		settle(time.Minute)
		if len(ag.attempts) != 1 {
			t.Fatal("forgotten before anybody was told")
		}
		f.gw.rejoin(ag, true, false)
		settle(10 * time.Second)
		if w := f.last(t, id); w.State != autoheal.Failed || w.Exit.Code != 9 {
			t.Errorf("%+v", w)
		}
		if len(ag.attempts) != 0 {
			t.Error("the node still keeps what is durable here")
		}
		var exit string
		if err := f.db.Read().QueryRow(`SELECT exit FROM attempts WHERE workload = ?`, string(id)).Scan(&exit); err != nil || !strings.Contains(exit, `"code":9`) {
			t.Errorf("exit in the registry: %s %v", exit, err)
		}
	})
}

func TestReturnOfTheDead(t *testing.T) {
	inFleet(t, 3, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", service("web"))
		settle(time.Second)
		on := f.mustRun(t, id, 1).Node
		f.gw.isolate(f.agents[on], true)
		settle(20 * time.Second)
		unsaid := f.Do(t.Context(), autoheal.Action{
			ID: "inc-000001/1", Epoch: f.opts.Epoch, Actor: autoheal.ActorEngine, Verb: autoheal.Start, Target: autoheal.WorkloadRef(id),
			Params: autoheal.ActionParams{Attempt: 2, Avoid: []autoheal.NodeID{on}},
		})
		if unsaid.Outcome != autoheal.OutcomeNotSent || unsaid.Err == nil || unsaid.Err.Kind != autoheal.ErrConflict {
			t.Errorf("an extra copy that was not asked for as one: %s %v", unsaid.Outcome, unsaid.Err)
		}
		f.do(t, autoheal.Action{Verb: autoheal.Start, Target: autoheal.WorkloadRef(id), Params: autoheal.ActionParams{
			Attempt: 2, Proof: autoheal.ProofOperator, Avoid: []autoheal.NodeID{on},
		}})
		settle(time.Second)
		f.mustRun(t, id, 2)
		l, _ := f.Lineage(t.Context(), id)
		if l[0].State != autoheal.Failed || l[0].Exit.Reason != autoheal.ExitSuperseded {
			t.Fatalf("the older attempt: %+v", l[0])
		}
		f.gw.rejoin(f.agents[on], false, false)
		settle(time.Minute)
		l, _ = f.Lineage(t.Context(), id)
		if l[0].State != autoheal.Running || l[0].Exit != nil {
			t.Errorf("it came back running and is shown as %s %+v", l[0].State, l[0].Exit)
		}
		if len(f.agents[on].live()) != 1 {
			t.Error("the driver stopped it by itself")
		}
		f.do(t, autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(id), Params: autoheal.ActionParams{Attempt: 1}})
		settle(time.Second)
		l, _ = f.Lineage(t.Context(), id)
		if l[0].State != autoheal.Failed || l[0].Exit.Reason != autoheal.ExitStopped || l[1].State != autoheal.Running {
			t.Errorf("after the stop: %s %+v, %s", l[0].State, l[0].Exit, l[1].State)
		}
	})
}

func TestBusyIsNotDead(t *testing.T) {
	inFleet(t, 2, 0, func(t *testing.T, f *fleet) {
		ag := f.agents["n1"]
		ag.mu.Lock()
		ag.busy = true
		ag.mu.Unlock()
		settle(2 * time.Minute)
		if n := f.node("n1"); n.Link != autoheal.LinkUp {
			t.Errorf("a busy node is %s", n.Link)
		}
		if n := f.node("n1"); time.Since(n.LastSeen) < time.Minute {
			t.Error("a status answer moved LastSeen, from which fences count")
		}
	})
}

func TestAgentRestartIsNoSilence(t *testing.T) {
	inFleet(t, 2, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", job("train"))
		settle(time.Second)
		ag := f.agents[f.mustRun(t, id, 1).Node]
		since := f.node(autoheal.NodeID(ag.name)).LinkSince
		f.gw.isolate(ag, false)
		settle(2 * time.Second)
		ag.mu.Lock()
		ag.attempts[attemptRef{id, 1}].state = nodeproto.AttemptStarting // as it says of what it adopts until the shim answers
		ag.mu.Unlock()
		f.gw.rejoin(ag, true, false)
		settle(10 * time.Second)
		if n := f.node(autoheal.NodeID(ag.name)); n.Link != autoheal.LinkUp || !n.LinkSince.Equal(since) {
			t.Errorf("an agent that was gone for 2 s: %s since %s, before %s", n.Link, n.LinkSince, since)
		}
		f.mustRun(t, id, 1)
	})
}

func TestStartThatTheNodeRefuses(t *testing.T) {
	inFleet(t, 2, 0, func(t *testing.T, f *fleet) {
		s := service("nope")
		s.Command = []string{"/missing"}
		id := f.submit(t, "c/1", s)
		settle(5 * time.Second)
		w := f.last(t, id)
		if w.State != autoheal.Failed || w.Exit.Reason != autoheal.ExitStartFailed || !strings.Contains(w.Detail, "/missing") {
			t.Errorf("%+v %+v", w, w.Exit)
		}
	})
}

func TestNewerHealerIsObeyedByTheAgents(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		f.agents["n1"].mu.Lock()
		f.agents["n1"].epoch = 100
		f.agents["n1"].mu.Unlock()
		id := f.submit(t, "c/1", service("web"))
		settle(2 * time.Minute)
		if got := f.started(id); len(got) != 0 {
			t.Errorf("began %v under an old epoch", got)
		}
		if n := f.gw.calls[nodeproto.CmdStart]; n > 10 {
			t.Errorf("%d starts sent to an agent that refuses this healer", n)
		}
	})
}

func TestPreemptionReservesThePlace(t *testing.T) {
	inFleet(t, 1, 2, func(t *testing.T, f *fleet) {
		low := service("low")
		low.GPUs = 2
		victim := f.submit(t, "c/1", low)
		settle(time.Second)
		f.mustRun(t, victim, 1)
		high, prio := service("high"), 95
		high.GPUs, high.Priority = 2, &prio
		vip := f.submit(t, "c/2", high)
		rival := f.submit(t, "c/3", low)
		settle(time.Second)
		f.agents["n1"].slow = 5 * time.Second
		f.do(t, autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(victim), Params: autoheal.ActionParams{For: vip, Grace: 10 * time.Second}})
		settle(10 * time.Second)
		f.mustRun(t, vip, 1)
		l, err := f.Lineage(t.Context(), victim)
		if err != nil || len(l) != 2 || l[0].Exit.Reason != autoheal.ExitPreempted {
			t.Errorf("victim: %+v (%v)", l, err)
		}
		if w := f.last(t, victim); w.State != autoheal.Pending || w.Desired != autoheal.DesiredRunning || w.Restarts != 0 {
			t.Errorf("it should wait for a place again, with nothing held against it: %+v", w)
		}
		if w := f.last(t, rival); w.State != autoheal.Pending {
			t.Errorf("a rival got the place: %s", w.State)
		}
	})
}

func TestLineageIsBounded(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", service("web"))
		for n := 1; n <= 60; n++ {
			settle(time.Second)
			f.agents["n1"].end(attemptRef{id, n}, &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed})
			settle(time.Second)
			f.do(t, autoheal.Action{Verb: autoheal.Start, Target: autoheal.WorkloadRef(id), Params: autoheal.ActionParams{Attempt: n + 1}})
		}
		settle(time.Second)
		l, err := f.Lineage(t.Context(), id)
		if err != nil || len(l) != keepLineage || l[len(l)-1].Attempt != 61 {
			t.Errorf("%d attempts kept (%v)", len(l), err)
		}
		var rows int
		if err := f.db.Read().QueryRow(`SELECT count(*) FROM attempts`).Scan(&rows); err != nil || rows != keepLineage {
			t.Errorf("%d rows (%v)", rows, err)
		}
		if got := f.index.Free("n1").MemoryMB; got != 15900 {
			t.Errorf("%d MB free, want what one attempt leaves", got)
		}
	})
}

func TestServiceIsHandedOverToItsReplicas(t *testing.T) {
	inFleet(t, 3, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", service("web"))
		settle(time.Second)
		f.mustRun(t, id, 1)
		f.do(t, autoheal.Action{Verb: autoheal.Scale, Target: autoheal.WorkloadRef(id), Actor: "ann", Params: autoheal.ActionParams{Replicas: 3}})
		settle(time.Minute)
		running := 0
		for _, ag := range f.agents {
			for _, ref := range ag.live() {
				if ref.id == id {
					t.Errorf("its own attempt still runs on %s", ag.name)
				}
				running++
			}
		}
		if running != 3 {
			t.Errorf("%d replicas run", running)
		}
	})
}

func TestNamesAreBoundToKeys(t *testing.T) {
	inFleet(t, 1, 0, func(t *testing.T, f *fleet) {
		f.gw.mu.Lock()
		f.gw.pending = []openclaw.NodePairRequest{
			{RequestID: "r1", NodeID: "dev-other", DisplayName: "n1", Commands: nodeproto.Commands()},
			{RequestID: "r2", NodeID: "dev-n2", DisplayName: "n2", Commands: nodeproto.Commands()},
		}
		f.gw.mu.Unlock()
		f.gw.presence()
		settle(10 * time.Second)
		if n := f.node("n2"); n.Link != autoheal.LinkUp {
			t.Errorf("the new node is %s", n.Link)
		}
		waiting, err := f.Joining(t.Context())
		if err != nil || len(waiting) != 1 || waiting[0].Refused == "" {
			t.Errorf("waiting: %+v (%v), want the one that uses a bound name", waiting, err)
		}
		if err := f.ApproveNode(t.Context(), "n1"); autoheal.KindOf(err) != autoheal.ErrConflict {
			t.Errorf("approve a bound name: %v", err)
		}
		if err := f.ForgetNode(t.Context(), "n2"); autoheal.KindOf(err) != autoheal.ErrConflict {
			t.Errorf("forget a node that answers: %v", err)
		}
	})
}

func TestStrayAttemptsAreShownAndLeftAlone(t *testing.T) {
	inFleet(t, 1, 2, func(t *testing.T, f *fleet) {
		ag := f.agents["n1"]
		ref := attemptRef{"wl-999999", 3}
		ag.mu.Lock()
		ag.attempts[ref] = &fakeAttempt{
			req:   nodeproto.StartRequest{Workload: ref.id, Attempt: ref.n, GPUs: []autoheal.GPUID{"n1-g0"}},
			state: nodeproto.AttemptRunning, started: time.Now(),
		}
		ag.tellLocked(ref)
		ag.mu.Unlock()
		settle(time.Second)
		if free := f.index.Free("n1").GPUs; free != 1 {
			t.Errorf("%d GPUs count as free, want 1: a stray one holds the other", free)
		}
		settle(time.Minute)
		if len(ag.live()) != 1 {
			t.Error("it was stopped")
		}
		ag.end(ref, &autoheal.Exit{Code: 0, Reason: autoheal.ExitCompleted})
		settle(10 * time.Second)
		if free := f.index.Free("n1").GPUs; free != 2 || len(ag.attempts) != 0 {
			t.Errorf("after its end: %d GPUs free, %d attempts kept", free, len(ag.attempts))
		}
	})
}

func TestLogsOfAWorkload(t *testing.T) {
	inFleet(t, 2, 0, func(t *testing.T, f *fleet) {
		id := f.submit(t, "c/1", service("web"))
		settle(5 * time.Second)
		var got []string
		for l, err := range f.Logs(t.Context(), autoheal.LogQuery{Workload: id, Limit: 5}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, l.Source+" "+l.Message)
		}
		if len(got) != 2 || !strings.HasPrefix(got[0], "stdout hello") || got[1] != "stderr second line" {
			t.Errorf("got %q", got)
		}
	})
}
