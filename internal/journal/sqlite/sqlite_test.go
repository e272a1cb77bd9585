package sqlite_test

import (
	"path/filepath"
	"testing"

	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/journal/journaltest"
	"autoheal.dev/autoheal/internal/journal/sqlite"
	"autoheal.dev/autoheal/internal/store"
)

type harness struct {
	path string
	opt  store.Options
	db   *store.DB
	s    *sqlite.Store
}

func newHarness(t testing.TB) *harness {
	h := &harness{path: filepath.Join(t.TempDir(), "data", "state.db")}
	t.Cleanup(func() {
		if err := h.db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	h.open(t)
	return h
}

func (h *harness) open(t testing.TB) {
	t.Helper()
	var err error
	if h.db, err = store.Open(t.Context(), h.path, h.opt); err != nil {
		t.Fatalf("open file: %v", err)
	}
	if h.s, err = sqlite.Open(t.Context(), h.db, sqlite.Options{}); err != nil {
		t.Fatalf("open journal: %v", err)
	}
}

func (h *harness) close(t testing.TB) {
	t.Helper()
	if err := h.s.Close(); err != nil {
		t.Fatalf("close journal: %v", err)
	}
	if err := h.db.Close(); err != nil {
		t.Fatalf("close file: %v", err)
	}
}

func (h *harness) Store() journal.Store { return h.s }

func (h *harness) Reopen(t testing.TB) journal.Store {
	h.close(t)
	h.open(t)
	return h.s
}

func (h *harness) FailNextAppend(testing.TB) bool { return false }

func TestConforms(t *testing.T) {
	journaltest.Run(t, func(t testing.TB) journaltest.Harness { return newHarness(t) })
}
