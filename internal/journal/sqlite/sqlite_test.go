package sqlite_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/journal/journaltest"
	"autoheal.dev/autoheal/internal/journal/sqlite"
	"autoheal.dev/autoheal/internal/store"
	"autoheal.dev/autoheal/internal/store/storetest"
)

var errInjected = errors.New("injected")

type harness struct {
	path   string
	faults storetest.Faults
	after  func(first, last uint64)
	db     *store.DB
	s      *sqlite.Store
}

func newHarness(t testing.TB) *harness { return newHarnessIn(t, t.TempDir()) }

func newHarnessIn(t testing.TB, dir string) *harness {
	h := &harness{path: filepath.Join(dir, "data", "state.db")}
	t.Cleanup(func() {
		if err := h.db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	h.open(t)
	return h
}

// try opens the file, and the journal on it.
func (h *harness) try(t testing.TB) (err error) {
	t.Helper()
	if h.db, err = store.Open(t.Context(), h.path, store.Options{Wrap: h.faults.Wrap}); err != nil {
		t.Fatalf("open file: %v", err)
	}
	h.s, err = sqlite.Open(t.Context(), h.db, sqlite.Options{AfterAppend: func(first, last uint64) {
		if h.after != nil {
			h.after(first, last)
		}
	}})
	return err
}

func (h *harness) open(t testing.TB) {
	t.Helper()
	if err := h.try(t); err != nil {
		t.Fatalf("open journal: %v", err)
	}
}

func (h *harness) close(t testing.TB) {
	t.Helper()
	h.faults.Heal()
	if err := h.db.Close(); err != nil {
		t.Fatalf("close file: %v", err)
	}
}

func (h *harness) Store() journal.Store { return h.s }

func (h *harness) Reopen(t testing.TB) journal.Store {
	t.Helper()
	if h.s != nil { // nil when the journal was refused
		if err := h.s.Close(); err != nil {
			t.Fatalf("close journal: %v", err)
		}
	}
	h.close(t)
	h.open(t)
	return h.s
}

func (h *harness) FailNextAppend(testing.TB) bool {
	h.faults.Before(storetest.On("COMMIT", 1, errInjected))
	return true
}

func TestConforms(t *testing.T) {
	journaltest.Run(t, func(t testing.TB) journaltest.Harness { return newHarness(t) })
}

func TestAfterAppend(t *testing.T) {
	h := newHarness(t)
	var got []uint64
	h.after = func(first, last uint64) {
		// Durable when it is called: another process would see the records.
		ro, err := store.Open(t.Context(), h.path, store.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer ro.Close()
		var end uint64
		if err := ro.Read().QueryRowContext(t.Context(), "SELECT max(seq) FROM journal").Scan(&end); err != nil || end != last {
			t.Errorf("the file ends with record %d, want %d (%v)", end, last, err)
		}
		got = append(got, first, last)
	}
	b := journaltest.NewBuilder()
	journaltest.Append(t, h.s, b.Filler(2)...)
	if err := h.s.Compact(t.Context(), b.Snapshot("s"), b.Now); err != nil {
		t.Fatal(err)
	}
	h.FailNextAppend(t)
	if err := h.s.Append(t.Context(), b.Filler(1)[0]); !errors.Is(err, errInjected) {
		t.Fatalf("error = %v, want the injected one", err)
	}
	if want := []uint64{1, 2, 3, 4, 5, 5}; !slices.Equal(got, want) {
		t.Errorf("AfterAppend saw %v, want %v", got, want)
	}
}

func TestBytesFollowTheRecords(t *testing.T) {
	h := newHarness(t)
	b := journaltest.NewBuilder()
	if n := h.s.Bytes(); n != 0 {
		t.Errorf("%d bytes in an empty journal", n)
	}
	journaltest.Append(t, h.s, b.Filler(100)...)
	full := h.s.Bytes()
	h.Reopen(t)
	if n := h.s.Bytes(); n != full || n < 200*64 {
		t.Errorf("%d bytes after reopening, %d before", n, full)
	}
	if err := h.s.Compact(t.Context(), b.Snapshot("s"), b.Now); err != nil {
		t.Fatal(err)
	}
	small := h.s.Bytes()
	h.Reopen(t)
	if n := h.s.Bytes(); n != small || small > full/50 {
		t.Errorf("%d bytes after compacting, %d when reopened, %d before", small, n, full)
	}
	if err := h.s.Recover(t.Context()); err != nil || h.s.Bytes() != small {
		t.Errorf("%d bytes after Recover (%v)", h.s.Bytes(), err)
	}
}

func TestEpochOfTheHead(t *testing.T) {
	h := newHarness(t)
	b := journaltest.NewBuilder()
	b.Head.Epoch = 41
	journaltest.Append(t, h.s, b.Filler(1)...)
	h.Reopen(t)
	if got := h.s.Head(); got != b.Head || got.Epoch != 41 {
		t.Errorf("head %+v, want %+v", got, b.Head)
	}
}

// TestInspectShowsEverything shows also what the journal refuses.
func TestInspectShowsEverything(t *testing.T) {
	h := newHarness(t)
	journaltest.Append(t, h.s, journaltest.NewBuilder().Filler(2)...)
	for seq, set := range map[int64]string{2: "data = x'00ff'", 3: "type = 'dream'"} {
		if err := sqlite.ChangeForTest(t.Context(), h.db, seq, set, seq == 3); err != nil {
			t.Fatal(err)
		}
	}
	var problems []string
	for r, err := range sqlite.Inspect(t.Context(), h.db, 2) {
		if err != nil {
			t.Fatal(err)
		}
		problems = append(problems, r.Problem)
	}
	if len(problems) != 3 || !strings.Contains(problems[0], "checksum") || !strings.Contains(problems[1], "newer") || problems[2] != "" {
		t.Errorf("problems %q", problems)
	}
}
