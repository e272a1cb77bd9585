package heal

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// BenchmarkListing takes in a full listing, in Steps as large as the engine makes them, and then the same again after the
// stream was lost: what a start and a broken connection cost. Memory is that of the core, nothing else holds the cluster.
func BenchmarkListing(b *testing.B) {
	for _, nodes := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("nodes=%d/workloads=%d", nodes, 10*nodes), func(b *testing.B) {
			if testing.Short() && nodes > 10_000 {
				b.Skip("large")
			}
			for b.Loop() {
				listTwice(b, nodes)
			}
		})
	}
}

func listTwice(b *testing.B, nodes int) {
	s := newSite(b, nodes, 10, nil)
	s.report(b, "listing")
	heap, private := memory()
	b.ReportMetric(heap, "heap-MiB")
	b.ReportMetric(private, "rss-MiB")
	s.step(Input{Events: []autoheal.Event{{Kind: autoheal.EventLost, At: s.now, SeenAt: s.now}}})
	s.listAnew()
	s.report(b, "again")
}

// listAnew lists the whole cluster again.
func (s *site) listAnew() {
	var in Input
	flush := func() {
		s.step(in)
		in.Events = nil
	}
	for n := range s.nodes {
		x := *s.core.v.nodes[nodeName(n)]
		if in.Events = append(in.Events, s.nodeEvent(&x)); len(in.Events) == batchMost {
			flush()
		}
	}
	for n := range s.nodes * s.perNode {
		x := *s.core.v.cur[workloadName(n/s.perNode, n%s.perNode)]
		if in.Events = append(in.Events, s.workloadEvent(&x)); len(in.Events) == batchMost {
			flush()
		}
	}
	in.Events = append(in.Events, autoheal.Event{Kind: autoheal.EventSynced, At: s.now, SeenAt: s.now})
	flush()
}

// quiet lets the core do what is due until t, and does what it asks for, at once and well.
func (s *site) quiet(t time.Time) {
	for len(s.asked) > 0 || !s.wake.IsZero() && !s.wake.After(t) {
		s.quietOnce()
	}
	if t.After(s.now) {
		s.now = t
	}
}

func (s *site) quietOnce() {
	if len(s.asked) > 0 {
		s.now = s.now.Add(10 * time.Millisecond)
	} else if s.wake.After(s.now) {
		s.now = s.wake
	}
	s.step(s.obey())
}

// lose lets so many nodes fall silent at once, as in a zone of which one node of each rack answers, so that no domain is
// out; find lets them answer again.
func (s *site) lose(nodes int) {
	s.links(nodes, autoheal.LinkSilent, func(k int) int { return k + k/31 })
}

func (s *site) find(nodes int) { s.links(nodes, autoheal.LinkUp, func(k int) int { return k + k/31 }) }

// loseZone lets all nodes of the first of ten zones fall silent at once.
func (s *site) loseZone() { s.links(s.nodes/10, autoheal.LinkSilent, func(k int) int { return k }) }

func (s *site) links(nodes int, to autoheal.LinkState, number func(int) int) {
	for n := 0; n < nodes; n += batchMost {
		var in Input
		for k := n; k < min(n+batchMost, nodes); k++ {
			in.Events = append(in.Events, s.link(number(k), to))
		}
		s.step(in)
	}
	for s.core.busy() {
		s.step(Input{})
	}
}

// zones are what loses a tenth of its nodes, with ten workloads each.
func zones(b *testing.B, lose func(b *testing.B, nodes int)) {
	for _, nodes := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			if testing.Short() && nodes > 10_000 {
				b.Skip("large")
			}
			for b.Loop() {
				lose(b, nodes)
			}
		})
	}
}

// report says what the Steps since the last report took of the processor in all, and the longest of them.
func (s *site) report(b *testing.B, what string) {
	b.ReportMetric(sum(s.cpu).Seconds()*1000, what+"-cpu-ms")
	b.ReportMetric(sum(s.took).Seconds()*1000, what+"-wall-ms")
	b.ReportMetric(slices.Max(s.cpu).Seconds()*1000, what+"-longest-cpu-ms")
	b.ReportMetric(float64(len(s.took)), what+"-steps")
	b.ReportMetric(float64(s.records), what+"-records")
	s.reset()
}

// suspicious makes the loss of a tenth of the cluster look like an observer that cannot see.
func suspicious(p *policy.Policy) { p.Storm.Fraction = 0.05 }

