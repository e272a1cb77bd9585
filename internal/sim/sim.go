package sim

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/heal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// Config says what is simulated. Zero values get defaults.
type Config struct {
	Seeds        int     // how many; default 1
	FromSeed     uint64  // the first
	Faults       int     // instead of Seeds: go on until so many were injected
	Nodes        int     // 0 = 4 to 16, by seed
	Days         float64 // of faults; default 0.25, then the cluster gets time to come to rest
	FaultsPerDay float64 // default 480

	Kinds    []string // only these faults are drawn; empty = all
	Script   []Fault  // instead of the drawn one
	Death    Death    // one more death of the healer, at an exact point
	Sabotage string   // a planted bug, by name; see Sabotages
	Record   bool     // keep the transcript
	Exact    bool     // run FromSeed as it is, without steering
	Lines    int      // of the transcript in a violation; default 60
}

// Death is the healer's death at one of its commits: before the records of the Nth are durable, after that, or once so
// many of its actions have left. N counts from 1; 0 = none.
type Death struct {
	N     int
	Point string
	After int // actions that leave, with pointCrashBetween
}

func (c Config) withDefaults() Config {
	if c.Seeds <= 0 {
		c.Seeds = 1
	}
	if c.Days <= 0 {
		c.Days = 0.25
	}
	if c.FaultsPerDay <= 0 {
		c.FaultsPerDay = 480
	}
	return c
}

// Violation is one broken invariant.
type Violation struct {
	Seed       uint64   `json:"seed"`
	Checker    string   `json:"checker"`
	Detail     string   `json:"detail"`
	Step       int      `json:"step"`       // of the core, in this run
	AtSeconds  float64  `json:"atSeconds"`  // virtual time since the beginning
	Script     []string `json:"script"`     // shrunk where that was asked for
	Transcript []string `json:"transcript"` // the last lines before it
}

// sim is one run: one seed.
type sim struct {
	cfg      Config
	ctx      context.Context
	seed     uint64
	q        *queue
	w        *world
	pol      *policy.Policy // of the run
	inForce  *policy.Policy // as a person has edited it
	store    *store
	healer   *healer
	old      *healer // a leader that was replaced and woke up
	epoch    uint64
	book     *book
	checkers []checker
	kinds    map[string]faultKind
	plan     []*workload // what will be submitted
	checks   map[string]uint64
	holes    map[string]int // used, by name
	excepted map[exception]bool
	proofs   map[ref]autoheal.Proof // of the starts that were asked for
	covered  map[Triple]int
	armed    map[string][]ambush
	tricks   []trick
	undo     []func()
	faults   int
	steps    int
	commits  []int // actions of each commit
	commands int
	filled   int             // how often the cluster was filled up
	replied  map[string]bool // commands that were answered
	swaps    int             // GPUs that were replaced
	quieting bool            // the faults are over
	done     bool
	broken   *Violation

	awayFrom  time.Time
	restartAt time.Duration
	jumped    time.Duration
	offenders map[autoheal.NodeID]bool // nodes of which a person was told that they stay cordoned
	unsynced  time.Time                // when the present life was told that nothing is known; zero = synced
	rested    time.Time                // when the healer last began its work anew
	looking   time.Time                // when it last woke late: silences of before do not count
}

