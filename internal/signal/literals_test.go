package signal

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestLiteralsFindAll compares the search with looking for each text at each place, over texts of few letters, in which
// nearly everything almost matches.
func TestLiteralsFindAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	word := func(n int) []byte {
		w := make([]byte, n)
		for i := range w {
			w[i] = "abc"[rng.IntN(3)]
		}
		return w
	}
	for round := range 400 {
		texts := make([][]byte, 1+rng.IntN(12))
		for i := range texts {
			texts[i] = word(4 + rng.IntN(10))
		}
		l := newLiterals(texts)
		size := rng.IntN(60)
		if round%40 == 0 {
			size = 5 * lane // long enough for two lanes, and quiet, so that they are walked to their ends
		}
		text := word(size)
		if size > lane {
			text = bytes.Repeat([]byte("quiet, "), size/7)
			for range 3 {
				copy(text[rng.IntN(len(text)-20):], texts[rng.IntN(len(texts))])
			}
		}
		from := rng.IntN(len(text)/2 + 1)
		at, id := l.next(text, from)
		wantLine := firstOf(texts, text, from)
		if (at < 0) != (wantLine < 0) {
			t.Fatalf("%q from %d in %q: found at %d, is at %d", texts, from, text, at, wantLine)
		}
		if at >= 0 && (at < from || !bytes.HasPrefix(text[at:], texts[id])) {
			t.Fatalf("%q is not at %d of %q", texts[id], at, text)
		}
		got := map[string]bool{}
		for _, id := range l.all(text, nil) {
			got[string(texts[id])] = true
		}
		for _, w := range texts {
			if bytes.Contains(text, w) != got[string(w)] {
				t.Fatalf("%q in %q: found %v", w, text, got[string(w)])
			}
		}
	}
}

// TestNextLineGoesInOrder finds every line that has a word, in order, however long the quiet between them.
func TestNextLineGoesInOrder(t *testing.T) {
	c := builtin(t)
	rng := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		var text []byte
		var want []int
		for range 1 + rng.IntN(6) {
			for range rng.IntN(3 * lane / 10) {
				text = append(text, "all quiet\n"...)
			}
			want = append(want, len(text))
			text = append(text, "[ 1.5] NVRM: Xid (PCI:0000:05:00): 79, gone\n"...)
		}
		var got []int
		for at := 0; at < len(text); {
			begin, end, ok := c.NextLine(text, at, KindAny)
			if !ok {
				break
			}
			got = append(got, begin)
			at = end + 1
		}
		if len(got) != len(want) {
			t.Fatalf("found %d of %d lines", len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("line %d begins at %d, found %d", i, want[i], got[i])
			}
		}
	}
}

// firstOf returns where the first of the texts begins at or after from, or -1.
func firstOf(texts [][]byte, text []byte, from int) int {
	first := -1
	for _, w := range texts {
		if at := bytes.Index(text[from:], w); at >= 0 && (first < 0 || from+at < first) {
			first = from + at
		}
	}
	return first
}
