package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/journal/journaltest"
	"autoheal.dev/autoheal/internal/leakcheck"
	"autoheal.dev/autoheal/internal/store"
	"autoheal.dev/autoheal/internal/store/storetest"
)

// TestAppendFailsAnywhere fails each statement of an append in turn: nothing of the step is visible, not at once and not
// after opening again, and the journal goes on after Recover.
func TestAppendFailsAnywhere(t *testing.T) {
	for _, at := range []struct {
		prefix string
		n      int
	}{{"BEGIN", 1}, {"SAVEPOINT", 1}, {"INSERT", 1}, {"INSERT", 2}, {"RELEASE", 1}, {"COMMIT", 1}} {
		for _, reopen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s%d/reopen=%t", at.prefix, at.n, reopen), func(t *testing.T) {
				h := newHarness(t)
				b := journaltest.NewBuilder()
				good := b.Filler(2)
				journaltest.Append(t, h.s, good...)
				step := b.Filler(1)[0]
				h.faults.Before(storetest.On(at.prefix, at.n, errInjected))
				if err := h.s.Append(t.Context(), step); !errors.Is(err, errInjected) {
					t.Fatalf("append: error = %v, want the injected one", err)
				}
				journaltest.Same(t, "after the failure", journaltest.Replayed(t, h.s), journaltest.Flat(good...))
				if reopen {
					h.Reopen(t)
					journaltest.Same(t, "reopened", journaltest.Replayed(t, h.s), journaltest.Flat(good...))
				} else if err := h.s.Recover(t.Context()); err != nil {
					t.Fatal(err)
				}
				journaltest.Append(t, h.s, step)
				journaltest.Same(t, "gone on", journaltest.Replayed(t, h.Reopen(t)), append(journaltest.Flat(good...), step...))
			})
		}
	}
}

// TestLostAck has the commit succeed and its answer get lost: Recover finds the records, so that the next append fits.
func TestLostAck(t *testing.T) {
	h := newHarness(t)
	b := journaltest.NewBuilder()
	step := b.Filler(1)[0]
	h.faults.After(storetest.On("COMMIT", 1, errInjected))
	if err := h.s.Append(t.Context(), step); !errors.Is(err, errInjected) {
		t.Fatalf("append: error = %v, want the injected one", err)
	}
	if err := h.s.Append(t.Context(), step); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("append again: error = %v, want ErrStopped", err)
	}
	if err := h.s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.s.Head() != b.Head {
		t.Errorf("head %+v, want %+v", h.s.Head(), b.Head)
	}
	journaltest.Append(t, h.s, b.Filler(1)...)
}

func TestRecoverFails(t *testing.T) {
	h := newHarness(t)
	h.faults.Before(func(string) error { return errInjected })
	step := journaltest.NewBuilder().Filler(1)[0]
	if err := h.s.Append(t.Context(), step); !errors.Is(err, errInjected) {
		t.Fatalf("append: error = %v", err)
	}
	if err := h.s.Recover(t.Context()); !errors.Is(err, errInjected) {
		t.Fatalf("recover: error = %v, want the injected one", err)
	}
	if err := h.s.Append(t.Context(), step); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("append after a failed Recover: error = %v, want ErrStopped", err)
	}
	h.faults.Heal()
	if err := h.s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	journaltest.Append(t, h.s, step)
}

func TestCompactFails(t *testing.T) {
	for _, at := range []string{"DELETE", "INSERT", "COMMIT"} {
		t.Run(at, func(t *testing.T) {
			h := newHarness(t)
			b := journaltest.NewBuilder()
			steps := b.Filler(3)
			journaltest.Append(t, h.s, steps...)
			h.faults.Before(storetest.On(at, 1, errInjected))
			snap := b.Snapshot("s")
			if err := h.s.Compact(t.Context(), snap, b.Now); !errors.Is(err, errInjected) {
				t.Fatalf("compact: error = %v, want the injected one", err)
			}
			journaltest.Same(t, "after the failure", journaltest.Replayed(t, h.Reopen(t)), journaltest.Flat(steps...))
			if err := h.s.Compact(t.Context(), snap, b.Now); err != nil {
				t.Fatal(err)
			}
			journaltest.Same(t, "compacted", journaltest.Replayed(t, h.Reopen(t)), []journal.Record{snap})
		})
	}
}

