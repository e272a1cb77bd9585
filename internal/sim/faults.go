package sim

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// faultKind is one kind of fault: how often it is drawn and what begins it.
type faultKind struct {
	name   string
	weight int
	begin  func(s *sim, f Fault)
}

// faultKinds are what goes wrong by chance.
func faultKinds() []faultKind {
	return slices.Concat(nodeFaults(), wireFaults(), workFaults(), gpuFaults(), healerFaults(), peopleFaults())
}

// namedKinds are all that can go wrong: also what is drawn only when a run names its faults.
func namedKinds() []faultKind { return slices.Concat(faultKinds(), healthFaults()) }

// healthFaults are drawn where they are named. Beside every other fault several kinds of incident then meet on one node, which
// the invariants of each do not expect of the others.
func healthFaults() []faultKind {
	return []faultKind{
		{"node_disk_full", 2, func(s *sim, f Fault) { s.ail(s.node(f), autoheal.CondDiskFull, f.For) }},
		{"node_pressure", 2, func(s *sim, f Fault) { s.ail(s.node(f), autoheal.CondMemory, f.For) }},
		{"machine_check", 1, func(s *sim, f Fault) { s.ail(s.node(f), autoheal.CondFault+"host/mce", f.For) }},
		{"hangs", 4, func(s *sim, f Fault) { s.hang(s.work(f), f) }},
		{"health_flaps", 2, func(s *sim, f Fault) { s.wobble(s.work(f), f) }},
	}
}

func nodeFaults() []faultKind {
	return []faultKind{
		// Nodes.
		{"node_crash", 4, func(s *sim, f Fault) { s.powerCycle(s.node(f), f.For) }},
		{"node_reboot", 3, func(s *sim, f Fault) { s.powerCycle(s.node(f), 20*time.Second+f.For/20) }},
		{"node_freeze", 2, func(s *sim, f Fault) { s.freezeNode(s.node(f), f.For) }},
		{"agent_crash", 3, func(s *sim, f Fault) { s.agentAway(s.node(f), agentDown, f.For/3) }},
		{"agent_hang", 2, func(s *sim, f Fault) { s.agentAway(s.node(f), agentHung, f.For) }},
		{"shim_stop", 1, func(s *sim, f Fault) { s.stopShims(s.node(f), f.For) }},
		{"capacity_loss", 1, func(s *sim, f Fault) { s.powerCycle(s.node(f), 5*f.For+20*time.Minute) }},
		// Networks.
		{"cut", 5, func(s *sim, f Fault) { s.cutNodes(s.some(f, 1), f.For) }},
		{"partition", 3, func(s *sim, f Fault) { s.cutNodes(s.some(f, 1+f.Count), f.For) }},
		{"flap", 2, func(s *sim, f Fault) { s.flap(s.node(f), f.Count+2, f.For/10) }},
		{"half_open_in", 2, func(s *sim, f Fault) { s.deafen(s.node(f), true, f.For) }},
		{"half_open_out", 2, func(s *sim, f Fault) { s.deafen(s.node(f), false, f.For) }},
		{"rough_link", 3, func(s *sim, f Fault) { s.roughen(s.some(f, f.Count), f) }},
		{"rack_loss", 2, func(s *sim, f Fault) { s.loseDomain(s.node(f).domains[0], f, false) }},
		{"rack_power", 1, func(s *sim, f Fault) { s.loseDomain(s.node(f).domains[0], f, true) }},
		{"zone_loss", 1, func(s *sim, f Fault) { s.loseDomain(s.node(f).domains[1], f, f.Count%2 == 0) }},
		{"fabric_loss", 1, func(s *sim, f Fault) { s.loseDomain(s.node(f).domains[2], f, false) }},
		{"observer_blind", 2, func(s *sim, f Fault) { s.blind(f.For) }},
		{"detector_lies", 2, func(s *sim, f Fault) { s.lie(s.node(f), f.For) }},
		{"false_signals", 1, func(s *sim, f Fault) { s.falseSignals(s.node(f), f) }},
		{"signal_storm", 1, func(s *sim, f Fault) { s.signals(s.node(f), 50*f.Count) }},
	}
}

