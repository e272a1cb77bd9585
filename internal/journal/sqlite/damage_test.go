package sqlite_test

import (
	"database/sql"
	"errors"
	"os"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/journal/journaltest"
	"autoheal.dev/autoheal/internal/journal/sqlite"
	"autoheal.dev/autoheal/internal/store"
)

// spoil is a change of one record; an empty set deletes it.
type spoil struct {
	seq int64
	set string
}

func (h *harness) spoil(t *testing.T, changes ...spoil) {
	t.Helper()
	for _, c := range changes {
		var err error
		if c.set != "" {
			err = sqlite.ChangeForTest(t.Context(), h.db, c.seq, c.set, false)
		} else {
			err = h.db.Write(t.Context(), func(tx *sql.Tx) error {
				_, err := tx.Exec("DELETE FROM journal WHERE seq = ?", c.seq)
				return err
			})
		}
		if err != nil {
			t.Fatalf("spoil record %d: %v", c.seq, err)
		}
	}
}

const flip = "data = CAST(data || 'x' AS BLOB)"

// TestDamagedTail has four steps of two records, 1 to 8.
func TestDamagedTail(t *testing.T) {
	cases := []struct {
		name    string
		changes []spoil
		whole   int // records that stay
		lost    string
	}{
		{"LastRecord", []spoil{{8, flip}}, 6, "lost: records 7 to 8"},
		{"FirstRecordOfLastStep", []spoil{{7, flip}}, 6, "lost: records 7 to 8"},
		{"TwoSteps", []spoil{{5, flip}, {8, flip}}, 4, "lost: records 5 to 8"},
		{"TwoStepsByTheirEnds", []spoil{{6, flip}, {8, flip}}, 4, "lost: records 5 to 8"},
		{"AllSteps", []spoil{{1, flip}, {4, flip}, {5, flip}, {8, flip}}, 0, "lost: records 1 to 8"},
		{"EndOfStepIsMissing", []spoil{{8, ""}}, 6, "lost: record 7 "},
		{"Step", []spoil{{8, "step = 9"}}, 6, "lost: records 7 to 8"},
		{"StepOfTheFirst", []spoil{{7, "step = 3"}}, 6, "lost: records 7 to 8"},
		{"Part", []spoil{{8, "part = 0"}}, 6, "lost: records 7 to 8"},
		{"Parts", []spoil{{8, "parts = 1"}}, 6, "lost: records 7 to 8"},
		{"Version", []spoil{{8, "v = 2"}}, 6, "lost: records 7 to 8"},
		{"Epoch", []spoil{{8, "epoch = 2"}}, 6, "lost: records 7 to 8"},
		{"Time", []spoil{{8, "at = 'noon'"}}, 6, "lost: records 7 to 8"},
		{"Type", []spoil{{8, "type = 'notice'"}}, 6, "lost: records 7 to 8"},
		{"Incident", []spoil{{8, "incident = 'inc-000001'"}}, 6, "lost: records 7 to 8"},
		{"Checksum", []spoil{{8, "crc = crc + 1"}}, 6, "lost: records 7 to 8"},
		{"TakenForASnapshot", []spoil{{8, "type = 'snapshot'"}}, 6, "lost: records 7 to 8"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			b := journaltest.NewBuilder()
			steps := b.Filler(4)
			journaltest.Append(t, h.s, steps...)
			h.spoil(t, c.changes...)
			h.Reopen(t)
			want := journaltest.Flat(steps...)[:c.whole]
			journaltest.Same(t, "after the cut", journaltest.Replayed(t, h.s), want)
			notices := h.s.Notices()
			if len(notices) != 1 || !strings.Contains(notices[0]+" ", c.lost) {
				t.Errorf("notices %q, want one with %q", notices, c.lost)
			}
			again := journaltest.NewBuilder()
			again.Head = h.s.Head()
			more := again.Filler(1)
			journaltest.Append(t, h.s, more...)
			journaltest.Same(t, "with more", journaltest.Replayed(t, h.Reopen(t)), append(want, more[0]...))
			if n := h.s.Notices(); len(n) != 0 {
				t.Errorf("notices when opened again: %q", n)
			}
			if got := h.cutRecords(t); got == 0 {
				t.Error("what was cut was not kept")
			}
		})
	}
}

