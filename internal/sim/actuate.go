package sim

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
)

// verbs are what the simulated fleet can do.
func verbs() []autoheal.Verb {
	return []autoheal.Verb{
		autoheal.Cordon, autoheal.Uncordon, autoheal.QuarantineGPU, autoheal.ReleaseGPU, autoheal.Drain, autoheal.Stop, autoheal.Start,
		autoheal.Scale, autoheal.Pause, autoheal.Resume, autoheal.ResetGPU, autoheal.Reboot, autoheal.Collect, autoheal.Test, autoheal.Refresh,
	}
}

func problem(kind autoheal.ErrorKind, format string, args ...any) *autoheal.Error {
	return &autoheal.Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

func (f *fleet) refused(a autoheal.Action, err *autoheal.Error) autoheal.Result {
	err.Op = string(a.Verb) + " " + a.Target.String()
	return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeNotSent, Err: err, At: f.w.wall()}
}

func (f *fleet) done(a autoheal.Action, proof autoheal.Proof) autoheal.Result {
	return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeDone, Proof: proof, At: f.w.wall()}
}

// act carries out one action; answer is called once, now or later, and never when the answer is lost.
func (f *fleet) act(a autoheal.Action, answer func(autoheal.Result)) {
	if err := f.admit(a); err != nil {
		answer(f.refused(a, err))
		return
	}
	if verb, known := f.accepted[a.ID]; known {
		if verb != a.Verb {
			answer(f.refused(a, problem(autoheal.ErrConflict, "the action ID was used for a %s", verb)))
			return
		}
		answer(f.done(a, f.stopProof(a)))
		return
	}
	switch {
	case a.Verb == autoheal.Stop:
		f.stop(a, answer)
		return
	case a.Verb == autoheal.Collect && (len(a.Params.Peers) > 0 || a.Target.Kind == autoheal.RefWorkload):
		f.collect(a, answer)
		return
	}
	if onNode(a.Verb) {
		f.askNode(a, answer)
		return
	}
	err := f.plan(a)
	if err != nil {
		answer(f.refused(a, err))
		return
	}
	answer(f.took(a, ""))
}

// took notes that an action was carried out.
func (f *fleet) took(a autoheal.Action, proof autoheal.Proof) autoheal.Result {
	f.accepted[a.ID] = a.Verb
	if a.Verb != autoheal.Stop { // a stop has acted when it went out
		f.w.watch.acted(a)
	}
	f.kick()
	return f.done(a, proof)
}

// admit checks what is the same for all verbs.
func (f *fleet) admit(a autoheal.Action) *autoheal.Error {
	switch {
	case !slices.Contains(verbs(), a.Verb):
		return problem(autoheal.ErrUnsupported, "this cluster cannot %s", a.Verb)
	case a.ID == "":
		return problem(autoheal.ErrInvalid, "an action needs an ID")
	case a.Epoch < f.epoch && !f.w.sabotaged("registry-ignores-epoch"):
		return problem(autoheal.ErrConflict, "epoch %d is over; the present one is %d", a.Epoch, f.epoch)
	}
	f.epoch = max(f.epoch, a.Epoch)
	return nil
}

func (f *fleet) plan(a autoheal.Action) *autoheal.Error {
	switch a.Verb {
	case autoheal.Cordon, autoheal.Uncordon, autoheal.Drain:
		return f.mark(a)
	case autoheal.QuarantineGPU, autoheal.ReleaseGPU:
		return f.markGPU(a)
	case autoheal.Start:
		return f.start(a)
	case autoheal.Scale:
		return f.scale(a)
	case autoheal.Pause, autoheal.Resume:
		return f.pause(a)
	default:
		return f.refresh(a)
	}
}

func owner(a autoheal.Action) string {
	if a.Actor == autoheal.ActorEngine {
		return autoheal.ByAutoheal
	}
	return a.Actor
}

func (f *fleet) markOf(a autoheal.Action) autoheal.Mark {
	return autoheal.Mark{By: owner(a), Reason: a.Reason, Incident: a.Incident, Epoch: a.Epoch, At: f.w.wall()}
}