// newSim makes a run that has not begun.
func newSim(seed uint64, cfg Config) *sim {
	base := seed & (1<<focusShift - 1)
	pol := policy.Default().WithProfile(policy.ProfileAct)
	nodes := cfg.Nodes
	if nodes <= 0 {
		nodes = 4 + int(base%13)
	}
	if base%3 == 1 { // a site with a test of its own
		pol.Node.ReturnTest.Command = []string{"test"}
	}
	w := newWorld(base, pol, nodes, 4)
	w.noReboot = base%5 == 3
	s := &sim{
		cfg: cfg, ctx: context.Background(), seed: seed, q: w.q, w: w, pol: pol, inForce: pol, store: newStore(pol), book: newBook(), kinds: map[string]faultKind{},
		checks: map[string]uint64{}, holes: map[string]int{}, excepted: map[exception]bool{}, proofs: map[ref]autoheal.Proof{}, covered: map[Triple]int{}, armed: map[string][]ambush{}, offenders: map[autoheal.NodeID]bool{},
		replied: map[string]bool{},
	}
	w.watch, w.sabotage, w.noting = s, cfg.Sabotage, cfg.Record
	s.store.drops = w.sabotaged("journal-drops-writes")
	switch base % 10 { // most clusters have the embedded gateway; the others a foreign one, with and without self-stop
	case 7, 8:
		w.embedded = false
	case 9:
		w.embedded, w.trust = false, false
	}
	for _, k := range namedKinds() {
		s.kinds[k.name] = k
	}
	s.checkers = allCheckers()
	s.populate()
	return s
}

// settleTime is what the cluster gets to come to rest after the last fault: the longest return dwell, and then some.
const settleTime = 10 * time.Hour

// run plays the script and lets the cluster come to rest.
func (s *sim) run(script []Fault) {
	s.begin()
	s.q.after(30*time.Second, func() { s.submitAll() })
	length := time.Duration(s.cfg.Days * float64(24*time.Hour))
	start := 3 * time.Minute
	for _, f := range script {
		s.q.at(epochTime.Add(start+f.At), func() { s.inject(f) })
	}
	s.every(10*time.Minute, s.patrol)
	over := epochTime.Add(start + length)
	s.play(over)
	if s.done {
		return
	}
	s.quiet()
	s.play(over.Add(settleTime))
	if s.done {
		return
	}
	for _, c := range s.checkers {
		if c.end != nil && !s.done {
			c.end(s)
		}
	}
	if !s.done {
		s.checkFold(s.healer)
		s.checkReplay(s.healer)
	}
}

// every does fn again and again.
func (s *sim) every(d time.Duration, fn func()) {
	s.q.after(d, func() {
		if !s.done {
			fn()
			s.every(d, fn)
		}
	})
}

func (s *sim) patrol() {
	for _, c := range s.checkers {
		if c.patrol != nil && !s.done {
			c.patrol(s)
		}
	}
}

// mostEvents bounds a run that does not come to rest.
const mostEvents = 20_000_000

func (s *sim) play(end time.Time) {
	for !s.done && s.q.next(end) {
		if s.q.passed%1024 == 0 && s.ctx.Err() != nil {
			s.done = true
		}
		if s.q.passed > mostEvents {
			s.violate("rest", fmt.Sprintf("the cluster does not come to rest: %d events", s.q.passed))
		}
	}
	if !s.done {
		s.q.now = end
	}
}

// quiet ends all faults: what is cut is mended, what is off is switched on, people take their hands off.
func (s *sim) quiet() {
	s.w.note("FAULTS ARE OVER")
	s.quieting = true
	undo := s.undo
	s.undo = nil
	for _, fn := range undo {
		fn()
	}
	s.tricks, s.armed = nil, map[string][]ambush{}
	if !s.healer.alive {
		s.restartAt = 0
		s.restart(s.epoch)
	}
}

// check counts one question and, when the answer is bad, breaks the run.
func (s *sim) check(name string, ok bool, format string, args ...any) {
	s.checks[name]++
	if !ok {
		s.violate(name, fmt.Sprintf(format, args...))
	}
}

func (s *sim) violate(name, detail string) {
	if s.done {
		return
	}
	s.done = true
	s.w.note("BROKEN %s: %s", name, detail)
	s.broken = &Violation{Seed: s.seed, Checker: name, Detail: detail, Step: s.steps, AtSeconds: s.q.now.Sub(epochTime).Seconds()}
}

