package sim

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// poll is one standing request of the driver: it acknowledges the last answer and waits for changes.
type poll struct {
	id    int
	life  int
	ack   int64
	epoch uint64
	all   bool // list everything
	sent  time.Time
}

// reply is one answer of an agent.
type reply struct {
	poll   int
	n      int64
	life   int
	boot   int
	all    bool
	sent   time.Time // when the poll that it answers was sent
	status []status
	faults []string
}

// status is what an agent says of one attempt. Ages, not times: the two clocks are not compared.
type status struct {
	ref
	state   autoheal.WorkloadState
	started time.Duration // ago
	ended   time.Duration
	exit    *autoheal.Exit

	failing    autoheal.CheckOutcome
	failingAgo time.Duration
}

// polled takes in a poll.
func (m *machine) polled(p poll) {
	if !m.healthy() || m.staleEpoch(p.epoch) {
		return
	}
	if p.life == m.life {
		at, ok := m.lease.ack(p.ack)
		if ok || m.w.sabotaged("lease-from-receipt") {
			m.extend(at)
			m.arm()
		}
	}
	m.held = &p
	if len(m.boxed) > 0 || m.sick.news || p.life != m.life || p.all {
		m.answer()
		return
	}
	m.w.q.after(m.w.pol.PollWait(), func() { m.heartbeat(p.id) })
}

// staleEpoch refuses a healer of an older life, and remembers a newer one.
func (m *machine) staleEpoch(epoch uint64) bool {
	if epoch < m.epoch {
		return true
	}
	m.epoch = max(m.epoch, epoch)
	return false
}

// heartbeat answers a poll that nothing else has answered.
func (m *machine) heartbeat(id int) {
	if m.held != nil && m.held.id == id {
		m.answer()
	}
}

// answer answers the poll that waits, if there is one.
func (m *machine) answer() {
	if m.held == nil || !m.healthy() || m.quiet {
		return
	}
	p := m.held
	m.held = nil
	r := reply{poll: p.id, n: m.lease.answer(m.clock()), life: m.life, boot: m.boot, all: p.all || p.life != m.life, sent: p.sent, faults: m.reports()}
	for _, f := range m.refs() {
		if r.all || m.boxed[f] {
			r.status = append(r.status, m.statusOf(m.procs[f]))
		}
	}
	m.message(false, false, func() { m.w.drv.answered(m, r) })
}

func (m *machine) statusOf(p *proc) status {
	now := m.w.q.now
	s := status{ref: p.ref, state: p.state, started: now.Sub(p.started), exit: p.exit}
	if !p.live() {
		s.ended = now.Sub(p.ended)
	}
	s.failing, s.failingAgo = p.says(now)
	return s
}

// start makes an attempt run, unless it ran here before; false = refused.
func (m *machine) start(epoch uint64, w *workload, n int) (accepted bool) {
	if !m.healthy() || m.staleEpoch(epoch) {
		return false
	}
	r := ref{w.ID, n}
	if p := m.procs[r]; p != nil {
		if m.w.sabotaged("start-acts-twice") && p.live() {
			p.starts++
			m.w.watch.begun(m, p)
		}
		return true
	}
	m.loud()
	if w.AtMostOnce && m.w.selfStop() > 0 && m.clock() >= m.deadline && !m.refused {
		return false
	}
	p := &proc{ref: r, w: w}
	m.procs[r] = p
	w.places = append(w.places, place{m, p})
	m.launch(p)
	return true
}

func (m *machine) launch(p *proc) {
	p.state, p.started, p.exit, p.ended = autoheal.Scheduled, m.w.q.now, nil, time.Time{}
	p.starts++
	m.w.note("%s: %s begins", m.id, p.ref)
	m.w.watch.begun(m, p)
	m.w.q.after(p.w.startTime(m), func() {
		if p.state == autoheal.Scheduled && m.procs[p.ref] == p && m.on && !m.frozen {
			p.state, p.started = autoheal.Running, m.w.q.now
			m.tell(p.ref)
			m.w.live(m, p)
		}
	})
	m.arm()
}