func (f *fleet) machine(a autoheal.Action) (*machine, *autoheal.Error) {
	m := f.w.byID[autoheal.NodeID(a.Target.ID)]
	switch {
	case a.Target.Kind != autoheal.RefNode:
		return nil, problem(autoheal.ErrInvalid, "%s needs a node, not a %s", a.Verb, a.Target.Kind)
	case m == nil:
		return nil, problem(autoheal.ErrNotFound, "no such node")
	}
	if g := bootName(m.id, f.w.drv.contacts[m.id].boot); a.Target.Generation != "" && a.Target.Generation != g && !f.w.sabotaged("generation-ignored") {
		return nil, problem(autoheal.ErrConflict, "the node has booted since: this was meant for %s", a.Target.Generation)
	}
	return m, nil
}

func (f *fleet) mark(a autoheal.Action) *autoheal.Error {
	m, err := f.machine(a)
	if err != nil {
		return err
	}
	person := owner(a) != autoheal.ByAutoheal
	if a.Verb == autoheal.Uncordon {
		before := slices.Clone(f.marks[m.id])
		f.marks[m.id] = slices.DeleteFunc(f.marks[m.id], func(k autoheal.Mark) bool {
			return person || k.By == owner(a) || f.w.sabotaged("uncordon-removes-all")
		})
		if d := f.drains[m.id]; d != nil && (person || d.actor == a.Actor) {
			delete(f.drains, m.id)
		}
		f.w.watch.unmarked(a, m, before, f.marks[m.id])
	} else {
		if !slices.ContainsFunc(f.marks[m.id], func(k autoheal.Mark) bool { return k.By == owner(a) }) {
			f.marks[m.id] = append(f.marks[m.id], f.markOf(a))
		}
		if a.Verb == autoheal.Drain {
			grace := a.Params.Grace
			if grace <= 0 {
				grace = 30 * time.Second
			}
			f.drains[m.id] = &drainOrder{action: a.ID, actor: a.Actor, grace: grace, epoch: a.Epoch}
		}
	}
	f.w.drv.tellNode(m)
	return nil
}

func (f *fleet) markGPU(a autoheal.Action) *autoheal.Error {
	id := autoheal.GPUID(a.Target.ID)
	for _, m := range f.w.machines {
		if !slices.ContainsFunc(m.gpus, func(g autoheal.GPU) bool { return g.UUID == id }) {
			continue
		}
		old, marked := f.gpuMarks[id]
		switch {
		case a.Verb == autoheal.QuarantineGPU && !marked:
			f.gpuMarks[id] = f.markOf(a)
		case a.Verb == autoheal.ReleaseGPU && marked && (old.By == owner(a) || owner(a) != autoheal.ByAutoheal):
			delete(f.gpuMarks, id)
		}
		f.w.drv.tellNode(m)
		return nil
	}
	if _, marked := f.gpuMarks[id]; marked && a.Verb == autoheal.ReleaseGPU { // it was taken out of its node
		delete(f.gpuMarks, id)
		return nil
	}
	return problem(autoheal.ErrNotFound, "no node has this GPU")
}

func (f *fleet) target(a autoheal.Action) (*workload, *autoheal.Error) {
	w := f.workloads[autoheal.WorkloadID(a.Target.ID)]
	switch {
	case a.Target.Kind != autoheal.RefWorkload:
		return nil, problem(autoheal.ErrInvalid, "%s needs a workload, not a %s", a.Verb, a.Target.Kind)
	case w == nil:
		return nil, problem(autoheal.ErrNotFound, "no such workload")
	}
	return w, nil
}

