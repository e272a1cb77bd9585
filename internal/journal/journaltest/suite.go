package journaltest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// Run tests that the stores that open makes keep the promises of journal.Store.
func Run(t *testing.T, open func(t testing.TB) Harness) {
	tests := []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"AppendAndReplay", appendAndReplay},
		{"EmptyStep", emptyStep},
		{"Refusals", func(t *testing.T, _ Harness) { refusals(t, open) }},
		{"StopsAfterFailure", stopsAfterFailure},
		{"ContextEnded", contextEnded},
		{"History", history},
		{"Compact", compact},
		{"CompactRefuses", compactRefuses},
		{"SnapshotEqualsFullReplay", snapshotEqualsFull},
		{"ReplayStops", replayStops},
		{"AppendWhileReplaying", appendWhileReplaying},
		{"Closed", closed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

func appendAndReplay(t *testing.T, h Harness) {
	Same(t, "empty", Replayed(t, h.Store()), nil)
	b := NewBuilder()
	first := b.Filler(3)
	// A time in another zone and with a monotonic reading comes back as the same moment in UTC.
	local := b.Step("", journal.EngineStopped{Reason: "r"})
	local[0].At = local[0].At.In(time.FixedZone("x", 3600))
	Append(t, h.Store(), first...)
	Append(t, h.Store(), local)
	want := append(Flat(first...), local...)
	want[len(want)-1].At = local[0].At.UTC()
	Same(t, "before reopening", Replayed(t, h.Store()), want)
	Same(t, "after reopening", Replayed(t, h.Reopen(t)), want)
	if n := h.Store().Notices(); len(n) != 0 {
		t.Errorf("notices of a whole journal: %q", n)
	}
	b.Head.Epoch = 2
	more := b.Filler(1)
	Append(t, h.Store(), more...)
	Same(t, "in the second life", Replayed(t, h.Reopen(t)), append(want, more[0]...))
}

func emptyStep(t *testing.T, h Harness) {
	if err := h.Store().Append(t.Context(), nil); err != nil {
		t.Errorf("append nothing: %v", err)
	}
	Append(t, h.Store(), NewBuilder().Filler(1)...)
}

func refusals(t *testing.T, open func(t testing.TB) Harness) {
	cases := []struct {
		name, want string
		spoil      func(step []journal.Record)
	}{
		{"Gap", "the next record is 5", func(s []journal.Record) { s[0].Seq, s[1].Seq = 6, 7 }},
		{"GapInside", "the next record is 6", func(s []journal.Record) { s[1].Seq = 7 }},
		{"Repetition", "the next record is 5", func(s []journal.Record) { s[0].Seq, s[1].Seq = 4, 5 }},
		{"TwoSteps", "belongs to step 4", func(s []journal.Record) { s[1].Step = 4 }},
		{"OldStep", "step 2 is already written", func(s []journal.Record) { s[0].Step, s[1].Step = 2, 2 }},
		{"OldEpoch", "another healer took over", func(s []journal.Record) { s[0].Epoch, s[1].Epoch = 0, 0 }},
		{"Version", "has version 2", func(s []journal.Record) { s[1].V = 2 }},
		{"NoVersion", "has version 0", func(s []journal.Record) { s[1].V = 0 }},
		{"NoData", "has no data", func(s []journal.Record) { s[1].Data = nil }},
		{"OtherType", "has data of type", func(s []journal.Record) { s[1].Type = journal.TypeNotice }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			b := NewBuilder()
			good := b.Filler(2)
			Append(t, h.Store(), good...)
			step := b.Filler(1)[0]
			c.spoil(step)
			if err := h.Store().Append(t.Context(), step); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error = %v, want one with %q", err, c.want)
			}
			Same(t, "after the refusal", Replayed(t, h.Reopen(t)), Flat(good...))
		})
	}
}

