package sim

import (
	"context"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/heal"
)

// healer is one life of the shell around the core: it keeps the order of heal.Engine, step, journal, act.
type healer struct {
	s       *sim
	epoch   uint64
	core    *heal.Core
	alive   bool // its process exists
	frozen  bool // its process stands still: nothing is taken in, nothing leaves
	stalled bool // its loop stands still; the rest of the process goes on
	blocked bool // the journal cannot be written
	in      heal.Input
	ticking bool
	looked  time.Time // when the loop last took its input
	asked   time.Time // when it meant to do so again
	late    bool      // it comes round later than that
	wake    time.Time
	busy    map[string]time.Time // until when a target's queue is taken
	frozenQ []func()             // what was to leave while the process stood still
	told    bool                 // before it stood still it had been given a listing
	dies    int                  // after so many more actions have left; 0 = not
	diesAt  Triple
}

// begin starts a life: the journal is folded, the cluster watched.
func (s *sim) begin() {
	s.epoch++
	h := &healer{s: s, epoch: s.epoch, alive: true, busy: map[string]time.Time{}}
	s.healer = h
	s.w.gone = false
	s.w.note("healer: life %d begins", h.epoch)
	if !h.restore() {
		return
	}
	h.watch()
}

// restore folds the journal; false = it does not fold, which is a violation.
func (h *healer) restore() bool {
	life := heal.Life{Epoch: h.epoch, Version: "sim", ConfigHash: "sim", BootID: "healer-boot-1", Cluster: "sim"}
	core, err := h.s.store.restore(life, h.s.inForce)
	if err != nil {
		h.s.violate("fold", err.Error())
		h.alive = false
		return false
	}
	h.core = core
	return true
}

// watch begins a life of the driver and of the stream.
func (h *healer) watch() {
	s := h.s
	h.looked, h.asked, s.rested, s.unsynced, s.looking = s.q.now, s.q.now, s.q.now, s.q.now, time.Time{}
	s.w.drv.sink = func(e autoheal.Event) { h.event(e) }
	s.w.drv.begin()
	h.step()
}

func (h *healer) event(e autoheal.Event) {
	if !h.alive || h.blocked {
		return
	}
	h.s.saw(h, e)
	h.in.Events = append(h.in.Events, e)
	h.tick()
}

func (h *healer) result(r autoheal.Result) {
	if !h.alive || h.blocked {
		return
	}
	if h.s.w.sabotaged("results-are-lost") && r.Outcome != autoheal.OutcomeDone {
		return
	}
	h.in.Results = append(h.in.Results, r)
	h.tick()
}

func (h *healer) command(c autoheal.Command) {
	if !h.alive || h.blocked || h.frozen {
		return
	}
	h.in.Commands = append(h.in.Commands, c)
	h.tick()
}

// tick lets the loop come round soon; what arrives until then is taken along.
func (h *healer) tick() {
	if h.ticking || h.frozen || h.stalled {
		return
	}
	h.ticking = true
	h.s.q.after(time.Millisecond, func() {
		h.ticking = false
		h.step()
	})
}

// sleep asks for the next look.
func (h *healer) sleep(at time.Time) {
	h.asked = h.s.q.now.Add(time.Second)
	if at.IsZero() {
		h.wake = time.Time{}
		return
	}
	at = at.Add(-h.s.w.offset)
	if at.Before(h.asked) {
		h.asked = at
	}
	h.wake = at
	if h.s.w.sabotaged("alarm-is-deaf") && h.s.w.rng.IntN(3) == 0 {
		return
	}
	h.s.q.at(at, func() {
		if h.wake.Equal(at) {
			h.step()
		}
	})
}

// step is one round of the loop.
func (h *healer) step() {
	s := h.s
	if !h.alive || h.frozen || h.stalled || h.blocked || s.done {
		return
	}
	in := h.in
	h.in = heal.Input{}
	in.Now = s.w.wall()
	// The loop comes round every second even when nothing happens; only a stall makes it late, and ends with overslept.
	h.looked = s.q.now
	in.Late = h.overslept()
	h.deliver(in)
}

// overslept is how much later than asked for the loop came round. Ordinary rounds are on time: the heartbeat of the loop is
// not simulated, so that quiet time costs nothing.
func (h *healer) overslept() time.Duration {
	late := h.s.q.now.Sub(h.asked)
	h.asked = h.s.q.now
	if !h.late {
		return 0
	}
	h.late = false
	if h.s.w.sabotaged("stalls-go-unnoticed") {
		return 0
	}
	return max(late, 0)
}

