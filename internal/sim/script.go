package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
	Also   Ambush        `json:"also,omitzero"`
}

// ambushes are what a fault lays, one or two.
func (f Fault) ambushes() []Ambush {
	var out []Ambush
	for _, a := range []Ambush{f.Ambush, f.Also} {
		if a.Stage != "" {
			out = append(out, a)
		}
	}
	return out
}

// Ambush waits for a stage of recovery and strikes at that point; empty = none.
type Ambush struct {
	Stage string `json:"stage,omitempty"`
	Point string `json:"point,omitempty"`
}

func (f Fault) String() string {
	var ambushes strings.Builder
	for _, a := range f.ambushes() {
		ambushes.WriteString(" ambush=" + a.Point + "@" + a.Stage)
	}
	return fmt.Sprintf("%-9s %-22s node=%d work=%d count=%d for=%s%s", "+"+f.At.Round(time.Second).String(), f.Kind, f.Node, f.Work, f.Count, f.For.Round(time.Millisecond), ambushes.String())
}

// script draws the faults of one seed. In a seed that is steered, two thirds of them belong to the triples of its block.
func script(seed uint64, cfg Config) []Fault {
	length := time.Duration(cfg.Days * float64(24*time.Hour))
	n := max(1, int(cfg.Days*cfg.FaultsPerDay))
	d := newDrawer(seed, cfg, length)
	out := make([]Fault, 0, n)
	for len(out) < n {
		// Faults come in clusters, because the interesting ones are mixtures.
		at := time.Duration(d.rng.Int64N(int64(length)))
		for range 1 + d.rng.IntN(4) {
			out = append(out, d.fault(at))
			at += time.Duration(d.rng.Int64N(int64(4 * time.Minute)))
		}
	}
	out = out[:n]
	slices.SortStableFunc(out, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return out
}

// drawer draws the faults of a script.
type drawer struct {
	rng   *rand.Rand
	kinds []faultKind
	total int      // of their weights
	block []Triple // that the seed is steered towards
	left  map[string]int
}

// seldom are faults after which the healer can do nothing for long: a script has one in so long, or nothing else would be
// seen in it.
var seldom = map[string]time.Duration{"healer_away": 2 * time.Hour}

func newDrawer(seed uint64, cfg Config, length time.Duration) *drawer {
	d := &drawer{rng: rand.New(rand.NewPCG(seed, 77)), kinds: faultKinds(), block: blockOf(seed), left: map[string]int{}}
	if len(cfg.Kinds) > 0 {
		d.kinds = slices.DeleteFunc(namedKinds(), func(k faultKind) bool { return !slices.Contains(cfg.Kinds, k.name) })
		d.block = slices.DeleteFunc(d.block, func(t Triple) bool { return !slices.Contains(cfg.Kinds, t.Kind) })
	}
	for _, k := range d.kinds {
		d.total += k.weight
	}
	for name, every := range seldom {
		d.left[name] = max(1, int(length/every))
	}
	return d
}

func (d *drawer) fault(at time.Duration) Fault {
	for range 10 {
		f := Fault{At: at, Kind: d.kind(), Node: d.rng.IntN(1 << 16), Work: d.rng.IntN(1 << 16), Count: 1 + d.rng.IntN(5), For: drawLength(d.rng), Ambush: drawAmbush(d.rng)}
		if len(d.block) > 0 && d.rng.IntN(3) > 0 {
			t := d.block[d.rng.IntN(len(d.block))]
			f.Kind, f.Ambush = t.Kind, Ambush{t.Stage, t.Point}
		}
		if d.rng.IntN(4) > 0 {
			f.Also = drawAmbush(d.rng)
		}
		every, few := seldom[f.Kind]
		if !few {
			return f
		}
		if d.left[f.Kind] > 0 { // at the beginning of its time, so that what it does is seen
			d.left[f.Kind]--
			f.At, f.Also = time.Duration(d.left[f.Kind])*every+time.Duration(d.rng.Int64N(int64(every/4))), drawAmbush(d.rng)
			return f
		}
	}
	return Fault{At: at, Kind: d.kinds[0].name, For: time.Minute} // of a run in which hardly anything else may happen
}

func drawAmbush(rng *rand.Rand) Ambush {
	return Ambush{stages[rng.IntN(len(stages))], points[rng.IntN(len(points))]}
}

func (d *drawer) kind() string {
	x := d.rng.IntN(d.total)
	for _, k := range d.kinds {
		if x -= k.weight; x < 0 {
			return k.name
		}
	}
	return d.kinds[0].name
}

// drawLength prefers lengths around the healer's own deadlines: settle, probe, self-stop, wait, grace.
func drawLength(rng *rand.Rand) time.Duration {
	around := []time.Duration{3, 8, 30, 58, 62, 75, 88, 92, 118, 125, 180, 400, 900}
	d := around[rng.IntN(len(around))] * time.Second
	return d + time.Duration(rng.Int64N(int64(d)/4+1))
}
