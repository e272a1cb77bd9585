package sim

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
)

// wire is the network between the nodes, apart from the way to the healer: who cannot reach the others, and what the nodes'
// kernels have said of their links.
type wire struct {
	bad    map[autoheal.NodeID]int         // overlapping faults of the way to the others
	badAt  map[autoheal.NodeID]time.Time   // when the last of them ended
	losses map[autoheal.NodeID][]time.Time // of links, really
	dead   map[autoheal.NodeID]bool        // its adapter has failed
	said   map[ref][]autoheal.Signal       // what attempts have written; a listing tells it again
	kmsg   map[autoheal.NodeID][]autoheal.Signal
	told   map[ref]bool // attempts whose ranks have given up
}

func newWire() wire {
	return wire{
		bad: map[autoheal.NodeID]int{}, badAt: map[autoheal.NodeID]time.Time{}, losses: map[autoheal.NodeID][]time.Time{}, dead: map[autoheal.NodeID]bool{},
		said: map[ref][]autoheal.Signal{}, kmsg: map[autoheal.NodeID][]autoheal.Signal{}, told: map[ref]bool{},
	}
}

// collect answers a collect: of a network the state of its links, and the way to each peer.
func (f *fleet) collect(a autoheal.Action, answer func(autoheal.Result)) {
	m := f.w.byID[autoheal.NodeID(a.Target.ID)]
	if a.Target.Kind == autoheal.RefWorkload {
		if w := f.workloads[autoheal.WorkloadID(a.Target.ID)]; w != nil && w.current() != nil {
			m = f.w.byID[w.current().node]
		}
	}
	if m == nil || f.w.drv.contacts[m.id].link == autoheal.LinkSilent || !m.healthy() || m.cut > 0 {
		answer(f.refused(a, problem(autoheal.ErrUnavailable, "it could not be sent to the node")))
		return
	}
	f.w.q.after(time.Second, func() {
		if err := f.admit(a); err != nil { // another healer has taken over meanwhile
			answer(f.refused(a, err))
			return
		}
		if len(a.Params.Peers) > 0 {
			f.w.tellNetwork(a, m)
		}
		answer(f.took(a, ""))
	})
}

func (w *world) tellNetwork(a autoheal.Action, m *machine) {
	tell := func(rule string, failure autoheal.Failure, text string, fields map[string]string) {
		fields["incident"] = string(a.Incident)
		s := &autoheal.Signal{
			Rule: rule, Source: "collect", Failure: failure, Subject: autoheal.Ref{Kind: autoheal.RefNode, ID: string(m.id), Generation: bootName(m.id, m.boot)},
			At: w.wall(), SeenAt: w.wall(), TTL: time.Hour, Count: 1, Action: autoheal.AdviceNone, Fields: fields, Excerpt: text,
		}
		w.drv.emit(autoheal.Event{Kind: autoheal.EventSignal, Signal: s, Source: string(m.id)})
	}
	tell("network/facts", autoheal.FailureNone, fmt.Sprintf("link eth0: up, %d carrier changes", len(w.wire.losses[m.id])), map[string]string{})
	for _, p := range a.Params.Peers {
		lost, failure := 0, autoheal.FailureNone
		if w.wire.bad[m.id] > 0 || w.wire.bad[p] > 0 {
			lost, failure = 20, autoheal.FailureNetwork
		}
		if w.sabotaged("probes-lie") {
			lost, failure = 20, autoheal.FailureNetwork
		}
		tell("network/pair", failure, fmt.Sprintf("%s to %s: %d of 20 probes lost", m.id, p, lost),
			map[string]string{"peer": string(p), "sent": "20", "lost": strconv.Itoa(lost), "rtt_us": "200"})
	}
}

// writes has an attempt write a line that its node understands.
func (w *world) writes(r ref, s autoheal.Signal) {
	s.Source, s.Failure, s.Action, s.Count, s.TTL = "workload", autoheal.FailureNetwork, autoheal.AdviceCheckNetwork, 1, time.Hour
	s.Subject, s.At, s.SeenAt = autoheal.Ref{Kind: autoheal.RefWorkload, ID: string(r.id), Generation: strconv.Itoa(r.n)}, w.wall(), w.wall()
	w.wire.said[r] = append(w.wire.said[r], s)
	w.drv.emit(autoheal.Event{Kind: autoheal.EventSignal, Signal: &s, Source: "workload"})
}

