package sim

import (
	"os"
	"testing"
	"time"
)

// TestDeathEverywhere lets the healer die at every one of its commits after each kind of fault, before and after the records
// are durable, and between any two of its effects. The unit test takes one of the ways at each commit, in turn;
// AUTOHEAL_SIM_SWEEP takes them all.
func TestDeathEverywhere(t *testing.T) {
	all := os.Getenv("AUTOHEAL_SIM_SWEEP") != ""
	runs := 0
	for n, k := range faultKinds() {
		if underRace && n%10 != 0 {
			continue
		}
		cfg := Config{Days: 0.01, Nodes: 6, Script: []Fault{
			{Kind: k.name, Node: n, Work: 3 * n, Count: 2, For: 100 * time.Second},
			{At: time.Minute, Kind: "node_crash", Node: 2 + n, For: 10 * time.Minute},
			{At: 2 * time.Minute, Kind: "crash", Work: n},
		}}
		seed := uint64(n)
		base := one(t.Context(), seed, cfg)
		if base.broken != nil {
			t.Fatalf("%s: %s", k.name, render(explain(t.Context(), base, cfg, false)))
		}
		for at, actions := range base.commits {
			for w, d := range deaths(at+1, actions) {
				if !all && w != (at+n)%(2+actions) {
					continue
				}
				cfg := cfg
				cfg.Death = d
				runs++
				if r := one(t.Context(), seed, cfg); r.broken != nil {
					t.Fatalf("%s, death %+v: %s", k.name, d, render(explain(t.Context(), r, cfg, false)))
				}
			}
		}
	}
	t.Logf("%d deaths", runs)
}

// deaths lists the ways to die at one commit.
func deaths(n, actions int) []Death {
	out := []Death{{N: n, Point: pointCrashBefore}, {N: n, Point: pointCrashAfter}}
	for a := range actions {
		out = append(out, Death{N: n, Point: pointCrashBetween, After: a + 1})
	}
	return out
}
