package heal

import (
	"fmt"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// gateStep says what a person can do about a hold: for this gate, this verb and this target. why says what it is for.
func gateStep(i *incident, target autoheal.Ref, why string, h autoheal.Held) autoheal.NextStep {
	detail := strings.TrimSuffix(oneLine(h.Detail), ".")
	step := func(do, command string) autoheal.NextStep {
		return autoheal.NextStep{Do: do + ", " + why + " (" + detail + ")", Command: command}
	}
	switch h.Reason {
	case autoheal.ReasonMaxRestarts:
		return step("Find out why it ends, then let it go on", "autoheal workloads resume "+target.ID)
	case autoheal.ReasonPaused:
		return step("Let the healer act again", "autoheal resume")
	case autoheal.ReasonVetoed:
		if h.On == "config" {
			return step("Take it off autoHeal.veto in the configuration", "autoheal config show")
		}
		return step("Lift the veto", "autoheal status")
	case autoheal.ReasonMaintenance:
		return step("Wait for the end of the maintenance, or end it", "autoheal maintenance list")
	case autoheal.ReasonDisabled:
		return step("Do it by hand, or change the setting", "autoheal config show")
	case autoheal.ReasonObserverSuspect:
		return step("Say that what is silent is really gone", "autoheal release "+stormID(i, h))
	case autoheal.ReasonForeignOwner:
		return step("Ask its owner to start it anew", "")
	case autoheal.ReasonNoCapacity, autoheal.ReasonGangIncomplete:
		return step("Make room", "autoheal nodes")
	case autoheal.ReasonApprovalNeeded:
		return step(approveCommand(i, h))
	case autoheal.ReasonFenceUnproven:
		if !h.Until.IsZero() {
			return step("Wait until "+h.Until.UTC().Format("15:04:05")+", when its self-stop is proven", "")
		}
		node := strings.TrimPrefix(h.On, "node/")
		return step("Power off "+node+" and say so", "autoheal fence confirm "+node+" --powered-off")
	case autoheal.ReasonBudgetConcurrent, autoheal.ReasonBudgetRate, autoheal.ReasonBudgetDomain,
		autoheal.ReasonAutonomyObserve, autoheal.ReasonAutonomySuggest, autoheal.ReasonNoVerb, autoheal.ReasonUnsupported:
		verb, at := heldVerb(i, target)
		return step(byHand(verb, at))
	}
	return step("Wait: this ends by itself", "autoheal incidents show "+string(i.ID)+" --watch")
}

// stormID names the incident that a person releases: the one of the mass outage, which the hold names.
func stormID(i *incident, h autoheal.Held) string {
	if _, id, ok := strings.Cut(h.Detail, "autoheal release "); ok {
		return strings.Fields(id + " .")[0]
	}
	return string(i.ID)
}

// approveCommand names the approval that a hold waits for; one that has expired is asked for again by a look.
func approveCommand(i *incident, h autoheal.Held) (do, command string) {
	if id, ok := strings.CutPrefix(h.On, "approval/"); ok {
		return "Decide, and approve it", "autoheal approve " + id
	}
	return "Have it asked for again: nobody approved it in time", "autoheal heal"
}

// heldVerb is what a hold on a target keeps from being done, and to what.
func heldVerb(i *incident, target autoheal.Ref) (autoheal.Verb, autoheal.Ref) {
	for _, h := range slices.Backward(i.Holds) {
		if h.To == nil && h.Target.Same(target) {
			return autoheal.Verb(h.Verb), target
		}
	}
	return "", target
}

// byHand is how a person does what the healer may or can not.
func byHand(verb autoheal.Verb, at autoheal.Ref) (do, command string) {
	switch verb {
	case autoheal.Cordon, autoheal.Uncordon, autoheal.Drain, autoheal.Stop:
		return fmt.Sprintf("Do the %s by hand", verb), fmt.Sprintf("autoheal %s %s", verb, at.ID)
	case autoheal.Start, autoheal.Resume:
		return "Do the start by hand", "autoheal workloads resume " + at.ID
	case autoheal.Pause:
		return "Do the pause by hand", "autoheal workloads pause " + at.ID
	case autoheal.Fence:
		return "Power the node off by hand and say so", "autoheal fence confirm " + at.ID + " --powered-off"
	case autoheal.ResetGPU:
		return "Reset the GPU by hand, on its node, while no process holds it", "nvidia-smi --gpu-reset -i " + at.ID
	case autoheal.Reboot:
		return "Reboot the node by hand, once it is empty", "autoheal drain " + at.ID
	}
	return strings.TrimSpace("Do it by hand: " + string(verb)), ""
}

// failedSteps says how to do by hand what was tried on the subject and failed.
func failedSteps(i *incident) []autoheal.NextStep {
	var out []autoheal.NextStep
	for _, s := range slices.Sorted(stepNames(i)) {
		if d := i.Steps[s]; d.Result == "failed" {
			name, _, _ := strings.Cut(s, " ")
			do, command := byHand(stepVerb(policy.Step(name)), i.Subject)
			out = append(out, autoheal.NextStep{Do: fmt.Sprintf("%s, %s (it failed: %s)", do, wordsOf(i).deal, oneLine(d.Reason)), Command: command})
		}
	}
	return out
}

// stepNames yields the names of the steps on the subject that have ended.
func stepNames(i *incident) func(func(string) bool) {
	return func(yield func(string) bool) {
		for s := range i.Steps {
			if !yield(s) {
				return
			}
		}
	}
}

// stepVerb is the verb by which a step on a subject is done.
func stepVerb(s policy.Step) autoheal.Verb {
	switch s {
	case policy.StepStopPlacing, policy.StepCordon, policy.StepIsolate:
		return autoheal.Cordon
	case policy.StepQuarantineGPU:
		return autoheal.QuarantineGPU
	case policy.StepResetGPU, policy.StepAdvice:
		return autoheal.ResetGPU
	}
	return autoheal.Verb(s)
}
