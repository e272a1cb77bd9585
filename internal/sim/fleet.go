package sim

import (
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	plan "autoheal.dev/autoheal/internal/place"
)

// fleet is the registry of the cluster: it outlives every life of the healer and of the driver.
type fleet struct {
	w         *world
	epoch     uint64 // the highest that acted
	marks     map[autoheal.NodeID][]autoheal.Mark
	gpuMarks  map[autoheal.GPUID]autoheal.Mark
	drains    map[autoheal.NodeID]*drainOrder
	workloads map[autoheal.WorkloadID]*workload
	order     []*workload
	accepted  map[autoheal.ActionID]autoheal.Verb
	submitted map[autoheal.ActionID]autoheal.WorkloadID
	index     *plan.Index
	rooms     map[autoheal.WorkloadID]*keptRoom
	kicked    bool
	serial    int
}

// place is where an attempt really is or was.
type place struct {
	m *machine
	p *proc
}

// workload is one submitted workload: what its owner wants, its attempts, and how the program behaves.
type workload struct {
	autoheal.Workload // what never changes
	spec              autoheal.Spec
	desired           autoheal.Desired
	paused            *autoheal.Mark
	attempt           int
	attempts          map[int]*attempt
	line              []*attempt // the same, by number
	places            []place
	parent            *workload
	children          []*workload
	replicas          int

	crashes  int   // so many more attempts end soon after their start
	needs    int64 // memory that it wants; 0 = it is content
	badUntil time.Time
	slow     time.Duration // how long a start takes
}

// attempt is one attempt as the registry knows it.
type attempt struct {
	ref
	state     autoheal.WorkloadState
	node      autoheal.NodeID
	gpus      []autoheal.GPUID
	memory    int64
	hedge     bool
	started   time.Time // by the wall clock of the life that noted it
	ended     time.Time
	exit      *autoheal.Exit
	accepted  bool
	acceptAt  time.Time
	given     bool // superseded, and its real end is not known yet
	detail    string
	avoid     []autoheal.NodeID
	avoidGPUs []autoheal.GPUID
	nominated autoheal.NodeID
	stop      *stopOrder
	sentAt    time.Time
	failing   *autoheal.CheckFailure // as its node said last
}

type stopOrder struct {
	action autoheal.ActionID
	reason autoheal.ExitReason
	grace  time.Duration
	epoch  uint64
}

type drainOrder struct {
	action autoheal.ActionID
	actor  string
	grace  time.Duration
	epoch  uint64
}

func newFleet(w *world) *fleet {
	return &fleet{
		w: w, marks: map[autoheal.NodeID][]autoheal.Mark{}, gpuMarks: map[autoheal.GPUID]autoheal.Mark{},
		drains: map[autoheal.NodeID]*drainOrder{}, workloads: map[autoheal.WorkloadID]*workload{},
		accepted: map[autoheal.ActionID]autoheal.Verb{}, submitted: map[autoheal.ActionID]autoheal.WorkloadID{}, index: plan.New(),
		rooms: map[autoheal.WorkloadID]*keptRoom{},
	}
}

func (w *workload) current() *attempt { return w.attempts[w.attempt] }

// sorted returns the attempts by number.
func (w *workload) sorted() []*attempt { return w.line }

// listed returns the attempts that a listing shows: older ones that may still run, then the current one.
func (w *workload) listed() []*attempt {
	var out []*attempt
	for _, a := range w.sorted() {
		if a.n == w.attempt || !a.state.Ended() {
			out = append(out, a)
		}
	}
	return out
}

// view is one attempt as the port shows it.
func (w *workload) view(a *attempt) *autoheal.Workload {
	v := w.Workload
	v.State, v.Desired, v.Attempt, v.Node, v.GPUs = a.state, w.desired, a.n, a.node, slices.Clone(a.gpus)
	v.Ready = a.state == autoheal.Running && (a.failing == nil || a.failing.What != autoheal.Unhealthy)
	if !a.state.Ended() {
		v.Failing = a.failing
	}
	v.Request.MemoryMB = a.memory
	v.Paused, v.Hedge, v.StartedAt, v.EndedAt, v.Exit, v.Detail = w.paused, a.hedge, a.started, a.ended, a.exit, a.detail
	v.Replicas = max(w.replicas, 1)
	if w.isParent() {
		w.parentView(&v)
	}
	return &v
}