// wireFaults are those of the network between the nodes.
func wireFaults() []faultKind {
	gang := func(s *sim, f Fault) autoheal.GangID {
		all := s.gangs()
		if len(all) == 0 {
			return ""
		}
		return all[f.Work%len(all)]
	}
	return []faultKind{
		{"wire_broken", 3, func(s *sim, f Fault) { s.breakWire(s.node(f), 2*f.For) }},
		{"wire_broken_under_gang", 2, func(s *sim, f Fault) {
			if rs := s.ranks(gang(s, f)); len(rs) > 0 {
				s.breakWire(rs[f.Count%len(rs)].m, f.For)
			}
		}},
		{"rank_silent", 2, func(s *sim, f Fault) { s.silenceRank(gang(s, f), f.Count) }},
		{"rank_lies", 2, func(s *sim, f Fault) { s.accuse(gang(s, f), f.Count, false) }},
		{"ranks_tie", 1, func(s *sim, f Fault) { s.accuse(gang(s, f), f.Count, true) }},
		{"rank_crashes", 2, func(s *sim, f Fault) { s.crashOne(gang(s, f), f.Count) }},
		{"link_flaps", 2, func(s *sim, f Fault) { s.flapLink(s.node(f), f.Count) }},
		{"adapter_fails", 1, func(s *sim, f Fault) { s.breakAdapter(s.node(f), f.For) }},
	}
}

func workFaults() []faultKind {
	return []faultKind{
		{"crash", 5, func(s *sim, f Fault) { s.crashWork(s.work(f), 0) }},
		{"crash_loop", 3, func(s *sim, f Fault) { s.crashWork(s.work(f), f.Count) }},
		{"out_of_memory", 3, func(s *sim, f Fault) { s.outOfMemory(s.work(f), f.Count) }},
		{"node_out_of_memory", 1, func(s *sim, f Fault) { s.nodeOutOfMemory(s.node(f)) }},
		{"bad_image", 1, func(s *sim, f Fault) { s.badImage(s.work(f), f.For) }},
		{"completes", 1, func(s *sim, f Fault) { s.complete(s.work(f)) }},
		{"exhaustion", 2, func(s *sim, f Fault) { s.exhaust(f) }},
		{"slow_start", 1, func(s *sim, f Fault) { s.slowStart(s.work(f), f.For) }},
	}
}

func healerFaults() []faultKind {
	return []faultKind{
		{"healer_crash", 4, func(s *sim, f Fault) { s.crash("as the script says"); s.restartIn(f.For / 4) }},
		{"healer_away", 1, func(s *sim, f Fault) { s.crash("for an hour"); s.restartIn(time.Hour) }},
		{"healer_stall", 2, func(s *sim, f Fault) { s.stall(f.For / 2) }},
		{"healer_freeze", 2, func(s *sim, f Fault) { s.freezeHealer(f.For) }},
		{"two_leaders", 3, func(s *sim, f Fault) { s.secondLeader(f.For) }},
		{"clock_jump", 2, func(s *sim, f Fault) { s.jump(f) }},
		{"disk_full", 2, func(s *sim, f Fault) { s.fillDisk(f.For) }},
		{"journal_ack_lost", 2, func(s *sim, _ Fault) { s.store.LoseNextAck(errDiskFull) }},
		{"actuator_fails", 2, func(s *sim, f Fault) { s.trick(pointLoseRequest, f.Count) }},
		{"actuator_hangs", 2, func(s *sim, f Fault) { s.trick(pointHang, f.Count) }},
		{"actuator_late", 2, func(s *sim, f Fault) { s.trick(pointLate, f.Count) }},
		{"actuator_twice", 2, func(s *sim, f Fault) { s.trick(pointTwice, f.Count) }},
	}
}

func peopleFaults() []faultKind {
	return []faultKind{
		{"operator_cordons", 2, func(s *sim, f Fault) { s.personMarks(s.node(f), f.For) }},
		{"operator_uncordons", 2, func(s *sim, f Fault) { s.person("ann", autoheal.CommandVerb(autoheal.Uncordon), s.node(f).ref(s)) }},
		{"operator_stops", 1, func(s *sim, f Fault) { s.personStops(s.work(f)) }},
		{"operator_pauses", 1, func(s *sim, f Fault) { s.personPauses(f.For) }},
		{"operator_vetoes", 1, func(s *sim, f Fault) { s.personVetoes(s.node(f), f.For) }},
		{"operator_maintains", 1, func(s *sim, f Fault) { s.personMaintains(s.node(f), f.For) }},
		{"operator_drains", 1, func(s *sim, f Fault) { s.personDrains(s.node(f), f.For) }},
		{"operator_confirms", 2, func(s *sim, f Fault) { s.personConfirms(s.node(f)) }},
		{"operator_releases", 2, func(s *sim, f Fault) { s.personReleases() }},
		{"operator_dismisses", 1, func(s *sim, f Fault) { s.personDismisses(f.Work) }},
		{"operator_asks_first", 1, func(s *sim, f Fault) { s.asksFirst(f) }},
		{"config_edited", 1, func(s *sim, f Fault) { s.editConfig(f) }},
		{"agent_heals", 2, func(s *sim, f Fault) { s.ask("openclaw", "agent", autoheal.CmdExamine, autoheal.Ref{}) }},
		{"agent_restarts", 2, func(s *sim, f Fault) { s.agentStops(s.work(f)) }},
		{"agent_drains", 1, func(s *sim, f Fault) {
			s.ask("openclaw", "agent", autoheal.CommandVerb(autoheal.Drain), s.node(f).ref(s))
		}},
		{"agent_cordons", 1, func(s *sim, f Fault) {
			s.ask("openclaw", "agent", autoheal.CommandVerb(autoheal.Cordon), s.node(f).ref(s))
		}},
	}
}

