package heal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/journal"
)

// TestNodeLoss runs the whole loop: a node falls silent, its workloads go elsewhere, it returns to service. The fake
// checks on every action that its intent is in the journal already.
func TestNodeLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		defer s.stop()
		elapse(30 * time.Second)
		s.cluster.silence("n1")
		elapse(4 * time.Minute)
		is := s.incidents()
		if len(is) != 1 || is[0].Phase != autoheal.Recovered || len(is[0].Recoveries) != 2 {
			t.Fatalf("after 4 minutes: %+v", is)
		}
		for _, r := range is[0].Recoveries {
			if r.End != autoheal.EndRecovered || r.Attempt != 2 || r.To == "n1" {
				t.Errorf("%s: end %s, attempt %d on %s", r.Workload, r.End, r.Attempt, r.To)
			}
		}
		s.cluster.answer("n1")
		elapse(5 * time.Minute)
		s.cluster.change(func(f *fakeCluster) {
			if n := f.nodes["n1"]; !n.Schedulable {
				t.Errorf("n1 was not returned to service: %+v", n.Marks)
			}
		})
		s.checkFold()
	})
}

// checkFold compares the running core's durable state with the fold of what is in the journal.
func (s *shell) checkFold() {
	s.t.Helper()
	fresh := newDurable()
	for r, err := range s.store.Replay(context.Background()) {
		if err == nil {
			err = fresh.apply(r)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	want, _ := json.Marshal(fresh)
	got, err := query(context.Background(), s.engine, func(c *Core) ([]byte, error) { return json.Marshal(c.d) })
	if err != nil {
		s.t.Fatal(err)
	}
	if string(got) != string(want) {
		s.t.Errorf("the core's state is not the fold of its journal:\n core %s\n fold %s", got, want)
	}
}

// slowVerb makes one verb take a while to be accepted.
func slowVerb(s *shell, verb autoheal.Verb, d time.Duration) {
	s.cluster.doFn = func(ctx context.Context, a autoheal.Action) autoheal.Result {
		if a.Verb == verb {
			select {
			case <-clock.Real{}.NewTimer(d).C():
			case <-ctx.Done():
				return autoheal.Result{Outcome: autoheal.OutcomeUnknown, Err: &autoheal.Error{Kind: autoheal.ErrTimeout}, At: now()}
			}
		}
		return s.cluster.obey(a)
	}
}

func stopOf(id string) autoheal.Command {
	return autoheal.Command{Verb: autoheal.CommandVerb(autoheal.Stop), Target: autoheal.Ref{Kind: autoheal.RefWorkload, ID: id}}
}

func TestReplyFollowsAcceptance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t)
		slowVerb(s, autoheal.Stop, 5*time.Second)
		s.start()
		defer s.stop()
		elapse(time.Minute)
		began := now()
		r := s.command(stopOf("wl-1"))
		if took := now().Sub(began); took != 5*time.Second {
			t.Errorf("the reply came after %s, want the 5 s until the action was accepted", took)
		}
		if r.Err != nil || r.Action == nil || r.Action.Outcome == nil || *r.Action.Outcome != autoheal.OutcomeDone {
			t.Errorf("reply %+v", r)
		}
		if n := countType(s.records(), journal.TypeCommand); n != 1 {
			t.Errorf("%d command records when the reply is there, want 1", n)
		}
	})
}

// TestCommandTwice gives the same command under one ID again: after the answer, and while it is being carried out.
func TestCommandTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t)
		slowVerb(s, autoheal.Stop, 5*time.Second)
		s.start()
		defer s.stop()
		elapse(time.Minute)
		cmd := stopOf("wl-1")
		cmd.ID, cmd.Actor, cmd.Role = "mine", "ann", "operator"
		replies := make(chan autoheal.Reply, 2)
		for range 2 {
			go func() {
				r, err := s.engine.Command(t.Context(), cmd)
				if err != nil {
					t.Error(err)
				}
				replies <- r
			}()
		}
		for range 2 {
			if r := <-replies; r.Action == nil || r.Err != nil {
				t.Errorf("a caller of the same command got %+v", r)
			}
		}
		if r := s.command(cmd); !strings.Contains(r.Message, "asked before") {
			t.Errorf("asked a third time: %+v", r)
		}
		if as := s.cluster.actions(); len(as) != 1 {
			t.Errorf("one command led to %d actions: %+v", len(as), as)
		}
	})
}

func TestCallersThatGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t)
		slowVerb(s, autoheal.Stop, 20*time.Second)
		s.start()
		defer s.stop()
		elapse(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 100)
		for n := range 100 {
			go func() {
				cmd := stopOf(fmt.Sprintf("wl-%d", n%2+1))
				cmd.Actor, cmd.Role = "ann", "operator"
				_, err := s.engine.Command(ctx, cmd)
				ended <- err
			}()
		}
		elapse(time.Second)
		cancel()
		for range 100 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Fatalf("a caller that gave up got %v", err)
			}
		}
		s.command(autoheal.Command{Verb: autoheal.CmdExamine})
		elapse(25 * time.Minute)
		left, _ := query(t.Context(), s.engine, func(*Core) (int, error) { return len(s.engine.waiting), nil })
		if left != 0 {
			t.Errorf("%d entries are left of callers that gave up", left)
		}
	})
}

// TestLateness stalls the loop in three places; each must be noticed as a time in which nobody looked (behaviour D0).
func TestLateness(t *testing.T) {
	for name, stall := range map[string]func(s *shell){
		"query": func(s *shell) {
			_, _ = query(context.Background(), s.engine, func(*Core) (int, error) { time.Sleep(10 * time.Second); return 0, nil })
		},
		"commit": func(s *shell) {
			slow := true
			s.store.AfterAppend(func(uint64, uint64) {
				if slow {
					slow = false
					time.Sleep(10 * time.Second)
				}
			})
			s.command(autoheal.Command{Verb: autoheal.CmdPauseHealer})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShell(t).start()
				defer s.stop()
				elapse(30*time.Second + 500*time.Millisecond)
				if n := s.status().Stalls; n != 0 {
					t.Fatalf("%d stalls before there was any", n)
				}
				stall(s)
				elapse(5 * time.Second)
				if n := s.status().Stalls; n != 1 {
					t.Errorf("%d stalls were noticed, want 1", n)
				}
				for _, r := range s.records() {
					if p, ok := r.Data.(journal.Notice); ok && p.Reason == autoheal.ReasonObserverStalled && p.For >= 9*time.Second && p.For <= 10*time.Second {
						return
					}
				}
				t.Error("no notice of 9 to 10 s in the journal")
			})
		})
	}
}

func TestOrderlyStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		elapse(30 * time.Second)
		s.stop()
		rs := s.records()
		if last := rs[len(rs)-1]; last.Type != journal.TypeEngineStopped {
			t.Errorf("the last record is %s", last.Type)
		}
		var e *autoheal.Error
		if _, err := s.engine.Command(t.Context(), stopOf("wl-1")); !errors.As(err, &e) || e.Kind != autoheal.ErrUnavailable {
			t.Errorf("a command after the end: %v", err)
		}
		if _, err := s.engine.Status(t.Context()); !errors.As(err, &e) || e.Kind != autoheal.ErrUnavailable {
			t.Errorf("a query after the end: %v", err)
		}
		if err := s.engine.SetPolicy(t.Context(), PolicyChange{Policy: s.opt.Policy}); err == nil {
			t.Error("a configuration was accepted after the end")
		}
		for c := range s.engine.Changes(t.Context()) {
			if c.Type != autoheal.ChangeSubscribed {
				t.Errorf("a change after the end: %+v", c)
			}
		}
		s.opt.Life.Epoch = 2
		s.start()
		s.stop()
		for _, r := range s.records() {
			if p, ok := r.Data.(journal.EngineStarted); ok && p.Epoch == 2 && !p.Orderly {
				t.Error("the next life does not know that the one before ended in order")
			}
		}
	})
}

// beforeAppend runs a function before each Append.
type beforeAppend struct {
	journal.Store
	fn func()
}

func (b *beforeAppend) Append(ctx context.Context, step []journal.Record) error {
	b.fn()
	return b.Store.Append(ctx, step)
}

// TestStopDuringCommit asks the engine to stop while it is about to write: that is no sick disk, and the end is in order.
func TestStopDuringCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t)
		s.opt.Store = &beforeAppend{s.store, func() { s.cancel() }}
		s.start()
		s.stop()
		if b := s.blocks(); len(b) != 0 {
			t.Errorf("stopping raised the alarm of an unwritable journal: %v", b)
		}
		if rs := s.records(); countType(rs, journal.TypeEngineStopped) != 1 {
			t.Errorf("no orderly end in %d records", len(rs))
		}
	})
}

func TestWatchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		elapse(30 * time.Second)
		fatal := errors.New("the registry is gone")
		s.cluster.die(fatal)
		if err := <-s.ended; !errors.Is(err, fatal) {
			t.Errorf("run ended with %v, want the error of the watch", err)
		}
		s.cancel()
		if n := countType(s.records(), journal.TypeEngineStopped); n != 0 {
			t.Error("a failure was written down as an orderly end")
		}
	})
}

