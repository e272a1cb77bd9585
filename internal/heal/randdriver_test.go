package heal

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// The driver of a random world: what it knows, what it does, and how what it says travels.

// report takes in what a node says of one copy.
func (w *rWorld) report(n *rNode, c *rCopy) {
	x := w.works[c.key.id]
	a := x.said[c.key.n]
	if !c.running {
		delete(n.copies, c.key)
		if a.State.Ended() && (a.Exit == nil || a.Exit.Reason != autoheal.ExitSuperseded) {
			return
		}
		a.StartedAt = c.started
		w.ended(x, c.key.n, c.exit, c.ended)
		return
	}
	if x.cur().Desired == autoheal.DesiredCancelled {
		w.after(w.upTo(time.Second), func() { w.end(n, c, &autoheal.Exit{Code: -1, Reason: autoheal.ExitStopped}) })
	}
	a.State, a.Ready, a.StartedAt, a.EndedAt, a.Exit = autoheal.Running, true, c.started, time.Time{}, nil
	w.sayWork(a)
}

func (w *rWorld) ended(x *rWork, num int, e *autoheal.Exit, at time.Time) {
	a := x.said[num]
	a.State, a.Ready, a.EndedAt, a.Exit = autoheal.Failed, false, at, e
	switch {
	case e.Reason == autoheal.ExitCompleted:
		a.State = autoheal.Succeeded
	case a.Desired == autoheal.DesiredCancelled:
		a.State = autoheal.Cancelled
	}
	w.sayWork(a)
	w.place()
}

// pending makes the current attempt wait for a place.
func (w *rWorld) pending(x *rWork) {
	a := x.cur()
	a.State, a.Node, a.Ready, a.Exit, a.StartedAt, a.EndedAt = autoheal.Pending, "", false, nil, time.Time{}, time.Time{}
	w.sayWork(a)
}

func (w *rWorld) free(n *rNode) int64 {
	free := n.said.Allocatable.MemoryMB
	for _, x := range w.works {
		for _, a := range x.said {
			if a.Node == n.said.ID && live(a) {
				free -= a.Request.MemoryMB
			}
		}
	}
	return free
}

// place finds places for what waits.
func (w *rWorld) place() {
	for _, id := range sortedKeys(w.works) {
		x := w.works[id]
		a := x.cur()
		if a.State != autoheal.Pending || a.Desired != autoheal.DesiredRunning {
			continue
		}
		if n := w.fits(a, x.wishes[x.top]); n != nil {
			a.Node, a.State = n.said.ID, autoheal.Scheduled
			w.sayWork(a)
			k := copyKey{id, x.top}
			w.after(100*time.Millisecond+w.upTo(2*time.Second), func() { w.order(n, k) })
		}
	}
}

func (w *rWorld) fits(a *autoheal.Workload, avoid []autoheal.NodeID) *rNode {
	ids := sortedKeys(w.nodes)
	first := w.d.pick(len(ids))
	for k := range ids {
		n := w.nodes[ids[(first+k)%len(ids)]]
		if n.said.Link == autoheal.LinkUp && n.said.Ready && n.said.Schedulable && !slices.Contains(avoid, n.said.ID) && w.free(n) >= a.Request.MemoryMB {
			return n
		}
	}
	return nil
}

// order tells a node to start a copy, if that is still what is wanted.
func (w *rWorld) order(n *rNode, k copyKey) {
	x := w.works[k.id]
	a := x.said[k.n]
	if x.top != k.n || a.State != autoheal.Scheduled || a.Node != n.said.ID || a.Desired != autoheal.DesiredRunning {
		return
	}
	if !n.connected() {
		n.orders = append(n.orders, k)
		return
	}
	w.beginCopy(n, k)
}

