package heal

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// planVictims finds the smallest set of workloads whose end makes room; nobody is in it who may not be touched.
func (c *Core) planVictims(i *incident, rec *recovery, need []place.Request) (*journal.RoomPlanned, verdict) {
	for n := range need {
		need[n].Now = c.now
	}
	may := func(id autoheal.WorkloadID) bool { return c.mayStop(i, id) }
	var made place.Room
	var no *place.Refusal
	c.lifted(need, func() { made, no = c.v.index.MakeRoom(need, c.pol.Preemption.MinPriorityGap, may) })
	if no != nil {
		return nil, verdict{Reason: autoheal.ReasonNoCapacity, Detail: no.Detail, On: "capacity"}
	}
	plan := &journal.RoomPlanned{Workload: rec.Workload, Step: string(policy.StepPreempt), Rooms: roomsOf(need, made.Spots)}
	for _, id := range made.Victims {
		w := c.v.cur[id]
		plan.Victims = append(plan.Victims, journal.RoomVictim{Workload: id, Attempt: w.Attempt, GPUs: w.Request.GPUs})
		plan.GPUs += w.Request.GPUs
	}
	plan.Text = fmt.Sprintf("stop %s (%s) for %s on %s", named(made.Victims), times(plan.GPUs, "GPU", "GPUs"), rec.Workload, nodeNames(made.Spots))
	return plan, pass
}

func nodeNames(spots []place.Spot) string {
	nodes := nodesOf(spots)
	if len(nodes) == 1 {
		return string(nodes[0])
	}
	return fmt.Sprintf("%s and %d more nodes", nodes[0], len(nodes)-1)
}

func roomsOf(need []place.Request, spots []place.Spot) []autoheal.Room {
	out := make([]autoheal.Room, len(need))
	for n, r := range need {
		out[n] = autoheal.Room{For: r.Workload, Node: spots[n].Node, GPUs: spots[n].GPUs}
	}
	return out
}

// lifted does something as if the copies that are to be replaced were gone.
func (c *Core) lifted(need []place.Request, do func()) {
	var gone []*autoheal.Workload
	for _, r := range need {
		if w := c.v.cur[r.Workload]; live(w) {
			c.v.index.RemoveWorkload(w.ID, w.Attempt)
			gone = append(gone, w)
		}
	}
	do()
	for _, w := range gone {
		c.v.index.SetWorkload(w)
	}
}

// mayStop reports whether a workload may be a victim, beside being preemptible and of lower priority: it runs where it can
// be stopped and is seen to, nobody else is at work on it, nothing was taken from it within the hour, and no person and no
// setting keeps the healer off it.
func (c *Core) mayStop(i *incident, id autoheal.WorkloadID) bool {
	w := c.v.cur[id]
	if !live(w) || !detect.Wanted(w) || len(c.v.old[id]) > 0 || !c.reaches(w.Node) {
		return false
	}
	if _, open := c.ix.recOf[id]; open {
		return false
	}
	if _, taken := c.ix.rooms[id]; taken && c.d.Rooms[c.ix.rooms[id]] != nil && !c.d.Rooms[c.ix.rooms[id]].Begun.IsZero() {
		return false
	}
	if c.newestAction(i, autoheal.Stop, w.Ref()) != nil || c.protected(id) {
		return false
	}
	return c.letGo(i, w)
}

// reaches reports whether what is on a node can be stopped and seen to end.
func (c *Core) reaches(id autoheal.NodeID) bool {
	n := c.v.nodes[id]
	return n != nil && n.Link == autoheal.LinkUp && n.Ready
}

// protected reports whether a workload was preempted within the last hour (behaviour B5).
func (c *Core) protected(id autoheal.WorkloadID) bool {
	return slices.ContainsFunc(c.d.Preempted, func(p preempted) bool { return p.Workload == id && c.now.Sub(p.At) < protected })
}

// letGo asks the gates that concern one victim: one that a person or a setting holds on to is not chosen at all.
func (c *Core) letGo(i *incident, w *autoheal.Workload) bool {
	p := &proposal{i: i, verb: autoheal.Stop, target: w.Ref(), node: c.v.nodes[w.Node], step: policy.StepPreempt}
	for _, ask := range []func(*Core, *proposal) verdict{gateVeto, gateMaintenance, gateOwnership} {
		if !ask(c, p).OK {
			return false
		}
	}
	kind := autoheal.ResourceExhaustion
	return c.pol.Mode(kind, policy.StepPreempt, w.Options.Heal) == c.pol.Mode(kind, policy.StepPreempt, "")
}

