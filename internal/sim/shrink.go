package sim

import (
	"cmp"
	"context"
	"slices"
)

// How often a script is tried with less in it, and how many Steps of the core these tries take together: counted and not
// timed, so that the same violation has the same script on every machine.
const (
	mostShrinks     = 150
	mostShrinkSteps = 20_000
)

// transcriptLines is how much of the transcript a violation carries.
const transcriptLines = 60

// explain turns a broken run into a violation with a script as short as it gets and the transcript of that run.
func explain(ctx context.Context, r result, cfg Config, shorten bool) Violation {
	sc := r.script
	if shorten {
		sc = shrink(ctx, r, cfg)
	}
	cfg.Script, cfg.Record = sc, true
	again := one(ctx, r.seed, cfg)
	if again.broken == nil { // the run was interrupted
		again = r
	}
	v := *again.broken
	v.Script, v.Transcript = []string{}, again.notes
	for _, f := range again.script {
		v.Script = append(v.Script, f.String())
	}
	if n := len(v.Transcript) - cmp.Or(cfg.Lines, transcriptLines); n > 0 {
		v.Transcript = v.Transcript[n:]
	}
	return v
}

// shrink leaves lines of the script out, in halves, quarters and so on, as long as the same invariant breaks.
func shrink(ctx context.Context, r result, cfg Config) []Fault {
	cfg.Record = false
	sc := slices.Clone(r.script)
	tries, steps := 0, 0
	spent := func() bool { return tries >= mostShrinks || steps >= mostShrinkSteps || ctx.Err() != nil }
	breaks := func(part []Fault) bool {
		if spent() {
			return false
		}
		tries++
		cfg.Script = part
		if part == nil {
			cfg.Script = []Fault{}
		}
		again := one(ctx, r.seed, cfg)
		steps += again.steps
		return again.broken != nil && again.broken.Checker == r.broken.Checker
	}
	// What comes after the violation had no part in it.
	for n := len(sc); n > 0; n /= 2 {
		if part := sc[:n-n/2]; len(part) < len(sc) && breaks(part) {
			sc = slices.Clone(part)
		}
	}
	for size := max(1, len(sc)/2); !spent(); size = max(1, size/2) {
		removed := false
		for at := 0; at < len(sc) && !spent(); {
			part := slices.Concat(sc[:at], sc[min(at+size, len(sc)):])
			if breaks(part) {
				sc, removed = part, true
			} else {
				at += size
			}
		}
		if size == 1 && !removed {
			break
		}
	}
	return withoutAmbushes(sc, breaks)
}

// withoutAmbushes takes away the ambushes that are not needed.
func withoutAmbushes(sc []Fault, breaks func([]Fault) bool) []Fault {
	for i := range sc {
		for _, less := range []func(f *Fault){func(f *Fault) { f.Also = Ambush{} }, func(f *Fault) { f.Ambush = Ambush{} }} {
			part := slices.Clone(sc)
			if less(&part[i]); part[i] != sc[i] && breaks(part) {
				sc = part
			}
		}
	}
	return sc
}
