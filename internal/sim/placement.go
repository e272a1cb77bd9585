package sim

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
	plan "autoheal.dev/autoheal/internal/place"
)

func itoa(n int) string { return strconv.Itoa(n) }

// reconcile brings the nodes to what the registry wants: it places what is pending, sends starts until they are taken and
// stops until they are obeyed. It runs while a driver does.
func (f *fleet) reconcile() {
	if !f.w.drv.up {
		return
	}
	f.drain()
	f.expireRooms()
	f.placePending()
	again := false
	for _, w := range f.order {
		for _, a := range w.sorted() {
			if a.node == "" || a.state.Ended() {
				continue
			}
			m := f.w.byID[a.node]
			if f.w.drv.contacts[m.id].link != autoheal.LinkUp {
				continue
			}
			switch {
			case a.stop != nil:
				f.sendStop(m, w, a)
				again = true
			case a.state == autoheal.Scheduled && !a.accepted && a.n == w.attempt && a.n >= f.newest(w.Gang):
				f.sendStart(m, w, a)
				again = true
			}
		}
	}
	if again {
		f.w.q.after(2*time.Second, f.kick)
	}
}

func (f *fleet) sendStart(m *machine, w *workload, a *attempt) {
	if !a.sentAt.IsZero() && f.w.q.now.Sub(a.sentAt) < 2*time.Second {
		return
	}
	if f.w.lose(m.id, autoheal.Start, loseRequest) {
		return
	}
	a.sentAt = f.w.q.now
	epoch := f.epoch
	m.message(true, true, func() {
		if m.start(epoch, w, a.n) && !f.w.lose(m.id, autoheal.Start, loseAnswer) {
			m.message(false, true, func() {
				if !a.accepted {
					a.accepted, a.acceptAt = true, f.w.q.now
				}
			})
		}
	})
}

func (f *fleet) sendStop(m *machine, w *workload, a *attempt) {
	o := a.stop
	m.message(true, true, func() { m.stop(o.epoch, a.ref, o.grace, o.reason, func(bool) {}) })
}

// waiting lists what is pending, by priority and then by name.
func (f *fleet) waiting() []*workload {
	var out []*workload
	for _, w := range f.order {
		if a := w.current(); a != nil && a.state == autoheal.Pending && w.desired != autoheal.DesiredCancelled && !w.isParent() {
			out = append(out, w)
		}
	}
	slices.SortStableFunc(out, func(a, b *workload) int { return cmp.Compare(b.Priority, a.Priority) })
	return out
}

func (f *fleet) placePending() {
	seen := map[autoheal.GangID]bool{}
	for _, w := range f.waiting() {
		switch g := w.Gang; {
		case g == "" || f.w.sabotaged("gangs-start-in-part"):
			f.placeTogether([]*workload{w})
		case !seen[g]:
			seen[g] = true
			f.placeGang(g)
		}
	}
}

// placeGang places the pending ranks of a gang, if with them the gang is whole and of one generation.
func (f *fleet) placeGang(g autoheal.GangID) {
	newest := f.newest(g)
	var waiting []*workload
	present, size := 0, 0
	for _, w := range f.gang(g) {
		a := w.current()
		if a.n < newest || a.stop != nil {
			continue // it is being replaced: its end, or its start, is on the way
		}
		if a.state != autoheal.Pending && f.w.drv.contacts[a.node].link != autoheal.LinkUp {
			continue // it is about to be replaced, or comes back: the gang waits for it
		}
		present++
		size = w.GangSize
		if a.state == autoheal.Pending {
			waiting = append(waiting, w)
		}
	}
	if present < size {
		for _, w := range waiting {
			f.explain(w, "gang "+string(g)+" has "+itoa(present)+" of "+itoa(size)+" members ready to start")
		}
		return
	}
	f.placeTogether(waiting)
}

