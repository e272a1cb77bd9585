package heal

import (
	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// subjectStep takes one step of the ladder that concerns the subject itself and reports whether it is over; steps on
// workloads are none of its business, and of what is a symptom only the workloads are seen to.
func (c *Core) subjectStep(i *incident, s policy.Step) bool {
	if _, over := i.Steps[string(s)]; over || i.MergedInto != "" {
		return true
	}
	switch i.Kind {
	case autoheal.GPUFailure:
		return c.gpuStep(i, s)
	case autoheal.NodeFault:
		return c.faultStep(i, s)
	}
	switch s {
	case policy.StepCordon:
		return c.stepCordon(i)
	case policy.StepAlertHardware:
		return c.stepAlertHardware(i)
	case policy.StepAlertCapacity:
		return c.stepAlertCapacity(i)
	case policy.StepPreempt, policy.StepScaleDown:
		return c.stepMakeRoom(i)
	case policy.StepCollectNetwork:
		return c.stepCollectNetwork(i)
	case policy.StepIsolate:
		return c.stepIsolate(i)
	case policy.StepAlert:
		return c.stepAlertNetwork(i)
	}
	return true
}

// gpuStep takes one step on a broken GPU, or on its node.
func (c *Core) gpuStep(i *incident, s policy.Step) bool {
	switch s {
	case policy.StepQuarantineGPU:
		return c.stepQuarantine(i)
	case policy.StepCordon:
		return c.stepCordonGPU(i)
	case policy.StepCollect:
		return c.stepCollect(i)
	case policy.StepAdvice:
		return c.stepAdvice(i)
	case policy.StepResetGPU:
		return c.repair(i, s, autoheal.ResetGPU)
	case policy.StepReboot:
		return c.repair(i, s, autoheal.Reboot)
	case policy.StepTest:
		return c.stepTesting(i)
	case policy.StepAlertHardware:
		return c.stepTicket(i)
	}
	return true
}

func (c *Core) stepCordon(i *incident) bool {
	if i.Subject.Kind == autoheal.RefDomain {
		return c.cordonMembers(i)
	}
	finished := true
	for _, n := range i.nodes() {
		finished = c.cordon(i, n) && finished
	}
	return finished
}

// stepAlertHardware asks for a silent node to be looked at by a person; of a domain the page says it.
func (c *Core) stepAlertHardware(i *incident) bool {
	if i.Kind != autoheal.NodeOffline || i.Subject.Kind != autoheal.RefNode {
		return true
	}
	if gone, finished := c.goneForNow(i, autoheal.NodeID(i.Subject.ID)); !gone {
		return finished
	}
	step := string(policy.StepAlertHardware)
	if c.forgotten(i) {
		c.stepDone(i, step, "skipped", "the node was forgotten")
		return true
	}
	c.alertHardware(i)
	c.stepDone(i, step, "done", "")
	return true
}
