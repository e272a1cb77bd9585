package sim

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// ref names one attempt of one workload.
type ref struct {
	id autoheal.WorkloadID
	n  int
}

func (r ref) String() string { return fmt.Sprintf("%s/%d", r.id, r.n) }

func compareRefs(a, b ref) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.n, b.n)) }

// agentState is what the agent's process does.
type agentState int

const (
	agentUp agentState = iota
	agentHung
	agentDown
)

// Timing of the model.
const (
	hop         = 5 * time.Millisecond // one way between healer and node when all is well
	requestLife = 20 * time.Second     // a request is delayed by at most so long, or dies with its connection
	killTime    = time.Second          // a shim needs at most so long to end what it owns
)

// machine is one node as it really is.
type machine struct {
	w       *world
	id      autoheal.NodeID
	labels  map[string]string
	domains []autoheal.Domain
	gpus    []autoheal.GPU
	memory  int64
	cpu     int64
	rng     *rand.Rand

	on     bool
	boot   int
	frozen bool // the kernel or the whole virtual machine stands still
	agent  agentState
	life   int     // of the agent
	epoch  uint64  // the highest seen by the agent, durable
	drift  float64 // rate of the node's own clock

	cut     int // overlapping cuts of both directions
	deafIn  int // nothing arrives here
	deafOut int // nothing arrives from here
	rough   []*roughness
	conn    int // a request of an older connection is dropped

	procs    map[ref]*proc
	shims    int // overlapping stops of the shims: nobody owns the deadline
	lease    lease
	deadline time.Duration // of the shims, on the node's clock; 0 = none yet
	armed    bool

	boxed   map[ref]bool // changes not told yet
	held    *poll        // the poll that waits here
	quiet   bool         // polls come in a rhythm and are not simulated
	since   time.Time    // the answer that began the quiet time was received
	refused bool         // the gateway's port is closed: nobody is there (behaviour C4)
	sick    sick
	limbo   []func() // answers and polls that were under way when the way was cut
	holes   map[string]time.Time
	faults  map[string]int // that it reports of itself, overlapping
}

// roughness is one disturbance of a link.
type roughness struct {
	loss, dup float64
	delay     time.Duration
}

// proc is one attempt that really exists, or existed, on a machine.
type proc struct {
	ref
	w       *workload
	state   autoheal.WorkloadState // scheduled = starting, running, or ended
	started time.Time
	ended   time.Time
	exit    *autoheal.Exit
	starts  int
	failing failing // what its own checks find
}

func (p *proc) live() bool { return p.state == autoheal.Running || p.state == autoheal.Scheduled }

// clock is the node's own monotonic clock.
func (m *machine) clock() time.Duration { return m.clockAt(m.w.q.now) }

func (m *machine) clockAt(t time.Time) time.Duration {
	return time.Duration(float64(t.Sub(epochTime)+time.Hour) * m.drift)
}

// whenClock is when the node's clock shows d.
func (m *machine) whenClock(d time.Duration) time.Time {
	return epochTime.Add(time.Duration(float64(d)/m.drift) - time.Hour + time.Microsecond)
}

// healthy reports whether the agent can answer.
func (m *machine) healthy() bool { return m.on && !m.frozen && m.agent == agentUp }

// nominal reports whether the way to the node is as it should be.
func (m *machine) nominal() bool {
	return m.cut == 0 && m.deafIn == 0 && m.deafOut == 0 && len(m.rough) == 0
}

// message carries fn over the network. Requests die with their connection; other messages may survive a cut.
func (m *machine) message(toNode, request bool, fn func()) {
	conn := m.conn
	blocked := func() bool { return m.cut > 0 || toNode && m.deafIn > 0 || !toNode && m.deafOut > 0 }
	if blocked() {
		return
	}
	delay, copies := hop, 1
	for _, r := range m.rough {
		if m.rng.Float64() < r.loss {
			return
		}
		if m.rng.Float64() < r.dup {
			copies++
		}
		if r.delay > 0 {
			delay += time.Duration(m.rng.Int64N(int64(r.delay)))
			if !request && m.rng.IntN(6) == 0 { // polls and answers may come very late
				delay += 8 * r.delay
			}
		}
	}
	for n := range copies {
		m.w.q.after(delay+time.Duration(n)*delay/3, func() {
			switch {
			case request && m.conn != conn:
			case blocked():
				if !request && m.rng.IntN(2) == 0 {
					m.limbo = append(m.limbo, fn)
				}
			default:
				fn()
			}
		})
	}
}

// change disturbs or mends the node or the way to it: its polls are single messages from now on.
func (m *machine) change(fn func()) {
	m.loud()
	m.refuse(false)
	fn()
	m.refuse(m.w.gatewayGone() && m.healthy() && m.cut == 0)
	m.mended()
}

// mended lets what can go on go on.
func (m *machine) mended() {
	if !m.nominal() && m.cut > 0 {
		return
	}
	late := m.limbo
	m.limbo = nil
	for _, fn := range late {
		m.w.q.after(time.Duration(m.rng.Int64N(int64(5*time.Second))), fn)
	}
	if m.healthy() {
		m.w.drv.contactAgain(m)
	}
}

