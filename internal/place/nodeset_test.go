package place

import (
	"cmp"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"autoheal.dev/autoheal"
)

// TestNodeSet adds and removes thousands of nodes at random and compares with a plain sorted list.
func TestNodeSet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var s nodeSet
	var want []entry
	check := func() {
		t.Helper()
		if got := slices.Collect(s.from(entry{rank: -1})); !slices.Equal(got, want) || s.size != len(want) {
			t.Fatalf("%d nodes (size %d), want %d, or in another order", len(got), s.size, len(want))
		}
		rank := rnd.Int64N(110)
		from := slices.IndexFunc(want, func(e entry) bool { return e.rank >= rank })
		if from < 0 {
			from = len(want)
		}
		if got := slices.Collect(s.from(entry{rank: rank})); !slices.Equal(got, want[from:]) {
			t.Fatalf("from rank %d: %d nodes, want %d", rank, len(got), len(want)-from)
		}
		for i, b := range s.blocks {
			if len(b) == 0 || len(b) > blockMost || s.last[i] != b[len(b)-1] {
				t.Fatalf("block %d has %d entries", i, len(b))
			}
		}
	}
	for step := range 20_000 {
		grow := step < 10_000
		if len(want) == 0 || grow == (rnd.IntN(4) > 0) {
			e := entry{rnd.Int64N(100), rnd.Uint32(), uint32(step)}
			at, _ := slices.BinarySearchFunc(want, e, func(a, b entry) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.number, b.number)) })
			want = slices.Insert(want, at, e)
			s.add(e)
		} else {
			at := rnd.IntN(len(want))
			s.remove(want[at])
			s.remove(entry{want[at].rank, want[at].number, 1_000_000}) // never added
			want = slices.Delete(want, at, at+1)
		}
		if step%500 == 0 {
			check()
		}
	}
	check()
	if most := 4*len(want)/blockMost + 2; len(s.blocks) > most {
		t.Errorf("%d nodes are spread over %d blocks, at most %d", len(want), len(s.blocks), most)
	}
}

// TestNumbersFollowNames enters nodes in orders that use the room between two numbers up, and checks that numbers rise
// with the IDs and that every set knows them.
func TestNumbersFollowNames(t *testing.T) {
	orders := map[string]func(n int) int{
		"rising":       func(n int) int { return n },
		"falling":      func(n int) int { return 9999 - n },
		"inwards":      func(n int) int { return (n%2)*9999 + n/2*(1-2*(n%2)) },
		"at random":    func(n int) int { return n * 7919 % 10_000 },
		"to one place": func(n int) int { return 5000 - n/2 + n%2*n },
	}
	for name, at := range orders {
		x := New()
		for n := range 3000 {
			id := autoheal.NodeID("n" + strconv.Itoa(100_000+at(n)))
			x.SetNode(&autoheal.Node{ID: id, Link: autoheal.LinkUp, Ready: true, Schedulable: n%3 > 0, GPUs: make([]autoheal.GPU, n%2)})
		}
		for before, s := range pairs(slices.Collect(x.all(&x.names))) {
			if before.id >= s.id || before.number >= s.number {
				t.Fatalf("%s: %s has %d, %s has %d", name, before.id, before.number, s.id, s.number)
			}
		}
		for _, set := range x.sets() {
			for e := range set.from(entry{rank: math.MinInt64}) {
				if s := x.slots[e.slot]; e.number != s.number {
					t.Fatalf("%s: a set has %s at %d, not %d", name, s.id, e.number, s.number)
				}
			}
		}
	}
}

func pairs(nodes []*nodeState) iter.Seq2[*nodeState, *nodeState] {
	return func(yield func(a, b *nodeState) bool) {
		for i := range nodes[1:] {
			if !yield(nodes[i], nodes[i+1]) {
				return
			}
		}
	}
}