// saw follows what the healer is told.
func (s *sim) saw(h *healer, e autoheal.Event) {
	switch e.Kind {
	case autoheal.EventSynced:
		s.unsynced = time.Time{}
	case autoheal.EventLost:
		s.unsynced = s.q.now
	}
	for _, c := range s.checkers {
		if c.saw != nil && !s.done {
			c.saw(s, h, e)
		}
	}
}

// stepped is told of every Step before anything of it is durable.
func (s *sim) stepped(h *healer, in heal.Input, ready heal.Ready) {
	if s.w.noting {
		for _, r := range ready.Records {
			s.w.note("record %d %s %s %s", r.Seq, r.Type, r.Incident, brief(r))
		}
		for _, a := range ready.Actions {
			s.w.note("-> %s %s %s attempt=%d proof=%s try", a.ID, a.Verb, a.Target, a.Params.Attempt, a.Params.Proof)
		}
	}
	for _, c := range s.checkers {
		if c.stepped != nil && !s.done && h == s.healer {
			c.stepped(s, h, in, ready)
		}
	}
}

// durable is told of the records of one step that cannot be lost any more.
func (s *sim) durable(step []journal.Record) {
	for _, r := range step {
		for _, c := range s.checkers {
			if c.durable != nil && !s.done {
				c.durable(s, r, step)
			}
		}
		s.book.fold(r)
		if p, ok := r.Data.(journal.AlertQueued); ok {
			s.ticketed(r, p)
		}
		if p, ok := r.Data.(journal.AlertQueued); ok && p.Name == "node-quarantined" {
			node, _, _ := strings.Cut(strings.TrimPrefix(p.DedupKey, "node/"), " ") // the incident may be that of its domain
			s.offenders[autoheal.NodeID(node)] = true
			if strings.Contains(p.DedupKey, " isolated ") {
				s.lookAtIsolated(autoheal.NodeID(node))
			}
		}
	}
}

// leaves is told of every action that goes out.
func (s *sim) leaves(h *healer, a autoheal.Action) {
	s.proven(a)
	for _, c := range s.checkers {
		if c.leaves != nil && !s.done {
			c.leaves(s, h, a)
		}
	}
}

// What really happens; see watcher.

func (s *sim) copies(w *workload) {
	for _, c := range s.checkers {
		if c.copies != nil && !s.done {
			c.copies(s, w)
		}
	}
}

func (s *sim) begun(m *machine, p *proc) {
	for _, c := range s.checkers {
		if c.begun != nil && !s.done {
			c.begun(s, m, p)
		}
	}
	s.copies(p.w)
}

func (s *sim) selfStopped(m *machine, p *proc) {
	for _, c := range s.checkers {
		if c.selfStopped != nil && !s.done {
			c.selfStopped(s, m, p)
		}
	}
}

func (s *sim) acted(a autoheal.Action) {
	for _, c := range s.checkers {
		if c.acted != nil && !s.done {
			c.acted(s, a)
		}
	}
}

func (s *sim) stopping(a autoheal.Action, w *workload, r ref) {
	s.check("right-target", a.Params.Attempt == 0 || r.n == a.Params.Attempt, "%s ends attempt %s, it was meant for attempt %d", a.ID, r, a.Params.Attempt)
	_ = w
}

func (s *sim) unmarked(a autoheal.Action, m *machine, before, after []autoheal.Mark) {
	for _, c := range s.checkers {
		if c.unmarked != nil && !s.done {
			c.unmarked(s, a, m, before, after)
		}
	}
}

