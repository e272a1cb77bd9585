package sim

import (
	"encoding/json"
	"fmt"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// populate decides what is submitted: workloads of every class, services with replicas, jobs and gangs, two or three a node.
func (s *sim) populate() {
	rng := s.w.rng
	n := 2*len(s.w.machines) + rng.IntN(len(s.w.machines)+1)
	for i := 0; i < n; i++ {
		switch {
		case i%7 == 3:
			i += s.gang(i, 2+rng.IntN(3)) - 1
		case i%7 == 5:
			x := s.workload(i, autoheal.Critical, autoheal.KindService)
			x.replicas = 2 + rng.IntN(2)
			x.MinReplicas = 1
		default:
			kind, class := autoheal.KindJob, autoheal.Classes()[rng.IntN(4)]
			if class == autoheal.Critical && rng.IntN(3) > 0 || rng.IntN(5) == 0 {
				kind = autoheal.KindService
			}
			s.workload(i, class, kind)
		}
	}
}

func (s *sim) workload(i int, class autoheal.Class, kind autoheal.WorkloadKind) *workload {
	rng := s.w.rng
	priority := map[autoheal.Class]int{autoheal.Critical: 95, autoheal.High: 70, autoheal.Medium: 40, autoheal.Low: 10}[class]
	x := &workload{Workload: autoheal.Workload{
		ID: autoheal.WorkloadID(fmt.Sprintf("wl-%03d", i)), Name: fmt.Sprintf("w%d", i), Image: fmt.Sprintf("image-%d", i%4), Class: class,
		ClassRule: "label", Priority: priority, Kind: kind, AtMostOnce: kind == autoheal.KindJob, Replicas: 1,
		Request: autoheal.Resources{CPUMilli: 1000, MemoryMB: int64(2+rng.IntN(6)) << 10, GPUs: rng.IntN(2)},
	}}
	x.OriginalMemoryMB = x.Request.MemoryMB
	x.slow = time.Duration(100+rng.IntN(3000)) * time.Millisecond
	s.plan = append(s.plan, x)
	return x
}

func (s *sim) gang(i, size int) int {
	class := []autoheal.Class{autoheal.High, autoheal.Critical}[s.w.rng.IntN(2)]
	for r := range size {
		x := s.workload(i+r, class, autoheal.KindJob)
		x.Gang, x.Rank, x.GangSize = autoheal.GangID(fmt.Sprintf("gang-%d", i)), r, size
		x.Request.MemoryMB, x.OriginalMemoryMB, x.Request.GPUs = 4<<10, 4<<10, 1
	}
	return size
}

// submitAll submits what was decided.
func (s *sim) submitAll() {
	f := s.w.fleet
	for _, x := range s.plan {
		f.add(x)
		x.SubmittedAt = s.w.wall()
		f.begin(x, &attempt{ref: ref{x.ID, 1}, memory: x.Request.MemoryMB})
	}
	for _, x := range s.plan {
		if x.replicas > 1 {
			x.attempts[1].state = autoheal.Succeeded // a parent runs nothing itself
			f.setReplicas(x, x.replicas, autoheal.Action{})
		}
	}
}

// brief is a record's data in one line.
func brief(r journal.Record) string {
	if r.Type == journal.TypeSnapshot {
		return ""
	}
	b, err := json.Marshal(r.Data)
	if err != nil {
		return err.Error()
	}
	if len(b) > 400 {
		b = append(b[:400:400], "…"...)
	}
	return string(b)
}