// start makes attempt a.Params.Attempt exist, pending.
func (f *fleet) start(a autoheal.Action) *autoheal.Error {
	w, err := f.target(a)
	if err != nil {
		return err
	}
	p := a.Params
	switch {
	case p.Attempt <= 0:
		return problem(autoheal.ErrInvalid, "start needs the number of the attempt; the next one is %d", w.attempt+1)
	case w.isParent():
		return problem(autoheal.ErrInvalid, "it is scaled: its replicas are started, not it")
	case p.Attempt <= w.attempt:
		return nil // it exists already
	case p.Attempt > w.attempt+1 && w.Gang == "": // the ranks of a gang share one generation, and may skip numbers
		return problem(autoheal.ErrConflict, "attempt %d cannot follow attempt %d", p.Attempt, w.attempt)
	case w.desired != autoheal.DesiredRunning:
		return problem(autoheal.ErrConflict, "it is wanted %s", w.desired)
	case p.Hedge && w.AtMostOnce:
		return problem(autoheal.ErrConflict, "an at-most-once workload gets no extra copy")
	}
	if err := f.giveUp(w, p); err != nil {
		return err
	}
	next := &attempt{ref: ref{w.ID, p.Attempt}, memory: w.Request.MemoryMB, hedge: p.Hedge, avoid: p.Avoid, avoidGPUs: p.AvoidGPUs, nominated: p.Nominated}
	if c := w.current(); c != nil {
		next.memory = c.memory
	}
	if p.MemoryMB > 0 {
		next.memory = p.MemoryMB
	}
	f.begin(w, next)
	return nil
}

// giveUp ends the older attempts in the books, or says why it may not: without proof nothing that may run is given up.
func (f *fleet) giveUp(w *workload, p autoheal.ActionParams) *autoheal.Error {
	if p.Hedge {
		return nil
	}
	for _, o := range w.sorted() {
		if o.state.Ended() {
			continue
		}
		why := "given up with the proof " + string(p.Proof)
		if o.node == "" {
			why = "it had no place yet"
		} else if p.Proof == "" || p.Proof == autoheal.ProofNone {
			if !w.AtMostOnce && f.w.drv.contacts[o.node].link != autoheal.LinkUp {
				continue // the copy out of reach stays listed, and is settled when its node is back
			}
			return problem(autoheal.ErrConflict, "attempt %d on %s is not known to have ended: a proof is needed", o.n, o.node)
		} else if p.Proof == autoheal.ProofExitObserved {
			return problem(autoheal.ErrConflict, "attempt %d on %s: its exit was not observed", o.n, o.node)
		} else if f.w.drv.contacts[o.node].link == autoheal.LinkUp {
			return problem(autoheal.ErrConflict, "attempt %d is on %s, which answers: the proof %s is out of date", o.n, o.node, p.Proof)
		}
		o.state, o.ended, o.stop, o.given = autoheal.Failed, f.w.wall(), nil, o.node != ""
		o.exit = &autoheal.Exit{Code: -1, Reason: autoheal.ExitSuperseded, Detail: why}
		f.told(w, o, "registry")
		if m := f.w.byID[o.node]; m != nil { // if it runs on after all, that has to be seen
			f.relist(m)
		}
	}
	return nil
}

// relist asks a node for everything it has.
func (f *fleet) relist(m *machine) {
	m.loud()
	c := f.w.drv.contacts[m.id]
	c.relist = true
	if f.w.drv.up && f.w.drv.connected && m.healthy() && m.cut == 0 {
		f.w.drv.schedulePoll(m, hop)
	}
}

// stop ends one attempt, or with Final the workload.
func (f *fleet) stop(a autoheal.Action, answer func(autoheal.Result)) {
	w, err := f.target(a)
	if err != nil {
		if err.Kind == autoheal.ErrNotFound { // what does not exist is stopped
			answer(autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeDone, Err: err, At: f.w.wall()})
			return
		}
		answer(f.refused(a, err))
		return
	}
	f.w.watch.acted(a)
	if a.Params.Final {
		f.stopForGood(a, w)
		answer(f.took(a, f.stopProof(a)))
		return
	}
	at, err := f.attemptToStop(a, w)
	switch {
	case err != nil:
		answer(f.refused(a, err))
	case at == nil || at.state.Ended():
		answer(f.took(a, f.stopProof(a)))
	case at.node == "":
		f.ended(w, at, &autoheal.Exit{Code: -1, Reason: autoheal.ExitStopped, Detail: "it had no place yet"}, f.w.wall(), "registry")
		answer(f.took(a, autoheal.ProofExitObserved))
	default:
		f.stopOn(f.w.byID[at.node], a, w, at, answer)
	}
}

