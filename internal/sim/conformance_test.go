package sim

import (
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/driver/drivertest"
)

// TestConformance holds the simulated cluster to what every driver must do: what the simulator proves of the healer holds
// for a cluster that behaves like this one.
func TestConformance(t *testing.T) {
	drivertest.Run(t, openHarness, drivertest.InBubble())
}

func openHarness(t *testing.T) drivertest.Harness {
	f := OpenFleet(clock.Real{}, 3, 2)
	t.Cleanup(f.Close)
	off := map[autoheal.NodeID]bool{}
	in := func(id autoheal.NodeID, fn func(m *machine)) {
		f.do(func() { fn(f.w.byID[id]) })
		f.nudge()
	}
	spec := func(kind autoheal.WorkloadKind) func(string) autoheal.Spec {
		return func(name string) autoheal.Spec {
			return autoheal.Spec{Name: name, Image: "program", MemoryMB: 100, CPUCores: 0.1, Labels: map[string]string{autoheal.LabelKind: string(kind)}}
		}
	}
	return drivertest.Harness{
		Cluster: f, Workloads: f, Epoch: 1, Nodes: []autoheal.NodeID{"n1", "n2", "n3"}, GPUs: 2,
		Service: spec(autoheal.KindService), Job: spec(autoheal.KindJob),
		KillNode: func(id autoheal.NodeID) { in(id, func(m *machine) { off[id] = true; m.powerOff() }) },
		CutNode:  func(id autoheal.NodeID) { in(id, func(m *machine) { m.change(func() { m.cut++; m.conn++ }) }) },
		HealNode: func(id autoheal.NodeID) {
			in(id, func(m *machine) {
				if off[id] {
					m.powerOn()
					return
				}
				m.change(func() { m.cut = 0 })
			})
		},
		Crash: func(id autoheal.WorkloadID, n int) {
			f.do(func() {
				for _, p := range f.w.fleet.workloads[id].places {
					if p.p.n == n {
						p.m.end(p.p, &autoheal.Exit{Code: 3, Reason: autoheal.ExitCrashed})
					}
				}
			})
			f.nudge()
		},
		LoseAnswer:   func(id autoheal.NodeID, v autoheal.Verb) { f.loseNext(id, v, loseAnswer) },
		LoseRequest:  func(id autoheal.NodeID, v autoheal.Verb) { f.loseNext(id, v, loseRequest) },
		CutObserver:  func() { f.do(f.w.drv.lose); f.nudge() },
		MendObserver: func() { f.do(f.w.drv.find); f.nudge() },
		Started:      f.started,
		RunningCopies: func(id autoheal.WorkloadID) (n int) {
			f.do(func() { n = len(f.w.fleet.workloads[id].live()) })
			return n
		},
	}
}

func (f *Fleet) loseNext(id autoheal.NodeID, v autoheal.Verb, what string) {
	f.do(func() { f.w.losses = append(f.w.losses, &loss{id, v, what}) })
}

func (f *Fleet) started(id autoheal.WorkloadID) map[int]int {
	out := map[int]int{}
	f.do(func() {
		for _, p := range f.w.fleet.workloads[id].places {
			out[p.p.n] += p.p.starts
		}
	})
	return out
}