// deliver steps the core, journals what it decided, and only then acts.
func (h *healer) deliver(in heal.Input) {
	s := h.s
	ready := h.core.Step(in)
	s.steps++
	s.stepped(h, in, ready)
	if s.done {
		return
	}
	struck := s.ambushed(h, ready)
	after := 1 + len(ready.Actions)/3 // of the actions, when it dies among them
	if len(ready.Records) > 0 && h == s.healer {
		if s.commits = append(s.commits, len(ready.Actions)); len(s.commits) == s.cfg.Death.N {
			struck, after = Triple{Point: s.cfg.Death.Point}, s.cfg.Death.After
		}
	}
	if s.w.sabotaged("acts-before-journal") {
		h.dispatch(ready)
	}
	if struck.Point == pointCrashBefore {
		s.covered[struck]++
		s.crash("before its records were durable")
		return
	}
	records := s.sabotageRecords(ready.Records)
	if len(records) > 0 {
		if err := s.store.Append(context.Background(), records); err != nil {
			if last, head := records[len(records)-1], s.store.Head(); head.Seq == last.Seq && head.Epoch == last.Epoch { // kept all the same
				s.durable(records)
			}
			h.appendFailed(err)
			return
		}
		s.durable(records)
	}
	for _, r := range ready.Replies {
		s.replied[r.Command] = true
	}
	if struck.Point == pointCrashAfter {
		s.covered[struck]++
		s.crash("after its records were durable, before its actions left")
		return
	}
	if !s.w.sabotaged("acts-before-journal") {
		h.dispatch(ready)
	}
	switch struck.Point {
	case pointCrashActed:
		s.q.after(hop, func() { s.ambushCrash(h, struck, "after its actions had left, before their results came") })
	case pointCrashBetween:
		h.dies, h.diesAt = after, struck
	}
	s.compact(h)
	h.sleep(ready.WakeAt)
}

// appendFailed gives the core up: what it decided is dropped, and it is rebuilt from the journal.
func (h *healer) appendFailed(err error) {
	s := h.s
	s.w.note("healer: the journal refuses: %v", err)
	if s.healer != h { // a leader that was replaced: it has nothing more to say
		h.alive = false
		s.store.recover()
		return
	}
	h.blocked = true
	h.in = heal.Input{}
	s.store.retire(h.core)
	s.w.drv.sink = nil
	if s.w.sabotaged("goes-on-after-failed-append") {
		s.store.recover()
		h.blocked = false
		s.w.drv.sink = func(e autoheal.Event) { h.event(e) }
		h.sleep(s.w.wall().Add(time.Second))
		return
	}
	h.tryAgain()
}

// tryAgain waits until the journal can be written, and then as long again as the engine does.
func (h *healer) tryAgain() {
	s := h.s
	s.q.after(time.Second, func() {
		if !h.alive || s.healer != h {
			return
		}
		if s.store.full || h.frozen || h.stalled {
			h.tryAgain()
			return
		}
		s.store.recover()
		s.q.after(time.Minute, func() {
			if !h.alive || s.healer != h {
				return
			}
			if h.frozen || h.stalled {
				h.tryAgain()
				return
			}
			h.blocked = false
			if h.restore() {
				h.rewatch()
			}
		})
	})
}

// rewatch watches anew with the driver that is there.
func (h *healer) rewatch() {
	s := h.s
	h.looked, h.asked, s.rested, s.unsynced, s.looking = s.q.now, s.q.now, s.q.now, s.q.now, time.Time{}
	s.w.drv.sink = func(e autoheal.Event) { h.event(e) }
	s.w.drv.live = false
	s.w.drv.trySync()
	h.step()
}

// dispatch hands actions to the workers: in order for each target.
func (h *healer) dispatch(ready heal.Ready) {
	for _, a := range ready.Actions {
		k := autoheal.Ref{Kind: a.Target.Kind, ID: a.Target.ID}.String()
		at := h.s.q.now
		if h.busy[k].After(at) {
			at = h.busy[k]
		}
		at = at.Add(time.Duration(1+h.s.w.rng.IntN(20)) * time.Millisecond)
		h.busy[k] = at.Add(time.Millisecond)
		h.s.q.at(at, func() { h.do(a) })
	}
}

// do carries out one action, unless its process is gone.
func (h *healer) do(a autoheal.Action) {
	if !h.alive {
		return
	}
	if h.frozen {
		h.frozenQ = append(h.frozenQ, func() { h.do(a) })
		return
	}
	a = h.s.sabotageAction(a)
	h.s.leaves(h, a)
	if h.s.done {
		return
	}
	h.s.perform(h, a)
	if h.dies > 0 {
		if h.dies--; h.dies == 0 {
			h.s.ambushCrash(h, h.diesAt, "between two effects")
		}
	}
}

// ambushCrash ends the healer where an ambush waited for it.
func (s *sim) ambushCrash(h *healer, t Triple, why string) {
	if s.healer == h && h.alive && !s.done && !s.quieting {
		s.covered[t]++
		s.crash(why)
	}
}
