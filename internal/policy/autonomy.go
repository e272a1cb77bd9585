package policy

import (
	"slices"

	"autoheal.dev/autoheal"
)

// serveAsks are the steps and verbs that ask a person first under ProfileServe (behaviour D6): each ends something that
// still runs, or takes a part away.
var serveAsks = []Step{
	StepPreempt, StepScaleDown, StepAdvice, StepResetGPU, StepReboot, StepIsolate, StepDrain, StepReplace, Step(autoheal.Scale),
}

// WithProfile returns the policy under another profile of autonomy: ProfileAct or ProfileServe. The two share what
// neither may change.
func (p *Policy) WithProfile(profile string) *Policy {
	c := *p
	c.Profile = profile
	return &c
}

// Mode returns how much the healer may do by itself when it takes a step (or uses a verb, as Step(verb)) for a kind of
// failure. The configuration's KIND.STEP comes before STEP, before KIND, before the profile; a workload's label can only
// lower it. Alerts wait for nobody; only HealOff silences them.
func (p *Policy) Mode(kind autoheal.FailureKind, step Step, label autoheal.HealMode) autoheal.HealMode {
	if isAlert(step) {
		if label == autoheal.HealOff {
			return autoheal.HealOff
		}
		return autoheal.HealAct
	}
	mode := p.configuredMode(kind, step)
	if label != "" {
		mode = weaker(mode, label)
	}
	return mode
}

func (p *Policy) configuredMode(kind autoheal.FailureKind, step Step) autoheal.HealMode {
	for _, key := range []string{string(kind) + "." + string(step), string(step)} {
		if m, ok := p.Autonomy[key]; ok {
			return m
		}
	}
	if step == StepAdvice { // stands for whichever of the two the catalogue asks for
		return weaker(p.configuredMode(kind, StepResetGPU), p.configuredMode(kind, StepReboot))
	}
	if m, ok := p.Autonomy[string(kind)]; ok {
		return m
	}
	if step == StepReplace || p.Profile != ProfileAct && slices.Contains(serveAsks, step) {
		return autoheal.HealApprove
	}
	return autoheal.HealAct
}

var modeOrder = []autoheal.HealMode{autoheal.HealOff, autoheal.HealObserve, autoheal.HealSuggest, autoheal.HealApprove, autoheal.HealAct}

// weaker returns the lower degree of autonomy; one that is unknown counts as HealObserve, because doing nothing is the
// safe reading.
func weaker(a, b autoheal.HealMode) autoheal.HealMode {
	rank := func(m autoheal.HealMode) int {
		if i := slices.Index(modeOrder, m); i >= 0 {
			return i
		}
		return slices.Index(modeOrder, autoheal.HealObserve)
	}
	return modeOrder[min(rank(a), rank(b))]
}