// perform carries an action out, or lets it go wrong.
func (s *sim) perform(h *healer, a autoheal.Action) {
	late := func(o autoheal.Outcome, kind autoheal.ErrorKind, d time.Duration) {
		s.q.after(d, func() {
			h.result(autoheal.Result{Action: a.ID, Outcome: o, Err: problem(kind, "the simulator says so"), At: s.w.wall()})
		})
	}
	if s.w.wall().After(a.Deadline) {
		late(autoheal.OutcomeNotSent, autoheal.ErrTimeout, 0)
		return
	}
	act := func() { s.w.fleet.act(a, func(autoheal.Result) {}) }
	point := s.nextTrick(a)
	switch point {
	case pointLoseRequest:
		late(autoheal.OutcomeNotSent, autoheal.ErrUnavailable, hop)
	case pointLoseAnswer:
		act()
		late(autoheal.OutcomeUnknown, autoheal.ErrTimeout, requestTimeout)
	case pointLate:
		s.q.after(15*time.Second, act)
		late(autoheal.OutcomeUnknown, autoheal.ErrTimeout, requestTimeout)
	case pointHang:
		late(autoheal.OutcomeUnknown, autoheal.ErrTimeout, 30*time.Second)
	default:
		s.w.fleet.act(a, h.result)
		if point == pointTwice {
			s.q.after(3*time.Second, act)
		}
	}
}

// compareEvery is how many records are written at first before their fold is compared with the core that made them. Later
// it is a share of all, because the state grows with them, and comparing it costs what its size is.
const (
	compareEvery = 250
	compareShare = 4
)

// compactEvery is after how many records the journal is replaced by a snapshot: seldom in some runs, often in others, and
// each time later, for the same reason.
func (s *sim) compactEvery() int { return (200 + 300*int(s.seed%8)) * (1 + s.store.compacted) }

// keepEnded is for how long a snapshot keeps what has ended: longer than faults last, because what settles old copies hangs on it.
const keepEnded = 12 * time.Hour

func (s *sim) compact(h *healer) {
	if s.done || !h.alive || h.blocked || h != s.healer {
		return
	}
	full := s.store.since >= s.compactEvery()
	if full || s.store.unchecked >= max(compareEvery, s.store.written/compareShare) {
		s.store.unchecked = 0
		s.checkFold(h)
	}
	if !full || s.done {
		return
	}
	s.store.since = 0
	s.store.compacted++
	keep := s.w.wall().Add(-keepEnded)
	snap, err := h.core.Snapshot(keep)
	if err == nil {
		err = s.store.Compact(context.Background(), snap, keep)
	}
	if err != nil {
		h.appendFailed(err)
		return
	}
	s.store.read()
	s.book.fold(snap)
	if err := h.core.Adopt(snap); err != nil {
		s.violate("fold", fmt.Sprintf("a snapshot is not adopted: %v", err))
	}
}

// checkFold compares what was folded from the decoded records with the core that runs.
func (s *sim) checkFold(h *healer) {
	if h.blocked {
		return
	}
	if err := s.store.broken; err != nil {
		s.violate("fold", err.Error())
		return
	}
	s.compareStates(h.core, s.store.reader, "the fold of the journal is not the state of the core")
}

// checkReplay folds all that is kept of the journal anew, beginning with the snapshot.
func (s *sim) checkReplay(h *healer) {
	if h.blocked {
		return
	}
	fresh, err := s.store.replayed()
	if err != nil {
		s.violate("fold", err.Error())
		return
	}
	s.compareStates(s.store.reader, fresh, "the journal read anew is not what was folded as it was written")
}

func (s *sim) compareStates(x, y *heal.Core, what string) {
	if x.Same(y) {
		s.checks["fold"]++
		return
	}
	a, errA := x.State()
	b, errB := y.State()
	s.check("fold", errA == nil && errB == nil && bytes.Equal(a, b), "%s: %s", what, difference{a, b})
}

// difference shows where two encoded states part, when it is printed.
type difference struct{ a, b []byte }

func (d difference) String() string {
	a, b := d.a, d.b
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			from, to := max(0, i-80), min(len(a), len(b), i+80)
			return fmt.Sprintf("…%s… and …%s…", a[from:to], b[from:to])
		}
	}
	return fmt.Sprintf("%d and %d bytes", len(a), len(b))
}
