// Package journaltest owns the conformance suite of journal.Store and the records that its tests are made of.
//
// Only tests import it. It never knows a particular store: what a store promises beyond the interface is tested beside
// that store.
package journaltest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// Harness is one journal that can be closed and opened again.
type Harness interface {
	// Store returns the open store.
	Store() journal.Store
	// Reopen closes the store and opens it on what is durable.
	Reopen(t testing.TB) journal.Store
	// FailNextAppend lets the next Append fail and keep nothing; false when the store has no such fault.
	FailNextAppend(t testing.TB) bool
}

// Start is the time of the first record that Builder makes.
var Start = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

// Builder makes steps that follow one another.
type Builder struct {
	Head journal.Head
	Now  time.Time
}

// NewBuilder returns a builder of the first steps of a journal.
func NewBuilder() *Builder { return &Builder{Head: journal.Head{Epoch: 1}, Now: Start} }

// Step returns the records of the next step, one for each payload, of one incident ("" for none), one second later.
func (b *Builder) Step(incident autoheal.IncidentID, data ...journal.Payload) []journal.Record {
	b.Now = b.Now.Add(time.Second)
	var step []journal.Record
	for i, d := range data {
		step = append(step, journal.Record{
			V: journal.Version, Seq: b.Head.Seq + uint64(i) + 1, Step: b.Head.Step + 1, Epoch: b.Head.Epoch,
			At: b.Now, Type: d.Type(), Incident: incident, Data: d,
		})
	}
	b.Head = b.Head.After(step)
	return step
}

// Snapshot returns the record of a snapshot as the next step.
func (b *Builder) Snapshot(state string) journal.Record {
	raw, err := json.Marshal(state)
	if err != nil {
		panic(err) // a string always encodes
	}
	return b.Step("", journal.Snapshot{State: raw})[0]
}

// Filler returns n steps of two records each, which tell their number.
func (b *Builder) Filler(n int) [][]journal.Record {
	var steps [][]journal.Record
	for range n {
		id := fmt.Sprint(b.Head.Step + 1)
		steps = append(steps, b.Step("", journal.ConfigChanged{ConfigHash: id, By: "a"}, journal.ConfigChanged{ConfigHash: id, By: "b"}))
	}
	return steps
}

// Append appends the steps or ends the test.
func Append(t testing.TB, s journal.Store, steps ...[]journal.Record) {
	t.Helper()
	for _, step := range steps {
		if err := s.Append(t.Context(), step); err != nil {
			t.Fatalf("append records %d to %d: %v", step[0].Seq, step[len(step)-1].Seq, err)
		}
	}
}

// Replayed returns what Replay yields.
func Replayed(t testing.TB, s journal.Store) []journal.Record {
	t.Helper()
	var got []journal.Record
	for r, err := range s.Replay(t.Context()) {
		if err != nil {
			t.Fatalf("replay: %v", err)
		}
		got = append(got, r)
	}
	return got
}

// History returns what History yields.
func History(t testing.TB, s journal.Store, incident autoheal.IncidentID) []journal.Record {
	t.Helper()
	var got []journal.Record
	for r, err := range s.History(t.Context(), incident) {
		if err != nil {
			t.Fatalf("history of %q: %v", incident, err)
		}
		got = append(got, r)
	}
	return got
}

// Same fails the test unless got and want are the same records.
func Same(t testing.TB, what string, got, want []journal.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d records %v, want %d %v", what, len(got), Seqs(got), len(want), Seqs(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("%s: record %d:\ngot  %+v\nwant %+v", what, i, got[i], want[i])
		}
	}
}

// Seqs returns the Seq of each record.
func Seqs(records []journal.Record) []uint64 {
	var out []uint64
	for _, r := range records {
		out = append(out, r.Seq)
	}
	return out
}

// Flat returns the records of all steps.
func Flat(steps ...[]journal.Record) []journal.Record {
	var out []journal.Record
	for _, s := range steps {
		out = append(out, s...)
	}
	return out
}