// isParent reports whether a workload is a service whose replicas run instead of it.
func (w *workload) isParent() bool { return len(w.children) > 0 }

// parentView shows a scaled service: it runs where its replicas do.
func (w *workload) parentView(v *autoheal.Workload) {
	v.State, v.Ready, v.Node, v.GPUs, v.Exit = autoheal.Running, true, "", nil, nil
	for _, c := range w.children {
		if a := c.current(); c.desired == autoheal.DesiredRunning && a != nil && a.state != autoheal.Running {
			v.State, v.Ready = autoheal.Scheduled, false
		}
	}
	if w.desired == autoheal.DesiredCancelled {
		v.State, v.Ready = autoheal.Cancelled, false
	}
}

// nodeView is one node as the port shows it.
func (f *fleet) nodeView(m *machine) *autoheal.Node {
	c := f.w.drv.contacts[m.id]
	n := &autoheal.Node{
		ID: m.id, BootID: bootName(m.id, c.boot), Source: "sim", Link: c.link, LinkSince: f.w.wallAt(c.since), LastSeen: f.w.wallAt(c.answered),
		Ready: c.link == autoheal.LinkUp, Marks: slices.Clone(f.marks[m.id]), Labels: m.labels, Domains: m.domains,
		Capacity:    autoheal.Resources{CPUMilli: m.cpu, MemoryMB: m.memory, GPUs: len(m.gpus)},
		Allocatable: autoheal.Resources{CPUMilli: m.cpu, MemoryMB: m.memory, GPUs: len(m.gpus)},
		Caps:        f.caps(m), SelfStop: f.w.selfStop() > 0, Platform: "sim", Draining: f.drains[m.id] != nil,
	}
	if f.w.sabotaged("last-contact-too-early") {
		n.LastSeen = n.LastSeen.Add(-100 * time.Second)
	}
	n.Schedulable, n.Conditions = len(n.Marks) == 0, f.conditions(m)
	maps.Copy(n.Conditions, c.conditions())
	maps.Copy(n.Conditions, m.sick.shown.conditions)
	n.Ready = n.Ready && (len(n.Faults()) == 0 || f.w.sabotaged("faults-take-work"))
	n.GPUs, n.Jobs = slices.Clone(m.sick.shown.gpus), slices.Clone(m.sick.shown.jobs)
	for i := range n.GPUs {
		if mark, ok := f.gpuMarks[n.GPUs[i].UUID]; ok {
			n.GPUs[i].Quarantined = &mark
		}
	}
	return n
}

// conditions names what keeps a drain from ending.
func (f *fleet) conditions(m *machine) map[string]string {
	if f.drains[m.id] == nil {
		return map[string]string{}
	}
	for _, w := range f.order {
		if a := w.current(); a != nil && a.node == m.id && !a.state.Ended() && a.stop == nil {
			return map[string]string{"drain_blocked": "no place for " + string(w.ID)}
		}
	}
	return map[string]string{}
}

// caps are the verbs that work on a node: not every site has a command that reboots, or one that tests.
func (f *fleet) caps(*machine) []autoheal.Verb {
	return slices.DeleteFunc(verbs(), func(v autoheal.Verb) bool {
		return v == autoheal.Reboot && f.w.noReboot || v == autoheal.Test && len(f.w.pol.Node.ReturnTest.Command) == 0
	})
}

func (f *fleet) indexNode(m *machine) { f.index.SetNode(f.nodeView(m)) }

// told emits a change of an attempt.
func (f *fleet) told(w *workload, a *attempt, source string) {
	f.w.note("registry: %s %s on %q desired=%s %s", a.ref, a.state, a.node, w.desired, a.detail)
	f.w.drv.emitWorkload(w, a, source)
	if a.state.Ended() || a.state == autoheal.Pending {
		f.kick()
	}
}

