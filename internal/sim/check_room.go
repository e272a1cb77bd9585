package sim

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	plan "autoheal.dev/autoheal/internal/place"
)

// begunRoom is a plan that was begun.
type begunRoom struct {
	journal.RoomPlanned
	at time.Time
}

func (r begunRoom) takes(id autoheal.WorkloadID) bool {
	return slices.ContainsFunc(r.Victims, func(v journal.RoomVictim) bool { return v.Workload == id }) ||
		slices.ContainsFunc(r.Services, func(s journal.RoomService) bool { return s.Workload == id || slices.Contains(s.Replicas, id) })
}

// moves reports whether the plan gives a workload a place of its own: what it holds is free for the rest of its gang.
func (r begunRoom) moves(id autoheal.WorkloadID) bool {
	return slices.ContainsFunc(r.Rooms, func(x autoheal.Room) bool { return x.For == id })
}

// roomJust holds the healer to what it may take from whom when it makes room.
func roomJust() checker {
	c := checker{name: "room", says: "Room is made only where it will be enough, from whom it may be taken, whole gangs, nobody twice in an hour or for one that gave way itself, and no more than its share in an hour (behaviour E7, B5)."}
	planned := map[autoheal.WorkloadID]journal.RoomPlanned{}
	var begun []begunRoom
	displaced := map[autoheal.WorkloadID]bool{}
	c.durable = func(s *sim, r journal.Record, step []journal.Record) {
		switch p := r.Data.(type) {
		case journal.RoomPlanned:
			planned[p.Workload] = p
		case journal.RoomBegun:
			room := begunRoom{planned[p.Workload], r.At}
			s.justVictims(c.name, room, begun)
			s.check(c.name, !displaced[p.Workload], "room is made for %s, which gave way itself", p.Workload)
			s.check(c.name, saysAll(room, step), "not every place that is made for %s is said", p.Workload)
			begun = append(begun, room)
			s.inShare(c.name, begun, r.At)
			for _, v := range room.Victims {
				displaced[v.Workload] = true
			}
		case journal.RoomOver:
			for n := range begun {
				begun[n].spare(p, planned[p.Workload])
			}
			for _, id := range p.Spared {
				delete(displaced, id)
			}
		case journal.DisplacedOver:
			delete(displaced, p.Workload)
		}
	}
	return c
}

// spare takes out of the last plan for a workload what was not touched.
func (r *begunRoom) spare(p journal.RoomOver, last journal.RoomPlanned) {
	if r.Workload != p.Workload || r.Text != last.Text {
		return
	}
	r.Victims = slices.DeleteFunc(slices.Clone(r.Victims), func(v journal.RoomVictim) bool { return slices.Contains(p.Spared, v.Workload) })
	r.Services = slices.DeleteFunc(slices.Clone(r.Services), func(s journal.RoomService) bool { return slices.Contains(p.Spared, s.Workload) })
}

// justVictims checks each victim, and that nobody else holds what is promised.
func (s *sim) justVictims(name string, room begunRoom, before []begunRoom) {
	lead := s.w.fleet.workloads[room.Workload]
	for _, v := range room.Victims {
		w := s.w.fleet.workloads[v.Workload]
		s.check(name, w.Preemptible && w.Priority <= lead.Priority-10, "%s (priority %d, preemptible %v) gives way to %s", w.ID, w.Priority, w.Preemptible, lead.ID)
		for _, o := range s.w.fleet.order {
			if w.Gang != "" && o.Gang == w.Gang {
				s.check(name, room.takes(o.ID), "%s gives way to %s and %s of its gang does not", w.ID, lead.ID, o.ID)
			}
		}
		for _, b := range before {
			s.check(name, !b.takes(v.Workload) || room.at.Sub(b.at) >= time.Hour, "%s gives way to %s, %s after it gave way to %s", w.ID, lead.ID, room.at.Sub(b.at), b.Workload)
		}
	}
	for _, x := range room.Rooms {
		for _, w := range s.w.fleet.order {
			a := w.current()
			if a == nil || a.node != x.Node || a.state.Ended() || room.takes(w.ID) || room.moves(w.ID) || s.q.now.Sub(a.sentAt) < 5*time.Second {
				continue
			}
			shared := slices.ContainsFunc(a.gpus, func(g autoheal.GPUID) bool { return slices.Contains(x.GPUs, g) })
			s.check(name, !shared, "%s is to have a place on %s that %s holds, which does not give way", x.For, x.Node, w.ID)
		}
	}
}

