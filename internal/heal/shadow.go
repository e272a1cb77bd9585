package heal

import (
	"fmt"
	"slices"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// gateShadow lets nothing out while the healer only writes down what it would do (behaviour D6). It comes after every gate
// that holds for other reasons, so that what is written down is what would have been done at that moment; only a person is
// not asked for an approval that nothing would come of.
func gateShadow(c *Core, p *proposal) verdict {
	if !c.pol.Shadow || p.byPerson() && p.role != "agent" || p.inShadow {
		return pass
	}
	return verdict{Reason: autoheal.ReasonAutonomyObserve, Detail: fmt.Sprintf("shadow: would %s %s", p.verb, p.target), On: "config"}
}

// shadowed writes down, once, an action that would have been taken.
func (c *Core) shadowed(p *proposal) {
	if p.i == nil || p.verb == autoheal.Refresh || slices.ContainsFunc(p.i.Shadow, func(s autoheal.ShadowAction) bool {
		return s.Verb == p.verb && s.Target == p.target
	}) {
		return
	}
	s := autoheal.ShadowAction{Verb: p.verb, Target: p.target, Step: string(p.step), Reason: p.reason, Params: p.params, Mode: c.modeOf(p), At: c.now}
	if len(p.need) > 0 && s.Params.Nominated == "" {
		if spots, no := c.fitAll(p.need); no == nil {
			s.Params.Nominated = spots[0].Node // where it would have gone
		}
	}
	c.record(p.i.ID, journal.Shadowed{Action: s})
}

// modeOf says how far the healer may go by itself with a proposal, were it not in the shadow.
func (c *Core) modeOf(p *proposal) autoheal.HealMode {
	var label autoheal.HealMode
	if w := c.v.cur[autoheal.WorkloadID(p.target.ID)]; w != nil && p.target.Kind == autoheal.RefWorkload {
		label = w.Options.Heal
	}
	var kind autoheal.FailureKind
	if p.i != nil {
		kind = p.i.Kind
	}
	if p.kind != "" {
		kind = p.kind
	}
	return c.pol.Mode(kind, p.step, label)
}

// describeShadow says it in a line.
func describeShadow(s autoheal.ShadowAction) string {
	text := fmt.Sprintf("would %s %s", s.Verb, s.Target)
	if s.Mode == autoheal.HealApprove {
		text = fmt.Sprintf("would ask for approval to %s %s", s.Verb, s.Target)
	}
	if s.Params.Nominated != "" {
		text += " on " + string(s.Params.Nominated)
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}
