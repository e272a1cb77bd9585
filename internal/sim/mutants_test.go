package sim

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// mostSeeds is how many seeds a planted bug may survive.
const mostSeeds = 160

// hunt returns the seed and the violation by which a planted bug is caught, nil if it is not. It begins with the seed
// that caught it last, if one is named.
func hunt(cfg Config) (*Violation, int) {
	if cfg.FromSeed > 0 {
		if r := one(context.Background(), cfg.FromSeed, cfg); r.broken != nil {
			return r.broken, 1
		}
	}
	for n := 0; n < mostSeeds; n += 4 {
		seeds := make([]uint64, 4)
		for i := range seeds {
			seeds[i] = uint64(n + i)
		}
		for i, r := range runAll(context.Background(), seeds, cfg) {
			if r.broken != nil {
				return r.broken, n + i + 1
			}
		}
	}
	return nil, mostSeeds
}

// TestSabotages plants each bug in what surrounds the core: every one must be caught, and it is said by what.
func TestSabotages(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	caughtBy := map[string]bool{}
	t.Run("planted", func(t *testing.T) {
		for _, b := range Sabotages() {
			t.Run(b.Name, func(t *testing.T) {
				t.Parallel()
				v, seeds := hunt(Config{Sabotage: b.Name, Kinds: b.Kinds, FromSeed: b.Seed}.withDefaults())
				if v == nil {
					t.Fatalf("%d seeds do not notice that %s", seeds, b.Says)
				}
				mu.Lock()
				defer mu.Unlock()
				caughtBy[v.Checker] = true
				lines = append(lines, fmt.Sprintf("%-28s caught by %-16s after %3d seeds, by seed %d: %s", b.Name, v.Checker, seeds, v.Seed, v.Detail))
			})
		}
	})
	slices.Sort(lines)
	for _, l := range lines {
		t.Log(l[:min(len(l), 180)])
	}
	t.Logf("%d bugs caught by %d invariants on %d cores", len(lines), len(caughtBy), runtime.GOMAXPROCS(0))
}