// saysAll reports whether the actions of the step in which a plan begins name each of its places.
func saysAll(room begunRoom, step []journal.Record) bool {
	for _, x := range room.Rooms {
		if !slices.ContainsFunc(step, func(r journal.Record) bool {
			in, ok := r.Data.(journal.Intent)
			return ok && slices.ContainsFunc(in.Action.Params.Rooms, func(o autoheal.Room) bool { return o.For == x.For && o.Node == x.Node })
		}) {
			return false
		}
	}
	return true
}

// inShare checks what changed hands within the hour.
func (s *sim) inShare(name string, begun []begunRoom, at time.Time) {
	all, largest, taken := 0, 0, 0
	for _, m := range s.w.machines {
		all, largest = all+len(m.gpus), max(largest, len(m.gpus))
	}
	for _, b := range begun {
		if at.Sub(b.at) < time.Hour {
			for _, v := range b.Victims {
				taken += v.GPUs
			}
			for _, v := range b.Services {
				taken += v.GPUs
			}
		}
	}
	most := s.pol.Preemption.PerHour.Of(all, largest)
	s.check(name, taken <= most, "%d GPUs changed hands within an hour, of at most %d", taken, most)
}

// roomKept holds the cluster to what it was asked to keep.
func roomKept() checker {
	c := checker{name: "room-kept", says: "A place that is made for one workload is given to nobody else (behaviour E7)."}
	type kept struct {
		autoheal.Room
		lead         autoheal.WorkloadID
		since, until time.Time
	}
	var all []kept
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		switch p := r.Data.(type) {
		case journal.Result:
			in := s.book.intents[p.Action].Action.Params
			for _, x := range in.Rooms {
				if p.Outcome == autoheal.OutcomeDone {
					all = append(all, kept{x, in.For, s.q.now, s.q.now.Add(in.Grace + 45*time.Second)})
				}
			}
		case journal.RoomOver:
			all = slices.DeleteFunc(all, func(k kept) bool { return k.lead == p.Workload })
		}
	}
	c.begun = func(s *sim, m *machine, p *proc) {
		a := p.w.attempts[p.n]
		for _, k := range all {
			owner := s.w.fleet.workloads[k.For]
			if a == nil || k.Node != m.id || k.For == p.w.ID || !a.sentAt.After(k.since) || s.q.now.After(k.until) {
				continue
			}
			if o := owner.current(); o == nil || o.state != autoheal.Pending || owner.desired != autoheal.DesiredRunning || o.n > 1 {
				continue
			}
			taken := slices.ContainsFunc(a.gpus, func(g autoheal.GPUID) bool { return slices.Contains(k.GPUs, g) })
			s.check(c.name, !taken, "%s begins on %s, in the place that is kept for %s", p.ref, m.id, k.For)
		}
	}
	return c
}

// givenBack holds the healer to giving back what it took from services.
func givenBack() checker {
	c := checker{name: "given-back", says: "Services that lost replicas for somebody else have them again once there has been room (behaviour B5)."}
	short := map[autoheal.WorkloadID]int{} // of what they had
	c.durable = func(_ *sim, r journal.Record, _ []journal.Record) {
		if p, ok := r.Data.(journal.RoomPlanned); ok {
			for _, x := range p.Services {
				short[x.Workload] = max(short[x.Workload], x.From)
			}
		}
	}
	c.end = func(s *sim) {
		if s.urgentWaits() {
			return
		}
		for _, id := range sortedKeys(short) {
			w := s.w.fleet.workloads[id]
			if w.desired != autoheal.DesiredRunning || !s.w.fleet.hasRoomFor(w, 2) {
				continue
			}
			s.check(c.name, w.replicas >= short[id], "%s has %d replicas and had %d", id, w.replicas, short[id])
		}
	}
	return c
}

// hasRoomFor reports whether so many more of a workload find a place: what is free on a node or a GPU that a mark keeps out
// of service is none.
func (f *fleet) hasRoomFor(w *workload, more int) bool {
	need := make([]plan.Request, more)
	for n := range need {
		need[n] = plan.RequestOf(&w.Workload)
		need[n].Workload += autoheal.WorkloadID("-more-" + itoa(n))
	}
	_, no := f.index.FitAll(need)
	return no == nil
}

// urgentWaits reports whether somebody waits for room who would be given what services get back.
func (s *sim) urgentWaits() bool {
	for _, id := range s.book.order {
		i := s.book.incidents[id]
		for _, w := range sortedKeys(i.recs) {
			if rec := i.recs[w]; !i.phase.Ended() && rec.held != nil && rec.held.Reason == autoheal.ReasonNoCapacity && rec.Class == autoheal.Critical {
				return true
			}
		}
	}
	return false
}
