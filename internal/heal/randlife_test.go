package heal

import (
	"encoding/json"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// The lives of the healer in a random world: it is fed, crashes, and is restored from its journal.

// begin starts a life: the driver listens anew, the core is what the journal says.
func (w *rWorld) begin() {
	w.life++
	w.stream++
	w.born, w.blind, w.inbox = w.now, false, Input{}
	clear(w.lastOut)
	w.core = NewCore(Life{Epoch: uint64(w.life), Version: "test", ConfigHash: "c", BootID: "b", Cluster: "default"}, w.pol)
	for _, r := range w.log {
		if err := w.core.Restore(r); err != nil {
			w.fail("restore: %v", err)
		}
	}
	w.lives = append(w.lives, rLife{from: len(w.log), pol: w.pol})
	for _, id := range sortedKeys(w.nodes) {
		n := w.nodes[id]
		if n.connected() {
			n.said.Link, n.said.Ready, n.said.LinkSince, n.said.LastSeen = autoheal.LinkUp, true, w.now, w.now
			continue
		}
		n.said.Link, n.said.Ready, n.said.LinkSince, n.said.LastSeen = autoheal.LinkUnknown, false, w.now, w.now
		gen := n.away
		w.after(5*time.Second+w.upTo(3*time.Second), func() {
			if n.away == gen {
				w.silent(n)
			}
		})
	}
	w.list()
	w.step(0)
}

// crash ends a life without a word: answers that were on their way are lost.
func (w *rWorld) crash() {
	w.trace("the healer crashes")
	w.stream++
	w.life++ // nothing of this life is delivered any more
	w.inbox = Input{}
	down := w.upTo(20 * time.Second)
	w.core = nil
	w.runTo(w.now.Add(down), false)
	for _, id := range sortedKeys(w.nodes) { // a refused connection renews the deadline
		if n := w.nodes[id]; n.connected() {
			n.contact = w.now
		}
	}
	w.begin()
}

// step feeds the core what has arrived, keeps its records, and lets its actions go.
func (w *rWorld) step(late time.Duration) {
	in := w.inbox
	w.inbox = Input{}
	in.Now, in.Late = w.now, late
	quiet := len(in.Events)+len(in.Results)+len(in.Commands) == 0 && in.Policy == nil && late == 0
	ready := w.core.Step(in)
	w.steps++
	life := &w.lives[len(w.lives)-1]
	life.inputs = append(life.inputs, in)
	life.digest = append(life.digest, digest(ready))
	for _, e := range in.Events {
		w.traceEvent(e)
	}
	if w.dies(ready) {
		return
	}
	w.keep(ready)
	w.checkStep(ready, quiet)
	for _, a := range ready.Actions {
		w.sentAll++
		w.leaveAction(a)
	}
}

// dies lets the healer crash around the moment at which records are made durable.
func (w *rWorld) dies(ready Ready) bool {
	if w.calm || len(ready.Records) == 0 || w.d.pick(400) != 0 {
		return false
	}
	life := &w.lives[len(w.lives)-1]
	if w.chance(50) { // before
		life.inputs = life.inputs[:len(life.inputs)-1]
		life.digest = life.digest[:len(life.digest)-1]
	} else {
		w.keep(ready)
	}
	w.after(0, w.crash)
	w.wake = time.Time{}
	w.core = nil
	return true
}

func (w *rWorld) keep(ready Ready) {
	for _, r := range ready.Records {
		if text := describe(r); text != "" {
			w.trace("%s %s", r.Incident, text)
		}
		b, err := json.Marshal(r)
		if err != nil {
			w.fail("encode record: %v", err)
		}
		var back journal.Record
		if err := json.Unmarshal(b, &back); err != nil {
			w.fail("decode record: %v", err)
		}
		if err := w.shadow.apply(back); err != nil {
			w.fail("fold: %v", err)
		}
		w.log = append(w.log, back)
	}
	w.wake = ready.WakeAt
}

func digest(r Ready) string {
	b, _ := json.Marshal(struct {
		R []journal.Record
		A []autoheal.Action
		W time.Time
	}{r.Records, r.Actions, r.WakeAt})
	return string(b)
}

func (w *rWorld) traceEvent(e autoheal.Event) {
	switch {
	case e.Node != nil:
		w.trace("seen: node %s %s schedulable=%v", e.Node.ID, e.Node.Link, e.Node.Schedulable)
	case e.Workload != nil:
		reason := autoheal.ExitReason("")
		if e.Workload.Exit != nil {
			reason = e.Workload.Exit.Reason
		}
		w.trace("seen: %s/%d %s on %s %s %s", e.Workload.ID, e.Workload.Attempt, e.Workload.State, e.Workload.Node, e.Workload.Desired, reason)
	default:
		w.trace("seen: %s", e.Kind)
	}
}

// leaveAction sends one action to the driver, whose answer may be late, lost, or wrong about what happened.
func (w *rWorld) leaveAction(a autoheal.Action) {
	w.trace("-> %s %s %s%s", a.ID, a.Verb, a.Target, paramText(a.Params))
	life := w.life
	answer := func(out autoheal.Outcome, kind autoheal.ErrorKind, detail string, proof autoheal.Proof) func() {
		return func() {
			if w.life != life {
				return
			}
			r := autoheal.Result{Action: a.ID, Outcome: out, Proof: proof, At: w.now}
			if kind != "" {
				r.Err = &autoheal.Error{Kind: kind, Op: string(a.Verb), Detail: detail}
			}
			w.inbox.Results = append(w.inbox.Results, r)
		}
	}
	carryOut := func() {
		if w.life != life {
			return // another life has begun: its epoch is higher
		}
		kind, detail, proof := w.do(a)
		out := autoheal.OutcomeDone
		if kind != "" {
			out = autoheal.OutcomeNotSent
		}
		w.after(w.latency(), answer(out, kind, detail, proof))
	}
	switch luck := w.d.pick(100); {
	case w.calm || luck < 85:
		w.after(w.latency(), carryOut)
	case luck < 92:
		w.after(w.latency(), answer(autoheal.OutcomeNotSent, autoheal.ErrUnavailable, "bad luck", ""))
	default:
		if luck < 97 { // it happens, perhaps late, and nobody hears of it
			w.after(w.upTo(8*time.Second), func() {
				if w.life == life {
					w.do(a)
				}
			})
		}
		w.after(w.latency(), answer(autoheal.OutcomeUnknown, autoheal.ErrTimeout, "no answer", ""))
	}
}

func (w *rWorld) latency() time.Duration {
	if w.chance(60) {
		return 0
	}
	return w.upTo(2 * time.Second)
}

// waits reports whether something is there for the healer.
func (w *rWorld) waits() bool {
	return len(w.inbox.Events)+len(w.inbox.Results)+len(w.inbox.Commands) > 0 || w.inbox.Policy != nil
}

// runTo lets time pass until end: what is due happens, the healer wakes when it asked to.
func (w *rWorld) runTo(end time.Time, healer bool) {
	for {
		next := end
		if len(w.due) > 0 && w.due[0].at.Before(next) {
			next = w.due[0].at
		}
		if healer && w.core != nil && !w.wake.IsZero() && w.wake.Before(next) {
			next = w.wake
		}
		if healer && w.core != nil && w.waits() {
			next = w.now
		}
		if next.After(w.now) {
			w.now = next
		}
		for len(w.due) > 0 && !w.due[0].at.After(w.now) {
			fn := w.due[0].fn
			w.due = w.due[1:]
			fn()
		}
		woken := healer && w.core != nil && !w.wake.IsZero() && !w.wake.After(w.now)
		if w.core != nil && healer && (woken || w.waits()) {
			w.step(0)
			continue
		}
		if !w.now.Before(end) && (len(w.due) == 0 || w.due[0].at.After(w.now)) {
			return
		}
	}
}
