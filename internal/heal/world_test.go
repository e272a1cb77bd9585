package heal

import (
	"cmp"
	"maps"
	"slices"

	"autoheal.dev/autoheal"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// carryOut does what an action asks, as a driver would: it accepts, and the change follows as an event.
func (w *world) carryOut(a autoheal.Action) (*autoheal.Result, []autoheal.Event) {
	if r, deaf := w.deaf[a.Verb]; deaf {
		if r.Outcome == "" {
			return nil, nil
		}
		r.Action = a.ID
		return &r, nil
	}
	done := &autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeDone, At: w.now}
	switch a.Verb {
	case autoheal.Cordon:
		n := w.nodes[autoheal.NodeID(a.Target.ID)]
		n.Marks, n.Schedulable = append(n.Marks, autoheal.Mark{By: markOwner(a.Actor), Reason: a.Reason, At: w.now}), false
		return done, []autoheal.Event{w.nodeEvent(n)}
	case autoheal.Uncordon:
		n := w.nodes[autoheal.NodeID(a.Target.ID)]
		by := markOwner(a.Actor)
		n.Marks = slices.DeleteFunc(n.Marks, func(m autoheal.Mark) bool { return m.By == by || by != autoheal.ByAutoheal })
		n.Schedulable = len(n.Marks) == 0
		return done, []autoheal.Event{w.nodeEvent(n)}
	case autoheal.Stop:
		return done, w.stopped(a)
	case autoheal.Start:
		return done, w.started(a)
	case autoheal.Pause, autoheal.Resume:
		c := w.current(a.Target.ID)
		c.Paused, c.Desired = nil, autoheal.DesiredRunning
		if a.Verb == autoheal.Pause {
			c.Paused, c.Desired = &autoheal.Mark{By: markOwner(a.Actor), At: w.now}, autoheal.DesiredPaused
		}
		return done, []autoheal.Event{w.workloadEvent(c)}
	}
	return done, nil
}

func markOwner(actor string) string {
	if actor == autoheal.ActorEngine {
		return autoheal.ByAutoheal
	}
	return actor
}

func (w *world) stopped(a autoheal.Action) []autoheal.Event {
	c := w.work[autoheal.WorkloadID(a.Target.ID)][a.Params.Attempt]
	if c == nil || c.State.Ended() {
		return nil
	}
	c.State, c.Ready, c.EndedAt = autoheal.Failed, false, w.now
	c.Exit = &autoheal.Exit{Code: -1, Signal: "SIGTERM", Reason: autoheal.ExitStopped}
	if a.Params.Final {
		c.State, c.Desired = autoheal.Cancelled, autoheal.DesiredCancelled
	}
	return []autoheal.Event{w.workloadEvent(c)}
}

// started makes the asked attempt exist on the node with the lowest name that answers and is not to be avoided.
func (w *world) started(a autoheal.Action) []autoheal.Event {
	id := autoheal.WorkloadID(a.Target.ID)
	if w.work[id][a.Params.Attempt] != nil {
		return nil
	}
	next := *w.current(a.Target.ID)
	next.Attempt, next.State, next.Exit, next.StartedAt, next.EndedAt = a.Params.Attempt, autoheal.Pending, nil, w.now, w.now
	next.Node, next.Ready = "", false
	if a.Params.MemoryMB > 0 {
		next.Request.MemoryMB = a.Params.MemoryMB
	}
	for _, n := range sortedKeys(w.nodes) {
		if x := w.nodes[n]; x.Link == autoheal.LinkUp && x.Schedulable && !slices.Contains(a.Params.Avoid, n) && next.Request.MemoryMB <= x.Allocatable.MemoryMB {
			next.Node, next.State, next.Ready = n, autoheal.Running, true
			break
		}
	}
	w.work[id][next.Attempt] = &next
	return []autoheal.Event{w.workloadEvent(&next)}
}