// newest is the latest generation of a gang that waits for a place: what is older is being replaced, and not started.
func (f *fleet) newest(g autoheal.GangID) int {
	n := 0
	for _, w := range f.order {
		if a := w.current(); g != "" && w.Gang == g && a != nil && w.desired == autoheal.DesiredRunning && a.state == autoheal.Pending {
			n = max(n, a.n)
		}
	}
	return n
}

// gang lists the ranks that are wanted and have not ended.
func (f *fleet) gang(g autoheal.GangID) []*workload {
	var out []*workload
	for _, w := range f.order {
		if a := w.current(); w.Gang == g && a != nil && w.desired == autoheal.DesiredRunning && !a.state.Ended() {
			out = append(out, w)
		}
	}
	return out
}

func (f *fleet) explain(w *workload, why string) {
	if a := w.current(); a.detail != why {
		a.detail = why
		f.w.drv.emitWorkload(w, a, "registry")
	}
}

// placeTogether finds places for all of ws or for none.
func (f *fleet) placeTogether(ws []*workload) {
	if len(ws) == 0 {
		return
	}
	reqs := make([]plan.Request, len(ws))
	for i, w := range ws {
		a := w.current()
		reqs[i] = plan.RequestOf(w.view(a))
		reqs[i].Avoid, reqs[i].AvoidGPUs, reqs[i].Nominated = a.avoid, a.avoidGPUs, a.nominated
		if r := f.rooms[w.ID]; r != nil {
			reqs[i].Nominated = r.node
		}
		if w.parent != nil {
			for _, s := range w.parent.children {
				if c := s.current(); s != w && c != nil && c.node != "" && !c.state.Ended() {
					reqs[i].SpreadFrom = append(reqs[i].SpreadFrom, c.node)
				}
			}
			slices.Sort(reqs[i].SpreadFrom)
		}
	}
	spots, no := f.index.FitAll(reqs)
	if no != nil {
		for _, w := range ws {
			f.explain(w, no.Detail)
		}
		return
	}
	for i, w := range ws {
		a := w.current()
		f.dropRoom(w.ID)
		a.node, a.gpus, a.state, a.detail = spots[i].Node, spots[i].GPUs, autoheal.Scheduled, ""
		f.told(w, a, "registry")
	}
	f.kick()
}

// drain stops what runs on draining nodes and has a place elsewhere, and ends drains that are done.
func (f *fleet) drain() {
	for _, m := range f.w.machines {
		d := f.drains[m.id]
		if d == nil {
			continue
		}
		left := false
		for _, w := range f.order {
			a := w.current()
			if a == nil || a.node != m.id || a.state.Ended() {
				continue
			}
			left = true
			if a.stop != nil || a.state != autoheal.Running {
				continue
			}
			f.move(m, w, d)
		}
		if !left {
			delete(f.drains, m.id)
			f.w.drv.tellNode(m)
		}
	}
}

// move stops what runs on a draining node, with its whole gang, if there is a place elsewhere for all of it.
func (f *fleet) move(m *machine, w *workload, d *drainOrder) {
	members := []*workload{w}
	if w.Gang != "" && w.desired == autoheal.DesiredRunning {
		members = f.gang(w.Gang)
	}
	reqs := make([]plan.Request, len(members))
	for i, o := range members {
		a := o.current()
		if a.state == autoheal.Scheduled {
			return // it is starting: once that is settled
		}
		reqs[i] = plan.RequestOf(o.view(a))
		reqs[i].Avoid = []autoheal.NodeID{m.id}
	}
	for _, o := range members {
		f.index.RemoveWorkload(o.ID, o.attempt)
	}
	_, no := f.index.FitAll(reqs)
	for _, o := range members {
		f.index.SetWorkload(o.view(o.current()))
	}
	if no != nil {
		return
	}
	for _, o := range members {
		if a := o.current(); a.node != "" && a.stop == nil {
			a.stop = &stopOrder{action: d.action, reason: autoheal.ExitDrained, grace: d.grace, epoch: d.epoch}
		}
	}
}