// TestSetPolicy shortens the grace of nodes while one is silent.
func TestSetPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		defer s.stop()
		elapse(30 * time.Second)
		s.cluster.silence("n2")
		elapse(40 * time.Second)
		if is := s.incidents(); len(is) != 1 || is[0].Phase != autoheal.Suspected {
			t.Fatalf("within the grace: %+v", is)
		}
		p := *s.opt.Policy
		p.Node.OfflineGracePeriod = 30 * time.Second
		if err := s.engine.SetPolicy(t.Context(), PolicyChange{Policy: &p, Hash: "c2", By: "ann"}); err != nil {
			t.Fatal(err)
		}
		elapse(time.Second)
		if is := s.incidents(); is[0].Phase == autoheal.Suspected {
			t.Errorf("the new grace is over and it is still %s", is[0].Phase)
		}
		if st := s.status(); st.ConfigHash != "c2" {
			t.Errorf("config hash %q", st.ConfigHash)
		}
		if n := countType(s.records(), journal.TypeConfigChanged); n != 1 {
			t.Errorf("%d records of the change, want 1", n)
		}
	})
}

// TestSetPolicyKeepsTheFence: the leases that the nodes hold are those that this life's driver gave. A shorter wait must
// not let a second copy start while the first one may still run.
func TestSetPolicyKeepsTheFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t)
		s.cluster.addWorkload("wl-once", "n2", autoheal.High)
		s.start()
		defer s.stop()
		elapse(30 * time.Second)
		p := *s.opt.Policy
		p.Node.OfflineGracePeriod = 20 * time.Second
		p.Fence.SelfStop, p.Fence.Margin, p.Fence.Wait = 10*time.Second, 5*time.Second, 20*time.Second
		if err := s.engine.SetPolicy(t.Context(), PolicyChange{Policy: &p, Hash: "c2", By: "ann"}); err != nil {
			t.Fatal(err)
		}
		s.cluster.silence("n2")
		starts := func() (n int) {
			for _, a := range s.cluster.actions() {
				if a.Verb == autoheal.Start && a.Target.ID == "wl-once" {
					n++
				}
			}
			return n
		}
		elapse(s.opt.Policy.Fence.SelfStop)
		if n := starts(); n != 0 {
			t.Errorf("%d starts of another copy while the one on the silent node may run", n)
		}
		elapse(2 * s.opt.Policy.Fence.Wait)
		if n := starts(); n != 1 {
			t.Errorf("%d starts in the end, want 1", n)
		}
	})
}

// TestCompact replaces the journal by a snapshot: a restart gives the same state, without what ended long ago, and with
// the ended incident whose cordon is still in force.
func TestCompact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t)
		s.opt.Policy.State.IncidentsKeep = 2 * time.Hour
		s.start()
		elapse(30 * time.Second)
		s.cluster.crash("wl-2")
		elapse(3 * time.Minute)
		s.cluster.silence("n1")
		elapse(5 * time.Minute) // n1 stays cordoned, its incident has ended
		before := s.incidents()
		if len(before) != 2 || before[0].Phase != autoheal.Recovered || before[1].Phase != autoheal.Recovered {
			t.Fatalf("two ended incidents were expected: %+v", before)
		}
		elapse(s.opt.Policy.State.IncidentsKeep + time.Hour)
		_, _ = query(t.Context(), s.engine, func(*Core) (int, error) { s.engine.written = snapshotEvery; return 0, nil })
		s.cluster.crash("wl-2")
		elapse(15 * time.Minute)
		rs := s.records()
		if countType(rs, journal.TypeSnapshot) != 1 {
			t.Fatalf("no snapshot among %d records", len(rs))
		}
		is := s.incidents()
		if len(is) != 2 || is[1].ID != before[0].ID {
			t.Errorf("after the snapshot: %+v; want the new one and %s, whose node is still cordoned", is, before[0].ID)
		}
		if seq := s.status().JournalSeq; seq != s.store.Head().Seq {
			t.Errorf("the core is at record %d, the journal at %d", seq, s.store.Head().Seq)
		}
		s.checkFold()
		s.stop()
		s.opt.Life.Epoch = 2
		s.start()
		defer s.stop()
		again := s.incidents()
		again = slices.DeleteFunc(again, func(i autoheal.Incident) bool { return i.ID > is[0].ID })
		want, _ := json.Marshal(is)
		got, _ := json.Marshal(again)
		if string(want) != string(got) {
			t.Errorf("after a restart:\n got  %s\n want %s", got, want)
		}
	})
}