func (h *harness) cutRecords(t *testing.T) (n int) {
	t.Helper()
	if err := h.db.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM journal_cut").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDamageInTheMiddle(t *testing.T) {
	cases := []struct {
		name    string
		changes []spoil
		want    string
		whole   uint64 // what repair saves
	}{
		{"OneRecord", []spoil{{3, flip}}, "record 5 behind it is whole", 2},
		{"SecondOfAStep", []spoil{{4, flip}}, "record 5 behind it is whole", 2},
		{"FirstRecord", []spoil{{1, flip}}, "record 3 behind it is whole", 0},
		{"MiddleAndTail", []spoil{{4, flip}, {8, flip}}, "record 5 behind it is whole", 2},
		{"StepColumn", []spoil{{5, "step = 77"}}, "record 7 behind it is whole", 4},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			steps := journaltest.NewBuilder().Filler(4)
			journaltest.Append(t, h.s, steps...)
			h.spoil(t, c.changes...)
			h.close(t)
			err := h.try(t)
			if !errors.Is(err, sqlite.ErrDamaged) || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), "autoheal journal repair --dry-run") {
				t.Fatalf("open: error = %v, want ErrDamaged with %q and the command", err, c.want)
			}
			h.repair(t, c.whole)
			journaltest.Same(t, "after the repair", journaltest.Replayed(t, h.Reopen(t)), journaltest.Flat(steps...)[:c.whole])
		})
	}
}

// repair first asks for a dry run, which must change nothing, and then repairs.
func (h *harness) repair(t *testing.T, whole uint64) {
	t.Helper()
	dry, err := sqlite.Repair(t.Context(), h.db, true)
	if err != nil || dry.Repaired || dry.Lost == "" || dry.Whole != whole || len(dry.Problems) == 0 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if h.cutRecords(t) != 0 {
		t.Fatal("the dry run changed the journal")
	}
	h.close(t)
	if err := h.try(t); !errors.Is(err, sqlite.ErrDamaged) {
		t.Fatalf("after the dry run: error = %v, want ErrDamaged", err)
	}
	rep, err := sqlite.Repair(t.Context(), h.db, false)
	if err != nil || !rep.Repaired || rep.Cut != 1 || rep.Lost != dry.Lost || !strings.Contains(rep.Advice, "check the cluster") {
		t.Fatalf("repair: %+v, %v", rep, err)
	}
	if h.cutRecords(t) == 0 {
		t.Error("what was taken out was not kept")
	}
	h.close(t)
	h.open(t)
	again, err := sqlite.Repair(t.Context(), h.db, false)
	if err != nil || again.Repaired || again.Total != 0 {
		t.Errorf("a second repair: %+v, %v", again, err)
	}
}

func TestMissingRecords(t *testing.T) {
	h := newHarness(t)
	journaltest.Append(t, h.s, journaltest.NewBuilder().Filler(4)...)
	h.spoil(t, spoil{3, ""}, spoil{4, ""})
	h.close(t)
	if err := h.try(t); !errors.Is(err, sqlite.ErrDamaged) || !strings.Contains(err.Error(), "records 3 to 4 are missing") {
		t.Fatalf("open: error = %v", err)
	}
	// Without a snapshot nothing tells a lost record from a lost snapshot: no repair guesses.
	if rep, err := sqlite.Repair(t.Context(), h.db, false); !errors.Is(err, sqlite.ErrDamaged) || rep.Repaired || !strings.Contains(rep.Advice, "restore a backup") {
		t.Errorf("repair: %+v, %v", rep, err)
	}
}

// compacted returns a journal of a kept incident (1 and 2), a snapshot (7) and two steps (8 to 11).
func compacted(t *testing.T) (*harness, []journal.Record) {
	t.Helper()
	h := newHarness(t)
	b := journaltest.NewBuilder()
	journaltest.Append(t, h.s, b.Step("inc-000001", journal.IncidentOpened{}, journal.IncidentPhase{To: autoheal.Recovering}))
	journaltest.Append(t, h.s, b.Filler(2)...)
	snap := b.Snapshot("s")
	if err := h.s.Compact(t.Context(), snap, b.Now); err != nil {
		t.Fatal(err)
	}
	steps := b.Filler(2)
	journaltest.Append(t, h.s, steps...)
	return h, append([]journal.Record{snap}, journaltest.Flat(steps...)...)
}