// BenchmarkZoneLossHeld loses one zone at once while the healer suspects its own view: all is held, visibly. Counted are
// all Steps from the first silence until the graces, fences and objectives of an hour have passed, and then all until
// contact is back.
func BenchmarkZoneLossHeld(b *testing.B) { zones(b, zoneHeld) }

func zoneHeld(b *testing.B, nodes int) {
	s := settled(b, nodes, 10, suspicious)
	s.reset()
	s.lose(nodes / 10)
	s.report(b, "silent")
	s.quiet(s.now.Add(time.Hour))
	s.report(b, "hour")
	if st := s.core.d.Storm; st == nil || st.Released {
		b.Fatal("nothing is held")
	}
	s.find(nodes / 10)
	s.quiet(s.now.Add(time.Minute))
	s.report(b, "back")
	if n := len(s.core.ix.openIDs); n > 0 {
		b.Fatalf("%d incidents are open after contact is back", n)
	}
}

// BenchmarkZoneLossReleased loses one zone at once, which is held, and then a person says that it is really gone: every
// workload is moved by proof and pace, in order of deadline. The driver is one that starts what it is asked to at once.
func BenchmarkZoneLossReleased(b *testing.B) { zones(b, zoneReleased) }

func zoneReleased(b *testing.B, nodes int) {
	s := settled(b, nodes, 10, suspicious)
	s.lose(nodes / 10)
	s.quiet(s.now.Add(5 * time.Minute))
	s.reset()
	s.step(Input{Commands: []autoheal.Command{{ID: "release", Verb: autoheal.CmdRelease, Actor: "ann", Incident: s.core.d.Storm.Incident}}})
	s.report(b, "ordered")
	for end := s.now.Add(24 * time.Hour); len(s.core.ix.openIDs) > 0 && s.now.Before(end); {
		s.quiet(s.now.Add(time.Minute))
	}
	s.report(b, "moved")
	b.ReportMetric(float64(s.starts), "starts")
	if n := len(s.core.ix.openIDs); s.starts < nodes || n > 0 {
		b.Fatalf("%d of %d workloads were started elsewhere, %d incidents are open", s.starts, nodes, n)
	}
}

// BenchmarkZoneLossDomain loses one zone at once, which the healer takes for the outage of a domain: one incident, in which
// every workload is moved by proof and pace, in order of deadline. Told counts the Steps until it is told from a healer that
// cannot see, moved those from then to the post-mortem.
func BenchmarkZoneLossDomain(b *testing.B) { zones(b, zoneDomain) }

func zoneDomain(b *testing.B, nodes int) {
	s := settled(b, nodes, 10, nil)
	s.reset()
	s.loseZone()
	s.quiet(s.now.Add(20 * time.Second))
	s.report(b, "told")
	if n := len(s.core.ix.openIDs); n != 1 || s.core.d.Storm != nil {
		b.Fatalf("%d incidents are open, storm %v", n, s.core.d.Storm)
	}
	for end := s.now.Add(24 * time.Hour); len(s.core.ix.openIDs) > 0 && s.now.Before(end); {
		s.quiet(s.now.Add(time.Minute))
	}
	s.report(b, "moved")
	b.ReportMetric(float64(s.starts), "starts")
	if n := len(s.core.ix.openIDs); s.starts < nodes || n > 0 {
		b.Fatalf("%d of %d workloads were started elsewhere, %d incidents are open", s.starts, nodes, n)
	}
}

// obey does what was asked.
func (s *site) obey() Input {
	var in Input
	asked := s.asked
	s.asked = nil
	for _, a := range asked {
		in.Results = append(in.Results, autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeDone, At: s.now})
		switch a.Verb {
		case autoheal.Cordon:
			n := *s.core.v.nodes[autoheal.NodeID(a.Target.ID)]
			n.Schedulable, n.Marks = false, append(slices.Clone(n.Marks), autoheal.Mark{By: autoheal.ByAutoheal, Reason: a.Reason, Incident: a.Incident, At: s.now})
			in.Events = append(in.Events, s.nodeEvent(&n))
		case autoheal.Start:
			s.starts++
			w := *s.core.v.cur[autoheal.WorkloadID(a.Target.ID)]
			r := place.RequestOf(&w)
			r.Avoid = a.Params.Avoid
			spot, no := s.core.v.index.Fit(r)
			if no != nil {
				continue
			}
			w.Attempt, w.Node, w.GPUs, w.State, w.Ready, w.StartedAt = a.Params.Attempt, spot.Node, spot.GPUs, autoheal.Running, true, s.now
			in.Events = append(in.Events, s.workloadEvent(&w))
		}
	}
	return in
}
