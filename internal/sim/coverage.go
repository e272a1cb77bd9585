package sim

import (
	"cmp"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/heal"
	"autoheal.dev/autoheal/internal/journal"
)

// Stages at which an ambush strikes: a record takes an incident or a recovery there.
var stages = []string{"suspected", "recovering", "waiting", "stopping", "starting", "verifying", "done", "ended"}

// Points: what strikes.
const (
	pointCrashBefore  = "crash_before_journal"  // the healer dies before its records are durable
	pointCrashAfter   = "crash_after_journal"   // they are durable, its actions have not left
	pointCrashBetween = "crash_between_effects" // some of its actions have left, the next have not
	pointCrashActed   = "crash_after_acting"    // its actions have left, their results have not come
	pointLoseRequest  = "request_lost"
	pointLoseAnswer   = "answer_lost"
	pointLate         = "acts_late"
	pointTwice        = "acts_twice"
	pointHang         = "hangs" // nothing is ever heard of the action, and it never happens
	pointDiskFull     = "disk_full"
	pointAgent        = "agent_meddles" // an AI agent calls a verb on the subject at this very moment
)

var points = []string{
	pointCrashBefore, pointCrashAfter, pointCrashBetween, pointCrashActed, pointLoseRequest, pointLoseAnswer, pointLate, pointTwice,
	pointHang, pointDiskFull, pointAgent,
}

// Triple names one thing to be covered: soon after a fault of this kind the healer's work reached this stage, and
// there this struck. It counts once it has done harm: the healer died, the action was lost, the journal refused. Any
// incident will do, also one that another fault of the mixture caused; that is why no triple is impossible, and none is
// left out.
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

// Triples are steered towards in small blocks of mixed kinds, so that what is seldom can be asked for again and again. A seed that is steered carries its block in its number, so that
// the number alone names the run: seed = base | (block+1) << focusShift.
const (
	focusShift = 40
	blockSize  = 8
)

func blocks() int { return (len(faultKinds())*len(stages)*len(points) + blockSize - 1) / blockSize }

// blockOf returns the triples that a seed is steered towards, none if it is not.
func blockOf(seed uint64) []Triple {
	k := int(seed>>focusShift) - 1
	if k < 0 || k >= blocks() {
		return nil
	}
	var out []Triple
	all := triples()
	for i := k; i < len(all); i += blocks() {
		out = append(out, all[i])
	}
	return out
}

// neediest returns so many blocks, those first whose triples were seen least often.
func neediest(all []Triple, counts map[Triple]int, n int) []int {
	need := make([]float64, blocks())
	for i, t := range all { // a triple that was never seen counts for many that were seen often
		c := float64(counts[t])
		need[i%len(need)] += 1 / ((1 + c) * (1 + c))
	}
	order := make([]int, len(need))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(need[b], need[a]) })
	return order[:min(n, len(order))]
}

// ambush is one that waits.
type ambush struct {
	Triple
	until time.Time
}

// patience is for how long an ambush waits for its stage: longer than the healer is ever away.
const patience = 90 * time.Minute

func (s *sim) lay(f Fault) {
	for _, a := range f.ambushes() {
		s.armed[a.Stage] = append(s.armed[a.Stage], ambush{Triple{f.Kind, a.Stage, a.Point}, s.q.now.Add(patience)})
	}
}

// nextAmbush takes out the first ambush that still waits at a stage.
func (s *sim) nextAmbush(stage string) (Triple, bool) {
	for len(s.armed[stage]) > 0 {
		a := s.armed[stage][0]
		s.armed[stage] = s.armed[stage][1:]
		if !s.q.now.After(a.until) {
			return a.Triple, true
		}
	}
	return Triple{}, false
}

// ambushed springs the first ambush whose stage these records reach, and returns it when it is about where the healer dies.
func (s *sim) ambushed(h *healer, ready heal.Ready) Triple {
	if h != s.healer {
		return Triple{}
	}
	for _, r := range ready.Records {
		st := stageOf(r)
		if st == "" {
			continue
		}
		t, ok := s.nextAmbush(st)
		if !ok {
			continue
		}
		s.w.note("AMBUSH %s at %s (%s)", t.Point, t.Stage, t.Kind)
		switch t.Point {
		case pointCrashBefore, pointCrashAfter, pointCrashActed, pointCrashBetween:
			return t
		case pointDiskFull:
			s.fillDisk(5 * time.Second)
			s.covered[t]++ // it is this step that is refused
		case pointAgent:
			s.meddle(r)
			s.covered[t]++
		default:
			s.tricks = append(s.tricks, trick{t.Point, t})
		}
		return Triple{}
	}
	return Triple{}
}

// stageOf is the stage that a record reaches.
func stageOf(r journal.Record) string {
	switch p := r.Data.(type) {
	case journal.IncidentOpened:
		return "suspected"
	case journal.IncidentPhase:
		if p.To.Ended() {
			return "ended"
		}
		return string(p.To)
	case journal.RecoveryOpened:
		return string(autoheal.StepWaiting)
	case journal.RecoveryStep:
		return string(p.To)
	}
	return ""
}

// meddle lets an AI agent call a verb on what a record is about, once the healer has acted on it.
func (s *sim) meddle(r journal.Record) {
	node := autoheal.NodeRef(s.w.machines[int(r.Seq)%len(s.w.machines)].id)
	if i := s.book.incidents[r.Incident]; i != nil && i.subject.Kind == autoheal.RefNode {
		node = autoheal.NodeRef(autoheal.NodeID(i.subject.ID))
	}
	m := s.w.byID[autoheal.NodeID(node.ID)]
	work := s.w.fleet.order[int(r.Seq)%len(s.w.fleet.order)]
	if p, ok := r.Data.(journal.RecoveryStep); ok && s.w.fleet.workloads[p.Workload] != nil {
		work = s.w.fleet.workloads[p.Workload]
	}
	s.q.after(time.Duration(r.Seq%7)*time.Millisecond, func() {
		switch r.Seq % 5 {
		case 0:
			s.ask("openclaw", "agent", autoheal.CmdExamine, autoheal.Ref{})
		case 1:
			s.ask("openclaw", "agent", autoheal.CommandVerb(autoheal.Cordon), m.ref(s))
			s.later(10*time.Minute, func() { s.unmark(m) })
		case 2:
			s.ask("openclaw", "agent", autoheal.CommandVerb(autoheal.Uncordon), m.ref(s))
		case 3:
			s.ask("openclaw", "agent", autoheal.CommandVerb(autoheal.Drain), m.ref(s))
			s.later(10*time.Minute, func() { s.unmark(m) })
		default:
			s.agentStops(work)
		}
	})
}

// trick is one action that will go wrong, and the ambush that it belongs to, if any.
type trick struct {
	point string
	of    Triple
}

// trick lets the next n actions go wrong in one way.
func (s *sim) trick(point string, n int) {
	for range n {
		s.tricks = append(s.tricks, trick{point: point})
	}
}

// nextTrick takes out what is to go wrong with an action.
func (s *sim) nextTrick(a autoheal.Action) string {
	if len(s.tricks) == 0 || a.Verb == autoheal.Refresh {
		return ""
	}
	t := s.tricks[0]
	s.tricks = s.tricks[1:]
	if t.of.Kind != "" {
		s.covered[t.of]++
	}
	s.w.note("TRICK %s on %s %s %s", t.point, a.ID, a.Verb, a.Target)
	return t.point
}
