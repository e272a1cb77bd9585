package heal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// protected is for how long a victim is safe from preemption, and how far the hourly limit looks back (behaviour B5, E7).
const protected = time.Hour

// room is a plan to make room for a workload or gang, journalled.
type room struct {
	journal.RoomPlanned
	Incident autoheal.IncidentID `json:"incident"`
	At       time.Time           `json:"at"`
	Begun    time.Time           `json:"begun"` // zero: it is only proposed
}

// endBy is when what gives way has ended, or the plan is given up.
func (r *room) endBy(grace time.Duration) time.Time { return r.Begun.Add(grace + roomPatience) }

// preempted is what was taken from a workload, or from the replicas of a service.
type preempted struct {
	Workload autoheal.WorkloadID `json:"workload"`
	For      autoheal.WorkloadID `json:"for"`
	GPUs     int                 `json:"gpus"`
	At       time.Time           `json:"at"`
}

// displaced is a victim that does not run again yet.
type displaced struct {
	Attempt int `json:"attempt"` // that was stopped
	Chain   int `json:"chain"`
}

// scaledDown is a service that has fewer replicas until there is room again.
type scaledDown struct {
	Workload autoheal.WorkloadID `json:"workload"`
	From     int                 `json:"from"`
	Now      int                 `json:"now"`
	Incident autoheal.IncidentID `json:"incident"`
	At       time.Time           `json:"at"`
}

func (d *durable) foldRoom(r journal.Record) error {
	switch p := r.Data.(type) {
	case journal.RoomPlanned:
		d.Rooms[p.Workload] = &room{RoomPlanned: p, Incident: r.Incident, At: r.At}
	case journal.RoomBegun:
		rm := d.Rooms[p.Workload]
		if rm == nil || !rm.Begun.IsZero() {
			return fmt.Errorf("no room is planned for %s", p.Workload)
		}
		d.beginRoom(rm, r.At)
	case journal.RoomOver:
		rm := d.Rooms[p.Workload]
		if rm == nil {
			return fmt.Errorf("no room is planned for %s", p.Workload)
		}
		delete(d.Rooms, p.Workload)
		d.spare(rm, p.Spared)
	case journal.DisplacedOver:
		delete(d.Displaced, p.Workload)
	case journal.ScaledBack:
		d.scaleBack(p, r.At)
	}
	return nil
}

// beginRoom counts what a plan takes from here on.
func (d *durable) beginRoom(rm *room, at time.Time) {
	rm.Begun = at
	d.Preempted = slices.DeleteFunc(d.Preempted, func(p preempted) bool { return at.Sub(p.At) >= protected })
	for _, v := range rm.Victims {
		d.Preempted = append(d.Preempted, preempted{v.Workload, rm.Workload, v.GPUs, at})
		d.Displaced[v.Workload] = displaced{v.Attempt, rm.Chain}
	}
	for _, s := range rm.Services {
		d.Preempted = append(d.Preempted, preempted{s.Workload, rm.Workload, s.GPUs, at})
		d.Scaled = append(d.Scaled, scaledDown{s.Workload, s.From, s.To, rm.Incident, at})
	}
}

// spare takes back what was counted for those of whom nothing was taken.
func (d *durable) spare(rm *room, ids []autoheal.WorkloadID) {
	spared := func(id autoheal.WorkloadID, at time.Time) bool { return slices.Contains(ids, id) && at.Equal(rm.Begun) }
	if rm.Begun.IsZero() || len(ids) == 0 {
		return
	}
	d.Preempted = slices.DeleteFunc(d.Preempted, func(p preempted) bool { return spared(p.Workload, p.At) })
	d.Scaled = slices.DeleteFunc(d.Scaled, func(s scaledDown) bool { return spared(s.Workload, s.At) })
	for _, v := range rm.Victims {
		if slices.Contains(ids, v.Workload) {
			delete(d.Displaced, v.Workload)
		}
	}
}

func (d *durable) scaleBack(p journal.ScaledBack, at time.Time) {
	d.ScaledBackAt = at
	for n := range slices.Backward(d.Scaled) {
		if s := &d.Scaled[n]; s.Workload == p.Workload {
			s.Now, s.At = p.Replicas, at
			if p.Over {
				d.Scaled = slices.Delete(d.Scaled, n, n+1)
			}
			return
		}
	}
}

// setRooms follows who belongs to a plan; of several plans that name somebody, one that was begun counts. There are few.
func (x *index) setRooms(d *durable) {
	clear(x.rooms)
	leads := slices.SortedFunc(maps.Keys(d.Rooms), func(a, b autoheal.WorkloadID) int {
		return cmp.Or(d.Rooms[a].Begun.Compare(d.Rooms[b].Begun), cmp.Compare(a, b)) // proposed ones first
	})
	for _, lead := range leads {
		rm := d.Rooms[lead]
		for _, v := range rm.Victims {
			x.rooms[v.Workload] = lead
		}
		for _, s := range rm.Services {
			x.rooms[s.Workload] = lead // what it is asked is answered in its name
			for _, id := range s.Replicas {
				x.rooms[id] = lead
			}
		}
		for _, r := range rm.Rooms {
			x.rooms[r.For] = lead
		}
	}
}