// do is the Actuator's Do at the moment at which the action takes effect.
func (w *rWorld) do(a autoheal.Action) (kind autoheal.ErrorKind, detail string, proof autoheal.Proof) {
	switch a.Verb {
	case autoheal.Cordon:
		n, by := w.nodes[autoheal.NodeID(a.Target.ID)], markOwner(a.Actor)
		if n.said.MarkedBy(by) == nil {
			n.said.Marks = append(slices.Clone(n.said.Marks), autoheal.Mark{By: by, Reason: a.Reason, Incident: a.Incident, Epoch: a.Epoch, At: w.now})
		}
		n.said.Schedulable = false
		w.sayNode(n)
	case autoheal.Uncordon:
		n, by := w.nodes[autoheal.NodeID(a.Target.ID)], markOwner(a.Actor)
		n.said.Marks = slices.DeleteFunc(slices.Clone(n.said.Marks), func(m autoheal.Mark) bool { return m.By == by || by != autoheal.ByAutoheal })
		n.said.Schedulable = len(n.said.Marks) == 0
		w.sayNode(n)
		w.place()
	case autoheal.Start:
		return w.doStart(a)
	case autoheal.Stop:
		return w.doStop(a)
	case autoheal.Pause, autoheal.Resume:
		x := w.works[autoheal.WorkloadID(a.Target.ID)]
		for _, s := range x.said {
			if s.Desired == autoheal.DesiredCancelled {
				return autoheal.ErrConflict, "it is cancelled", ""
			}
			s.Paused, s.Desired = nil, autoheal.DesiredRunning
			if a.Verb == autoheal.Pause {
				s.Paused, s.Desired = &autoheal.Mark{By: markOwner(a.Actor), At: w.now}, autoheal.DesiredPaused
			}
		}
		w.sayWork(x.cur())
		w.place()
	case autoheal.Refresh:
		if a.Target.Kind == autoheal.RefNode {
			w.sayNode(w.nodes[autoheal.NodeID(a.Target.ID)])
		} else {
			w.sayWork(w.works[autoheal.WorkloadID(a.Target.ID)].cur())
		}
	}
	return "", "", ""
}

func (w *rWorld) doStart(a autoheal.Action) (autoheal.ErrorKind, string, autoheal.Proof) {
	x, p := w.works[autoheal.WorkloadID(a.Target.ID)], a.Params
	cur := x.cur()
	switch {
	case p.Attempt <= x.top:
		return "", "", ""
	case cur.Desired != autoheal.DesiredRunning:
		return autoheal.ErrConflict, "it is wanted " + string(cur.Desired), ""
	case p.Hedge && cur.AtMostOnce:
		return autoheal.ErrConflict, "an at-most-once workload gets no extra copy", ""
	}
	for _, num := range sortedKeys(x.said) {
		o := x.said[num]
		switch {
		case o.State.Ended():
		case o.Node != "" && p.Proof == autoheal.ProofExitObserved && !p.Hedge:
			return autoheal.ErrConflict, fmt.Sprintf("the exit of attempt %d was not observed", num), ""
		case o.Node == "" || p.Proof != "" && p.Proof != autoheal.ProofNone && !p.Hedge:
			w.supersede(x, num)
		case !p.Hedge:
			return autoheal.ErrConflict, fmt.Sprintf("attempt %d is not known to have ended: a proof is needed", num), ""
		}
	}
	next := *cur
	next.Attempt, next.Hedge = p.Attempt, p.Hedge
	if p.MemoryMB > 0 {
		next.Request.MemoryMB = p.MemoryMB
	}
	x.top, x.said[p.Attempt], x.wishes[p.Attempt] = p.Attempt, &next, p.Avoid
	w.pending(x)
	w.place()
	return "", "", ""
}

// supersede gives an attempt up, and looks whether it runs on after all.
func (w *rWorld) supersede(x *rWork, num int) {
	n := w.nodes[x.said[num].Node]
	w.ended(x, num, &autoheal.Exit{Code: -1, Reason: autoheal.ExitSuperseded}, w.now)
	if n == nil {
		return
	}
	w.after(time.Second, func() {
		if c := n.copies[copyKey{x.id, num}]; c != nil && n.connected() {
			w.report(n, c)
		}
	})
}

