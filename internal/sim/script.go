package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is one line of a script: what happens when, to whom. Node and Work are indexes that wrap around, so that a line
// means the same whatever other lines there are. Ambush is what strikes once the healer has got as far as Stage.
type Fault struct {
	At     time.Duration `json:"at"`
	Kind   string        `json:"kind"`
	Node   int           `json:"node"`
	Work   int           `json:"work"`
	Count  int           `json:"count"`
	For    time.Duration `json:"for"`
	Ambush Ambush        `json:"ambush"`
}

// Ambush waits for a stage of recovery and strikes at that point; empty = none.
type Ambush struct {
	Stage string `json:"stage,omitempty"`
	Point string `json:"point,omitempty"`
}

func (f Fault) String() string {
	s := fmt.Sprintf("%-9s %-22s node=%d work=%d count=%d for=%s", "+"+f.At.Round(time.Second).String(), f.Kind, f.Node, f.Work, f.Count, f.For.Round(time.Millisecond))
	if f.Ambush.Stage != "" {
		s += fmt.Sprintf(" ambush=%s@%s", f.Ambush.Point, f.Ambush.Stage)
	}
	return s
}

// Stages at which an ambush strikes: a record takes an incident or a recovery there.
var stages = []string{"suspected", "recovering", "stopping", "starting", "verifying", "ended"}

// Points: what strikes.
const (
	pointCrashBefore = "crash_before_journal" // the healer dies before its records are durable
	pointCrashAfter  = "crash_after_journal"  // they are durable, its actions have not left
	pointCrashActed  = "crash_after_acting"   // its actions have left, their results have not come
	pointLoseRequest = "request_lost"
	pointLoseAnswer  = "answer_lost"
	pointLate        = "acts_late"
	pointTwice       = "acts_twice"
	pointDiskFull    = "disk_full"
)

var points = []string{
	pointCrashBefore, pointCrashAfter, pointCrashActed, pointLoseRequest, pointLoseAnswer, pointLate, pointTwice, pointDiskFull,
}

// Triple names one thing to be covered: a fault of this kind, an ambush at this stage, striking at this point.
type Triple struct {
	Kind  string `json:"kind"`
	Stage string `json:"stage"`
	Point string `json:"point"`
}

// triples lists all of them in a fixed order.
func triples() []Triple {
	var out []Triple
	for _, k := range faultKinds() {
		for _, st := range stages {
			for _, p := range points {
				out = append(out, Triple{k.name, st, p})
			}
		}
	}
	return out
}

// focusShift is where in a seed the triple stands that the scheduler wants to see: seed = base | (triple+1) << focusShift.
const focusShift = 40

// script draws the faults of one seed. A focus makes a third of them that triple.
func script(seed uint64, cfg Config) []Fault {
	rng := rand.New(rand.NewPCG(seed&(1<<focusShift-1), 77))
	length := time.Duration(cfg.Days * float64(24*time.Hour))
	n := max(1, int(cfg.Days*cfg.FaultsPerDay))
	var focus *Triple
	if k := seed >> focusShift; k > 0 && int(k) <= len(triples()) {
		t := triples()[k-1]
		focus = &t
	}
	total, kinds := 0, faultKinds()
	if len(cfg.Kinds) > 0 {
		kinds = slices.DeleteFunc(kinds, func(k faultKind) bool { return !slices.Contains(cfg.Kinds, k.name) })
	}
	for _, k := range kinds {
		total += k.weight
	}
	out := make([]Fault, 0, n)
	for len(out) < n {
		// Faults come in clusters, because the interesting ones are mixtures.
		at := time.Duration(rng.Int64N(int64(length)))
		for range 1 + rng.IntN(4) {
			f := Fault{
				At: at, Kind: drawKind(rng, kinds, total), Node: rng.IntN(1 << 16), Work: rng.IntN(1 << 16), Count: 1 + rng.IntN(5),
				For: drawLength(rng), Ambush: Ambush{stages[rng.IntN(len(stages))], points[rng.IntN(len(points))]},
			}
			if focus != nil && rng.IntN(3) == 0 {
				f.Kind, f.Ambush = focus.Kind, Ambush{focus.Stage, focus.Point}
			}
			out = append(out, f)
			at += time.Duration(rng.Int64N(int64(4 * time.Minute)))
		}
	}
	out = out[:n]
	slices.SortStableFunc(out, func(a, b Fault) int { return int(min(max(a.At-b.At, -1), 1)) })
	return out
}

func drawKind(rng *rand.Rand, kinds []faultKind, total int) string {
	x := rng.IntN(total)
	for _, k := range kinds {
		if x -= k.weight; x < 0 {
			return k.name
		}
	}
	return kinds[0].name
}

// drawLength prefers lengths around the healer's own deadlines: settle, probe, self-stop, wait, grace.
func drawLength(rng *rand.Rand) time.Duration {
	around := []time.Duration{3, 8, 30, 58, 62, 75, 88, 92, 118, 125, 180, 400, 900}
	d := around[rng.IntN(len(around))] * time.Second
	return d + time.Duration(rng.Int64N(int64(d)/4+1))
}
