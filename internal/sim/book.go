package sim

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// book is what the durable records say, folded apart from the core: the checkers compare it with the world.
type book struct {
	incidents map[autoheal.IncidentID]*noted
	order     []autoheal.IncidentID
	intents   map[autoheal.ActionID]journal.Intent
	epochs    map[autoheal.ActionID]uint64
	results   map[autoheal.ActionID]autoheal.Outcome
	marks     map[string]autoheal.IncidentID
	pauses    map[string]pauseNote
	vetoes    map[string]pauseNote
	storm     autoheal.IncidentID
	words     map[autoheal.NodeID]bool // a person said that it is off
	settled   map[autoheal.WorkloadID]int
	paged     map[autoheal.IncidentID]int // pages for a missed objective
	last      journal.Record
	open      map[string]map[autoheal.ActionID]spent
	window    map[string][]spent
}

type pauseNote struct{ at, until time.Time }

type spent struct {
	node   string
	domain autoheal.Domain
	at     time.Time
}

// noted is one incident.
type noted struct {
	id      autoheal.IncidentID
	kind    autoheal.FailureKind
	subject autoheal.Ref
	members []autoheal.NodeID // of a domain: its nodes
	node    autoheal.NodeID   // of a GPU: where it is
	phase   autoheal.Phase
	opened  time.Time
	touched time.Time // its last record
	held    *journal.Held
	recs    map[autoheal.WorkloadID]*notedRec
	account bool
	merged  bool // a symptom of another
}

// nodes returns the nodes on whose silence an incident rests.
func (i *noted) nodes() []autoheal.NodeID {
	if i.kind != autoheal.NodeOffline {
		return nil
	}
	if i.subject.Kind == autoheal.RefNode {
		return []autoheal.NodeID{autoheal.NodeID(i.subject.ID)}
	}
	return i.members
}

// notedRec is one recovery.
type notedRec struct {
	journal.RecoveryOpened
	step   autoheal.StepName
	end    autoheal.RecoveryEnd
	try    int
	proof  autoheal.Proof
	held   *journal.Held
	at     time.Time
	nexts  []int
	avoid  []autoheal.NodeID // where its next copy must not go
	memory int64             // what it needs now, if that is not what it asked for
	begun  bool              // a start of its new copies was sent
	hedged bool              // its new copy is an extra one
}

func newBook() *book {
	return &book{
		incidents: map[autoheal.IncidentID]*noted{}, intents: map[autoheal.ActionID]journal.Intent{}, epochs: map[autoheal.ActionID]uint64{},
		results: map[autoheal.ActionID]autoheal.Outcome{}, marks: map[string]autoheal.IncidentID{}, pauses: map[string]pauseNote{},
		vetoes: map[string]pauseNote{}, words: map[autoheal.NodeID]bool{}, settled: map[autoheal.WorkloadID]int{}, paged: map[autoheal.IncidentID]int{},
		open: map[string]map[autoheal.ActionID]spent{}, window: map[string][]spent{},
	}
}

// fold takes in one durable record.
func (b *book) fold(r journal.Record) {
	b.last = r
	i := b.incidents[r.Incident]
	if i != nil {
		i.touched = r.At
	}
	switch p := r.Data.(type) {
	case journal.IncidentOpened:
		b.incidents[r.Incident] = &noted{
			id: r.Incident, kind: p.Kind, subject: p.Subject, members: p.Members, node: p.Node, phase: autoheal.Suspected, opened: r.At, touched: r.At, recs: map[autoheal.WorkloadID]*notedRec{},
		}
		b.order = append(b.order, r.Incident)
	case journal.IncidentPhase:
		i.phase, i.account = p.To, false
		if p.To.Ended() {
			i.held = nil
		}
	case journal.IncidentMerged:
		i.merged = true
	case journal.PostMortem:
		i.account = true
	case journal.RecoveryOpened:
		i.recs[p.Workload] = &notedRec{RecoveryOpened: p, step: autoheal.StepWaiting, try: 1, proof: autoheal.ProofNone, at: r.At}
	case journal.RecoveryStep:
		b.step(i, p, r.At)
	case journal.Held:
		b.hold(i, p.Target, p.Verb, &p)
	case journal.Released:
		b.hold(i, p.Target, p.Verb, nil)
	case journal.Intent:
		b.intents[p.Action.ID], b.epochs[p.Action.ID] = p, r.Epoch
		delete(b.results, p.Action.ID)
		if i != nil && i.recs[p.Workload] != nil && p.Action.Verb == autoheal.Start {
			i.recs[p.Workload].begun = true
		}
	case journal.Result:
		b.results[p.Action] = p.Outcome
	case journal.MarkSet:
		b.marks[p.Ref.String()] = r.Incident
	case journal.MarkCleared:
		delete(b.marks, p.Ref.String())
	case journal.AlertQueued:
		if p.Name == "objective-missed" {
			b.paged[r.Incident]++
		}
	case journal.StormBegan:
		b.storm = r.Incident
	case journal.StormEnded:
		b.storm = ""
	default:
		b.foldMore(r)
	}
}

