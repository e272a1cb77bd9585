package heal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
)

// site is a core that has seen a whole cluster: so many nodes of eight GPUs in racks of 32, each with its workloads.
type site struct {
	core  *Core
	now   time.Time
	nodes []autoheal.Node
	work  []autoheal.Workload
	rnd   *rand.Rand
	busy  int // changes happen on so many nodes
}

func newSite(b testing.TB, nodes, perNode int) *site {
	s := &site{now: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), rnd: rand.New(rand.NewPCG(1, 2)), busy: nodes}
	s.core = NewCore(Life{Epoch: 1, Version: "bench", ConfigHash: "c", BootID: "b", Cluster: "default"}, actPolicy(b))
	room := autoheal.Resources{CPUMilli: 128000, MemoryMB: 1 << 20, Pids: 100000}
	for n := range nodes {
		labels := map[string]string{autoheal.LabelRack: fmt.Sprintf("r%d", n/32)}
		x := autoheal.Node{
			ID: autoheal.NodeID(fmt.Sprintf("n%06d", n)), BootID: "b", Source: "sim", Link: autoheal.LinkUp, LinkSince: s.now, LastSeen: s.now, Ready: true,
			Schedulable: true, Labels: labels, Domains: autoheal.NodeDomains(labels), Capacity: room, Allocatable: room, Caps: autoheal.Verbs(), SelfStop: true,
		}
		for g := range 8 {
			x.GPUs = append(x.GPUs, autoheal.GPU{UUID: autoheal.GPUID(fmt.Sprintf("%s-%d", x.ID, g)), Index: g, Model: "H100", MemoryMB: 81920, Health: autoheal.HealthOK})
		}
		s.nodes = append(s.nodes, x)
		for w := range perNode {
			s.work = append(s.work, autoheal.Workload{
				ID: autoheal.WorkloadID(fmt.Sprintf("wl-%06d-%02d", n, w)), Image: autoheal.ImageHost, State: autoheal.Running, Desired: autoheal.DesiredRunning,
				Attempt: 1, Node: x.ID, Ready: true, Class: autoheal.High, ClassRule: "label", AtMostOnce: true, Kind: autoheal.KindJob,
				Request: autoheal.Resources{CPUMilli: 1000, MemoryMB: int64(1000 + s.rnd.IntN(4000))}, OriginalMemoryMB: 1000, SubmittedAt: s.now, StartedAt: s.now,
			})
		}
	}
	var in Input
	for n := range s.nodes {
		in.Events = append(in.Events, s.nodeEvent(n))
	}
	for n := range s.work {
		in.Events = append(in.Events, s.workloadEvent(n))
	}
	in.Events = append(in.Events, autoheal.Event{Kind: autoheal.EventSynced, At: s.now, SeenAt: s.now})
	s.step(in)
	s.now = s.now.Add(time.Minute)
	s.step(Input{})
	return s
}

func (s *site) step(in Input) Ready {
	in.Now = s.now
	return s.core.Step(in)
}

func (s *site) nodeEvent(n int) autoheal.Event {
	x := s.nodes[n]
	return autoheal.Event{Kind: autoheal.EventNode, Node: &x, At: s.now, SeenAt: s.now, Source: "sim"}
}

func (s *site) workloadEvent(n int) autoheal.Event {
	x := s.work[n]
	return autoheal.Event{Kind: autoheal.EventWorkload, Workload: &x, At: s.now, SeenAt: s.now, Source: "sim"}
}

// changes are the single changes whose cost must not follow the size of the cluster.
var changes = []struct {
	name string
	make func(s *site) autoheal.Event
}{
	{"heartbeat", func(s *site) autoheal.Event {
		n := s.rnd.IntN(s.busy)
		s.nodes[n].LastSeen = s.now
		return s.nodeEvent(n)
	}},
	{"condition", func(s *site) autoheal.Event { // a node says something new about itself
		n := s.rnd.IntN(s.busy)
		s.nodes[n].Conditions = map[string]string{"note": fmt.Sprint(s.rnd.IntN(1000))}
		return s.nodeEvent(n)
	}},
	{"ready", func(s *site) autoheal.Event { // a health check fails or passes
		n := s.rnd.IntN(s.busy * len(s.work) / len(s.nodes))
		s.work[n].Ready = !s.work[n].Ready
		return s.workloadEvent(n)
	}},
	{"finish", func(s *site) autoheal.Event { // a workload completes, or a new attempt of it begins
		n := s.rnd.IntN(s.busy * len(s.work) / len(s.nodes))
		w := &s.work[n]
		if w.State == autoheal.Succeeded {
			w.Attempt, w.State, w.Exit = w.Attempt+1, autoheal.Running, nil
		} else {
			w.State, w.EndedAt, w.Exit = autoheal.Succeeded, s.now, &autoheal.Exit{Reason: autoheal.ExitCompleted}
		}
		return s.workloadEvent(n)
	}},
}

