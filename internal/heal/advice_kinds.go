package heal

import (
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// This file holds the sentences of each kind of failure. TestNoSentenceFitsTwoKinds holds them apart.

var offlineWords = kindWords{
	happened: func(i *incident) string {
		switch i.Subject.Kind {
		case autoheal.RefDomain:
			return fmt.Sprintf("%s fell silent as a whole, %d nodes", subjectName(i), len(i.Members))
		case autoheal.RefCluster:
			return "so many nodes fell silent at once that the healer suspected its own view"
		}
		return subjectName(i) + " went silent"
	},
	work:     "Of the work on what is silent",
	idle:     "What is silent carried no work that had to be moved",
	persists: "the silence outlasted its grace",
	passed:   "contact was back before the grace was over",
	often:    "the silence ended by itself, and such silences are too frequent",
	again:    "the silence came back soon after it had ended",
	fine:     "Contact is back: nobody is needed",
	watch:    "Watch whether contact comes back",
	deal:     "so that what is silent is dealt with",
	purpose:  "so that %s gets off what is silent",
	look:     "See why %s did not start away from what is silent",
	lookAt:   "autoheal why %s",
	retry:    "Start %s again, away from what is silent",
	steps: func(i *incident) []autoheal.NextStep {
		switch i.Subject.Kind {
		case autoheal.RefDomain:
			return []autoheal.NextStep{{Do: "Find out why " + subjectName(i) + " went silent as a whole: its power, its switch", Command: "autoheal nodes"}}
		case autoheal.RefNode:
			return []autoheal.NextStep{{Do: "Find out why " + i.Subject.ID + " went silent: power, network, agent, hardware", Command: "autoheal nodes show " + i.Subject.ID}}
		}
		return nil
	},
}

var gpuWords = kindWords{
	happened: gpuHappened,
	work:     "Of the work on the failed GPU",
	idle:     "The failed GPU carried no work",
	persists: "a GPU that reports this does not mend by itself",
	passed:   "the GPU reported well again before anything was done to it",
	often:    "the GPU reported well again, as it has too often",
	again:    "the GPU failed again soon after it had been returned to service",
	fine:     "The GPU does its work again: nobody is needed",
	watch:    "Watch what becomes of the GPU",
	deal:     "so that the failed GPU is dealt with",
	purpose:  "so that %s gets off the failed GPU",
	look:     "See why %s did not start away from the failed GPU",
	lookAt:   "autoheal why %s",
	retry:    "Start %s again, on other GPUs",
	steps: func(i *incident) []autoheal.NextStep {
		if i.Phase == autoheal.Recovered || i.Steps[string(policy.StepAlertHardware)].Result != "done" {
			return nil
		}
		return []autoheal.NextStep{
			{Do: "Look at the GPU, its Xids and what was tried on it; the alert replace-hardware is the ticket", Command: "autoheal bundle " + string(i.ID)},
			{Do: "Return the GPU to service once it was repaired or replaced", Command: i.backInService()},
		}
	},
}

// gpuHappened says how far the failure of a GPU reaches.
func gpuHappened(i *incident) string {
	switch i.Subject.Kind {
	case autoheal.RefGPU:
		return i.part() + " failed as an accelerator"
	case autoheal.RefNode:
		return subjectName(i) + " has lost the use of its GPUs"
	}
	return subjectName(i) + " met an error on its GPU after which it had to start anew"
}

var faultWords = kindWords{
	happened: func(i *incident) string { return subjectName(i) + " answers and is not fit to work" },
	work:     "Of the work on the unfit node",
	idle:     "The unfit node carried no work that had to leave",
	persists: "a part of the machine that is broken or full stays so",
	passed:   "the machine was fit again before anything left it",
	often:    "the machine was fit again, as it has been too often",
	again:    "the machine was unfit again soon after its return",
	fine:     "The machine is fit again: nobody is needed",
	watch:    "Watch whether the machine gets fit again",
	deal:     "so that the unfit node is dealt with",
	purpose:  "so that %s gets off the unfit node",
	look:     "See why %s did not start away from the unfit node",
	lookAt:   "autoheal why %s",
	retry:    "Start %s again, on another node",
	steps: func(i *incident) []autoheal.NextStep {
		if i.Phase == autoheal.Recovered {
			return nil
		}
		return []autoheal.NextStep{
			{Do: "Repair the part of the machine that is named as the first cause", Command: "autoheal nodes show " + i.Subject.ID},
			{Do: "See that it reports no fault any more once it was repaired: then it takes work again by itself", Command: "autoheal nodes show " + i.Subject.ID},
		}
	},
}

var networkWords = kindWords{
	happened: func(i *incident) string { return subjectName(i) + " lost touch with peers over the network" },
	work:     "Of the work that lost touch with its peers",
	idle:     "No work depended on the broken link",
	persists: "the link was out for longer than its users wait for it",
	passed:   "the peers had each other again before anybody was restarted",
	often:    "the link came back by itself, and such cuts are too frequent",
	again:    "the peers lost each other again soon after their restart",
	fine:     "The peers have each other again: nobody is needed",
	watch:    "Watch whether the peers find each other",
	deal:     "so that the broken link is dealt with",
	purpose:  "so that %s meets its peers again",
	look:     "See why %s did not meet its peers",
	lookAt:   "autoheal logs %s",
	retry:    "Start %s again, once its peers can be reached",
	steps:    networkSteps,
}

// networkSteps names the nodes to look at, and how one that was isolated comes back.
func networkSteps(i *incident) []autoheal.NextStep {
	if i.Told == nil || i.Phase == autoheal.Cleared {
		return nil
	}
	var out []autoheal.NextStep
	for _, n := range i.Told.Suspects {
		out = append(out, autoheal.NextStep{Do: "Check adapter, cable and switch port of " + string(n), Command: "autoheal nodes show " + string(n)})
	}
	if len(out) == 0 {
		out = append(out, autoheal.NextStep{Do: "See what the peers said of each other", Command: "autoheal logs --query 'NCCL timeout OR connection refused'"})
	}
	if s := i.Steps[string(policy.StepIsolate)]; s.Result == "done" {
		node, _, _ := strings.Cut(s.Reason, ": ")
		out = append(out, autoheal.NextStep{Do: "Let work onto " + node + " again once its network was mended", Command: "autoheal uncordon " + node})
	}
	return out
}

var healthWords = kindWords{
	happened: func(i *incident) string { return subjectName(i) + " runs and does not do its work" },
	work:     "Of what ran without doing its work",
	idle:     "Nothing that ran without doing its work had to be restarted",
	persists: "it failed its check more often in a row than is forgiven",
	passed:   "its check passed again before it was restarted",
	often:    "its check passed again, as it has too often",
	again:    "its check failed again soon after the restart",
	fine:     "Its check passes again: nobody is needed",
	watch:    "Watch whether its check passes again",
	deal:     "so that what does not do its work is dealt with",
	purpose:  "so that %s does its work again",
	look:     "Find out in the output of %s why it does not do its work",
	lookAt:   "autoheal logs %s",
	retry:    "Start %s again, once its check can pass",
	steps:    func(*incident) []autoheal.NextStep { return nil },
}

// commonWords are of crash loops that share their cause (behaviour E4).
var commonWords = kindWords{
	happened: func(i *incident) string { return "what shares " + subjectName(i) + " ends again and again" },
	work:     "Of what shares the cause",
	idle:     "Nothing that shares the cause was to be started again",
	persists: "what these workloads share stays as it is until somebody changes it",
	passed:   "what shares the cause came up by itself",
	often:    "what shares the cause came up by itself, as it has too often",
	again:    "what shares the cause failed together again",
	fine:     "What shares the cause runs again: nobody is needed",
	watch:    "Watch whether the next tries stay up",
	deal:     "so that the shared cause is dealt with",
	purpose:  "so that %s is tried again",
	look:     "Find out in the output of %s why it ended, apart from the shared cause",
	lookAt:   "autoheal logs %s",
	retry:    "Start %s again, once the shared cause is mended",
	steps: func(i *incident) []autoheal.NextStep {
		if i.Phase == autoheal.Recovered || len(i.Order) == 0 {
			return nil
		}
		return []autoheal.NextStep{{
			Do: "Find what changed in " + subjectName(i) + " and undo it: what shares it is tried again by itself", Command: "autoheal logs " + string(i.Order[0]),
		}}
	},
}

var crashWords = kindWords{
	happened: func(i *incident) string { return subjectName(i) + " ended before its time" },
	work:     "Of what had ended before its time",
	idle:     "Nothing that had ended was to be started again",
	persists: "its process is gone, and does not come back by itself",
	passed:   "it had been started again by somebody else",
	often:    "it was started again, as it has been too often",
	again:    "it ended again soon after its restart",
	fine:     "It runs again: nobody is needed",
	watch:    "Watch whether it stays up",
	deal:     "so that what ended is dealt with",
	purpose:  "so that %s stays up",
	look:     "Find out in the output of %s why it ended",
	lookAt:   "autoheal logs %s",
	retry:    "Start %s again, once the cause is mended",
	steps:    func(*incident) []autoheal.NextStep { return nil },
}

var roomWords = kindWords{
	happened: func(i *incident) string { return subjectName(i) + " found no place to run" },
	work:     "Of what waits for a place",
	idle:     "Nothing waits for a place any more",
	persists: "no place came free by itself in time",
	passed:   "the wait for a place ended before anybody had to make room",
	often:    "a place came free, and it is too often missing",
	again:    "the place was lost again soon after it had been made",
	fine:     "Nobody waits for this place any more: nobody is needed",
	watch:    "Watch whether a place comes free",
	deal:     "so that the shortage is dealt with",
	purpose:  "so that %s gets a place",
	look:     "See what %s asks for, and where that would fit",
	lookAt:   "autoheal why %s",
	retry:    "Start %s again, once there is room",
	steps: func(i *incident) []autoheal.NextStep {
		if i.Phase == autoheal.Recovered {
			return nil
		}
		return []autoheal.NextStep{
			{Do: "See what holds the capacity and what of it can wait", Command: "autoheal workloads"},
			{Do: "Add capacity, or mark what can wait as preemptible, before the next one asks for a place"},
		}
	},
}
