package drivertest

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// fill submits one job a node that takes all its GPUs, and returns them by node.
func (b *bench) fill() map[autoheal.NodeID]autoheal.WorkloadID {
	b.need("GPUs", b.GPUs >= 1)
	out := map[autoheal.NodeID]autoheal.WorkloadID{}
	for i := range b.Nodes {
		s := b.prio(b.Job(fmt.Sprint("filler-", i)), 10)
		s.GPUs = b.GPUs
		id := b.submit(s)
		out[b.nodeOf(id)] = id
	}
	return out
}

func (b *bench) prio(s autoheal.Spec, priority int) autoheal.Spec {
	yes := true
	s.Priority, s.Preemptible = &priority, &yes
	return s
}

// waits submits what finds no place and waits until it is told why.
func (b *bench) waits(s autoheal.Spec) autoheal.WorkloadID {
	id := b.submitOnly(s)
	b.await("a reason for waiting of "+string(id), func(o *observer) bool { w := o.current(id); return w != nil && w.Detail != "" })
	return id
}

// checkPreempt: the places that victims leave go to those that they are stopped for, all ranks of a gang, and to nobody
// that waits beside them; the victims wait again.
func checkPreempt(b *bench) {
	victims := b.fill()
	b.need("three nodes", len(b.Nodes) >= 3)
	var ranks []autoheal.WorkloadID
	for r := range 2 {
		s := with(b.prio(b.Job(fmt.Sprint("vip-", r)), 80), autoheal.LabelGang, "vip", autoheal.LabelGangSize, "2", autoheal.LabelRank, fmt.Sprint(r))
		s.GPUs = b.GPUs
		ranks = append(ranks, b.submitOnly(s))
	}
	rival := b.prio(b.Job("rival"), 99) // more urgent than all, but the room is not for it
	rival.GPUs = b.GPUs
	beside := b.waits(rival)
	rooms := []autoheal.Room{{For: ranks[0], Node: b.Nodes[0]}, {For: ranks[1], Node: b.Nodes[1]}}
	b.see(func(o *observer) {
		for i := range rooms {
			rooms[i].GPUs = slices.Clone(o.current(victims[rooms[i].Node]).GPUs)
		}
	})
	for i, node := range b.Nodes[:2] {
		p := autoheal.ActionParams{For: ranks[0], Grace: time.Second}
		if i == 0 {
			p.Rooms = rooms
		}
		b.mustDo(stop(victims[node], 1, p))
		b.await(string(victims[node])+" waits again", func(o *observer) bool {
			return o.in(victims[node], 1, autoheal.Failed) && o.works[attempt{victims[node], 1}].Exit.Reason == autoheal.ExitPreempted &&
				o.in(victims[node], 2, autoheal.Pending)
		})
		if i == 0 {
			b.quietly("a place is kept until the gang has all of its places", 10*time.Second, func(o *observer) bool {
				return o.in(beside, 1, autoheal.Pending) && o.in(ranks[0], 1, autoheal.Pending)
			})
		}
	}
	for i, id := range ranks {
		b.await(string(id)+" has its place", func(o *observer) bool { return o.in(id, 1, autoheal.Running) && o.current(id).Node == b.Nodes[i] })
	}
	b.see(func(o *observer) {
		if w := o.current(beside); w.State != autoheal.Pending {
			b.t.Errorf("what waited beside them is %s on %s", w.State, w.Node)
		}
	})
}

// checkRoomGivenBack: a place that is kept for somebody who does not want it any more is free again.
func checkRoomGivenBack(b *bench) {
	victims := b.fill()
	s := b.prio(b.Job("vip"), 80)
	s.GPUs = b.GPUs
	vip := b.waits(s)
	victim := victims[b.Nodes[0]]
	var gpus []autoheal.GPUID
	b.see(func(o *observer) { gpus = slices.Clone(o.current(victim).GPUs) })
	b.mustDo(autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(vip), Actor: "ann", Params: autoheal.ActionParams{Final: true}})
	b.mustDo(stop(victim, 1, autoheal.ActionParams{For: vip, Grace: time.Second, Rooms: []autoheal.Room{{For: vip, Node: b.Nodes[0], GPUs: gpus}}}))
	b.await("the victim has its place again", func(o *observer) bool { return o.in(victim, 2, autoheal.Running) })
	b.see(func(o *observer) {
		if w := o.current(vip); w.Node != "" || w.State != autoheal.Cancelled {
			b.t.Errorf("what was cancelled is %s on %q", w.State, w.Node)
		}
	})
}