func stopsAfterFailure(t *testing.T, h Harness) {
	b := NewBuilder()
	good := b.Filler(2)
	Append(t, h.Store(), good...)
	step := b.Filler(1)[0]
	if !h.FailNextAppend(t) {
		t.Skip("this store has no injected fault here; its own tests have")
	}
	if err := h.Store().Append(t.Context(), step); err == nil || errors.Is(err, journal.ErrStopped) {
		t.Fatalf("the failing append: error = %v, want its cause", err)
	}
	if err := h.Store().Append(t.Context(), step); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("the append after the failed one: error = %v, want ErrStopped", err)
	}
	if err := h.Store().Compact(t.Context(), step[0], time.Time{}); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("compact after the failed append: error = %v, want ErrStopped", err)
	}
	Same(t, "while stopped", Replayed(t, h.Store()), Flat(good...))
	if err := h.Store().Recover(t.Context()); err != nil {
		t.Fatalf("recover: %v", err)
	}
	Append(t, h.Store(), step)
	Same(t, "after recovery", Replayed(t, h.Reopen(t)), append(Flat(good...), step...))
}

func contextEnded(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := NewBuilder()
	step := b.Filler(1)[0]
	if err := h.Store().Append(ctx, step); !errors.Is(err, context.Canceled) {
		t.Fatalf("append: error = %v, want context.Canceled", err)
	}
	if err := h.Store().Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	Append(t, h.Store(), step)
}

func history(t *testing.T, h Harness) {
	b := NewBuilder()
	steps := [][]journal.Record{
		b.Step("inc-000001", journal.IncidentOpened{Cause: "x"}),
		b.Step("", journal.ConfigChanged{By: "p"}),
		b.Step("inc-000002", journal.IncidentOpened{Cause: "y"}),
		b.Step("inc-000001", journal.StepDone{Step: "cordon"}, journal.StepDone{Step: "alert"}),
	}
	Append(t, h.Store(), steps...)
	Same(t, "one incident", History(t, h.Store(), "inc-000001"), Flat(steps[0], steps[3]))
	Same(t, "all", History(t, h.Store(), ""), Flat(steps...))
	Same(t, "unknown incident", History(t, h.Store(), "inc-000009"), nil)
}

// compact has an incident of every kind: over and old, over and young, going on though old, merged, relapsed.
func compact(t *testing.T, h Harness) {
	b := NewBuilder()
	over := func(id autoheal.IncidentID, to autoheal.Phase) [][]journal.Record {
		return [][]journal.Record{
			b.Step(id, journal.IncidentOpened{Cause: string(id)}),
			b.Step(id, journal.IncidentPhase{From: autoheal.Suspected, To: to}),
		}
	}
	old := over("inc-000001", autoheal.Cleared)
	goesOn := over("inc-000002", autoheal.Recovering)
	merged := [][]journal.Record{
		b.Step("inc-000003", journal.IncidentOpened{}),
		b.Step("inc-000003", journal.IncidentMerged{Into: "inc-000002"}),
	}
	relapsed := append(over("inc-000004", autoheal.Recovered),
		b.Step("inc-000004", journal.IncidentPhase{From: autoheal.Recovered, To: autoheal.Recovering}))
	suspected := [][]journal.Record{b.Step("inc-000005", journal.IncidentOpened{})}
	general := b.Filler(2)
	keep := b.Now.Add(time.Second)
	young := over("inc-000006", autoheal.Escalated)
	for _, steps := range [][][]journal.Record{old, goesOn, merged, relapsed, suspected, general, young} {
		Append(t, h.Store(), steps...)
	}
	snap := b.Snapshot("s1")
	if err := h.Store().Compact(t.Context(), snap, keep); err != nil {
		t.Fatalf("compact: %v", err)
	}
	kept := Flat(append(append(append(append([][]journal.Record{}, goesOn...), relapsed...), suspected...), young...)...)
	check := func(when string, s journal.Store, tail ...journal.Record) {
		t.Helper()
		Same(t, when+", replay", Replayed(t, s), append([]journal.Record{snap}, tail...))
		Same(t, when+", history", History(t, s, ""), append(append(append([]journal.Record{}, kept...), snap), tail...))
	}
	check("after compacting", h.Store())
	check("reopened", h.Reopen(t))
	more := b.Filler(2)
	Append(t, h.Store(), more...)
	check("with more", h.Reopen(t), Flat(more...)...)

	// The second snapshot replaces the first one.
	b.Now = b.Now.Add(time.Hour)
	snap = b.Snapshot("s2")
	if err := h.Store().Compact(t.Context(), snap, b.Now); err != nil {
		t.Fatalf("compact again: %v", err)
	}
	kept = Flat(append(append(append([][]journal.Record{}, goesOn...), relapsed...), suspected...)...)
	check("after the second snapshot", h.Reopen(t))
}

