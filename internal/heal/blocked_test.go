package heal

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// TestJournalUnwritable has the disk refuse the records of a crash (behaviour G1): nothing is done, it is said once by the
// way that needs no disk, reads go on, and 60 s after the disk can be written again healing resumes by itself.
func TestJournalUnwritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		defer s.stop()
		elapse(30 * time.Second)
		s.store.FailNextAppend(errDisk)
		s.store.FailRecover(errDisk)
		s.cluster.crash("wl-1")
		elapse(5 * time.Minute)

		if b := s.blocks(); len(b) != 1 || !errors.Is(b[0], errDisk) {
			t.Errorf("calls of Blocked: %v, want one with the disk's error", b)
		}
		if as := s.cluster.actions(); len(as) != 0 {
			t.Errorf("actions left without a journal: %+v", as)
		}
		st := s.status()
		if st.Blocked == nil || st.Blocked.Reason != autoheal.ReasonJournalUnwritable || !strings.Contains(st.Blocked.Detail, errDisk.Error()) {
			t.Errorf("status says %+v", st.Blocked)
		}
		if ns, err := s.engine.Nodes(t.Context()); err != nil || len(ns) != 3 {
			t.Errorf("reads stopped: %d nodes, %v", len(ns), err)
		}
		r := s.command(autoheal.Command{Verb: autoheal.CmdPauseHealer})
		if r.Err == nil || r.Err.Kind != autoheal.ErrUnavailable {
			t.Errorf("a command while blocked: %+v", r)
		}

		s.store.FailRecover(nil)
		elapse(59 * time.Second)
		if as := s.cluster.actions(); len(as) != 0 || len(s.blocks()) != 1 {
			t.Errorf("went on before the journal held for 60 s: %+v", as)
		}
		if b := s.status().Blocked; b == nil || b.Until.IsZero() {
			t.Errorf("status does not say when healing resumes: %+v", b)
		}
		elapse(10 * time.Second)
		if b := s.blocks(); len(b) != 2 || b[1] != nil {
			t.Errorf("calls of Blocked: %v, want a second one with nil", b)
		}
		if s.status().Blocked != nil || s.cluster.watched() != 2 {
			t.Errorf("blocked %+v, watch begun %d times", s.status().Blocked, s.cluster.watched())
		}
		elapse(30 * time.Second)
		if got := s.cluster.starts; len(got) != 1 || !strings.HasPrefix(got[0], "wl-1/2 ") {
			t.Errorf("what had crashed was started as %v", got)
		}
		s.checkFold()
	})
}

// TestWhatWasDecidedGoesOn loses the journal in the middle of a recovery, in the two ways a write can fail, at every
// commit of it: the recovery ends as if nothing had been, and nothing is started twice.
func TestWhatWasDecidedGoesOn(t *testing.T) {
	for name, fail := range map[string]func(m *journal.Memory){
		"nothing written": func(m *journal.Memory) { m.FailNextAppend(errDisk) },
		"answer lost":     func(m *journal.Memory) { m.LoseNextAck(errDisk) },
	} {
		t.Run(name, func(t *testing.T) {
			for at := 1; at <= 40; at++ {
				hit := false
				synctest.Test(t, func(t *testing.T) { hit = loseJournalAt(t, at, fail) })
				if !hit {
					if at < 5 { // how many there are depends on what the loop finds waiting; a recovery takes at least four
						t.Errorf("only %d commits were failed", at-1)
					}
					return
				}
			}
			t.Error("the recovery makes more than 40 commits")
		})
	}
}

func loseJournalAt(t *testing.T, at int, fail func(m *journal.Memory)) (hit bool) {
	s := newShell(t)
	commits := 0
	s.opt.Store = &beforeAppend{s.store, func() {
		if commits++; commits == at {
			hit = true
			fail(s.store)
		}
	}}
	s.start()
	defer s.stop()
	elapse(30 * time.Second)
	s.cluster.silence("n1")
	elapse(8 * time.Minute)
	if !hit {
		at = 0 // the orderly end is another test's
		return false
	}
	if b := s.blocks(); len(b) != 2 || b[0] == nil || b[1] != nil {
		t.Errorf("commit %d: calls of Blocked: %v", at, b)
	}
	if len(s.cluster.starts) != 2 {
		t.Errorf("commit %d: started %v", at, s.cluster.starts)
	}
	for _, i := range s.incidents() {
		if i.ID != "inc-000001" || i.Phase != autoheal.Recovered || len(i.Recoveries) != 2 {
			t.Errorf("commit %d: %s is %s with %d recoveries", at, i.ID, i.Phase, len(i.Recoveries))
		}
	}
	s.checkFold()
	return true
}

// TestReplyOfALostCommand fails the very commit of a command: its caller must not be told that it is done.
func TestReplyOfALostCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		defer s.stop()
		elapse(30 * time.Second)
		s.store.FailNextAppend(errDisk)
		r := s.command(autoheal.Command{Verb: autoheal.CmdPauseHealer})
		if r.Err == nil || r.Err.Kind != autoheal.ErrUnavailable || r.Message != "" {
			t.Errorf("reply %+v", r)
		}
		elapse(2 * time.Minute)
		if st := s.status(); st.Paused != nil || st.Blocked != nil {
			t.Errorf("afterwards paused %+v, blocked %+v", st.Paused, st.Blocked)
		}
	})
}

// TestPolicyWhileBlocked gives another configuration while the journal cannot be written: it is in force afterwards.
func TestPolicyWhileBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		defer s.stop()
		elapse(30 * time.Second)
		s.store.FailNextAppend(errDisk)
		s.command(autoheal.Command{Verb: autoheal.CmdPauseHealer})
		p := *s.opt.Policy
		p.Enabled = false
		if err := s.engine.SetPolicy(t.Context(), PolicyChange{Policy: &p, Hash: "c2", By: "ann"}); err != nil {
			t.Fatal(err)
		}
		elapse(2 * time.Minute)
		if st := s.status(); st.Blocked != nil || st.Enabled || st.ConfigHash != "c2" {
			t.Errorf("afterwards: blocked %+v, enabled %t, config %s", st.Blocked, st.Enabled, st.ConfigHash)
		}
	})
}

// TestStopWhileBlocked ends an engine that cannot write: nothing more is written, and nothing hangs.
func TestStopWhileBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		elapse(30 * time.Second)
		s.store.FailRecover(errDisk)
		s.store.FailNextAppend(errDisk)
		s.command(autoheal.Command{Verb: autoheal.CmdPauseHealer})
		s.stop()
		if n := countType(s.records(), journal.TypeEngineStopped); n != 0 {
			t.Error("an orderly end was written to a journal that cannot be written")
		}
	})
}
