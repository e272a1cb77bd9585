package sim

import (
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// keptRoom is a place that is reserved for the next attempt of a workload.
type keptRoom struct {
	node  autoheal.NodeID
	gpus  []autoheal.GPUID
	until time.Time
	n     int // the attempt under whose number the index holds it
}

const roomTTL = time.Minute

// keepRooms reserves the places that an action makes, before anything ends.
func (f *fleet) keepRooms(a autoheal.Action) {
	if f.w.sabotaged("rooms-are-not-kept") {
		return
	}
	for _, r := range a.Params.Rooms {
		w := f.workloads[r.For]
		if w == nil || w.desired != autoheal.DesiredRunning || w.current() == nil || w.current().state == autoheal.Running {
			continue
		}
		n := w.attempt
		if w.current().state != autoheal.Pending {
			n = f.generationAfter(w)
		}
		f.dropRoom(w.ID)
		f.rooms[w.ID] = &keptRoom{r.Node, slices.Clone(r.GPUs), f.w.q.now.Add(a.Params.Grace + roomTTL), n}
		f.holdRoom(w.ID)
	}
}

// holdRoom tells the index of a reservation.
func (f *fleet) holdRoom(id autoheal.WorkloadID) {
	r, w := f.rooms[id], f.workloads[id]
	if r == nil {
		return
	}
	v := w.Workload
	v.State, v.Attempt, v.Node, v.GPUs = autoheal.Pending, r.n, r.node, r.gpus
	if a := w.current(); a != nil {
		v.Request.MemoryMB = a.memory
	}
	f.index.SetWorkload(&v)
}

func (f *fleet) dropRoom(id autoheal.WorkloadID) {
	r := f.rooms[id]
	if r == nil {
		return
	}
	delete(f.rooms, id)
	f.index.RemoveWorkload(id, r.n)
	if w := f.workloads[id]; w.attempt == r.n {
		f.index.SetWorkload(w.view(w.current()))
	}
}

// expireRooms gives back what has had its time, or is for somebody who does not want it any more.
func (f *fleet) expireRooms() {
	for _, id := range slices.Sorted(maps.Keys(f.rooms)) {
		if r := f.rooms[id]; !f.w.q.now.Before(r.until) || f.workloads[id].desired != autoheal.DesiredRunning {
			f.dropRoom(id)
		}
	}
}

// renumberRoom follows the number that an attempt got.
func (f *fleet) renumberRoom(w *workload, n int) {
	if r := f.rooms[w.ID]; r != nil && r.n != n {
		f.index.RemoveWorkload(w.ID, r.n)
		r.n = n
	}
}