func TestDamageAroundASnapshot(t *testing.T) {
	cases := []struct {
		name   string
		change spoil
		want   string
	}{
		{"Snapshot", spoil{7, flip}, "no snapshot that replaces them can be read"},
		{"SnapshotMissing", spoil{7, ""}, "records 3 to 7 are missing"},
		{"KeptRecord", spoil{2, flip}, "in the middle: record 2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h, live := compacted(t)
			h.spoil(t, c.change)
			h.close(t)
			if err := h.try(t); !errors.Is(err, sqlite.ErrDamaged) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("open: error = %v, want ErrDamaged with %q", err, c.want)
			}
			rep, err := sqlite.Repair(t.Context(), h.db, false)
			if c.change.seq == 7 {
				if err == nil || rep.Repaired || !strings.Contains(rep.Advice, "restore a backup") {
					t.Errorf("repair without the snapshot: %+v, %v", rep, err)
				}
				return
			}
			if err != nil || rep.Lost != "1 records kept for post-mortems" {
				t.Fatalf("repair: %+v, %v", rep, err)
			}
			journaltest.Same(t, "after the repair", journaltest.Replayed(t, h.Reopen(t)), live)
		})
	}
	t.Run("TailBehindIt", func(t *testing.T) {
		h, live := compacted(t)
		h.spoil(t, spoil{11, flip})
		h.Reopen(t)
		journaltest.Same(t, "after the cut", journaltest.Replayed(t, h.s), live[:3])
	})
	t.Run("SnapshotThatReplacedNothing", func(t *testing.T) {
		// All records are still there, so the state follows without the snapshot.
		h := newHarness(t)
		b := journaltest.NewBuilder()
		steps := [][]journal.Record{b.Step("inc-000001", journal.IncidentOpened{})}
		journaltest.Append(t, h.s, steps...)
		if err := h.s.Compact(t.Context(), b.Snapshot("s"), b.Now); err != nil {
			t.Fatal(err)
		}
		h.spoil(t, spoil{2, flip})
		journaltest.Same(t, "after the cut", journaltest.Replayed(t, h.Reopen(t)), steps[0])
	})
}

// TestNewerJournal has records that are whole but not ours to read: neither opening nor repair touches them.
func TestNewerJournal(t *testing.T) {
	cases := []struct{ name, set, want string }{
		{"Version", "v = 2", "it has version 2"},
		{"Type", "type = 'dream'", `unknown type "dream"`},
		{"Field", `data = CAST('{"mood":"x"}' AS BLOB)`, `unknown field "mood"`},
	}
	for _, c := range cases {
		for _, seq := range []int64{3, 8} {
			t.Run(c.name, func(t *testing.T) {
				h := newHarness(t)
				journaltest.Append(t, h.s, journaltest.NewBuilder().Filler(4)...)
				if err := sqlite.ChangeForTest(t.Context(), h.db, seq, c.set, true); err != nil {
					t.Fatal(err)
				}
				h.close(t)
				if err := h.try(t); !errors.Is(err, sqlite.ErrNewer) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("open: error = %v, want ErrNewer with %q", err, c.want)
				}
				if rep, err := sqlite.Repair(t.Context(), h.db, false); !errors.Is(err, sqlite.ErrNewer) || rep.Repaired {
					t.Errorf("repair: %+v, %v", rep, err)
				}
				if h.cutRecords(t) != 0 {
					t.Error("records of a newer program were taken out")
				}
			})
		}
	}
}

// TestDamagedFile has pages of the file itself overwritten: no cut can be trusted then, and the tools say so.
func TestDamagedFile(t *testing.T) {
	h := newHarness(t)
	journaltest.Append(t, h.s, journaltest.NewBuilder().Filler(200)...)
	h.close(t)
	b, err := os.ReadFile(h.path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) - 4*4096; i < len(b); i++ { // the youngest records
		b[i] = 0xa5
	}
	if err := os.WriteFile(h.path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), h.path, store.Options{}); !errors.Is(err, store.ErrDamaged) {
		t.Fatalf("open: error = %v, want ErrDamaged", err)
	}
	db, err := store.Open(t.Context(), h.path, store.Options{SkipCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, dry := range []bool{true, false} {
		if rep, err := sqlite.Repair(t.Context(), db, dry); err == nil || rep.Repaired || !strings.Contains(rep.Advice, "restore a backup") {
			t.Errorf("repair, dry %t: %+v, %v", dry, rep, err)
		}
	}
	read := 0
	for _, err := range sqlite.Inspect(t.Context(), db, 0) {
		if err != nil {
			break
		}
		read++
	}
	if read == 0 || read >= 400 {
		t.Errorf("inspect read %d of 400 records", read)
	}
}