// inject begins a fault and arms its ambush.
func (s *sim) inject(f Fault) {
	k, ok := s.kinds[f.Kind]
	if !ok || s.quieting {
		return
	}
	s.faults++
	s.w.note("FAULT %s", f)
	s.lay(f)
	k.begin(s, f)
}

func (s *sim) node(f Fault) *machine { return s.w.machines[f.Node%len(s.w.machines)] }

// some returns n neighbouring nodes, never all of them.
func (s *sim) some(f Fault, n int) []*machine {
	var out []*machine
	for i := range min(n, len(s.w.machines)-1) {
		out = append(out, s.w.machines[(f.Node+i)%len(s.w.machines)])
	}
	return out
}

func (s *sim) work(f Fault) *workload { return s.w.fleet.order[f.Work%len(s.w.fleet.order)] }

// later undoes something after d; when the faults end, all that is left is undone at once.
func (s *sim) later(d time.Duration, undo func()) {
	done := false
	once := func() {
		if !done {
			done = true
			undo()
		}
	}
	s.undo = append(s.undo, once)
	s.q.after(d, once)
}

func (s *sim) powerCycle(m *machine, off time.Duration) {
	if !m.on {
		return
	}
	m.powerOff()
	s.later(off, m.powerOn)
}

func (s *sim) freezeNode(m *machine, d time.Duration) {
	if m.frozen || !m.on {
		return
	}
	m.change(func() { m.frozen = true; m.conn++ })
	s.touchCopies(m)
	s.later(d, func() {
		if !m.frozen {
			return
		}
		m.hole(holeKernel)
		m.change(func() { m.frozen = false; m.held = nil })
		m.thaw()
		s.touchCopies(m)
		m.arm()
		s.q.after(killTime, m.expire)
	})
}

func (s *sim) touchCopies(m *machine) {
	for _, r := range m.refs() {
		s.copies(m.procs[r].w)
	}
}

func (s *sim) agentAway(m *machine, state agentState, d time.Duration) {
	if m.agent != agentUp || !m.on {
		return
	}
	m.change(func() { m.agent = state; m.conn++; m.held = nil })
	m.arm()
	s.later(d, func() {
		if m.agent != state || !m.on {
			return
		}
		m.change(func() {
			m.agent = agentUp
			if state == agentDown {
				m.newLife()
			}
		})
	})
}

func (s *sim) stopShims(m *machine, d time.Duration) {
	m.change(func() { m.shims++ })
	s.later(d, func() {
		if m.shims == 0 {
			return
		}
		m.hole(holeShim)
		m.change(func() { m.shims-- })
		s.q.after(killTime, m.expire)
	})
}

func (s *sim) cutNodes(ms []*machine, d time.Duration) {
	for _, m := range ms {
		m.change(func() { m.cut++; m.conn++ })
	}
	s.later(d, func() {
		for _, m := range ms {
			m.change(func() { m.cut-- })
		}
	})
}

func (s *sim) flap(m *machine, n int, d time.Duration) {
	if n == 0 || s.quieting {
		return
	}
	s.cutNodes([]*machine{m}, d)
	s.q.after(2*d, func() { s.flap(m, n-1, d) })
}

func (s *sim) deafen(m *machine, in bool, d time.Duration) {
	which := &m.deafOut
	if in {
		which = &m.deafIn
	}
	m.change(func() { *which++ })
	s.later(d, func() { m.change(func() { *which-- }) })
}

func (s *sim) roughen(ms []*machine, f Fault) {
	for _, m := range ms {
		r := &roughness{loss: float64(f.Work%4) * 0.15, dup: float64(f.Node%3) * 0.2, delay: time.Duration(1+f.Count*3) * time.Second}
		m.change(func() { m.rough = append(m.rough, r) })
		s.later(f.For, func() {
			m.change(func() {
				for i := range m.rough {
					if m.rough[i] == r {
						m.rough = append(m.rough[:i:i], m.rough[i+1:]...)
						return
					}
				}
			})
		})
	}
}

func (s *sim) loseDomain(d autoheal.Domain, f Fault, power bool) {
	var ms []*machine
	for _, m := range s.w.machines {
		for _, x := range m.domains {
			if x == d {
				ms = append(ms, m)
			}
		}
	}
	if !power {
		s.cutNodes(ms, f.For)
		return
	}
	for _, m := range ms {
		s.powerCycle(m, f.For)
	}
}