// stopOn asks a node to end an attempt.
func (f *fleet) stopOn(m *machine, a autoheal.Action, w *workload, at *attempt, answer func(autoheal.Result)) {
	c := f.w.drv.contacts[m.id]
	if c.link == autoheal.LinkSilent || !f.w.drv.connected || f.w.lose(m.id, autoheal.Stop, loseRequest) {
		answer(f.refused(a, problem(autoheal.ErrUnavailable, "it could not be sent to the node")))
		return
	}
	reason := autoheal.ExitStopped
	if a.Params.For != "" {
		reason = autoheal.ExitPreempted
	}
	r, answered := at.ref, false
	lost := f.w.lose(m.id, autoheal.Stop, loseAnswer)
	reply := func(res func() autoheal.Result) {
		if !answered {
			answered = true
			answer(res())
		}
	}
	if f.w.sabotaged("stop-ends-the-newest") {
		r.n = w.attempt
	}
	grace := a.Params.Grace
	if a.Params.Force {
		grace = 0
	}
	f.keepRooms(a)
	m.message(true, true, func() {
		m.stop(a.Epoch, r, grace, reason, func(known bool) {
			f.w.watch.stopping(a, w, r)
			if lost {
				return
			}
			m.message(false, true, func() {
				if !known && !at.state.Ended() {
					f.ended(w, at, &autoheal.Exit{Code: -1, Reason: reason, Detail: "it never ran"}, f.w.wall(), "stop")
				}
				reply(func() autoheal.Result { return f.took(a, f.stopProof(a)) })
			})
		})
	})
	f.w.q.after(requestTimeout, func() {
		reply(func() autoheal.Result {
			return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeUnknown, Err: problem(autoheal.ErrTimeout, "the node did not answer; it may happen late"), At: f.w.wall()}
		})
	})
}

const requestTimeout = 10 * time.Second

func (f *fleet) stopForGood(a autoheal.Action, w *workload) {
	for _, x := range append([]*workload{w}, w.children...) {
		x.desired = autoheal.DesiredCancelled
		open := false
		for _, at := range x.sorted() {
			switch {
			case at.state.Ended():
			case at.node == "":
				f.ended(x, at, &autoheal.Exit{Code: -1, Reason: autoheal.ExitStopped, Detail: "it had no place yet"}, f.w.wall(), "registry")
				open = true
			default:
				at.stop = &stopOrder{action: a.ID, reason: autoheal.ExitStopped, grace: a.Params.Grace, epoch: a.Epoch}
				f.told(x, at, "registry")
				open = true
			}
		}
		if c := x.current(); !open && c != nil {
			f.told(x, c, "registry")
		}
	}
}

func (f *fleet) attemptToStop(a autoheal.Action, w *workload) (*attempt, *autoheal.Error) {
	n := a.Params.Attempt
	if n == 0 && a.Target.Generation != "" {
		n, _ = strconv.Atoi(a.Target.Generation)
	}
	if n == 0 {
		n = w.attempt
	}
	if n > w.attempt || n < 0 {
		return nil, problem(autoheal.ErrNotFound, "there is no attempt %d; the latest is %d", n, w.attempt)
	}
	return w.attempts[n], nil
}

func (f *fleet) stopProof(a autoheal.Action) autoheal.Proof {
	w := f.workloads[autoheal.WorkloadID(a.Target.ID)]
	if a.Verb != autoheal.Stop || w == nil {
		return ""
	}
	at, err := f.attemptToStop(a, w)
	switch {
	case err != nil, at != nil && (!at.state.Ended() || at.given || at.exit == nil || at.exit.Reason == autoheal.ExitSuperseded):
		return ""
	}
	return autoheal.ProofExitObserved
}
