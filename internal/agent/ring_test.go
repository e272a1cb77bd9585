package agent

import (
	"testing"

	"pgregory.net/rapid"
)

// TestRingTellsAllOrSaysLost reads the ring at random places: either every change after the place comes, in order, or
// the reader is told that it must start over.
func TestRingTellsAllOrSaysLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		var all []int64
		for range rapid.IntRange(0, 3).Draw(t, "bursts") {
			for range rapid.IntRange(0, ringSize).Draw(t, "changes") {
				all = append(all, r.add(change{}))
			}
			r.skip(int64(rapid.IntRange(0, 3).Draw(t, "pages")))
		}
		after := rapid.Int64Range(0, r.seq+2).Draw(t, "after")
		got, lost := r.after(after)
		var want []int64
		for _, seq := range all {
			if seq > after {
				want = append(want, seq)
			}
		}
		if lost > 0 {
			if after <= r.seq && len(want) <= ringSize && after >= r.dropped {
				t.Fatalf("after %d of %d: %d lost, yet all %d are kept", after, r.seq, lost, len(want))
			}
			return
		}
		if len(got) != len(want) {
			t.Fatalf("after %d: %d changes, want %d", after, len(got), len(want))
		}
		for i, c := range got {
			if c.seq != want[i] {
				t.Fatalf("change %d has number %d, want %d", i, c.seq, want[i])
			}
		}
	})
}
