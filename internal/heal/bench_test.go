package heal

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// changes are the single changes whose cost must not follow the size of the cluster.
var changes = []struct {
	name string
	make func(s *site) autoheal.Event
}{
	{"heartbeat", func(s *site) autoheal.Event {
		n := s.anyNode()
		n.LastSeen = s.now
		return s.nodeEvent(n)
	}},
	{"condition", func(s *site) autoheal.Event { // a node says something new about itself
		n := s.anyNode()
		n.Conditions = map[string]string{"note": fmt.Sprint(s.rnd.IntN(1000))}
		return s.nodeEvent(n)
	}},
	{"ready", func(s *site) autoheal.Event { // a health check fails or passes
		w := s.anyWorkload()
		w.Ready = !w.Ready
		return s.workloadEvent(w)
	}},
	{"finish", func(s *site) autoheal.Event { // a workload completes, or its next attempt begins
		w := s.anyWorkload()
		if w.State == autoheal.Succeeded {
			w.Attempt, w.State, w.Exit = w.Attempt+1, autoheal.Running, nil
		} else {
			w.State, w.EndedAt, w.Exit = autoheal.Succeeded, s.now, &autoheal.Exit{Reason: autoheal.ExitCompleted}
		}
		return s.workloadEvent(w)
	}},
}

// oneChange gives a core so many single changes on the first nodes of its cluster. What its Steps took is in s.took.
func (s *site) oneChange(steps, busy int, event func(s *site) autoheal.Event) {
	s.busy = busy
	for range steps {
		s.now = s.now.Add(time.Millisecond)
		s.step(Input{Events: []autoheal.Event{event(s)}})
	}
}

func percentile(ds []time.Duration, p int) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[min(len(ds)*p/100, len(ds)-1)]
}

// BenchmarkStepOneChange gives a core one change at a time, on any of its nodes. Its floor is the same change in a cluster
// of 1,000 nodes; x-floor compares what changes on 1,000 of the nodes only, so that it shows the work that follows the
// cluster's size (which must not exceed 1.5) and not that a larger cluster's memory lies outside the processor's cache.
// Both are measured in turns of a hundred changes, so that what else the machine does falls on both.
func BenchmarkStepOneChange(b *testing.B) {
	const turns, changesATurn = 50, 100
	small := settled(b, 1000, 10, nil)
	for _, nodes := range []int{1000, 10_000, 100_000} {
		if testing.Short() && nodes > 10_000 {
			b.Skip("large")
		}
		s := settled(b, nodes, 10, nil)
		heap, _ := memory()
		for _, c := range changes {
			b.Run(fmt.Sprintf("nodes=%d/%s", nodes, c.name), func(b *testing.B) {
				var floor, busy, all []time.Duration
				for turn := range 2 * turns {
					if turn == turns { // warm
						floor, busy, all = nil, nil, nil
					}
					for _, m := range []struct {
						s     *site
						nodes int
						took  *[]time.Duration
					}{{small, 1000, &floor}, {s, 1000, &busy}, {s, nodes, &all}} {
						m.s.reset()
						m.s.oneChange(changesATurn, m.nodes, c.make)
						*m.took = append(*m.took, m.s.took...)
					}
				}
				s.reset()
				b.ReportAllocs()
				for b.Loop() {
					s.oneChange(1, nodes, c.make)
				}
				b.ReportMetric(float64(percentile(all, 50).Nanoseconds()), "p50-ns")
				b.ReportMetric(float64(percentile(floor, 50).Nanoseconds()), "floor-ns")
				b.ReportMetric(float64(percentile(busy, 50))/float64(percentile(floor, 50)), "x-floor")
				b.ReportMetric(heap, "heap-MiB")
			})
		}
	}
}

// BenchmarkStepCrash is the decision on one workload that crashed, in a cluster of 1,000 nodes and 5,000 workloads: an
// incident with its evidence, recovery, counter and backoff.
func BenchmarkStepCrash(b *testing.B) {
	s := settled(b, 1000, 5, nil)
	next, records := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		if next == s.nodes*s.perNode {
			b.StopTimer()
			s, next = settled(b, 1000, 5, nil), 0
			b.StartTimer()
		}
		w := *s.core.v.cur[workloadName(next/s.perNode, next%s.perNode)]
		s.now = s.now.Add(time.Millisecond)
		w.State, w.Ready, w.EndedAt, w.Exit = autoheal.Failed, false, s.now, &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed}
		r := s.step(Input{Events: []autoheal.Event{s.workloadEvent(&w)}})
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
	s := settled(b, 1000, 20, nil)
	next := 0
	b.ReportAllocs()
	for b.Loop() {
		r := s.step(Input{Events: []autoheal.Event{s.link(next, autoheal.LinkSilent)}})
		if len(r.Records) < 22 {
			b.Fatalf("only %d records", len(r.Records))
		}
		b.StopTimer()
		s.now = s.now.Add(2 * time.Second)
		s.step(Input{Events: []autoheal.Event{s.link(next, autoheal.LinkUp)}})
		s.now = s.now.Add(2 * time.Minute) // out of the window of a mass outage
		s.step(Input{})
		next = (next + 1) % s.nodes
		b.StartTimer()
	}
}

// link is a node that falls silent or answers again.
func (s *site) link(node int, to autoheal.LinkState) autoheal.Event {
	n := *s.core.v.nodes[nodeName(node)]
	n.Link, n.LinkSince, n.LastSeen, n.Ready = to, s.now, s.now, to == autoheal.LinkUp
	return s.nodeEvent(&n)
}