// observed takes over what a node says of one attempt.
func (f *fleet) observed(m *machine, s status) {
	w := f.workloads[s.id]
	if w == nil {
		return
	}
	a := w.attempts[s.n]
	if a == nil || a.node != m.id {
		return
	}
	now := f.w.wall()
	if !s.state.Ended() {
		news := a.checked(s, now)
		if a.state == s.state && a.accepted && !news {
			return
		}
		if !a.accepted {
			a.accepted, a.acceptAt = true, f.w.q.now
		}
		if a.state.Ended() { // given up, and back: the engine decides what becomes of it
			a.exit, a.ended = nil, time.Time{}
		}
		a.state = s.state
		if s.state == autoheal.Running {
			a.started = now.Add(-s.started)
		}
		f.told(w, a, "poll")
		return
	}
	if a.state.Ended() && !a.given {
		return
	}
	a.given = false
	f.ended(w, a, s.exit, now.Add(-s.ended), "poll")
}

// missing is about the attempts that a node does not list, and had taken before it was asked.
func (f *fleet) missing(m *machine, asked time.Time, listed func(ref) bool) {
	for _, w := range f.order {
		for _, a := range w.sorted() {
			if a.node != m.id || listed(a.ref) || a.state.Ended() && !a.given || a.state == autoheal.Scheduled && (!a.accepted || !a.acceptAt.Before(asked)) {
				continue
			}
			a.given = false
			f.ended(w, a, &autoheal.Exit{Code: -1, Reason: autoheal.ExitShimKilled, Detail: "its node keeps nothing of it"}, f.w.wall(), "poll")
		}
	}
}

// ended notes the end of an attempt.
func (f *fleet) ended(w *workload, a *attempt, exit *autoheal.Exit, at time.Time, source string) {
	a.exit, a.ended, a.detail = exit, at, exit.Detail
	switch {
	case exit.Reason == autoheal.ExitCompleted:
		a.state = autoheal.Succeeded
	case w.desired == autoheal.DesiredCancelled && !exit.OwnFault():
		a.state = autoheal.Cancelled
	default:
		a.state = autoheal.Failed
	}
	a.stop = nil
	f.told(w, a, source)
	again := exit.Reason == autoheal.ExitDrained || exit.Reason == autoheal.ExitPreempted
	if again && a.n == w.attempt && w.desired == autoheal.DesiredRunning && !w.isParent() {
		f.begin(w, &attempt{ref: ref{w.ID, f.generationAfter(w)}, memory: a.memory})
	}
}

// generationAfter numbers the attempt that a drain makes: the ranks of a gang get the same number, whichever ends first.
func (f *fleet) generationAfter(w *workload) int {
	n := w.attempt + 1
	for _, o := range f.order {
		a := o.current()
		switch {
		case w.Gang == "" || o.Gang != w.Gang || a == nil || o.desired != autoheal.DesiredRunning:
		case a.state == autoheal.Pending:
			n = max(n, o.attempt)
		default:
			n = max(n, o.attempt+1)
		}
	}
	return n
}

// begin makes an attempt the current one; the reconciliation gives it a place.
func (f *fleet) begin(w *workload, a *attempt) {
	a.state = autoheal.Pending
	f.renumberRoom(w, a.n)
	w.attempt = a.n
	w.attempts[a.n] = a
	line := make([]*attempt, 0, len(w.line)+1)
	for _, old := range w.line {
		if old.n <= w.attempt-20 && old.state.Ended() {
			delete(w.attempts, old.n)
			f.index.RemoveWorkload(w.ID, old.n)
			continue
		}
		line = append(line, old)
	}
	w.line = append(line, a)
	f.told(w, a, "registry")
}

// kick asks for a reconciliation.
func (f *fleet) kick() {
	if f.kicked {
		return
	}
	f.kicked = true
	f.w.q.after(10*time.Millisecond, func() {
		f.kicked = false
		f.reconcile()
	})
}

// add enters a workload into the registry.
func (f *fleet) add(w *workload) {
	f.workloads[w.ID] = w
	f.order = append(f.order, w)
	w.desired, w.attempts = autoheal.DesiredRunning, map[int]*attempt{}
}

func bootName(id autoheal.NodeID, boot int) string { return string(id) + "-boot-" + itoa(boot) }