func (w *rWorld) doStop(a autoheal.Action) (autoheal.ErrorKind, string, autoheal.Proof) {
	x := w.works[autoheal.WorkloadID(a.Target.ID)]
	if a.Params.Final {
		for _, s := range x.said {
			s.Desired = autoheal.DesiredCancelled
		}
	}
	s := x.said[a.Params.Attempt]
	if s == nil || s.State.Ended() {
		if a.Params.Final {
			w.sayWork(x.cur())
		}
		return "", "", autoheal.ProofExitObserved
	}
	exit := &autoheal.Exit{Code: -1, Signal: "SIGTERM", Reason: autoheal.ExitStopped}
	if s.Node == "" {
		w.ended(x, a.Params.Attempt, exit, w.now)
		return "", "", autoheal.ProofExitObserved
	}
	n, k := w.nodes[s.Node], copyKey{x.id, a.Params.Attempt}
	if !n.connected() {
		return autoheal.ErrUnavailable, "the node does not answer", ""
	}
	c := n.copies[k]
	if c == nil { // it was never begun there
		w.ended(x, a.Params.Attempt, exit, w.now)
		return "", "", autoheal.ProofExitObserved
	}
	w.after(w.upTo(2*time.Second), func() { w.end(n, c, exit) })
	return "", "", ""
}

// --- what the driver says, and how it travels

func (w *rWorld) sayNode(n *rNode) {
	c := n.said
	c.Marks = slices.Clone(n.said.Marks)
	w.send("node/"+string(c.ID), autoheal.Event{Kind: autoheal.EventNode, Node: &c, At: w.now, SeenAt: w.now, Source: "sim"})
}

func (w *rWorld) sayWork(a *autoheal.Workload) {
	c := *a
	w.send("workload/"+string(c.ID), autoheal.Event{Kind: autoheal.EventWorkload, Workload: &c, At: w.now, SeenAt: w.now, Source: "sim"})
}

// send delivers an event late, but never before an older one of the same subject, and sometimes twice.
func (w *rWorld) send(subject string, e autoheal.Event) {
	if w.core == nil || w.blind {
		return
	}
	at := w.now
	if !w.calm && w.chance(40) {
		at = at.Add(w.upTo(3 * time.Second))
	}
	if last := w.lastOut[subject]; at.Before(last) {
		at = last
	}
	w.lastOut[subject] = at
	times := 1
	if w.chance(5) {
		times = 2
	}
	stream := w.stream
	for range times {
		w.at(at, func() {
			if w.stream == stream {
				w.inbox.Events = append(w.inbox.Events, copyEvent(e))
			}
		})
	}
}

func copyEvent(e autoheal.Event) autoheal.Event {
	if e.Node != nil {
		n := *e.Node
		e.Node = &n
	}
	if e.Workload != nil {
		x := *e.Workload
		e.Workload = &x
	}
	return e
}

// list gives a full listing: nodes, current attempts, and older ones that may still run.
func (w *rWorld) list() {
	in := &w.inbox
	for _, id := range sortedKeys(w.nodes) {
		n := w.nodes[id].said
		n.Marks = slices.Clone(n.Marks)
		in.Events = append(in.Events, autoheal.Event{Kind: autoheal.EventNode, Node: &n, At: w.now, SeenAt: w.now, Source: "sim"})
	}
	for _, id := range sortedKeys(w.works) {
		x := w.works[id]
		for _, num := range sortedKeys(x.said) {
			if a := *x.said[num]; num == x.top || !a.State.Ended() {
				in.Events = append(in.Events, autoheal.Event{Kind: autoheal.EventWorkload, Workload: &a, At: w.now, SeenAt: w.now, Source: "sim"})
			}
		}
	}
	in.Events = append(in.Events, autoheal.Event{Kind: autoheal.EventSynced, At: w.now, SeenAt: w.now, Source: "sim"})
}

// lose breaks the stream for a while.
func (w *rWorld) lose() {
	if w.blind {
		return
	}
	w.inbox.Events = append(w.inbox.Events, autoheal.Event{Kind: autoheal.EventLost, At: w.now, SeenAt: w.now, Source: "sim"})
	w.blind = true
	w.stream++
	life := w.life
	w.after(w.upTo(60*time.Second), func() {
		if w.life == life {
			w.blind = false
			clear(w.lastOut)
			w.list()
		}
	})
}