// oneChange returns the p50 of the time of a Step with one change.
func (s *site) oneChange(steps int, event func(s *site) autoheal.Event) time.Duration {
	took := make([]time.Duration, 0, steps)
	for range steps {
		s.now = s.now.Add(time.Millisecond)
		in := Input{Events: []autoheal.Event{event(s)}}
		began := clock.Real{}.Now()
		s.step(in)
		took = append(took, clock.Real{}.Now().Sub(began))
	}
	return percentile(took, 50)
}

func percentile(ds []time.Duration, p int) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[min(len(ds)*p/100, len(ds)-1)]
}

// BenchmarkStepOneChange gives a core one change at a time, on any of its nodes. Its floor is the same change in a cluster
// of 1,000 nodes, measured in the same run; x-floor compares what changes on 1,000 of the nodes only, so that it shows
// the work that follows the cluster's size (which must not exceed 1.5) and not that a larger cluster's memory lies
// outside the processor's cache.
func BenchmarkStepOneChange(b *testing.B) {
	const warm, measured = 2000, 5000
	small := newSite(b, 1000, 5)
	for _, nodes := range []int{1000, 10_000, 100_000} {
		s := small
		if nodes > 1000 {
			s = newSite(b, nodes, 5)
		}
		for _, c := range changes {
			b.Run(fmt.Sprintf("nodes=%d/%s", nodes, c.name), func(b *testing.B) {
				p50 := func(s *site, busy int) time.Duration {
					s.busy = busy
					s.oneChange(warm, c.make)
					return s.oneChange(measured, c.make)
				}
				floor, busy, all := p50(small, 1000), p50(s, 1000), p50(s, nodes)
				b.ReportAllocs()
				for b.Loop() {
					s.now = s.now.Add(time.Millisecond)
					s.step(Input{Events: []autoheal.Event{c.make(s)}})
				}
				b.ReportMetric(float64(all.Nanoseconds()), "p50-ns")
				b.ReportMetric(float64(floor.Nanoseconds()), "floor-ns")
				b.ReportMetric(float64(busy)/float64(floor), "x-floor")
			})
		}
	}
}

// BenchmarkStepCrash is the decision on one workload that crashed, in a cluster of 1,000 nodes and 5,000 workloads: an
// incident with its evidence, recovery, counter and backoff.
func BenchmarkStepCrash(b *testing.B) {
	s := newSite(b, 1000, 5)
	next, records := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		if next == len(s.work) {
			b.StopTimer()
			s, next = newSite(b, 1000, 5), 0
			b.StartTimer()
		}
		w := &s.work[next]
		s.now = s.now.Add(time.Millisecond)
		w.State, w.Ready, w.EndedAt, w.Exit = autoheal.Failed, false, s.now, &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed}
		r := s.step(Input{Events: []autoheal.Event{s.workloadEvent(next)}})
		next++
		if records = len(r.Records); records < 4 {
			b.Fatalf("only %d records", records)
		}
	}
	b.ReportMetric(float64(records), "records/op")
}

// BenchmarkStepSilentNode is the decision on one node with 20 workloads that falls silent: an incident with a recovery
// each. It answers again before the next one is measured.
func BenchmarkStepSilentNode(b *testing.B) {
	s := newSite(b, 1000, 20)
	next := 0
	link := func(to autoheal.LinkState) Ready {
		n := &s.nodes[next]
		n.Link, n.LinkSince, n.LastSeen, n.Ready = to, s.now, s.now, to == autoheal.LinkUp
		return s.step(Input{Events: []autoheal.Event{s.nodeEvent(next)}})
	}
	b.ReportAllocs()
	for b.Loop() {
		r := link(autoheal.LinkSilent)
		if len(r.Records) < 22 {
			b.Fatalf("only %d records", len(r.Records))
		}
		b.StopTimer()
		s.now = s.now.Add(2 * time.Second)
		link(autoheal.LinkUp)
		s.now = s.now.Add(2 * time.Minute) // out of the window of a mass outage
		s.step(Input{})
		next = (next + 1) % len(s.nodes)
		b.StartTimer()
	}
}
