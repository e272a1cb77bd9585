package claw

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// chaos drives a fleet with random faults and checks what must hold whatever happens.
type chaos struct {
	*fleet
	t     *testing.T
	rnd   *rand.Rand
	epoch uint64
	ids   []autoheal.WorkloadID
	log   []string
}

func (c *chaos) note(format string, args ...any) {
	c.log = append(c.log, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (c *chaos) fail(format string, args ...any) {
	c.t.Helper()
	for _, l := range c.log[max(0, len(c.log)-60):] {
		c.t.Log(l)
	}
	c.t.Fatalf(format, args...)
}

func (c *chaos) agent() *fakeAgent {
	return c.agents[autoheal.NodeID(fmt.Sprintf("n%d", 1+c.rnd.IntN(len(c.agents))))]
}

// selfStop is what the shims do: an at-most-once attempt whose deadline has passed ends.
func (c *chaos) selfStop() {
	for _, a := range c.agents {
		a.mu.Lock()
		for ref, at := range a.attempts {
			if at.exit == nil && at.req.AtMostOnce && !time.Now().Before(a.deadline) {
				a.endLocked(ref, &autoheal.Exit{Code: -1, Signal: "SIGKILL", Reason: autoheal.ExitSelfStop})
			}
		}
		a.mu.Unlock()
	}
}

// check looks at what really runs.
func (c *chaos) check() {
	c.t.Helper()
	copies, began := map[autoheal.WorkloadID]int{}, map[attemptRef]int{}
	for id, a := range c.agents {
		a.mu.Lock()
		for ref, at := range a.attempts {
			if at.exit == nil && at.req.AtMostOnce && time.Now().Before(a.deadline) {
				copies[ref.id]++
			}
		}
		for ref, n := range a.starts {
			began[ref] += n
		}
		deadline := a.deadline
		a.mu.Unlock()
		c.mu.Lock()
		seen := c.nodes[id].lastSeen
		c.mu.Unlock()
		if deadline.After(seen.Add(c.opts.SelfStop)) {
			c.fail("the lease of %s lasts until %v, but was last heard of at %v", id, deadline, seen)
		}
	}
	for id, n := range copies {
		if n > 1 {
			c.fail("%d copies of the at-most-once %s run", n, id)
		}
	}
	for ref, n := range began {
		if n > 1 {
			c.fail("attempt %s began %d times", ref, n)
		}
	}
}

// heal is a cautious engine: it starts the next attempt when the last one was seen to end, or when its node was silent
// for longer than any lease.
func (c *chaos) heal() {
	for _, id := range c.ids {
		w := c.last(c.t, id)
		p := autoheal.ActionParams{Attempt: w.Attempt + 1}
		switch {
		case w.State.Ended():
			p.Proof = autoheal.ProofExitObserved
			l, _ := c.Lineage(c.t.Context(), id)
			if slices.ContainsFunc(l, func(o autoheal.Workload) bool { return !o.State.Ended() }) {
				continue
			}
		case w.Node != "" && c.node(w.Node).Link == autoheal.LinkSilent && time.Since(c.node(w.Node).LastSeen) > 90*time.Second:
			p.Proof = autoheal.ProofSelfStop
		default:
			continue
		}
		r := c.Do(c.t.Context(), autoheal.Action{
			ID: autoheal.ActionID(fmt.Sprintf("inc-000001/%d", c.pollN.next())), Epoch: c.epoch, Actor: autoheal.ActorEngine,
			Verb: autoheal.Start, Target: autoheal.WorkloadRef(id), Params: p,
		})
		c.note("start %s/%d with %s: %s %v", id, p.Attempt, p.Proof, r.Outcome, r.Err)
	}
}

func (c *chaos) disturb() {
	a := c.agent()
	commands := []string{nodeproto.CmdStart, nodeproto.CmdStart, nodeproto.CmdStop, nodeproto.CmdPoll, nodeproto.CmdStatus}
	command := commands[c.rnd.IntN(len(commands))]
	wait := time.Duration(c.rnd.IntN(12000)+1) * time.Millisecond
	switch c.rnd.IntN(14) {
	case 0:
		c.note("cut %s half open", a.name)
		c.gw.isolate(a, true)
	case 1:
		c.note("disconnect %s", a.name)
		c.gw.isolate(a, false)
	case 2, 3, 4:
		life, boot := c.rnd.IntN(3) == 0, c.rnd.IntN(4) == 0
		c.note("rejoin %s life=%t boot=%t", a.name, life, boot)
		c.gw.rejoin(a, life, boot)
	case 5:
		c.gw.inject(&fault{command: command, delay: wait})
	case 6:
		c.gw.inject(&fault{command: command, drop: true})
	case 7:
		c.gw.inject(&fault{command: command, loseAnswer: command != nodeproto.CmdPoll, drop: command == nodeproto.CmdPoll})
	case 8:
		c.gw.inject(&fault{command: command, twice: command != nodeproto.CmdPoll, delay: wait})
	case 9:
		c.gw.inject(&fault{command: command, notSent: true})
	case 10:
		c.gw.inject(&fault{command: command, late: wait})
	case 11:
		if live := a.live(); len(live) > 0 {
			ref := live[c.rnd.IntN(len(live))]
			c.note("crash %s on %s", ref, a.name)
			a.end(ref, &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed})
		}
	case 12:
		if c.rnd.IntN(3) == 0 {
			c.epoch++
			c.note("restart the driver, epoch %d", c.epoch)
			c.restart(c.t, c.epoch)
		}
	case 13:
		id := c.ids[c.rnd.IntN(len(c.ids))]
		r := c.Do(c.t.Context(), autoheal.Action{
			ID: autoheal.ActionID(fmt.Sprintf("inc-000001/%d", c.pollN.next())), Epoch: c.epoch, Actor: autoheal.ActorEngine,
			Verb: autoheal.Stop, Target: autoheal.WorkloadRef(id), Params: autoheal.ActionParams{Grace: time.Second},
		})
		c.note("stop %s: %s %v", id, r.Outcome, r.Err)
	}
}

// settleAll mends everything and expects that registry and reality agree in the end.
func (c *chaos) settleAll() {
	c.gw.mu.Lock()
	c.gw.faults = nil
	c.gw.mu.Unlock()
	for _, a := range c.agents {
		c.gw.rejoin(a, false, false)
	}
	for range 40 {
		settle(10 * time.Second)
		c.selfStop()
		c.heal()
		c.check()
	}
	real := map[attemptRef]autoheal.NodeID{}
	for id, a := range c.agents {
		if n := c.node(id); n.Link != autoheal.LinkUp || !n.Ready {
			c.fail("%s is %s in the end", id, n.Link)
		}
		for _, ref := range a.live() {
			real[ref] = id
		}
	}
	for _, id := range c.ids {
		w := c.last(c.t, id)
		if w.State != autoheal.Running || real[attemptRef{id, w.Attempt}] != w.Node {
			c.fail("%s/%d is %s on %q in the registry, in reality on %q (%s)", id, w.Attempt, w.State, w.Node, real[attemptRef{id, w.Attempt}], w.Detail)
		}
		delete(real, attemptRef{id, w.Attempt})
	}
	if len(real) > 0 {
		c.fail("runs beside what the registry knows as current: %v", real)
	}
}

// TestChaos runs random faults against the driver in virtual time: however requests are lost, delayed, doubled or
// answered too late, and whoever is cut off or restarted, no attempt begins twice, no at-most-once workload has two
// copies, no lease outlives what fences count from, and in the end the registry tells the truth.
func TestChaos(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &chaos{fleet: openFleet(t, 4, 2), t: t, rnd: rand.New(rand.NewPCG(seed, 1)), epoch: 7}
				settle(time.Second)
				for i := range 5 {
					c.ids = append(c.ids, c.submit(t, fmt.Sprintf("c/%d", i), job(fmt.Sprintf("j%d", i))))
				}
				for range 150 {
					c.disturb()
					settle(time.Duration(c.rnd.IntN(8000)) * time.Millisecond)
					c.selfStop()
					c.check()
					c.heal()
				}
				c.settleAll()
			})
		})
	}
}