func (b *book) foldMore(r journal.Record) {
	switch p := r.Data.(type) {
	case journal.PauseSet:
		b.pauses[p.Scope] = pauseNote{r.At, p.Until}
	case journal.PauseCleared:
		delete(b.pauses, p.Scope)
	case journal.VetoSet:
		b.vetoes[p.Target.String()] = pauseNote{r.At, p.Until}
	case journal.VetoCleared:
		delete(b.vetoes, p.Target.String())
	case journal.FenceConfirmed:
		b.words[p.Node] = true
	case journal.FenceUsed:
		delete(b.words, p.Node)
	case journal.RestartReset:
		delete(b.settled, p.Workload)
	case journal.BudgetSpent:
		if b.open[p.Key] == nil {
			b.open[p.Key] = map[autoheal.ActionID]spent{}
		}
		s := spent{p.Target.ID, p.Domain, r.At}
		b.open[p.Key][p.Action] = s
		b.window[p.Key] = append(b.window[p.Key], s)
	case journal.BudgetBack:
		s, ok := b.open[p.Key][p.Action]
		delete(b.open[p.Key], p.Action)
		if ok && p.Unsent {
			w := b.window[p.Key]
			for n := range w {
				if w[n] == s {
					b.window[p.Key] = append(w[:n:n], w[n+1:]...)
					break
				}
			}
		}
	}
}

func (b *book) step(i *noted, p journal.RecoveryStep, at time.Time) {
	rec := i.recs[p.Workload]
	if rec == nil {
		return
	}
	rec.step, rec.end, rec.try, rec.held, rec.at, rec.hedged = p.To, p.End, p.Try, nil, at, rec.hedged || p.Hedge
	if p.Proof != "" {
		rec.proof = p.Proof
	}
	rec.memory = max(rec.memory, p.MemoryMB)
	switch {
	case p.To == autoheal.StepWaiting:
		rec.begun, rec.avoid = false, p.Avoid
		if len(p.Attempts) > 0 {
			rec.Attempts = p.Attempts
		}
	case p.To == autoheal.StepStarting:
		rec.nexts = p.Attempts
	case p.To == autoheal.StepDone && p.End == autoheal.EndEscalated:
		for n, w := range rec.Members {
			b.settled[w] = max(b.settled[w], rec.Attempts[n])
			if n < len(rec.nexts) {
				b.settled[w] = max(b.settled[w], rec.nexts[n])
			}
		}
	}
}

func (b *book) hold(i *noted, target autoheal.Ref, verb string, h *journal.Held) {
	if i == nil {
		return
	}
	if rec := i.recs[autoheal.WorkloadID(target.ID)]; rec != nil && target.Kind == autoheal.RefWorkload && verb != "make_room" {
		rec.held = h
		return
	}
	i.held = h
}

// holds returns what holds an incident or one of its recoveries.
func (i *noted) holds() []*journal.Held {
	var out []*journal.Held
	if i.held != nil {
		out = append(out, i.held)
	}
	for _, id := range sortedKeys(i.recs) {
		if rec := i.recs[id]; rec.held != nil && rec.step != autoheal.StepDone {
			out = append(out, rec.held)
		}
	}
	return out
}

// recoveryOf returns the open recovery of a workload.
func (b *book) recoveryOf(id autoheal.WorkloadID) (*noted, *notedRec) {
	for n := len(b.order) - 1; n >= 0; n-- {
		i := b.incidents[b.order[n]]
		if i.phase.Ended() {
			continue
		}
		for _, w := range sortedKeys(i.recs) {
			rec := i.recs[w]
			if rec.step == autoheal.StepDone {
				continue
			}
			if slices.Contains(rec.Members, id) {
				return i, rec
			}
		}
	}
	return nil, nil
}
