package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// seedsFromEnv lets a person run more seeds, or one: AUTOHEAL_SIM_SEEDS and AUTOHEAL_SIM_REPLAY.
func seedsFromEnv(t *testing.T, n int) Config {
	cfg := Config{Seeds: n, Days: 0.1}
	if underRace {
		cfg.Seeds = max(1, n/20)
	}
	number := func(key string, set func(uint64)) {
		if s := os.Getenv(key); s != "" {
			x, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			set(x)
		}
	}
	number("AUTOHEAL_SIM_SEEDS", func(x uint64) { cfg.Seeds = int(x) })
	number("AUTOHEAL_SIM_FROM", func(x uint64) { cfg.FromSeed = x })
	number("AUTOHEAL_SIM_REPLAY", func(x uint64) { cfg.Seeds, cfg.FromSeed, cfg.Exact = 1, x, true })
	return cfg
}

// TestSeeds runs many small worlds; a broken invariant prints everything that is needed to look into it.
func TestSeeds(t *testing.T) {
	rep := Run(context.Background(), seedsFromEnv(t, 200), nil)
	for _, v := range rep.Violations {
		t.Error(render(v))
	}
	t.Logf("%d seeds, %d faults, %d checks, %d of %d triples, exceptions %v, %d steps, %d events",
		rep.Seeds, rep.Faults, rep.Checks, rep.Coverage.Triples, rep.Coverage.Of, rep.Exceptions, rep.Steps, rep.Events)
}

func render(v Violation) string {
	var out strings.Builder
	out.WriteString(fmt.Sprintf("seed %d breaks %s at step %d: %s\n", v.Seed, v.Checker, v.Step, v.Detail))
	for _, l := range v.Script {
		out.WriteString("  " + l + "\n")
	}
	for _, l := range v.Transcript {
		out.WriteString("    " + l + "\n")
	}
	return out.String()
}

// onceFailed is a run that broke an invariant, with what was wrong. The script is kept, not only the seed: it stays the same
// run when faults are drawn in another way.
type onceFailed struct {
	What   string  `json:"what"`
	Seed   uint64  `json:"seed"`
	Days   float64 `json:"days"`
	Script []Fault `json:"script"`
}

// TestOnceFailed plays what once failed: findings stay as tests.
func TestOnceFailed(t *testing.T) {
	files, err := filepath.Glob("testdata/once-failed/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no run that once failed is kept", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".json"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var was onceFailed
			if err := json.Unmarshal(data, &was); err != nil {
				t.Fatal(err)
			}
			cfg := Config{Days: was.Days, Script: was.Script}.withDefaults()
			if r := one(t.Context(), was.Seed, cfg); r.broken != nil {
				t.Error(was.What + "\n" + render(explain(t.Context(), r, cfg, true)))
			}
		})
	}
}

// TestSameSeedSameRun: a seed is the same run, transcript and all; another seed is another.
func TestSameSeedSameRun(t *testing.T) {
	cfg := Config{Days: 0.1, Record: true}
	a, b, c := one(t.Context(), 5, cfg), one(t.Context(), 5, cfg), one(t.Context(), 6, cfg)
	if len(a.notes) == 0 || !slices.Equal(a.notes, b.notes) {
		t.Fatalf("seed 5 ran twice and gave %d and %d lines, or others", len(a.notes), len(b.notes))
	}
	if slices.Equal(a.notes, c.notes) {
		t.Error("seeds 5 and 6 gave the same run")
	}
}

// TestShrink: a violation comes with the shortest script that still breaks the same invariant, and the transcript.
func TestShrink(t *testing.T) {
	cfg := Config{Sabotage: "no-self-stop", Seeds: 4}
	rep := Run(context.Background(), cfg, nil)
	if len(rep.Violations) == 0 {
		t.Fatal("shims that ignore their deadline break nothing in 4 seeds")
	}
	v := rep.Violations[0]
	if n := len(v.Script); n == 0 || n > 12 {
		t.Errorf("the script has %d lines:\n%s", n, render(v))
	}
	if len(v.Transcript) == 0 || v.Checker == "" || v.Step == 0 {
		t.Errorf("incomplete: %+v", v)
	}
}
