package sim

import (
	"context"
	"runtime"
	"slices"
	"sync"
)

// Report is what a simulation found. Its JSON is what `simulate -o json` prints.
type Report struct {
	Seeds      int         `json:"seeds"`
	Faults     int         `json:"faults"`
	Checks     uint64      `json:"checks"`
	Violations []Violation `json:"violations"`
	Coverage   Coverage    `json:"coverage"`
	Seconds    float64     `json:"seconds"`

	ByChecker  map[string]uint64 `json:"-"` // questions asked, by invariant
	Exceptions map[string]int    `json:"-"` // two copies by a documented hole, by hole
	Struck     int               `json:"-"` // ambushes that did harm
	Steps      int               `json:"-"` // of the core
	Events     uint64            `json:"-"` // of the world
}

// Coverage says how many of the triples (fault, stage, point) were seen, and which most seldom.
type Coverage struct {
	Triples int           `json:"triples"` // seen at least once
	Rarest  []TripleCount `json:"rarest"`

	Of       int `json:"-"` // how many there are
	Hundreds int `json:"-"` // seen at least a hundred times
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
	commits []int
}

// one runs one seed. A run that ctx ends has no checks.
func one(ctx context.Context, seed uint64, cfg Config) result {
	cfg = cfg.withDefaults()
	s := newSim(seed, cfg)
	s.ctx = ctx
	sc := cfg.Script
	if sc == nil {
		sc = script(seed, cfg)
	}
	s.run(sc)
	if ctx.Err() != nil {
		return result{}
	}
	return result{seed, s.faults, s.checks, s.holes, s.covered, s.broken, s.steps, s.q.passed, s.w.notes, sc, s.commits}
}

// batch is how many runs share one look at the coverage: the scheduler steers between batches, so that the same
// configuration gives the same seeds on any machine.
const batch = 32

// Run simulates seeds on all cores, until cfg.Seeds are done or cfg.Faults are injected. Progress, if set, is shown the
// report as it grows. Seeds that were steered towards seldom triples carry that in their number, so that one of them with
// Config.Exact is the same run. When ctx ends, what is under way is given up and the report covers what was done.
func Run(ctx context.Context, cfg Config, progress func(soFar *Report)) Report {
	cfg = cfg.withDefaults()
	rep := Report{ByChecker: map[string]uint64{}, Violations: []Violation{}, Exceptions: map[string]int{}}
	all, counts := triples(), map[Triple]int{}
	for n := 0; cfg.more(n, rep.Faults) && ctx.Err() == nil; n += batch {
		for _, r := range runAll(ctx, cfg.seeds(n, all, counts), cfg) {
			rep.add(ctx, r, counts, cfg)
			if progress != nil {
				progress(&rep)
			}
		}
	}
	rep.Coverage = coverage(all, counts)
	return rep
}

// more reports whether another batch is to be run after n seeds.
func (c Config) more(n, faults int) bool {
	if c.Faults > 0 {
		return faults < c.Faults
	}
	return n < c.Seeds
}

// seeds names the next batch: the first one as it comes, later ones steered.
func (c Config) seeds(n int, all []Triple, counts map[Triple]int) []uint64 {
	size := batch
	if c.Faults == 0 {
		size = min(batch, c.Seeds-n)
	}
	out, focus := make([]uint64, size), neediest(all, counts, size)
	for i := range out {
		out[i] = c.FromSeed + uint64(n+i)
		if n > 0 && !c.Exact {
			out[i] = out[i]&(1<<focusShift-1) | uint64(focus[i%len(focus)]+1)<<focusShift
		}
	}
	return out
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
			out[i] = one(ctx, seed, cfg)
		})
	}
	wg.Wait()
	return slices.DeleteFunc(out, func(r result) bool { return r.checks == nil })
}

// mostExplained is how many violations are shortened and retold; of the others the seed is enough.
const mostExplained = 3

func (rep *Report) add(ctx context.Context, r result, counts map[Triple]int, cfg Config) {
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
		rep.Struck += n
	}
	if r.broken != nil {
		rep.Violations = append(rep.Violations, explain(ctx, r, cfg, len(rep.Violations) < mostExplained))
	}
}

// coverage counts the triples and finds the rarest ten.
func coverage(all []Triple, counts map[Triple]int) Coverage {
	c := Coverage{Of: len(all), Rarest: []TripleCount{}}
	var seen []TripleCount
	for _, t := range all {
		n := counts[t]
		if n > 0 {
			c.Triples++
		}
		if n >= 100 {
			c.Hundreds++
		}
		seen = append(seen, TripleCount{t, n})
	}
	slices.SortStableFunc(seen, func(a, b TripleCount) int { return a.Count - b.Count })
	c.Rarest = append(c.Rarest, seen[:min(10, len(seen))]...)
	return c
}