// stop ends an attempt after its grace, as asked for.
func (m *machine) stop(epoch uint64, r ref, grace time.Duration, reason autoheal.ExitReason, done func(known bool)) {
	if !m.healthy() || m.staleEpoch(epoch) {
		return
	}
	p := m.procs[r]
	if p == nil {
		// It never came here, and it must not come later.
		m.procs[r] = &proc{ref: r, w: m.w.fleet.workloads[r.id], state: autoheal.Failed, ended: m.w.q.now, exit: &autoheal.Exit{Code: -1, Reason: reason}}
		done(false)
		return
	}
	if p.live() {
		wait := time.Millisecond
		if grace > 0 {
			wait += time.Duration(m.rng.Int64N(int64(grace)))
		}
		m.w.q.after(wait, func() {
			if m.on && !m.frozen {
				m.end(p, &autoheal.Exit{Code: -1, Signal: "SIGTERM", Reason: reason})
			}
		})
	}
	done(true)
}

// contact is what one life of the driver knows of one node.
type contact struct {
	link     autoheal.LinkState
	since    time.Time
	answered time.Time // the last answer, or when this life began to listen
	life     int
	boot     int
	ack      int64
	listed   bool
	relist   bool
	polls    int
	polling  bool
	lied     bool // a detector says silent though it answers

	faults     []string  // that it reported last
	faultSince time.Time // without a break; zero = none
	hard       bool      // one of them, since then, was no shortage
}

// driver is one life of what stands between the healer and the nodes.
type driver struct {
	w         *world
	up        bool // the process lives and runs
	connected bool // the way to the gateway is open
	born      time.Time
	contacts  map[autoheal.NodeID]*contact
	sink      func(autoheal.Event) // where events go; nil = nobody watches
	live      bool                 // a listing was given, changes go out
	lostAt    time.Time            // when the way was last lost
}

func newDriver(w *world) *driver {
	d := &driver{w: w, contacts: map[autoheal.NodeID]*contact{}}
	for _, m := range w.machines {
		d.contacts[m.id] = &contact{link: autoheal.LinkUnknown, boot: m.boot}
	}
	return d
}

// begin starts a life: nothing is known, every wait counts anew.
func (d *driver) begin() {
	for _, m := range d.w.machines {
		m.loud()
	}
	d.up, d.connected, d.born, d.live = true, true, d.w.q.now, false
	for _, m := range d.w.machines {
		c := d.contacts[m.id]
		*c = contact{link: autoheal.LinkUnknown, since: d.born, answered: d.born, polls: c.polls + 1, boot: c.boot}
		m.refuse(false)
		d.schedulePoll(m, time.Duration(m.rng.Int64N(int64(d.w.pol.Node.ProbeInterval/2))))
		d.watchSilence(m)
	}
}

// end stops a life: polls are no longer asked.
func (d *driver) end(gatewayGone bool) {
	for _, m := range d.w.machines {
		m.loud()
	}
	d.up, d.live = false, false
	for _, m := range d.w.machines {
		d.contacts[m.id].polls++
		d.contacts[m.id].polling = false
		m.conn++
		m.held = nil
		m.refuse(gatewayGone && m.healthy() && m.cut == 0)
		m.arm()
	}
}

// watchSilence looks at a node when it would become silent.
func (d *driver) watchSilence(m *machine) {
	c := d.contacts[m.id]
	born := d.born
	d.w.q.at(c.answered.Add(d.silentAfter()), func() {
		if d.born != born || !d.up {
			return
		}
		d.maybeSilent(m)
	})
}

func (d *driver) silentAfter() time.Duration {
	return d.w.pol.Node.ProbeInterval + d.w.pol.Node.ProbeTimeout
}

