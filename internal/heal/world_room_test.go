package heal

import (
	"fmt"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/place"
)

// place gives what waits its places, as a driver would: the most urgent first, gangs whole, kept places to those that they
// are kept for.
func (w *world) place() []autoheal.Event {
	var evs []autoheal.Event
	seen := map[autoheal.GangID]bool{}
	for _, a := range w.waiting() {
		members := []*autoheal.Workload{a}
		if a.Gang != "" {
			if seen[a.Gang] {
				continue
			}
			seen[a.Gang] = true
			members = slices.DeleteFunc(w.waiting(), func(m *autoheal.Workload) bool { return m.Gang != a.Gang })
			if len(members) < a.GangSize {
				continue
			}
		}
		var rs []place.Request
		for _, m := range members {
			r := place.RequestOf(m)
			if room, ok := w.rooms[m.ID]; ok {
				r.Nominated = room.Node
			}
			rs = append(rs, r)
		}
		spots, no := w.index().FitAll(rs)
		if no != nil {
			continue
		}
		for n, m := range members {
			delete(w.rooms, m.ID)
			m.Node, m.GPUs, m.State, m.Ready, m.StartedAt = spots[n].Node, spots[n].GPUs, autoheal.Running, true, w.now
			evs = append(evs, w.workloadEvent(m))
		}
	}
	return evs
}

// index is what is free, kept places taken.
func (w *world) index() *place.Index {
	x := place.New()
	for _, id := range sortedKeys(w.nodes) {
		x.SetNode(w.nodes[id])
	}
	for _, id := range sortedKeys(w.work) {
		for _, n := range sortedKeys(w.work[id]) {
			x.SetWorkload(w.work[id][n])
		}
		if r, ok := w.rooms[id]; ok {
			kept := *w.current(string(id))
			kept.State, kept.Node, kept.GPUs = autoheal.Pending, r.Node, r.GPUs
			if w.current(string(id)).State != autoheal.Pending {
				kept.Attempt++
			}
			x.SetWorkload(&kept)
		}
	}
	return x
}

// waiting lists what waits for a place, the most urgent first.
func (w *world) waiting() []*autoheal.Workload {
	var out []*autoheal.Workload
	for _, id := range sortedKeys(w.work) {
		if a := w.current(string(id)); a.State == autoheal.Pending && a.Desired == autoheal.DesiredRunning {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b *autoheal.Workload) int { return b.Priority - a.Priority })
	return out
}

// preempt ends a victim, keeps the places that it makes, and puts it back into the queue.
func (w *world) preempt(a autoheal.Action, c *autoheal.Workload) []autoheal.Event {
	w.keep(a)
	c.Exit.Reason = autoheal.ExitPreempted
	next := *c
	next.Attempt, next.State, next.Exit, next.Node, next.GPUs = c.Attempt+1, autoheal.Pending, nil, "", nil
	w.work[c.ID][next.Attempt] = &next
	evs := []autoheal.Event{w.workloadEvent(c), w.workloadEvent(&next)}
	return append(evs, w.place()...)
}

func (w *world) keep(a autoheal.Action) {
	for _, r := range a.Params.Rooms {
		w.rooms[r.For] = r
	}
}

// scale gives a service other replicas.
func (w *world) scale(a autoheal.Action) []autoheal.Event {
	w.keep(a)
	p := w.current(a.Target.ID)
	p.Replicas = a.Params.Replicas
	evs := []autoheal.Event{w.workloadEvent(p)}
	for _, id := range sortedKeys(w.work) {
		var n int
		c := w.current(string(id))
		if c.Parent != p.ID {
			continue
		}
		fmt.Sscanf(strings.TrimPrefix(string(id), string(p.ID)+"-"), "%d", &n)
		switch {
		case n >= p.Replicas && c.Desired == autoheal.DesiredRunning:
			c.Desired, c.State, c.Ready, c.EndedAt = autoheal.DesiredCancelled, autoheal.Cancelled, false, w.now
			evs = append(evs, w.workloadEvent(c))
		case n < p.Replicas && c.Desired == autoheal.DesiredCancelled:
			next := *c
			next.Attempt, next.State, next.Desired, next.Node, next.GPUs = c.Attempt+1, autoheal.Pending, autoheal.DesiredRunning, "", nil
			w.work[c.ID][next.Attempt] = &next
			evs = append(evs, w.workloadEvent(&next))
		}
	}
	return append(evs, w.place()...)
}

// urgency reads what preemption goes by: [prio=50] [preemptible=1] [parent=web] [replicas=3] [min=1]
func (w *world) urgency(a *autoheal.Workload, kv map[string]string) {
	a.Priority, a.Preemptible = atoi(kv["prio"], 50), kv["preemptible"] != ""
	a.Parent, a.Replicas, a.MinReplicas = autoheal.WorkloadID(kv["parent"]), atoi(kv["replicas"], 0), atoi(kv["min"], 0)
}

func paramText(p autoheal.ActionParams) string {
	var s strings.Builder
	if p.Attempt > 0 {
		s.WriteString(fmt.Sprintf(" attempt=%d", p.Attempt))
	}
	if p.MemoryMB > 0 {
		s.WriteString(fmt.Sprintf(" memory=%d", p.MemoryMB))
	}
	if len(p.Avoid) > 0 {
		s.WriteString(fmt.Sprintf(" avoid=%v", p.Avoid))
	}
	if len(p.AvoidGPUs) > 0 {
		s.WriteString(fmt.Sprintf(" avoidGpus=%v", p.AvoidGPUs))
	}
	if p.Nominated != "" {
		s.WriteString(" nominated=" + string(p.Nominated))
	}
	if p.Proof != "" {
		s.WriteString(" proof=" + string(p.Proof))
	}
	if p.Force {
		s.WriteString(" force")
	}
	if p.Replicas > 0 {
		s.WriteString(fmt.Sprintf(" replicas=%d", p.Replicas))
	}
	if p.For != "" && p.Grace > 0 {
		s.WriteString(" grace=" + p.Grace.String() + " for=" + string(p.For))
	}
	for _, r := range p.Rooms {
		s.WriteString(fmt.Sprintf(" room=%s@%s%v", r.For, r.Node, r.GPUs))
	}
	return s.String()
}
