package journal_test

import (
	"errors"
	"testing"

	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/journal/journaltest"
)

type memoryHarness struct{ m *journal.Memory }

func (h *memoryHarness) Store() journal.Store { return h.m }

func (h *memoryHarness) Reopen(testing.TB) journal.Store {
	h.m = h.m.Reopen()
	return h.m
}

func (h *memoryHarness) FailNextAppend(testing.TB) bool {
	h.m.FailNextAppend(errors.New("injected"))
	return true
}

func TestMemoryConforms(t *testing.T) {
	journaltest.Run(t, func(testing.TB) journaltest.Harness { return &memoryHarness{journal.NewMemory()} })
}

func TestMemoryLostAck(t *testing.T) {
	m := journal.NewMemory()
	b := journaltest.NewBuilder()
	cause := errors.New("the disk answered too late")
	m.LoseNextAck(cause)
	step := b.Filler(1)[0]
	if err := m.Append(t.Context(), step); !errors.Is(err, cause) {
		t.Fatalf("append: error = %v, want the cause", err)
	}
	if err := m.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	journaltest.Same(t, "after recovery", journaltest.Replayed(t, m), step)
	journaltest.Append(t, m, b.Filler(1)...)
}

func TestMemoryFaultsInOrder(t *testing.T) {
	m := journal.NewMemory()
	one, two := errors.New("one"), errors.New("two")
	m.FailNextAppend(one)
	m.FailNextAppend(two)
	step := journaltest.NewBuilder().Filler(1)[0]
	for _, want := range []error{one, two} {
		if err := m.Append(t.Context(), step); !errors.Is(err, want) {
			t.Fatalf("append: error = %v, want %v", err, want)
		}
		m.FailRecover(want)
		if err := m.Recover(t.Context()); !errors.Is(err, want) {
			t.Fatalf("recover: error = %v, want %v", err, want)
		}
		m.FailRecover(nil)
		if err := m.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	journaltest.Append(t, m, step)
}

func TestMemoryAfterAppend(t *testing.T) {
	m := journal.NewMemory()
	var got [][2]uint64
	m.AfterAppend(func(first, last uint64) { got = append(got, [2]uint64{first, last}) })
	b := journaltest.NewBuilder()
	journaltest.Append(t, m, b.Filler(2)...)
	m.FailNextAppend(errors.New("injected"))
	if err := m.Append(t.Context(), b.Filler(1)[0]); err == nil {
		t.Fatal("the fault did not show")
	}
	if len(got) != 2 || got[0] != [2]uint64{1, 2} || got[1] != [2]uint64{3, 4} {
		t.Errorf("AfterAppend saw %v, want [1 2] and [3 4]", got)
	}
}

func TestMemoryHoldsNoCallerData(t *testing.T) {
	m := journal.NewMemory()
	labels := map[string]string{"k": "before"}
	journaltest.Append(t, m, journaltest.NewBuilder().Step("", journal.AlertQueued{ID: "a", Labels: labels}))
	labels["k"] = "after"
	got := journaltest.Replayed(t, m)[0].Data.(journal.AlertQueued).Labels["k"]
	if got != "before" {
		t.Errorf("a change after the append reached the journal: %q", got)
	}
}
