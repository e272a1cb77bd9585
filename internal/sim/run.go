package sim

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
)

// Report is what a simulation found.
type Report struct {
	Seeds      int               `json:"seeds"`
	Faults     int               `json:"faults"`
	Checks     uint64            `json:"checks"`
	ByChecker  map[string]uint64 `json:"checksByInvariant"`
	Violations []Violation       `json:"violations"`
	Coverage   Coverage          `json:"coverage"`
	Exceptions map[string]int    `json:"exceptions"` // two copies by a documented hole
	Steps      int               `json:"steps"`
	Events     uint64            `json:"events"`
	Seconds    float64           `json:"seconds"`
}

// Coverage says how many of the triples (fault, stage, point) were seen, and which most seldom.
type Coverage struct {
	Triples  int           `json:"triples"` // seen at least once
	Of       int           `json:"of"`
	Hundreds int           `json:"hundred"` // seen at least a hundred times
	Rarest   []TripleCount `json:"rarest"`
}

// TripleCount is one triple and how often it was seen.
type TripleCount struct {
	Triple
	Count int `json:"count"`
}

// result is what one run found.
type result struct {
	seed    uint64
	faults  int
	checks  map[string]uint64
	holes   map[string]int
	covered map[Triple]int
	broken  *Violation
	steps   int
	events  uint64
	notes   []string
	script  []Fault
}

// one runs one seed.
func one(seed uint64, cfg Config) result {
	cfg = cfg.withDefaults()
	s := newSim(seed, cfg)
	sc := cfg.Script
	if sc == nil {
		sc = script(seed, cfg)
	}
	s.run(sc)
	return result{seed, s.faults, s.checks, s.holes, s.covered, s.broken, s.steps, s.q.passed, s.w.notes, sc}
}

// batch is how many runs share one look at the coverage: the scheduler steers between batches, so that the same
// configuration gives the same seeds on any machine.
const batch = 32

// Run simulates cfg.Seeds seeds on all cores. Progress, if set, is told how many are done. Seeds that were steered towards
// a seldom triple carry it in their number, so that one of them with Config.Exact is the same run.
func Run(ctx context.Context, cfg Config, progress func(done, of int)) Report {
	cfg = cfg.withDefaults()
	rep := Report{ByChecker: map[string]uint64{}, Violations: []Violation{}, Exceptions: map[string]int{}}
	all := triples()
	counts := map[Triple]int{}
	for n := 0; n < cfg.Seeds && ctx.Err() == nil; n += batch {
		size := min(batch, cfg.Seeds-n)
		seeds := make([]uint64, size)
		focus := rarest(all, counts)
		for i := range seeds {
			seeds[i] = cfg.FromSeed + uint64(n+i)
			if n > 0 && !cfg.Exact {
				seeds[i] |= uint64(focus[i%len(focus)]+1) << focusShift
			}
		}
		for _, r := range runAll(ctx, seeds, cfg) {
			rep.add(r, counts, cfg)
		}
		if progress != nil {
			progress(min(n+size, cfg.Seeds), cfg.Seeds)
		}
	}
	rep.Coverage = coverage(all, counts)
	return rep
}

// runAll runs seeds side by side and returns their results in order.
func runAll(ctx context.Context, seeds []uint64, cfg Config) []result {
	out := make([]result, len(seeds))
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, seed := range seeds {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			out[i] = one(seed, cfg)
		})
	}
	wg.Wait()
	return slices.DeleteFunc(out, func(r result) bool { return r.checks == nil })
}

func (rep *Report) add(r result, counts map[Triple]int, cfg Config) {
	rep.Seeds++
	rep.Faults += r.faults
	rep.Steps += r.steps
	rep.Events += r.events
	for k, n := range r.checks {
		rep.ByChecker[k] += n
		rep.Checks += n
	}
	for k, n := range r.holes {
		rep.Exceptions[k] += n
	}
	for k, n := range r.covered {
		counts[k] += n
	}
	if r.broken != nil {
		rep.Violations = append(rep.Violations, explain(r, cfg, len(rep.Violations) < 3))
	}
}

// rarest returns the indexes of the triples that were seen least often, rarest first.
func rarest(all []Triple, counts map[Triple]int) []int {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(counts[all[a]], counts[all[b]]) })
	return order[:min(batch, len(order))]
}

func coverage(all []Triple, counts map[Triple]int) Coverage {
	c := Coverage{Of: len(all), Rarest: []TripleCount{}}
	for _, t := range all {
		if counts[t] > 0 {
			c.Triples++
		}
		if counts[t] >= 100 {
			c.Hundreds++
		}
	}
	for _, i := range rarest(all, counts)[:min(10, len(all))] {
		c.Rarest = append(c.Rarest, TripleCount{all[i], counts[all[i]]})
	}
	return c
}