// kernelSays has a node's kernel say that a link was lost, or take that back.
func (w *world) kernelSays(m *machine, s autoheal.Signal) {
	s.Source, s.Failure, s.Action, s.Count, s.TTL = "kmsg", autoheal.FailureNetwork, autoheal.AdviceCheckNetwork, 1, time.Hour
	s.Subject, s.At, s.SeenAt = autoheal.Ref{Kind: autoheal.RefNode, ID: string(m.id), Generation: bootName(m.id, m.boot)}, w.wall(), w.wall()
	w.wire.kmsg[m.id] = slices.DeleteFunc(w.wire.kmsg[m.id], func(o autoheal.Signal) bool { return o.Excerpt == s.Excerpt })
	if !s.Clears {
		w.wire.kmsg[m.id] = append(w.wire.kmsg[m.id], s)
	}
	w.drv.emit(autoheal.Event{Kind: autoheal.EventSignal, Signal: &s, Source: string(m.id)})
}

// tellSaid repeats in a listing what still holds.
func (w *world) tellSaid() {
	for _, m := range w.machines {
		for _, r := range m.refs() {
			if p := m.procs[r]; p.live() {
				for _, s := range w.wire.said[r] {
					w.drv.emit(autoheal.Event{Kind: autoheal.EventSignal, Signal: &s, Source: "workload"})
				}
			}
		}
		for _, s := range w.wire.kmsg[m.id] {
			w.drv.emit(autoheal.Event{Kind: autoheal.EventSignal, Signal: &s, Source: string(m.id)})
		}
	}
}

// ranks returns where the ranks of a gang run, if all of them do and are of one generation.
func (s *sim) ranks(g autoheal.GangID) []place {
	var out []place
	for _, x := range s.w.fleet.order {
		if x.Gang != g || g == "" {
			continue
		}
		p, ok := x.running()
		if !ok || len(out) > 0 && p.p.n != out[0].p.n {
			return nil
		}
		out = append(out, p)
	}
	return out
}

func (s *sim) gangs() []autoheal.GangID {
	var out []autoheal.GangID
	for _, x := range s.w.fleet.order {
		if x.Gang != "" && !slices.Contains(out, x.Gang) {
			out = append(out, x.Gang)
		}
	}
	return out
}

// giveUp has all ranks of a gang but the culprits time out: each says so, and some end, some hang on.
func (s *sim) giveUp(g autoheal.GangID, culprit func(place) bool) {
	ranks := s.ranks(g)
	n := 0
	for _, p := range ranks {
		if culprit(p) {
			n++
		}
	}
	if n == 0 || n == len(ranks) || s.w.wire.told[ranks[0].p.ref] {
		return
	}
	s.w.wire.told[ranks[0].p.ref] = true
	for i, p := range ranks {
		if culprit(p) {
			continue
		}
		s.q.after(time.Duration(s.w.rng.Int64N(int64(3*time.Second))), func() { s.timesOut(p, i, s.w.rng.IntN(2) == 0) })
	}
}

// timesOut has one rank say that its collective timed out, and end if it does so.
func (s *sim) timesOut(p place, rank int, ends bool) {
	if p.m.procs[p.p.ref] != p.p || p.p.state != autoheal.Running || !p.m.on || p.m.frozen {
		return
	}
	s.w.writes(p.p.ref, autoheal.Signal{
		Rule: "pytorch/watchdog_timeout", Fields: map[string]string{"rank": strconv.Itoa(rank), "seq": "7", "op": "ALLREDUCE", "numel_in": "1"},
		Excerpt: fmt.Sprintf("[Rank %d] Watchdog caught collective operation timeout", rank),
	})
	if ends {
		p.m.end(p.p, &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed, Verdict: &autoheal.Verdict{Failure: autoheal.FailureNetwork, Code: "pytorch/watchdog_timeout", Action: autoheal.AdviceCheckNetwork}})
	}
}

