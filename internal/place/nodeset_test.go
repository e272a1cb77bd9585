package place

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"autoheal.dev/autoheal"
)

// TestNodeSet adds and removes thousands of nodes at random and compares with a plain sorted list.
func TestNodeSet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	s := nodeSet{less: lessMemory}
	var want []*nodeState
	check := func() {
		t.Helper()
		if got := slices.Collect(s.all()); !slices.Equal(got, want) || s.size != len(want) {
			t.Fatalf("%d nodes (size %d), want %d, or in another order", len(got), s.size, len(want))
		}
		mb := rnd.Int64N(110)
		from := slices.IndexFunc(want, func(n *nodeState) bool { return n.free.MemoryMB >= mb })
		if from < 0 {
			from = len(want)
		}
		if got := slices.Collect(s.withMemory(mb)); !slices.Equal(got, want[from:]) {
			t.Fatalf("with %d MiB: %d nodes, want %d", mb, len(got), len(want)-from)
		}
		for i, b := range s.blocks {
			if len(b) == 0 || len(b) > blockMost {
				t.Fatalf("block %d has %d entries", i, len(b))
			}
		}
	}
	for step := range 20_000 {
		grow := step < 10_000
		if len(want) == 0 || grow == (rnd.IntN(4) > 0) {
			n := &nodeState{id: autoheal.NodeID("n" + strconv.Itoa(step)), free: autoheal.Resources{MemoryMB: rnd.Int64N(100)}}
			at, _ := slices.BinarySearchFunc(want, n, lessMemory)
			want = slices.Insert(want, at, n)
			s.add(n)
		} else {
			at := rnd.IntN(len(want))
			s.remove(want[at])
			s.remove(&nodeState{id: "never added", free: want[at].free})
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
