package sim

import (
	"context"
	"fmt"
	"os"
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

// onceFailed are seeds that broke an invariant, with what was wrong. They stay.
var onceFailed = []struct {
	seed uint64
	what string
}{
	{136339441845295, "a gang waited for room that only its own incident's cordoned node had: nobody moved (core)"},
	{1011, "an exit proof was taken for an attempt that had been placed meanwhile: two copies (registry)"},
	{8, "a rank of a gang began alone, because the old attempt of another counted as present (registry)"},
	{85761906967582, "an older listing overtook a start, and a copy that ran counted as ended (registry)"},
	{125344325566534, "ranks of two generations were placed together (registry)"},
	{285873023221930, "a stop of a replaced healer counted when its answer came (simulator)"},
	{114349209288797, "a silence that was seen again after a blind time counted as a new one (checker)"},
	{38, "a healer that stood still while its journal was full was never given a listing (simulator)"},
	{0, "a start of unknown outcome was sent again to a node that answered (judged: what was begun goes on)"},
}

func TestOnceFailed(t *testing.T) {
	for _, f := range onceFailed {
		t.Run(strconv.FormatUint(f.seed, 10), func(t *testing.T) {
			t.Parallel()
			if r := one(f.seed, Config{}); r.broken != nil {
				t.Error(f.what + "\n" + render(explain(r, Config{}.withDefaults(), true)))
			}
		})
	}
}

// TestSameSeedSameRun: a seed is the same run, transcript and all; another seed is another.
func TestSameSeedSameRun(t *testing.T) {
	cfg := Config{Days: 0.1, Record: true}
	a, b, c := one(5, cfg), one(5, cfg), one(6, cfg)
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
