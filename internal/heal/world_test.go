package heal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

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
	case autoheal.Drain:
		return done, w.drained(a)
	case autoheal.Collect:
		if len(a.Params.Peers) > 0 {
			return done, w.network(a)
		}
	case autoheal.Fence:
		done.Proof = autoheal.ProofPowerOff
	case autoheal.Stop:
		return done, w.stopped(a)
	case autoheal.Start:
		return done, w.started(a)
	case autoheal.Scale:
		return done, w.scale(a)
	case autoheal.Pause, autoheal.Resume:
		var evs []autoheal.Event
		for _, id := range sortedKeys(w.work) {
			c := w.current(string(id))
			if id != autoheal.WorkloadID(a.Target.ID) && (c.Gang == "" || c.Gang != w.current(a.Target.ID).Gang) {
				continue
			}
			c.Paused, c.Desired = nil, autoheal.DesiredRunning
			if a.Verb == autoheal.Pause {
				c.Paused, c.Desired = &autoheal.Mark{By: markOwner(a.Actor), At: w.now}, autoheal.DesiredPaused
			}
			evs = append(evs, w.workloadEvent(c))
		}
		return done, evs
	}
	return done, w.carryOutGPU(a)
}

// late carries out the newest start of a workload after all.
func (w *world) late(id string) {
	clear(w.deaf)
	a := w.core.ix.starts[autoheal.WorkloadID(id)]
	res, evs := w.carryOut(a.Action)
	w.step(Input{Results: []autoheal.Result{*res}, Events: evs})
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
	if a.Params.For != "" {
		return w.preempt(a, c)
	}
	if a.Params.Final {
		c.State, c.Desired = autoheal.Cancelled, autoheal.DesiredCancelled
	}
	return []autoheal.Event{w.workloadEvent(c)}
}

// taken is how much memory is in use on a node.
func (w *world) taken(id autoheal.NodeID) int64 {
	sum := int64(0)
	for _, attempts := range w.work {
		for _, a := range attempts {
			if a.Node == id && live(a) {
				sum += a.Request.MemoryMB
			}
		}
	}
	return sum
}

// started makes the asked attempt exist on the node with the lowest name that answers and is not to be avoided.
func (w *world) started(a autoheal.Action) []autoheal.Event {
	id := autoheal.WorkloadID(a.Target.ID)
	if w.work[id][a.Params.Attempt] != nil {
		return nil
	}
	next := *w.current(a.Target.ID)
	next.Attempt, next.State, next.Exit, next.StartedAt, next.EndedAt = a.Params.Attempt, autoheal.Pending, nil, w.now, w.now
	next.Node, next.Ready, next.ReadyAt, next.Failing = "", false, time.Time{}, nil
	if a.Params.MemoryMB > 0 {
		next.Request.MemoryMB = a.Params.MemoryMB
	}
	next.GPUs = nil
	if w.quick { // in a large world it goes where it was
		next.Node, next.State, next.Ready = w.current(a.Target.ID).Node, autoheal.Running, true
		w.work[id][next.Attempt] = &next
		return []autoheal.Event{w.workloadEvent(&next)}
	}
	for _, n := range sortedKeys(w.nodes) {
		gpus, enough := w.freeGPUs(w.nodes[n], next.Request.GPUs, a.Params.AvoidGPUs)
		if x := w.nodes[n]; enough && x.Link == autoheal.LinkUp && x.Ready && x.Schedulable && !slices.Contains(a.Params.Avoid, n) && next.Request.MemoryMB <= x.Allocatable.MemoryMB-w.taken(n) {
			if next.Node == "" || n == a.Params.Nominated {
				next.Node, next.State, next.Ready, next.GPUs = n, autoheal.Running, next.Options.Health == nil, gpus
			}
		}
	}
	w.work[id][next.Attempt] = &next
	return []autoheal.Event{w.workloadEvent(&next)}
}

// check reports what the checks of a workload find.
func (w *world) check(id, what string, kv map[string]string) {
	a := w.current(id)
	switch what {
	case "passes":
		a.Ready, a.Failing = true, nil
		if a.Options.Health != nil && a.ReadyAt.IsZero() {
			a.ReadyAt = w.now
		}
	default:
		f := &autoheal.CheckFailure{What: autoheal.CheckOutcome(what), Since: w.now, Failures: atoi(kv["failures"], 3), Reason: "health check tcp :80 failed 3 times in a row, the last time: no answer within 3s"}
		if what == string(autoheal.Stalled) {
			f.Failures, f.Reason = 0, `no line of its output that matches "^step" for 3m0s`
		}
		if kv["reason"] != "" {
			f.Reason = strings.ReplaceAll(kv["reason"], "_", " ")
		}
		if kv["ago"] != "" {
			f.Since = w.now.Add(-mustDuration(w.t, kv["ago"]))
		}
		a.Ready, a.Failing = what == string(autoheal.Stalled), f
	}
	w.send(w.workloadEvent(a))
}

func (w *world) command(verb string, kv map[string]string) {
	c := autoheal.Command{Verb: autoheal.CommandVerb(verb), Actor: "ann", Role: "operator", Incident: autoheal.IncidentID(kv["incident"]), Scope: kv["scope"], Approval: kv["approval"], Reason: strings.ReplaceAll(kv["reason"], "_", " ")}
	if k, id, ok := strings.Cut(kv["target"], "/"); ok {
		c.Target = autoheal.Ref{Kind: autoheal.RefKind(k), ID: id}
	}
	if kv["role"] != "" {
		c.Role = kv["role"]
	}
	if kv["by"] != "" {
		c.Actor = kv["by"]
	}
	c.Params.Force = kv["force"] != ""
	w.step(Input{Commands: []autoheal.Command{c}})
}

func (w *world) show() {
	for _, id := range w.core.d.incidentIDs() {
		v := w.core.d.Incidents[id].view()
		fmt.Fprintf(&w.out, "%s %s %s %s class=%s%s\n", v.ID, v.Kind, v.Subject, v.Phase, v.Class, heldText(v.Held))
		for _, r := range v.Recoveries {
			within := "?"
			if r.WithinObjective != nil {
				within = fmt.Sprint(*r.WithinObjective)
			}
			fmt.Fprintf(&w.out, "  %s %s %s%s %s try %d proof=%s safe=%s running=%s within=%s%s\n", r.Workload, r.Class, r.Step, endText(r.End), r.Rung, r.Try, r.Proof,
				seconds(r.TimeToSafeSeconds), seconds(r.TimeToRunningSeconds), within, heldText(r.Held))
		}
	}
}

func endText(e autoheal.RecoveryEnd) string {
	if e == "" {
		return ""
	}
	return "(" + string(e) + ")"
}

func heldText(h *autoheal.Held) string {
	if h == nil {
		return ""
	}
	return " held=" + string(h.Reason)
}

func (w *world) setDeaf(words []string) {
	r := autoheal.Result{}
	if words[1] != "nothing" {
		r.Outcome = autoheal.Outcome(words[1])
		kind := autoheal.ErrUnavailable
		if len(words) > 2 {
			kind = autoheal.ErrorKind(words[2])
		}
		r.Err = &autoheal.Error{Kind: kind, Detail: "told to fail"}
	}
	w.deaf[autoheal.Verb(words[0])] = r
}