// stillRight reports whether a plan that waits may still be carried out as it is.
func (c *Core) stillRight(i *incident, rec *recovery, rm *room, need []place.Request) bool {
	var gone []*autoheal.Workload
	for _, v := range rm.Victims {
		if w := c.v.cur[v.Workload]; w == nil || w.Attempt != v.Attempt || !c.mayStop(i, v.Workload) {
			return false
		}
		gone = append(gone, c.v.cur[v.Workload])
	}
	for _, s := range rm.Services {
		if p := c.v.cur[s.Workload]; p == nil || p.Replicas != s.From || !c.mayShrink(i, rec, p) {
			return false
		}
		for _, id := range s.Replicas {
			if w := c.v.cur[id]; live(w) {
				gone = append(gone, w)
			}
		}
	}
	for n := range need {
		need[n].Nominated = spotsOf(rm, need)[n].Node
	}
	for _, w := range gone {
		c.v.index.RemoveWorkload(w.ID, w.Attempt)
	}
	_, no := c.fitAll(need)
	for _, w := range gone {
		c.v.index.SetWorkload(w)
	}
	return no == nil
}

func victimRef(v journal.RoomVictim) autoheal.Ref {
	return autoheal.Ref{Kind: autoheal.RefWorkload, ID: string(v.Workload), Generation: fmt.Sprint(v.Attempt)}
}

// stopVictims asks for what is to stop and has not, again and again, and names one that is left; "" when all are gone.
func (c *Core) stopVictims(i *incident, rm *room, k key, grace time.Duration, asked func(journal.RoomVictim) bool) (left string) {
	first := true
	for _, v := range rm.Victims {
		w := c.v.attempt(v.Workload, v.Attempt)
		if !live(w) || !asked(v) {
			first = false
			continue
		}
		left = string(v.Workload)
		p := &proposal{
			i: i, k: k, verb: autoheal.Stop, target: victimRef(v), node: c.v.nodes[w.Node], step: policy.Step(rm.Step), approved: true,
			reason: "it gives way to " + string(rm.Workload), kind: autoheal.ResourceExhaustion,
			params: autoheal.ActionParams{Attempt: v.Attempt, Grace: grace, For: rm.Workload, Rooms: c.roomsFor(rm, w.Node, first)},
		}
		first = false
		if c.now.Before(rm.endBy(grace)) { // what is given up is not asked for any more
			c.insist(p)
		}
	}
	return left
}

// begunGangs picks the victims that belong to a gang of which a rank has ended, or has been asked to.
func (c *Core) begunGangs(i *incident, rm *room) func(journal.RoomVictim) bool {
	begun := map[autoheal.GangID]bool{}
	for _, v := range rm.Victims {
		w, a := c.v.cur[v.Workload], c.newestAction(i, autoheal.Stop, victimRef(v))
		if w != nil && w.Gang != "" && (a != nil && a.Outcome != autoheal.OutcomeNotSent || !live(c.v.attempt(v.Workload, v.Attempt))) {
			begun[w.Gang] = true
		}
	}
	return func(v journal.RoomVictim) bool {
		w := c.v.cur[v.Workload]
		return w != nil && begun[w.Gang]
	}
}

// restartTorn restarts gangs of which a part has ended for a plan and a part has not: what is left of them cannot go on.
func (c *Core) restartTorn(rm *room) {
	torn := map[autoheal.GangID]int{} // 1: a rank runs on, 2: a rank has ended, 3: both
	for _, v := range rm.Victims {
		w := c.v.cur[v.Workload]
		switch {
		case w == nil || w.Gang == "" || rm.Begun.IsZero():
		case live(c.v.attempt(v.Workload, v.Attempt)):
			torn[w.Gang] |= 1
		default:
			torn[w.Gang] |= 2
		}
	}
	for _, g := range slices.Sorted(maps.Keys(torn)) {
		lead := c.leadOf(&autoheal.Workload{Gang: g})
		if torn[g] != 3 || lead == nil || !detect.Wanted(lead) {
			continue
		}
		if _, open := c.ix.recOf[lead.ID]; open {
			continue
		}
		i := c.openIncident(autoheal.Finding{
			Kind: autoheal.CrashLoop, Subject: autoheal.Ref{Kind: autoheal.RefGang, ID: string(g)}, Confidence: 1, Conclusive: true, Since: c.now,
			Cause: fmt.Sprintf("a rank gave way to %s and another did not end", rm.Workload), Because: "crash_loop." + string(autoheal.ExitPreempted),
		})
		if i != nil {
			c.openRecovery(i, lead, lost{at: c.now, rung: string(policy.StepRestart)})
		}
	}
}

// roomsFor shares the places of a plan out to its stops: each carries those on the node of its victim, and the first one
// also those where nobody stops.
func (c *Core) roomsFor(rm *room, node autoheal.NodeID, first bool) []autoheal.Room {
	var out []autoheal.Room
	for _, r := range rm.Rooms {
		held := slices.ContainsFunc(rm.Victims, func(v journal.RoomVictim) bool {
			w := c.v.attempt(v.Workload, v.Attempt)
			return w != nil && w.Node == r.Node
		})
		if r.Node == node || first && !held {
			out = append(out, r)
		}
	}
	return out
}
