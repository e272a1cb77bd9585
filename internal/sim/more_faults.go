package sim

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/heal"
)

// ref names the node in the boot that the healer knows.
func (m *machine) ref(s *sim) autoheal.Ref {
	return autoheal.Ref{Kind: autoheal.RefNode, ID: string(m.id), Generation: bootName(m.id, s.w.drv.contacts[m.id].boot)}
}

// thaw lets what stood still go on: programs that were coming up are up.
func (m *machine) thaw() {
	for _, r := range m.refs() {
		if p := m.procs[r]; p.state == autoheal.Scheduled {
			p.state, p.started = autoheal.Running, m.w.q.now
			m.boxed[r] = true
			m.w.live(m, p)
		}
	}
}

// blind takes the driver's own way to the cluster away.
func (s *sim) blind(d time.Duration) {
	if !s.w.drv.connected {
		return
	}
	s.w.drv.lose()
	s.later(d, func() { s.w.drv.find() })
}

// lie lets the driver believe that a node does not answer which does: its answers are not acknowledged either.
func (s *sim) lie(m *machine, d time.Duration) {
	c := s.w.drv.contacts[m.id]
	if c.lied || c.link != autoheal.LinkUp || !s.w.drv.up {
		return
	}
	m.loud()
	c.lied = true
	m.arm()
	s.later(d, func() { c.lied = false })
}

// signals lets a node talk without end.
func (s *sim) signals(m *machine, n int) {
	for i := range n {
		s.q.after(time.Duration(i)*20*time.Millisecond, func() {
			sig := &autoheal.Signal{
				Rule: "nvidia.xid.31", Source: "kmsg", Failure: autoheal.FailureGPU, Subject: autoheal.NodeRef(m.id), At: s.w.wall(), SeenAt: s.w.wall(),
				TTL: 5 * time.Minute, Count: 1, Excerpt: fmt.Sprintf("NVRM: Xid 31, line %d", i),
			}
			s.w.drv.emit(autoheal.Event{Kind: autoheal.EventSignal, Signal: sig, Source: string(m.id)})
		})
	}
}

// running returns the place where the newest attempt of a workload really runs.
func (w *workload) running() (place, bool) {
	for _, p := range slices.Backward(w.places) {
		if p.p.state == autoheal.Running && p.m.procs[p.p.ref] == p.p && p.m.on && !p.m.frozen {
			return p, true
		}
	}
	return place{}, false
}

func (s *sim) crashWork(x *workload, more int) {
	x.crashes = more
	if p, ok := x.running(); ok {
		p.m.end(p.p, &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed})
	}
}

func (s *sim) outOfMemory(x *workload, n int) {
	p, ok := x.running()
	if !ok || x.needs > 0 {
		return
	}
	x.needs = x.Request.MemoryMB * int64(n+1)
	s.undo = append(s.undo, func() { x.needs = 0 })
	p.m.end(p.p, &autoheal.Exit{Code: 137, Signal: "SIGKILL", OOM: autoheal.OOMHostCgroup, Reason: autoheal.ExitCrashed})
}

func (s *sim) nodeOutOfMemory(m *machine) {
	for _, r := range m.refs() {
		if p := m.procs[r]; p.state == autoheal.Running && m.on && !m.frozen {
			m.end(p, &autoheal.Exit{Code: 137, Signal: "SIGKILL", OOM: autoheal.OOMHostGlobal, Reason: autoheal.ExitCrashed})
			return
		}
	}
}

// badImage rolls a broken image out: everything that uses it crashes at once and when it is started again.
func (s *sim) badImage(x *workload, d time.Duration) {
	for _, y := range s.w.fleet.order {
		if y.Image != x.Image {
			continue
		}
		y.badUntil = s.q.now.Add(d)
		if p, ok := y.running(); ok {
			p.m.end(p.p, &autoheal.Exit{Code: 127, Reason: autoheal.ExitStartFailed})
		}
		s.undo = append(s.undo, func() { y.badUntil = time.Time{} })
	}
}

func (s *sim) complete(x *workload) {
	if p, ok := x.running(); ok && x.Kind == autoheal.KindJob && x.Gang == "" {
		p.m.end(p.p, &autoheal.Exit{Reason: autoheal.ExitCompleted})
	}
}

func (s *sim) slowStart(x *workload, d time.Duration) {
	old := x.slow
	x.slow = d
	s.later(10*time.Minute, func() { x.slow = old })
	s.crashWork(x, 0)
}

// crash ends the healer's process.
func (s *sim) crash(why string) {
	h := s.healer
	if h == nil || !h.alive {
		return
	}
	s.w.note("healer: life %d dies %s", h.epoch, why)
	h.alive = false
	s.store.retire(h.core)
	s.w.drv.sink = nil
	s.w.gone = true
	s.w.drv.end(s.w.embedded)
	s.awayFrom = s.q.now
	s.restartIn(5 * time.Second)
}

// restartIn begins the next life after d, unless one has begun.
func (s *sim) restartIn(d time.Duration) {
	n := s.epoch
	s.restartAt = max(s.restartAt, s.q.now.Add(d).Sub(epochTime))
	s.q.after(d, func() { s.restart(n) })
	s.undo = append(s.undo, func() { s.restartAt = 0; s.restart(n) })
}

func (s *sim) restart(after uint64) {
	if s.epoch != after || s.healer.alive || s.done || s.q.now.Sub(epochTime) < s.restartAt {
		return
	}
	s.restartAt = 0
	s.begin()
}

