package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/journal/journaltest"
	"autoheal.dev/autoheal/internal/store/storetest"
)

// TestLikeTheMemoryStore does the same random things to the durable store and to the one in memory: appends of several
// incidents, refused and failing ones, compactions, restarts. They must answer alike and hold the same records.
func TestLikeTheMemoryStore(t *testing.T) {
	h := newHarness(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		h.startOver(t, round)
		m := &model{t: t, h: h, mem: journal.NewMemory(), b: journaltest.NewBuilder()}
		rt.Repeat(map[string]func(*rapid.T){
			"append":  m.appendStep,
			"wrong":   m.appendWrong,
			"fail":    m.failAppend,
			"compact": m.compact,
			"reopen": func(*rapid.T) {
				h.Reopen(t)
				m.mem = m.mem.Reopen()
			},
			"": m.compare,
		})
	})
}

// startOver takes a new file.
func (h *harness) startOver(t *testing.T, round int) {
	t.Helper()
	h.close(t)
	h.path = fmt.Sprintf("%s/data%d/state.db", t.TempDir(), round)
	h.open(t)
}

type model struct {
	t   *testing.T
	h   *harness
	mem *journal.Memory
	b   *journaltest.Builder
}

func (m *model) step(rt *rapid.T) []journal.Record {
	id := autoheal.IncidentID(rapid.SampledFrom([]string{"", "inc-000001", "inc-000002", "inc-000003"}).Draw(rt, "incident"))
	phases := []autoheal.Phase{autoheal.Recovering, autoheal.Recovered, autoheal.Escalated}
	kinds := map[string]journal.Payload{
		"opened": journal.IncidentOpened{Cause: "c"}, "merged": journal.IncidentMerged{Into: "inc-000009"},
		"phase": journal.IncidentPhase{To: rapid.SampledFrom(phases).Draw(rt, "phase")}, "other": journal.StepDone{Step: "alert"},
	}
	var data []journal.Payload
	for range rapid.IntRange(1, 3).Draw(rt, "records") {
		data = append(data, kinds[rapid.SampledFrom([]string{"opened", "merged", "phase", "other"}).Draw(rt, "kind")])
	}
	return m.b.Step(id, data...)
}

// both does the same to both stores, which must answer alike.
func (m *model) both(rt *rapid.T, what string, do func(journal.Store) error) (failed bool) {
	got, want := do(m.h.s), do(m.mem)
	if (got == nil) != (want == nil) {
		rt.Fatalf("%s: durable: %v, memory: %v", what, got, want)
	}
	return got != nil
}

func (m *model) appendStep(rt *rapid.T) {
	step := m.step(rt)
	if m.both(rt, "append", func(s journal.Store) error { return s.Append(m.t.Context(), step) }) {
		rt.Fatalf("an append in order was refused")
	}
}

func (m *model) recover(rt *rapid.T) {
	if m.both(rt, "recover", func(s journal.Store) error { return s.Recover(m.t.Context()) }) {
		rt.Fatalf("recover failed")
	}
	m.b.Head = m.mem.Head()
}

func (m *model) appendWrong(rt *rapid.T) {
	step := m.step(rt)
	step[len(step)-1].Seq += uint64(rapid.IntRange(1, 3).Draw(rt, "by"))
	if !m.both(rt, "append behind a gap", func(s journal.Store) error { return s.Append(m.t.Context(), step) }) {
		rt.Fatalf("an append behind a gap was taken")
	}
	m.recover(rt)
}

func (m *model) failAppend(rt *rapid.T) {
	step := m.step(rt)
	if rapid.Bool().Draw(rt, "kept") {
		m.h.faults.After(storetest.On("COMMIT", 1, errInjected))
		m.mem.LoseNextAck(errInjected)
	} else {
		m.h.faults.Before(storetest.On(rapid.SampledFrom([]string{"INSERT", "COMMIT"}).Draw(rt, "at"), 1, errInjected))
		m.mem.FailNextAppend(errInjected)
	}
	m.both(rt, "failing append", func(s journal.Store) error {
		if err := s.Append(m.t.Context(), step); !errors.Is(err, errInjected) {
			rt.Fatalf("append with a fault: %v", err)
		}
		return s.Append(m.t.Context(), step)
	})
	m.h.faults.Heal()
	m.recover(rt)
}

func (m *model) compact(rt *rapid.T) {
	keep := m.b.Now.Add(-time.Duration(rapid.IntRange(-1, 20).Draw(rt, "keep")) * time.Second)
	snap := m.b.Snapshot(fmt.Sprint(m.b.Head.Seq))
	if m.both(rt, "compact", func(s journal.Store) error { return s.Compact(m.t.Context(), snap, keep) }) {
		rt.Fatalf("a compaction was refused")
	}
}

func (m *model) compare(rt *rapid.T) {
	if m.h.s.Head() != m.mem.Head() {
		rt.Fatalf("heads differ: %+v, memory %+v", m.h.s.Head(), m.mem.Head())
	}
	got, want := journaltest.Replayed(m.t, m.h.s), journaltest.Replayed(m.t, m.mem)
	if !reflect.DeepEqual(got, want) {
		rt.Fatalf("replay: records %v, memory %v", journaltest.Seqs(got), journaltest.Seqs(want))
	}
	for _, id := range []autoheal.IncidentID{"", "inc-000001"} {
		got, want := journaltest.History(m.t, m.h.s, id), journaltest.History(m.t, m.mem, id)
		if !reflect.DeepEqual(got, want) {
			rt.Fatalf("history of %q: records %v, memory %v", id, journaltest.Seqs(got), journaltest.Seqs(want))
		}
	}
}

// TestConcurrentUse appends and compacts while others read the journal and write to other tables of the file.
func TestConcurrentUse(t *testing.T) {
	h := newHarness(t)
	err := h.db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec("CREATE TABLE other (n INTEGER)"); return err })
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	var others int
	wg.Go(func() {
		for ; ; others++ {
			select {
			case <-done:
				return
			default:
			}
			err := h.db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec("INSERT INTO other VALUES (1)"); return err })
			if err != nil {
				t.Errorf("write beside the journal: %v", err)
				return
			}
		}
	})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			var last journal.Record
			parts := 0
			for r, err := range h.s.Replay(t.Context()) {
				if err != nil || last.Seq > 0 && r.Seq != last.Seq+1 {
					t.Errorf("replay: record %d behind %d, %v", r.Seq, last.Seq, err)
					return
				}
				if parts++; r.Step != last.Step {
					parts = 1
				}
				last = r
			}
			if parts == 1 && last.Type != journal.TypeSnapshot {
				t.Errorf("a part of a step was visible: record %d", last.Seq)
			}
			_, _ = h.s.Bytes(), h.s.Notices()
		}
	})
	b := journaltest.NewBuilder()
	for i := range 150 {
		if i%30 == 29 {
			if err := h.s.Compact(t.Context(), b.Snapshot("s"), b.Now); err != nil {
				t.Errorf("compact: %v", err)
			}
			continue
		}
		journaltest.Append(t, h.s, b.Filler(1)...)
	}
	close(done)
	wg.Wait()
	var n int
	if err := h.db.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM other").Scan(&n); err != nil || n != others {
		t.Errorf("%d rows beside the journal, want %d (%v)", n, others, err)
	}
	if h.Reopen(t); h.s.Head() != b.Head {
		t.Errorf("head %+v, want %+v", h.s.Head(), b.Head)
	}
}
