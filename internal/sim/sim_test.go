package sim

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
)

// seedsFromEnv lets a person run more seeds, or one: AUTOHEAL_SIM_SEEDS and AUTOHEAL_SIM_REPLAY.
func seedsFromEnv(t *testing.T, n int) Config {
	cfg := Config{Seeds: n}
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
	out := fmt.Sprintf("seed %d breaks %s at step %d: %s\n", v.Seed, v.Checker, v.Step, v.Detail)
	for _, l := range v.Script {
		out += "  " + l + "\n"
	}
	for _, l := range v.Transcript {
		out += "    " + l + "\n"
	}
	return out
}