// big returns a step whose records do not fit into what is left.
func big(b *journaltest.Builder) []journal.Record {
	return b.Step("", journal.ConfigChanged{By: "first"}, journal.EngineStopped{Reason: strings.Repeat("x", 2<<20)},
		journal.ConfigChanged{By: "last"})
}

// TestFullFile lets SQLite itself say that there is no room, in the middle of a step. It needs no rights.
func TestFullFile(t *testing.T) {
	h := newHarness(t)
	b := journaltest.NewBuilder()
	good := b.Filler(2)
	journaltest.Append(t, h.s, good...)
	limit := func(pages int) {
		t.Helper()
		err := h.db.Write(t.Context(), func(tx *sql.Tx) error {
			var got int
			return tx.QueryRow(fmt.Sprintf("PRAGMA max_page_count = %d", pages)).Scan(&got)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	limit(60)
	step := big(b)
	if err := h.s.Append(t.Context(), step); !errors.Is(err, store.ErrDiskFull) {
		t.Fatalf("append: error = %v, want ErrDiskFull", err)
	}
	journaltest.Same(t, "while full", journaltest.Replayed(t, h.s), journaltest.Flat(good...))
	limit(1 << 20)
	if err := h.s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	journaltest.Append(t, h.s, step)
	journaltest.Same(t, "reopened", journaltest.Replayed(t, h.Reopen(t)), append(journaltest.Flat(good...), step...))
}

// TestRealFullDisk fills a real disk by appending until it fails, then releases the reserve (behaviour G1).
func TestRealFullDisk(t *testing.T) {
	leakcheck.Start(t)
	if !storetest.InNamespace(t) {
		return
	}
	for _, reopen := range []bool{false, true} {
		dir := storetest.SmallDisk(t, 8<<20)
		reserve, err := store.Reserve(dir, 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		h := newHarnessIn(t, dir)
		b := journaltest.NewBuilder()
		var want, failed []journal.Record
		for failed == nil {
			step := b.Step("", journal.ConfigChanged{By: "first"}, journal.EngineStopped{Reason: strings.Repeat("x", 100_000)}, journal.ConfigChanged{By: "last"})
			if err := h.s.Append(t.Context(), step); err == nil {
				want = append(want, step...)
			} else if !errors.Is(err, store.ErrDiskFull) {
				t.Fatalf("append: error = %v, want ErrDiskFull", err)
			} else {
				failed = step
			}
		}
		if err := h.s.Append(t.Context(), failed); !errors.Is(err, journal.ErrStopped) {
			t.Fatalf("append on a full disk again: error = %v, want ErrStopped", err)
		}
		journaltest.Same(t, "reads are served while full", journaltest.Replayed(t, h.s), want)
		if err := reserve.Release(); err != nil {
			t.Fatal(err)
		}
		if reopen {
			h.Reopen(t)
		} else if err := h.s.Recover(t.Context()); err != nil {
			t.Fatalf("recover with the reserve released: %v", err)
		}
		journaltest.Same(t, "with space", journaltest.Replayed(t, h.s), want)
		journaltest.Append(t, h.s, failed)
		want = append(want, failed...)
		if err := reserve.Restore(); err != nil && !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("restore the reserve: %v", err)
		}
		journaltest.Same(t, "at last", journaltest.Replayed(t, h.Reopen(t)), want)
		if n := h.s.Notices(); len(n) != 0 {
			t.Errorf("notices: %q", n)
		}
	}
}