func (d *driver) maybeSilent(m *machine) {
	c := d.contacts[m.id]
	if !d.up || !d.connected || m.quiet || c.link == autoheal.LinkSilent || d.w.q.now.Before(c.answered.Add(d.silentAfter())) {
		return
	}
	c.listed, c.relist = false, true
	d.setLink(m, autoheal.LinkSilent)
	if d.w.sabotaged("silence-is-an-exit") {
		d.w.fleet.missing(m, d.w.q.now, func(ref) bool { return false })
	}
	d.trySync()
}

func (d *driver) setLink(m *machine, l autoheal.LinkState) {
	c := d.contacts[m.id]
	if c.link == l {
		return
	}
	c.link, c.since = l, d.w.q.now
	d.w.note("driver: %s is %s, last answer %s ago", m.id, l, d.w.q.now.Sub(c.answered).Round(time.Millisecond))
	d.tellNode(m)
	if l == autoheal.LinkUp {
		d.w.fleet.kick()
	}
}

func (d *driver) schedulePoll(m *machine, in time.Duration) {
	c := d.contacts[m.id]
	c.polls++
	id := c.polls
	c.polling = false
	d.w.q.after(in, func() { d.poll(m, id) })
}

// poll asks one node. A node that certainly cannot answer is asked again when that changes.
func (d *driver) poll(m *machine, id int) {
	c := d.contacts[m.id]
	if c.polls != id || !d.up || !d.connected || m.quiet {
		return
	}
	c.polling = true
	p := poll{id: id, life: c.life, ack: c.ack, epoch: d.w.fleet.epoch, all: c.relist || !c.listed, sent: d.w.q.now}
	if m.healthy() && m.cut == 0 {
		m.message(true, false, func() { m.polled(p) })
	}
	d.w.q.after(d.w.pol.PollWait()+d.w.pol.Node.ProbeTimeout, func() { d.pollTimeout(m, id) })
}

// contactAgain lets a node that could not answer be asked soon.
func (d *driver) contactAgain(m *machine) {
	if d.up && d.connected && !m.quiet {
		d.schedulePoll(m, time.Duration(m.rng.Int64N(int64(d.w.pol.Node.ProbeInterval))))
	}
}

func (d *driver) pollTimeout(m *machine, id int) {
	c := d.contacts[m.id]
	if c.polls != id || !d.up || !d.connected || m.quiet {
		return
	}
	d.maybeSilent(m)
	if m.healthy() && m.cut == 0 {
		d.schedulePoll(m, d.w.pol.Node.ProbeInterval/10)
	} else {
		c.polling = false
		d.watchSilence(m)
	}
}

// answered takes over one answer. An answer to an older poll counts as a sign of life all the same.
func (d *driver) answered(m *machine, r reply) {
	c := d.contacts[m.id]
	if !d.up || !d.connected || m.quiet || r.sent.Before(d.born) { // a life takes answers to its own polls only
		return
	}
	now := d.w.q.now
	if c.lied { // the driver believes that nothing comes
		d.schedulePoll(m, d.w.pol.Node.ProbeInterval)
		d.maybeSilent(m)
		return
	}
	if r.life < c.life || r.life == c.life && r.n <= c.ack { // late, of before
		return
	}
	if r.life != c.life {
		c.life, c.ack, c.listed = r.life, 0, false
		if !r.all {
			d.schedulePoll(m, 0)
			return
		}
	}
	c.ack, c.answered = r.n, now
	c.boot = r.boot
	d.faulty(m, c, r.faults)
	d.take(m, r)
	if c.listed {
		d.setLink(m, autoheal.LinkUp)
	}
	d.trySync()
	if d.calm(m, c) {
		c.polls++
		c.polling, m.quiet, m.since = false, true, now
		return
	}
	d.schedulePoll(m, 0)
}

// calm reports whether the polls of a node may go on without being simulated.
func (d *driver) calm(m *machine, c *contact) bool {
	return m.nominal() && m.healthy() && len(m.boxed) == 0 && !m.sick.news && c.listed && !c.relist && !c.lied && c.life == m.life && m.held == nil
}