// loud ends the quiet time: what happened in it is worked out, and the poll under way becomes a message.
func (m *machine) loud() {
	if !m.quiet {
		return
	}
	m.quiet = false
	p := m.w.pol.PollWait()
	now := m.w.q.now
	k := int64(now.Sub(m.since) / p)
	last := m.since.Add(time.Duration(k) * p)
	c := m.w.drv.contacts[m.id]
	m.lease.n += k
	clear(m.lease.sent)
	c.ack, c.answered = m.lease.n, last
	acked := last
	if now.Before(last.Add(hop)) && k > 0 { // the acknowledgement is under way
		acked = last.Add(-p)
		if m.lease.sent == nil {
			m.lease.sent = map[int64]time.Duration{}
		}
		m.lease.sent[m.lease.n] = m.clockAt(last.Add(-hop))
		m.lease.acked = m.lease.n - 1
	} else {
		m.lease.acked = m.lease.n
	}
	if k > 0 || !now.Before(last.Add(hop)) {
		m.extend(m.clockAt(acked.Add(-hop)))
	}
	c.polls++
	id := c.polls
	c.polling = true
	m.held = &poll{id: id, life: m.life, ack: c.ack, epoch: m.w.fleet.epoch, sent: last}
	m.w.q.at(last.Add(p), func() { m.heartbeat(id) })
	m.w.q.at(last.Add(p+m.w.pol.Node.ProbeTimeout), func() { m.w.drv.pollTimeout(m, id) })
	m.arm()
}

// extend moves the shims' deadline.
func (m *machine) extend(sent time.Duration) {
	if stop := m.w.selfStop(); stop > 0 {
		if m.w.sabotaged("lease-from-receipt") {
			sent = m.clock()
		}
		m.deadline = max(m.deadline, sent+stop)
	}
}

// refuse begins or ends a time in which the agent is told that nobody listens where the healer was.
func (m *machine) refuse(gone bool) {
	if m.refused == gone {
		return
	}
	m.refused = gone
	if !gone && m.w.selfStop() > 0 && m.w.embedded && !m.w.sabotaged("refusal-does-not-renew") {
		m.deadline = max(m.deadline, m.clock()-time.Duration(m.rng.Int64N(int64(2*time.Second)))+m.w.selfStop())
	}
	m.arm()
}

// arm watches over the deadline whenever it can pass.
func (m *machine) arm() {
	if m.armed || m.quiet || m.refused && m.w.embedded && !m.w.sabotaged("refusal-does-not-renew") || m.deadline == 0 {
		return
	}
	m.armed = true
	m.w.q.at(m.whenClock(m.deadline), func() {
		m.armed = false
		m.expire()
	})
}

// expire ends the at-most-once workloads of a node whose deadline has passed.
func (m *machine) expire() {
	switch {
	case m.quiet || m.refused && m.w.embedded && !m.w.sabotaged("refusal-does-not-renew") || !m.on || m.w.selfStop() == 0:
		return
	case m.clock() < m.deadline:
		m.arm()
		return
	case m.frozen || m.shims > 0 || m.w.sabotaged("no-self-stop"):
		return // a documented hole: looked at again when it ends
	}
	for _, r := range m.refs() {
		if p := m.procs[r]; p.live() && p.w.AtMostOnce {
			m.w.watch.selfStopped(m, p)
			m.w.q.after(time.Duration(m.rng.Int64N(int64(killTime))), func() {
				m.end(p, &autoheal.Exit{Code: -1, Signal: "SIGKILL", Reason: autoheal.ExitSelfStop})
			})
		}
	}
}

func (m *machine) refs() []ref { return slices.SortedFunc(maps.Keys(m.procs), compareRefs) }

// end ends a process for real; the agent tells of it when it can.
func (m *machine) end(p *proc, exit *autoheal.Exit) {
	if !p.live() || m.procs[p.ref] != p {
		return
	}
	p.state, p.ended, p.exit = autoheal.Failed, m.w.q.now, exit
	if exit.Reason == autoheal.ExitCompleted {
		p.state = autoheal.Succeeded
	}
	m.w.note("%s: %s ends: %s", m.id, p.ref, exit.Reason)
	m.w.watch.copies(p.w)
	m.tell(p.ref)
}

// tell puts a change where the next answer takes it from.
func (m *machine) tell(r ref) {
	m.boxed[r] = true
	if !m.healthy() {
		return
	}
	m.loud()
	m.answer()
}

// powerOff ends everything at once, without a word.
func (m *machine) powerOff() {
	m.change(func() {
		m.on, m.conn, m.held, m.deadline = false, m.conn+1, nil, 0
		m.lease, m.boxed = lease{}, map[ref]bool{}
		for _, r := range m.refs() {
			if p := m.procs[r]; p.live() {
				p.state, p.ended = autoheal.Failed, m.w.q.now
				p.exit = &autoheal.Exit{Code: -1, Reason: autoheal.ExitRebooted}
				m.w.watch.copies(p.w)
			}
		}
	})
}

// powerOn boots: nothing of the boot before is left.
func (m *machine) powerOn() {
	if m.on {
		return
	}
	m.boot++
	m.change(func() {
		m.on, m.frozen, m.agent, m.shims = true, false, agentUp, 0
		m.bootGPUs()
		m.newLife()
		if m.w.sabotaged("agent-restarts-by-itself") {
			for _, r := range m.refs() {
				if p := m.procs[r]; p.exit != nil && p.exit.Reason == autoheal.ExitRebooted {
					m.launch(p)
				}
			}
		}
	})
}

// newLife is a new process of the agent: it knows its epoch, its processes and their exits, and no acknowledgement.
func (m *machine) newLife() {
	m.life++
	m.lease, m.held = lease{}, nil
	for r := range m.procs {
		m.boxed[r] = true
	}
}
