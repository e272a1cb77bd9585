package sim

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
)

// ask gives the healer a command.
func (s *sim) ask(actor, role string, verb autoheal.CommandVerb, target autoheal.Ref, change ...func(*autoheal.Command)) string {
	s.commands++
	c := autoheal.Command{ID: fmt.Sprintf("%s-%d", actor, s.commands), Actor: actor, Role: role, Verb: verb, Target: target, Reason: "a person says so"}
	for _, fn := range change {
		fn(&c)
	}
	s.healer.command(c)
	return c.ID
}

func (s *sim) person(actor string, verb autoheal.CommandVerb, target autoheal.Ref) {
	s.ask(actor, "operator", verb, target)
}

func (s *sim) personMarks(m *machine, d time.Duration) {
	s.person("ann", autoheal.CommandVerb(autoheal.Cordon), m.ref(s))
	s.later(d, func() { s.unmark(m) })
}

// unmark takes a person's marks away, also when no healer is there to ask.
func (s *sim) unmark(m *machine) {
	s.commands++
	a := autoheal.Action{
		ID: autoheal.ActionID(fmt.Sprintf("by-hand-%d/1", s.commands)), Epoch: s.w.fleet.epoch, Verb: autoheal.Uncordon, Target: autoheal.NodeRef(m.id), Actor: "ann",
	}
	s.w.fleet.act(a, func(autoheal.Result) {})
}

func (s *sim) personStops(x *workload) {
	if x.Gang != "" || len(x.children) > 0 || x.parent != nil {
		return
	}
	s.ask("ann", "operator", autoheal.CommandVerb(autoheal.Stop), autoheal.WorkloadRef(x.ID), func(c *autoheal.Command) { c.Params.Final = true })
}

// agentStops is an AI agent that restarts what it thinks is stuck: it stops the present attempt.
func (s *sim) agentStops(x *workload) {
	s.ask("openclaw", "agent", autoheal.CommandVerb(autoheal.Stop), autoheal.WorkloadRef(x.ID))
}

func (s *sim) personPauses(d time.Duration) {
	s.person("ann", autoheal.CmdPauseHealer, autoheal.Ref{})
	s.laterAsk(d, "ann", autoheal.CmdResumeHealer, autoheal.Ref{}, "")
}

func (s *sim) personVetoes(m *machine, d time.Duration) {
	s.person("ann", autoheal.CmdVeto, autoheal.NodeRef(m.id))
	s.laterAsk(d, "ann", autoheal.CmdUnveto, autoheal.NodeRef(m.id), "")
}

func (s *sim) personMaintains(m *machine, d time.Duration) {
	scope := "node/" + string(m.id)
	s.ask("ann", "operator", autoheal.CmdMaintenance, autoheal.NodeRef(m.id), func(c *autoheal.Command) { c.Scope = scope })
	s.laterAsk(d, "ann", autoheal.CmdMaintenanceEnd, autoheal.NodeRef(m.id), scope)
}

// laterAsk asks until it is answered: a healer that dies, or whose journal refuses, answers nothing.
func (s *sim) laterAsk(d time.Duration, actor string, verb autoheal.CommandVerb, target autoheal.Ref, scope string) {
	id := ""
	var try func()
	try = func() {
		if s.replied[id] {
			return
		}
		id = s.ask(actor, "operator", verb, target, func(c *autoheal.Command) { c.Scope = scope })
		s.q.after(10*time.Second, try)
	}
	s.later(d, try)
}

func (s *sim) personDrains(m *machine, d time.Duration) {
	s.person("ann", autoheal.CommandVerb(autoheal.Drain), m.ref(s))
	s.later(d, func() { s.unmark(m) })
}

// personConfirms says that a node is off: mostly when it is, sometimes when it is not, which is a hole of its own.
func (s *sim) personConfirms(m *machine) {
	if m.on && s.w.drv.contacts[m.id].link == autoheal.LinkSilent {
		m.hole(holeWord)
	}
	s.person("ann", autoheal.CmdFenceConfirm, autoheal.NodeRef(m.id))
}

func (s *sim) personReleases() {
	if st := s.book.storm; st != "" {
		s.ask("ann", "operator", autoheal.CmdRelease, autoheal.Ref{}, func(c *autoheal.Command) { c.Incident = st })
	}
}

func (s *sim) personDismisses(n int) {
	var open []autoheal.IncidentID
	for _, id := range s.book.order {
		if !s.book.incidents[id].phase.Ended() {
			open = append(open, id)
		}
	}
	if len(open) > 0 {
		s.ask("ann", "operator", autoheal.CmdDismiss, autoheal.Ref{}, func(c *autoheal.Command) { c.Incident = open[n%len(open)] })
	}
}