func compactRefuses(t *testing.T, h Harness) {
	b := NewBuilder()
	Append(t, h.Store(), b.Filler(2)...)
	other := *b
	if err := h.Store().Compact(t.Context(), other.Filler(1)[0][0], Start); err == nil || !strings.Contains(err.Error(), "not a snapshot") {
		t.Errorf("compact to another record: error = %v", err)
	}
	if err := h.Store().Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	snap := b.Snapshot("s")
	snap.Seq++
	if err := h.Store().Compact(t.Context(), snap, Start); err == nil || !strings.Contains(err.Error(), "the next record is 5") {
		t.Errorf("compact behind a gap: error = %v", err)
	}
	if n := len(Replayed(t, h.Reopen(t))); n != 4 {
		t.Errorf("%d records after refused compactions, want 4", n)
	}
}

// snapshotEqualsFull folds a journal in full, and again from a snapshot of its middle: the result is the same.
func snapshotEqualsFull(t *testing.T, h Harness) {
	b := NewBuilder()
	state := ""
	fold := func(records []journal.Record) string {
		for _, r := range records {
			switch p := r.Data.(type) {
			case journal.Snapshot:
				state = string(p.State[1 : len(p.State)-1])
			case journal.ConfigChanged:
				state += p.ConfigHash + p.By + ";"
			}
		}
		return state
	}
	first, second := b.Filler(5), [][]journal.Record(nil)
	Append(t, h.Store(), first...)
	if err := h.Store().Compact(t.Context(), b.Snapshot(fold(Flat(first...))), Start); err != nil {
		t.Fatal(err)
	}
	second = b.Filler(5)
	Append(t, h.Store(), second...)
	state = ""
	want := fold(Flat(append(append([][]journal.Record{}, first...), second...)...))
	state = ""
	if got := fold(Replayed(t, h.Reopen(t))); got != want {
		t.Errorf("from the snapshot %q, in full %q", got, want)
	}
}

func replayStops(t *testing.T, h Harness) {
	Append(t, h.Store(), NewBuilder().Filler(3)...)
	n := 0
	for _, err := range h.Store().Replay(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range h.Store().Replay(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("replay without a context: error = %v", err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d turns, want 2 and 1", n)
	}
}

func appendWhileReplaying(t *testing.T, h Harness) {
	b := NewBuilder()
	Append(t, h.Store(), b.Filler(3)...)
	n := 0
	for _, err := range h.Store().Replay(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			Append(t, h.Store(), b.Filler(1)...)
		}
		n++
	}
	if n != 6 {
		t.Errorf("a replay that began before the append saw %d records, want 6", n)
	}
}

func closed(t *testing.T, h Harness) {
	s := h.Store()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	step := NewBuilder().Filler(1)[0]
	if err := s.Append(t.Context(), step); err == nil {
		t.Error("a closed journal took records")
	}
	if err := s.Recover(t.Context()); err == nil {
		t.Error("a closed journal recovered")
	}
	if err := s.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}
