package signal

import (
	"fmt"
	"sync"
	"testing"
)

// once compiles the catalogue for all tests of this package.
var once = sync.OnceValues(Builtin)

func builtin(t testing.TB) *Catalogue {
	t.Helper()
	c, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSamples runs every rule's samples and look-alikes against it, and its samples against the whole catalogue: no other
// rule may take them.
func TestSamples(t *testing.T) {
	c := builtin(t)
	lookalikes := 0
	for _, r := range c.Rules() {
		t.Run(r.ID, func(t *testing.T) {
			if len(r.Samples) == 0 {
				t.Error("a rule needs a sample")
			}
			if r.Because == "" || r.Source == "" {
				t.Error("a rule says why and where its facts are from: because, source")
			}
			for _, word := range r.triggers() {
				least := minKernelWord
				if r.Kind == KindWorkload {
					least = minWorkloadWord
				}
				if len(word) < least {
					t.Errorf("%q is so short that it slows the search for all words; use %d characters or more", word, least)
				}
			}
			for _, p := range r.test() {
				t.Error(p)
			}
			for i, s := range r.Samples {
				if m, ok := c.Match([]byte(s.Text), r.Kind); !ok || m.Rule != r {
					t.Errorf("samples[%d]: the catalogue takes it for %s", i, nameOf(m.Rule))
				}
			}
		})
		lookalikes += len(r.Lookalikes)
	}
	t.Logf("%d rules, %d look-alikes", len(c.Rules()), lookalikes)
}

func nameOf(r *Rule) string {
	if r == nil {
		return "nothing"
	}
	return r.ID
}

// TestScanFindsWhatTheNaiveLoopFinds compares the search for words with asking every rule.
func TestScanFindsWhatTheNaiveLoopFinds(t *testing.T) {
	c := builtin(t)
	for _, r := range c.Rules() {
		lines := append([]string{}, r.Lookalikes...)
		for _, s := range r.Samples {
			lines = append(lines, s.Text, "x"+s.Text, fmt.Sprintf("%s\x00%s", s.Text, s.Text))
		}
		for _, line := range lines {
			want := naiveMatch(c, []byte(line), KindAny)
			m, _ := c.Match([]byte(line), KindAny)
			if m.Rule != want {
				t.Errorf("%q: found %s, the loop over all rules finds %s", line, nameOf(m.Rule), nameOf(want))
			}
		}
	}
}

// naiveMatch asks every rule in order.
func naiveMatch(c *Catalogue, line []byte, kind Kind) *Rule {
	for _, r := range c.rules {
		if !r.Kind.counts(kind) {
			continue
		}
		if _, ok := r.match(line); ok {
			return r
		}
	}
	return nil
}
