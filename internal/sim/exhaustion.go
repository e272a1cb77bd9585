package sim

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// exhaust fills the cluster with work of little importance and then submits something urgent that finds no place: a service
// of several GPUs, or a gang. What fills it is single jobs, gangs, a service with replicas, and some that may not be
// stopped. All but the service is taken away again after a while.
func (s *sim) exhaust(f Fault) {
	if s.filled == mostFilled {
		return
	}
	s.filled++
	var all []*workload
	add := func(name string, class autoheal.Class, kind autoheal.WorkloadKind, priority, gpus int) *workload {
		x := &workload{Workload: autoheal.Workload{
			ID: autoheal.WorkloadID(fmt.Sprintf("%s-%d-%d", name, s.filled, len(all))), Image: "image-0", Class: class, ClassRule: "label",
			Priority: priority, Kind: kind, AtMostOnce: kind == autoheal.KindJob, Replicas: 1, Preemptible: f.Count%4 > 0,
			Request: autoheal.Resources{CPUMilli: 100, MemoryMB: 256, GPUs: gpus},
		}, slow: time.Second}
		x.Name, x.OriginalMemoryMB = string(x.ID), x.Request.MemoryMB
		all = append(all, x)
		return x
	}
	free := s.freeGPUs()
	for n := 0; free > 0; n++ {
		switch gpus := min(1+(f.Node+n)%3, free); {
		case n == 1: // it loses replicas when nobody else gives way
			x := add("web", autoheal.Medium, autoheal.KindService, 40, 1)
			x.Preemptible, x.replicas, x.MinReplicas = false, min(3, free), 1
			free -= x.replicas
		case n%5 == 2 && free >= 2*gpus:
			for r := range 2 {
				x := add("crew", autoheal.High, autoheal.KindJob, 20, gpus)
				x.Gang, x.Rank, x.GangSize = autoheal.GangID(fmt.Sprintf("crew-%d-%d", s.filled, n)), r, 2
			}
			free -= 2 * gpus
		case n%5 == 4: // urgent, and preemptible all the same: it must not stop others when it was stopped
			add("eager", autoheal.Critical, autoheal.KindJob, 50, gpus)
			free -= gpus
		default:
			add("fill", autoheal.Low, autoheal.KindJob, 5+n%20, gpus)
			free -= gpus
		}
	}
	filling := len(all)
	for range 2 { // they wait beside it, come first by priority, and nobody stops for them
		x := add("rival", autoheal.High, autoheal.KindJob, 99, 1)
		x.Preemptible = false
	}
	if f.Count%2 == 0 {
		for r := range 2 {
			x := add("urgent", autoheal.Critical, autoheal.KindJob, 95, 2)
			x.Preemptible, x.Gang, x.Rank, x.GangSize = false, autoheal.GangID(fmt.Sprintf("urgent-%d", s.filled)), r, 2
		}
	} else {
		x := add("urgent", autoheal.Critical, autoheal.KindService, 95, 1+f.Node%4)
		x.Preemptible, x.AtMostOnce = false, false
	}
	for n, x := range all {
		s.q.after(time.Duration(n)*100*time.Millisecond, func() { s.submitLate(x) })
	}
	s.later(f.For+2*time.Minute, func() { // who was urgent goes first, so that what gave way is seen to return
		s.withdraw(all[filling:])
		s.q.after(8*time.Minute, func() { s.withdraw(slices.DeleteFunc(all, func(x *workload) bool { return x.replicas > 1 })) })
	})
}

// mostFilled bounds how much work one run is given.
const mostFilled = 4

// freeGPUs counts what nobody holds.
func (s *sim) freeGPUs() int {
	n := 0
	for _, m := range s.w.machines {
		n += max(0, s.w.fleet.index.Free(m.id).GPUs)
	}
	return n
}

func (s *sim) submitLate(x *workload) {
	f := s.w.fleet
	f.add(x)
	x.SubmittedAt = s.w.wall()
	f.begin(x, &attempt{ref: ref{x.ID, 1}, memory: x.Request.MemoryMB})
	if x.replicas > 1 {
		x.attempts[1].state = autoheal.Succeeded // a parent runs nothing itself
		f.setReplicas(x, x.replicas, autoheal.Action{})
	}
}

// withdraw stops workloads for good, as their owners would.
func (s *sim) withdraw(ws []*workload) {
	for _, x := range ws {
		if s.w.fleet.workloads[x.ID] == nil || x.desired == autoheal.DesiredCancelled {
			continue
		}
		s.commands++
		a := autoheal.Action{
			ID: autoheal.ActionID(fmt.Sprintf("by-owner-%d/1", s.commands)), Epoch: s.w.fleet.epoch, Verb: autoheal.Stop, Actor: "owner",
			Target: autoheal.WorkloadRef(x.ID), Params: autoheal.ActionParams{Final: true},
		}
		s.w.fleet.act(a, func(autoheal.Result) {})
	}
}
