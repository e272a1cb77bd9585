package sim

import (
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

func repairsIdle() checker {
	c := checker{name: "repairs-idle", says: "A GPU is reset only while nothing holds it, and a node rebooted only while it is empty (behaviour E1)."}
	c.leaves = func(s *sim, h *healer, a autoheal.Action) {
		if !isRepair(a) || h != s.healer {
			return
		}
		for _, w := range s.w.fleet.order {
			for _, at := range w.sorted() {
				held := at.state == autoheal.Running || at.state == autoheal.Scheduled
				if m, _ := s.w.fleet.machineOf(a); m == nil || at.node != m.id || !held || s.q.now.Sub(at.sentAt) < slack && !at.sentAt.IsZero() {
					continue
				}
				s.check(c.name, !onPart(a.Target, at.gpus), "%s %s %s leaves while %s is there", a.ID, a.Verb, a.Target, at.ref)
			}
		}
	}
	c.acted = func(s *sim, a autoheal.Action) {
		if m, _ := s.w.fleet.machineOf(a); isRepair(a) && m != nil {
			id := autoheal.GPUID("")
			if a.Target.Kind == autoheal.RefGPU {
				id = autoheal.GPUID(a.Target.ID)
			}
			s.check(c.name, len(m.users(id)) == 0, "%s %s %s is carried out while %v run there", a.ID, a.Verb, a.Target, m.users(id))
		}
	}
	return c
}

func isRepair(a autoheal.Action) bool {
	return a.Actor == autoheal.ActorEngine && (a.Verb == autoheal.ResetGPU || a.Verb == autoheal.Reboot)
}

// onPart reports whether what holds these GPUs is on a part: a GPU, or a node as a whole.
func onPart(target autoheal.Ref, gpus []autoheal.GPUID) bool {
	if target.Kind == autoheal.RefNode {
		return true
	}
	for _, g := range gpus {
		if string(g) == target.ID {
			return true
		}
	}
	return false
}

func repairsBounded() checker {
	c := checker{name: "repairs-bounded", says: "A GPU is reset, and a node rebooted, at most twice in 7 days (behaviour E1)."}
	tries := map[string]map[autoheal.ActionID]time.Time{}
	c.acted = func(s *sim, a autoheal.Action) {
		if !isRepair(a) {
			return
		}
		k := string(a.Verb) + " " + a.Target.String()
		if tries[k] == nil {
			tries[k] = map[autoheal.ActionID]time.Time{}
		}
		tries[k][a.ID] = s.w.wall()
		n := 0
		for _, at := range tries[k] {
			if s.w.wall().Sub(at) < 7*24*time.Hour {
				n++
			}
		}
		s.check(c.name, n <= 2, "%s is the %d. %s of %s in 7 days", a.ID, n, a.Verb, a.Target)
	}
	return c
}

func evidenceFirst() checker {
	c := checker{name: "evidence-first", says: "For a GPU's failure nothing is repaired, and nothing stopped but what is critical, before its evidence was asked for and new work is kept away (behaviour E1, F4)."}
	over := map[autoheal.IncidentID]map[string]bool{}
	ladders := map[autoheal.IncidentID][]string{}
	guarded := func(i *noted) bool {
		return i != nil && !i.merged && i.kind == autoheal.GPUFailure && len(ladders[i.id]) == 0
	}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		switch p := r.Data.(type) {
		case journal.IncidentOpened:
			ladders[r.Incident] = p.Ladder
		case journal.StepDone:
			if over[r.Incident] == nil {
				over[r.Incident] = map[string]bool{}
			}
			over[r.Incident][p.Step] = true
		case journal.Intent:
			if i := s.book.incidents[r.Incident]; isRepair(p.Action) && guarded(i) {
				s.check(c.name, over[i.id][string(policy.StepQuarantineGPU)] && over[i.id][string(policy.StepCollect)], "%s: %s %s before the steps that come first", i.id, p.Action.Verb, p.Action.Target)
			}
		case journal.RecoveryStep:
			i := s.book.incidents[r.Incident]
			if !guarded(i) || p.To != autoheal.StepStopping || i.recs[p.Workload] == nil {
				return
			}
			critical := i.recs[p.Workload].Class == autoheal.Critical
			s.check(c.name, i.held != nil || over[i.id][string(policy.StepQuarantineGPU)], "%s: %s is stopped before new work is kept away", i.id, p.Workload)
			s.check(c.name, critical || over[i.id][string(policy.StepCollect)], "%s: %s is stopped before its evidence", i.id, p.Workload)
		}
	}
	return c
}

func testedReturn() checker {
	c := checker{name: "tested-return", says: "What was taken out of use for a GPU's failure is returned by the healer only when it is well, or gone (behaviour B4, E1)."}
	well := func(s *sim, t *trouble) bool { return t == nil || s.q.now.Sub(t.since) < 2*time.Minute }
	c.acted = func(s *sim, a autoheal.Action) {
		m, _ := s.w.fleet.machineOf(a)
		if a.Verb == autoheal.ReleaseGPU && a.Actor == autoheal.ActorEngine && m != nil {
			s.check(c.name, well(s, m.sick.gpus[autoheal.GPUID(a.Target.ID)]), "%s releases %s, which is broken", a.ID, a.Target)
		}
	}
	c.unmarked = func(s *sim, a autoheal.Action, m *machine, before, _ []autoheal.Mark) {
		for _, k := range before {
			i := s.book.incidents[k.Incident]
			if a.Actor != autoheal.ActorEngine || k.By != autoheal.ByAutoheal || i == nil || i.kind != autoheal.GPUFailure {
				continue
			}
			s.check(c.name, well(s, m.sick.hung), "%s returns %s, whose driver hangs", a.ID, m.id)
			for _, id := range sortedKeys(m.sick.gpus) {
				_, marked := s.w.fleet.gpuMarks[id]
				s.check(c.name, marked || well(s, m.sick.gpus[id]), "%s returns %s with a broken GPU, %s", a.ID, m.id, id)
			}
		}
	}
	return c
}

// dismissed reports whether a person has taken an incident upon themselves: what it had marked stays for them.
func (s *sim) dismissed(id autoheal.IncidentID) bool {
	i := s.book.incidents[id]
	return i != nil && i.kind == autoheal.GPUFailure && i.phase == autoheal.Dismissed
}

func gpusReturn() checker {
	c := checker{name: "gpus-return", says: "No GPU stays in quarantine by the healer but one of which a person was told (behaviour B4)."}
	told := map[string]bool{}
	c.durable = func(s *sim, r journal.Record, _ []journal.Record) {
		if p, ok := r.Data.(journal.AlertQueued); ok && (p.Name == "replace-hardware" || p.Name == "gpu-quarantined") {
			told[string(r.Incident)] = true
		}
	}
	c.end = func(s *sim) {
		for _, id := range sortedKeys(s.w.fleet.gpuMarks) {
			if k := s.w.fleet.gpuMarks[id]; k.By == autoheal.ByAutoheal {
				s.check(c.name, told[string(k.Incident)] || s.dismissed(k.Incident), "%s is still in quarantine for %s: %s", id, k.Incident, k.Reason)
			}
		}
		s.check(c.name, true, "")
	}
	return c
}