// breakWire takes the way to the other nodes away from one: every gang with a rank there loses it, also one that comes there
// later.
func (s *sim) breakWire(m *machine, d time.Duration) {
	x := &s.w.wire
	x.bad[m.id]++
	over := false
	var watch func()
	watch = func() {
		if over || s.done {
			return
		}
		for _, g := range s.gangs() {
			if rs := s.ranks(g); len(rs) > 0 && s.q.now.Sub(rs[0].p.started) > 15*time.Second {
				s.giveUp(g, func(p place) bool { return p.m == m })
			}
		}
		s.q.after(10*time.Second, watch)
	}
	s.q.after(10*time.Second, watch)
	s.later(d, func() {
		over = true
		x.bad[m.id]--
		x.badAt[m.id] = s.q.now
	})
}

// silenceRank has one rank of a gang stop answering while the network is well: a hang of its own.
func (s *sim) silenceRank(g autoheal.GangID, n int) {
	if rs := s.ranks(g); len(rs) > 1 {
		at := rs[n%len(rs)]
		s.giveUp(g, func(p place) bool { return p.p == at.p })
	}
}

// accuse has ranks of a gang name others: one that lies about an innocent one, or two that name each other, which is a tie.
func (s *sim) accuse(g autoheal.GangID, n int, both bool) {
	rs := s.ranks(g)
	if len(rs) < 2 {
		return
	}
	a, b := rs[n%len(rs)], rs[(n+1)%len(rs)]
	name := func(by, of place) {
		s.w.writes(by.p.ref, autoheal.Signal{
			Rule: "pytorch/gloo_peer", Fields: map[string]string{"peer": string(of.m.id)}, Excerpt: fmt.Sprintf("Connection closed by peer [%s]", of.m.id),
		})
	}
	name(a, b)
	if both {
		name(b, a)
	}
}

// crashOne has a rank fail by itself, and the others lose it.
func (s *sim) crashOne(g autoheal.GangID, n int) {
	rs := s.ranks(g)
	if len(rs) < 2 {
		return
	}
	at := rs[n%len(rs)]
	at.m.end(at.p, &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed, Verdict: &autoheal.Verdict{Failure: autoheal.FailureApp, Code: "python/exception", Action: autoheal.AdviceFixCode}})
	for i, p := range rs {
		if p.p != at.p {
			s.q.after(time.Duration(s.w.rng.Int64N(int64(4*time.Second))), func() { s.timesOut(p, i, s.w.rng.IntN(2) == 0) })
		}
	}
}

// flapLink has a node lose its link so often, each time for a few seconds.
func (s *sim) flapLink(m *machine, n int) {
	if n == 0 || s.quieting || !m.on {
		return
	}
	x := &s.w.wire
	x.losses[m.id] = append(x.losses[m.id], s.q.now)
	down := autoheal.Signal{Rule: "network/link_down", Fields: map[string]string{"interface": "eth0"}, Excerpt: "mlx5_core 0000:5c:00.0 eth0: Link down"}
	s.w.kernelSays(m, down)
	s.later(8*time.Second, func() {
		down.Clears = true
		s.w.kernelSays(m, down)
	})
	s.q.after(time.Minute, func() { s.flapLink(m, n-1) })
}

// breakAdapter has a node's adapter fail, as its kernel says.
func (s *sim) breakAdapter(m *machine, d time.Duration) {
	fatal := autoheal.Signal{Rule: "network/mlx5_fatal", Fields: map[string]string{}, Excerpt: "mlx5_core 0000:5c:00.0: mlx5_health_report:1: unrecoverable hardware error"}
	s.w.wire.dead[m.id] = true
	s.w.kernelSays(m, fatal)
	s.later(d, func() {
		fatal.Clears = true
		s.w.kernelSays(m, fatal)
	})
}

// lookAtIsolated has a person look at a node that was isolated, after a while, and let work onto it again.
func (s *sim) lookAtIsolated(id autoheal.NodeID) {
	s.q.after(90*time.Minute, func() {
		if !s.done {
			s.person("ann", autoheal.CommandVerb(autoheal.Uncordon), autoheal.NodeRef(id))
		}
	})
}
