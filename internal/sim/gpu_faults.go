package sim

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

func gpuFaults() []faultKind {
	return []faultKind{
		{"gpu_app_error", 3, func(s *sim, f Fault) { s.appError(s.node(f), f) }},
		{"gpu_reset", 3, func(s *sim, f Fault) { s.breakGPU(s.node(f), f, "nvidia/xid/119", autoheal.AdviceResetGPU, 1) }},
		{"gpu_reset_fails", 2, func(s *sim, f Fault) { s.breakGPU(s.node(f), f, "nvidia/xid/48", autoheal.AdviceResetGPU, 1+f.Count) }},
		{"gpu_lost", 2, func(s *sim, f Fault) {
			s.breakGPU(s.node(f), f, "nvidia/xid/79", autoheal.AdviceRebootNode, 1+f.Count%3)
		}},
		{"gpu_worn_out", 1, func(s *sim, f Fault) { s.breakGPU(s.node(f), f, "nvidia/xid/64", autoheal.AdviceReplaceHW, 99) }},
		{"gpu_driver_hung", 2, func(s *sim, f Fault) { s.hangDriver(s.node(f), 1+f.Count%3) }},
		{"gpu_replaced", 1, func(s *sim, f Fault) { s.replaceGPU(s.node(f), f.Work, f.For) }},
		{"operator_takes_gpu_back", 1, func(s *sim, f Fault) { s.takeBack(s.node(f)) }},
	}
}

// appError is an error that the kernel puts down to the application: it may end by itself, or go on without its GPU.
func (s *sim) appError(m *machine, f Fault) {
	if !m.on || m.frozen || len(m.gpus) == 0 {
		return
	}
	g := f.Work % len(m.gpus)
	m.kernelSays(g, "nvidia/xid/31", autoheal.FailureApp, autoheal.AdviceRestartApp)
	if f.Count%2 == 0 {
		s.endUsers(m, m.gpus[g].UUID, autoheal.FailureApp, "nvidia/xid/31", 0.85)
	}
}

// endUsers lets what runs on a GPU die of it.
func (s *sim) endUsers(m *machine, id autoheal.GPUID, failure autoheal.Failure, code string, sure float64) {
	for _, r := range m.users(id) {
		m.end(m.procs[r], &autoheal.Exit{Code: 134, Signal: "SIGABRT", Reason: autoheal.ExitCrashed, Verdict: &autoheal.Verdict{
			Failure: failure, Code: code, Action: autoheal.AdviceResetGPU, Confidence: sure, Because: []string{"line 1: " + code},
			Subject: &autoheal.Ref{Kind: autoheal.RefGPU, ID: string(id)},
		}})
	}
}

// breakGPU lets a GPU fail; so many tries mend it. What runs there dies of it, or hangs on.
func (s *sim) breakGPU(m *machine, f Fault, code string, action autoheal.Advice, needs int) {
	if !m.on || m.frozen || len(m.gpus) == 0 {
		return
	}
	g := f.Work % len(m.gpus)
	m.sicken(g, trouble{action: action, needs: needs, why: code}, code)
	if f.Count%2 == 0 {
		s.endUsers(m, m.gpus[g].UUID, autoheal.FailureGPU, code, 0.95)
	}
	s.undo = append(s.undo, func() { s.mendAll(m) })
}

func (s *sim) hangDriver(m *machine, needs int) {
	if !m.on || m.frozen || m.sick.hung != nil {
		return
	}
	m.sick.hung = &trouble{since: s.q.now, action: autoheal.AdviceRebootNode, needs: needs, why: "2 probes in a row got no answer"}
	m.report()
	s.undo = append(s.undo, func() { s.mendAll(m) })
}

// replaceGPU has somebody put another GPU into a node that is switched off for it.
func (s *sim) replaceGPU(m *machine, which int, off time.Duration) {
	if !m.on || len(m.gpus) == 0 {
		return
	}
	m.powerOff()
	broken := sortedKeys(m.sick.gpus)
	if len(broken) == 0 {
		broken = []autoheal.GPUID{m.gpus[which%len(m.gpus)].UUID}
	}
	for _, id := range broken {
		s.swap(m, id)
	}
	m.sick.hung = nil
	s.later(off, m.powerOn)
}

func (s *sim) swap(m *machine, id autoheal.GPUID) {
	m.mend(id)
	g := m.gpuAt(id)
	m.gpus = slices.Clone(m.gpus)
	s.swaps++
	m.gpus[g].UUID = autoheal.GPUID(fmt.Sprintf("GPU-%s-new-%d", m.id, s.swaps))
	s.w.allGPUs[m.gpus[g].UUID] = true
}

func (s *sim) mendAll(m *machine) {
	for _, id := range sortedKeys(m.sick.gpus) {
		m.mend(id)
	}
	m.sick.hung = nil
	m.report()
}

// takeBack is a person who puts into service what the healer has taken out.
func (s *sim) takeBack(m *machine) {
	for _, g := range m.gpus {
		if k, marked := s.w.fleet.gpuMarks[g.UUID]; marked && k.By == autoheal.ByAutoheal {
			s.ask("ann", "operator", autoheal.CmdQuarantineClear, autoheal.Ref{Kind: autoheal.RefGPU, ID: string(g.UUID)})
			return
		}
	}
}

// ticketed is what people do about a ticket, an hour or so later: they mend the part and say so, or put another one in, which
// needs no word.
func (s *sim) ticketed(r journal.Record, p journal.AlertQueued) {
	i := s.book.incidents[r.Incident]
	if p.Name != "replace-hardware" && p.Name != "repair-blocked" || i == nil || s.w.byID[i.node] == nil {
		return
	}
	m := s.w.byID[i.node]
	s.later(time.Hour+time.Duration(r.Seq%60)*time.Minute, func() {
		if r.Seq%2 == 0 && m.on && !s.quieting {
			s.replaceGPU(m, 0, 10*time.Minute)
			return
		}
		s.mendAll(m)
		s.unmark(m)
		for _, g := range m.gpus {
			s.releaseByHand(g.UUID)
		}
	})
}

func (s *sim) releaseByHand(id autoheal.GPUID) {
	s.commands++
	a := autoheal.Action{
		ID: autoheal.ActionID(fmt.Sprintf("by-hand-%d/1", s.commands)), Epoch: s.w.fleet.epoch, Verb: autoheal.ReleaseGPU, Target: autoheal.Ref{Kind: autoheal.RefGPU, ID: string(id)}, Actor: "ann",
	}
	s.w.fleet.act(a, func(autoheal.Result) {})
}