// take takes over what a node says of its attempts.
func (d *driver) take(m *machine, r reply) {
	f := d.w.fleet
	for _, s := range r.status {
		if p := m.procs[s.ref]; m.boxed[s.ref] && p != nil && p.state == s.state && p.ails() == s.failing {
			delete(m.boxed, s.ref)
		}
		f.observed(m, s)
	}
	d.hear(m, r.all)
	if !r.all {
		return
	}
	c := d.contacts[m.id]
	f.missing(m, r.sent, func(x ref) bool {
		return slices.ContainsFunc(r.status, func(s status) bool { return s.ref == x })
	})
	c.listed, c.relist = true, false
}

// trySync gives the listing once every node has answered or is silent.
func (d *driver) trySync() {
	if d.live || d.sink == nil || !d.connected || !d.up {
		return
	}
	for _, m := range d.w.machines {
		if c := d.contacts[m.id]; !c.listed && c.link != autoheal.LinkSilent {
			return
		}
	}
	if d.w.sabotaged("no-synced") && d.w.q.now.Sub(d.born) > 2*time.Minute {
		return
	}
	d.list()
}

func (d *driver) list() {
	d.live = true
	for _, m := range d.w.machines {
		d.emitNode(m, "registry")
	}
	for _, w := range d.w.fleet.order {
		for _, a := range w.listed() {
			d.emitWorkload(w, a, "registry")
		}
	}
	d.w.tellSaid()
	d.emit(autoheal.Event{Kind: autoheal.EventSynced, Source: "registry"})
}

// lose is the driver's own way to the cluster going away; find is its return.
func (d *driver) lose() {
	if !d.up || !d.connected {
		return
	}
	for _, m := range d.w.machines {
		m.loud()
	}
	d.connected, d.lostAt = false, d.w.q.now
	for _, m := range d.w.machines {
		c := d.contacts[m.id]
		c.polls++
		c.polling = false
		c.link, c.since, c.listed = autoheal.LinkUnknown, d.w.q.now, false
		m.held = nil
		m.conn++
	}
	d.live = false
	if !d.w.sabotaged("blindness-is-not-told") {
		d.emitAlways(autoheal.Event{Kind: autoheal.EventLost, Source: "gateway"})
	}
}

func (d *driver) find() {
	if d.connected {
		return
	}
	d.connected = true
	if !d.up { // it polls once it goes on
		return
	}
	for _, m := range d.w.machines {
		c := d.contacts[m.id]
		c.answered = d.w.q.now // an own return to the gateway: silence counts from now
		d.schedulePoll(m, time.Duration(m.rng.Int64N(int64(d.w.pol.Node.ProbeInterval/2))))
		d.watchSilence(m)
	}
}

func (d *driver) emit(e autoheal.Event) {
	if d.live {
		d.emitAlways(e)
	}
}

func (d *driver) emitAlways(e autoheal.Event) {
	if d.sink == nil {
		return
	}
	e.SeenAt = d.w.wall()
	if e.At.IsZero() {
		e.At = e.SeenAt
	}
	d.sink(e)
}

func (d *driver) tellNode(m *machine) {
	d.w.fleet.indexNode(m)
	if d.live {
		d.emitNode(m, "probe")
	}
}

func (d *driver) emitNode(m *machine, source string) {
	d.emit(autoheal.Event{Kind: autoheal.EventNode, Node: d.w.fleet.nodeView(m), Source: source})
}

func (d *driver) emitWorkload(w *workload, a *attempt, source string) {
	v := w.view(a)
	d.w.fleet.index.SetWorkload(v)
	if r := d.w.fleet.rooms[w.ID]; r != nil && r.n == a.n && a.state == autoheal.Pending {
		d.w.fleet.holdRoom(w.ID)
	}
	at := d.w.wall()
	if a.state.Ended() && !a.ended.IsZero() && a.ended.Before(at) {
		at = a.ended
	}
	d.emit(autoheal.Event{Kind: autoheal.EventWorkload, Workload: v, At: at, Source: source})
}