// stall lets the loop of the engine stand still; its workers and its driver go on.
func (s *sim) stall(d time.Duration) {
	h := s.healer
	if !h.alive || h.stalled || h.frozen {
		return
	}
	h.stalled = true
	h.asked = s.q.now
	s.later(d, func() {
		if h.stalled {
			h.stalled = false
			s.wokeLate(h)
			h.ticking = false
			h.step()
		}
	})
}

// freezeHealer lets the whole process of the healer stand still: its sockets are open and nobody answers.
func (s *sim) freezeHealer(d time.Duration) {
	h := s.healer
	if !h.alive || h.frozen || h.stalled {
		return
	}
	h.frozen, h.told = true, s.w.drv.live
	h.asked = s.q.now
	s.w.drv.end(false)
	s.later(d, func() { s.thawHealer(h) })
}

func (s *sim) thawHealer(h *healer) {
	if !h.frozen || !h.alive {
		return
	}
	h.frozen = false
	if s.healer == h {
		s.w.drv.resume(h.told)
		s.wokeLate(h)
	}
	queue := h.frozenQ
	h.frozenQ = nil
	for _, fn := range queue {
		fn()
	}
	h.ticking = false
	h.step()
}

// resume goes on after the process stood still: what it knew, it still believes.
func (d *driver) resume(told bool) {
	d.up, d.live = true, told
	for _, m := range d.w.machines {
		d.schedulePoll(m, time.Duration(m.rng.Int64N(int64(d.w.pol.Node.ProbeInterval/2))))
		d.watchSilence(m)
	}
}

// secondLeader freezes the leader, lets another take over, and wakes the old one later.
func (s *sim) secondLeader(d time.Duration) {
	h := s.healer
	if !h.alive || h.frozen || h.stalled || s.w.embedded {
		if h.alive && !h.frozen && s.w.embedded { // the lock forbids two: it is a restart
			s.crash("because another was started in its place")
		}
		return
	}
	h.frozen = true
	h.asked = s.q.now
	s.w.drv.end(false)
	s.w.drv.sink = nil
	s.begin()
	s.later(d, func() {
		if h.alive {
			s.w.note("healer: the old leader, life %d, wakes up", h.epoch)
			h.in.Events = nil
			s.old = h
			s.thawHealer(h)
		}
	})
}

// jump sets the machine's date; the healer sees it in its next life.
func (s *sim) jump(f Fault) {
	steps := []time.Duration{-10 * time.Minute, -90 * time.Second, -time.Second, 95 * time.Second, 10 * time.Minute, 3 * time.Hour}
	by := steps[f.Count%len(steps)]
	s.crash(fmt.Sprintf("and the date is set by %s", by))
	s.w.offset += by
	s.jumped += max(by, -by)
}

func (s *sim) fillDisk(d time.Duration) {
	if s.store.full {
		return
	}
	s.store.full = true
	s.later(d, func() { s.store.full = false })
}

// editConfig puts another configuration in force, and the old one back later.
func (s *sim) editConfig(f Fault) {
	p := *s.pol
	switch f.Count % 3 {
	case 0:
		p.Node.OfflineGracePeriod = 3 * time.Minute
	case 1:
		p.Workload.MaxRestarts = 1
	default:
		p.Node.AutoCordon = false
	}
	s.putPolicy(heal.PolicyChange{Policy: &p, Hash: "edited", By: "ann"})
	s.later(f.For, func() { s.putPolicy(heal.PolicyChange{Policy: s.pol, Hash: "sim", By: "ann"}) })
}

// putPolicy writes a configuration into the file, which the next life reads, too.
func (s *sim) putPolicy(c heal.PolicyChange) {
	s.inForce = c.Policy
	if h := s.healer; h.alive && !h.frozen && !h.blocked {
		h.in.Policy = &c
		h.tick()
	}
}

// wokeLate notes that the loop comes round late. A core that is to be rebuilt anyway does not learn of it: its driver went on
// looking.
func (s *sim) wokeLate(h *healer) {
	s.rested = s.q.now
	if h.blocked || s.q.now.Sub(h.asked) <= s.pol.Node.ProbeTimeout {
		return
	}
	h.late = true
	if h == s.healer { // an old leader that wakes up says nothing of what the present one has seen
		s.looking = s.q.now
	}
}

// falseSignals reports what is not so, or is no more: a signal of an older boot, one from long ago, one about a node that does
// not exist, an exit of an attempt that never was. Nothing may be done for any of them.
func (s *sim) falseSignals(m *machine, f Fault) {
	now := s.w.wall()
	work := s.work(f)
	for i, sig := range []autoheal.Signal{
		{Rule: "nvidia.xid.79", Failure: autoheal.FailureGPU, Subject: autoheal.Ref{Kind: autoheal.RefNode, ID: string(m.id), Generation: bootName(m.id, m.boot-1)}, At: now, Conclusive: true},
		{Rule: "nvidia.xid.79", Failure: autoheal.FailureGPU, Subject: autoheal.NodeRef(m.id), At: now.Add(-48 * time.Hour), Conclusive: true},
		{Rule: "nvidia.xid.79", Failure: autoheal.FailureGPU, Subject: autoheal.NodeRef("nobody"), At: now, Conclusive: true},
		{Rule: "exit", Failure: autoheal.FailureCrash, Subject: autoheal.Ref{Kind: autoheal.RefWorkload, ID: string(work.ID), Generation: "99"}, At: now, Conclusive: true},
	} {
		sig.Source, sig.SeenAt, sig.TTL, sig.Count, sig.Excerpt = "kmsg", now, 5*time.Minute, 1, "it is not so"
		s.q.after(time.Duration(i)*time.Second, func() {
			s.w.drv.emit(autoheal.Event{Kind: autoheal.EventSignal, Signal: &sig, Source: string(m.id)})
		})
	}
}
