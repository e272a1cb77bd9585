package sim

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// accused is one time that a node was told to hold up a gang.
type accused struct {
	gang     autoheal.GangID
	accusers []autoheal.NodeID
	sure     float64
	at       time.Time
}

func isolationJustified() checker {
	c := checker{name: "isolation", says: "A node is isolated only on link evidence, a failed comparison, or as the culprit of two incidents in a day by two gangs or peers (behaviour E9)."}
	record := map[autoheal.NodeID][]accused{}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		switch p := r.Data.(type) {
		case journal.CulpritTold:
			if p.Node != "" && p.Role != "link" {
				record[p.Node] = append(record[p.Node], accused{p.Gang, p.Accusers, p.Confidence, r.At})
			}
		case journal.Intent:
			i := s.book.incidents[r.Incident]
			if a := p.Action; a.Verb == autoheal.Drain && a.Actor == autoheal.ActorEngine && i != nil && p.Try == 1 {
				id := autoheal.NodeID(a.Target.ID)
				ok := i.kind == autoheal.NetworkPartition && (s.linkLost(id) || s.unreachable(id) || twice(record[id], r.At))
				s.check(c.name, ok, "%s isolates %s, and there is no evidence against it", a.ID, id)
			}
		}
	}
	return c
}

// linkLost reports whether the kernel of a node has really told of a failed adapter, or of links lost again and again.
func (s *sim) linkLost(id autoheal.NodeID) bool {
	x := s.w.wire
	if x.dead[id] {
		return true
	}
	for n := 1; n < len(x.losses[id]); n++ {
		if x.losses[id][n].Sub(x.losses[id][n-1]) <= s.pol.Transient.Link.Window {
			return true
		}
	}
	return false
}

// unreachable reports whether a node could not reach the others, now or as long ago as a comparison may be acted upon.
func (s *sim) unreachable(id autoheal.NodeID) bool {
	x := s.w.wire
	return x.bad[id] > 0 || !x.badAt[id].IsZero() && s.q.now.Sub(x.badAt[id]) < s.pol.Evidence.MaxAge+time.Minute
}

func twice(all []accused, now time.Time) bool {
	times, gangs, nodes := 0, map[autoheal.GangID]bool{}, map[autoheal.NodeID]bool{}
	for _, a := range all {
		if now.Sub(a.at) > 24*time.Hour || a.sure < 0.8 {
			continue
		}
		times++
		gangs[a.gang] = true
		for _, n := range a.accusers {
			nodes[n] = true
		}
	}
	return times >= 2 && (len(gangs) >= 2 || len(nodes) >= 2)
}

func isolationRare() checker {
	c := checker{name: "isolation-rare", says: "At most one node is isolated for a gang in an hour (behaviour E9)."}
	last := map[autoheal.GangID]time.Time{}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		p, ok := r.Data.(journal.Isolated)
		if !ok {
			return
		}
		for _, g := range p.Gangs {
			at, before := last[g]
			s.check(c.name, !before || r.At.Sub(at) >= time.Hour-time.Minute || r.At.Before(at), "%s is isolated for %s, %s after the one before", p.Node, g, r.At.Sub(at))
			last[g] = r.At
		}
	}
	return c
}

func toldFirst() checker {
	c := checker{name: "told-first", says: "No rank of a gang is stopped for a partition before it was judged who holds the gang up, and no new one is meant for a suspect while others have room (behaviour E8, E9)."}
	told, old := map[autoheal.IncidentID]map[autoheal.NodeID]bool{}, map[autoheal.WorkloadID]bool{}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		i := s.book.incidents[r.Incident]
		if i == nil || i.kind != autoheal.NetworkPartition {
			return
		}
		switch p := r.Data.(type) {
		case journal.CulpritTold:
			if told[i.id] == nil {
				told[i.id] = map[autoheal.NodeID]bool{}
			}
			for _, n := range p.Suspects {
				told[i.id][n] = true
			}
		case journal.RecoveryStep:
			if p.To == autoheal.StepStopping || p.To == autoheal.StepWaiting {
				old[p.Workload] = p.OldNodes
			}
		case journal.Intent:
			a := p.Action
			if a.Actor != autoheal.ActorEngine || p.Try > 1 || p.Workload == "" {
				return
			}
			switch a.Verb {
			case autoheal.Stop:
				s.check(c.name, told[i.id] != nil, "%s stops %s, and nothing was judged", a.ID, a.Target)
			case autoheal.Start:
				for n := range told[i.id] {
					s.check(c.name, old[p.Workload] || slices.Contains(a.Params.Avoid, n), "%s starts %s without keeping off %s", a.ID, a.Target, n)
				}
			}
		}
	}
	return c
}

func crashIsNoPartition() checker {
	c := checker{name: "crash-is-no-partition", says: "Where a rank has failed by itself, no node is told to be the culprit (behaviour E9)."}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		p, ok := r.Data.(journal.CulpritTold)
		if !ok || p.Gang == "" || p.Node == "" {
			return
		}
		for _, x := range s.w.fleet.order {
			a := x.current()
			if x.Gang != p.Gang || a == nil || a.exit == nil || a.exit.Verdict == nil {
				continue
			}
			known := s.w.wall().Sub(a.ended) > slack
			s.check(c.name, !known || a.exit.Verdict.Failure == autoheal.FailureNetwork, "%s is told to hold up %s, of which %s had failed by itself", p.Node, p.Gang, a.ref)
		}
	}
	return c
}
