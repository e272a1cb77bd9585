package heal

import (
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
)

// kindWords are the sentences about one kind of failure. None of them may fit another kind (behaviour F3): a reader who sees
// one sentence knows what broke.
type kindWords struct {
	happened func(i *incident) string // what happened to the subject, without a full stop
	work     string                   // begins the count of the workloads
	idle     string                   // nothing was affected
	persists string                   // why it would not have gone away by itself
	passed   string                   // why it counts as transient
	often    string                   // it passed, and too often
	again    string                   // it came back after its recovery
	fine     string                   // nothing is left to do
	watch    string                   // it goes on
	deal     string                   // what a step on the subject is for
	purpose  string                   // what a step on a workload is for; %s names the workload, here and below
	look     string                   // where to look after it was given up
	lookAt   string                   // and the command for that
	retry    string                   // how to go on with it
	steps    func(i *incident) []autoheal.NextStep
}

// wordsOf returns the sentences of an incident's kind.
func wordsOf(i *incident) kindWords {
	switch i.Kind {
	case autoheal.NodeOffline:
		return offlineWords
	case autoheal.GPUFailure:
		return gpuWords
	case autoheal.NodeFault:
		return faultWords
	case autoheal.NetworkPartition:
		return networkWords
	case autoheal.HealthCheck:
		return healthWords
	case autoheal.ResourceExhaustion:
		return roomWords
	}
	if i.isCommon() {
		return commonWords
	}
	return crashWords
}

// subjectName names a subject as people do.
func subjectName(i *incident) string {
	switch i.Subject.Kind {
	case autoheal.RefNode, autoheal.RefGang:
		return string(i.Subject.Kind) + " " + i.Subject.ID
	case autoheal.RefGPU:
		return "GPU " + i.Subject.ID
	case autoheal.RefDomain:
		return strings.Replace(i.Subject.ID, "/", " ", 1)
	case autoheal.RefCluster:
		return "the cluster"
	case autoheal.RefSpec:
		return "program " + i.Subject.ID
	case autoheal.RefImage, autoheal.RefDependency:
		return string(i.Subject.Kind) + " " + i.Subject.ID
	}
	return i.Subject.ID
}

func happened(i *incident) string { return upperFirst(wordsOf(i).happened(i)) }

func upperFirst(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' || strings.HasPrefix(s, "wl-") {
		return s // an ID stays as it is typed
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// nature says whether the failure was transient or persistent, and why.
func nature(i *incident) string {
	w := wordsOf(i)
	switch {
	case i.MergedInto != "":
		return "A symptom: " + string(i.MergedInto) + " tells of its cause."
	case i.Persistent:
		return "Persistent: " + w.often + "."
	case i.Phase == autoheal.Cleared:
		return "Transient: " + w.passed + "."
	case i.Reopened > 0:
		return fmt.Sprintf("Persistent: %s (%s).", w.again, times(i.Reopened, "relapse", "relapses"))
	}
	return "Persistent: " + w.persists + "."
}

// summary counts how the recoveries of an incident ended.
func summary(i *incident) string {
	n := map[string]int{}
	for _, rec := range i.Recoveries {
		n[endWord(rec)]++
	}
	var parts []string
	for _, word := range []string{"recovered", "left alone", "completed", movedOn, "cancelled", takenOver, "escalated", "under way"} {
		if n[word] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[word], word))
		}
	}
	if len(parts) == 0 {
		return wordsOf(i).idle + "."
	}
	return wordsOf(i).work + ": " + strings.Join(parts, ", ") + "."
}

// How a recovery that was cancelled is counted: what others went on with is no loss.
const (
	movedOn   = "restarted by somebody else, such as a drain"
	takenOver = "taken over by another incident"
)

func endWord(rec *recovery) string {
	switch rec.End {
	case autoheal.EndNone:
		return "under way"
	case autoheal.EndLeftAlone:
		return "left alone"
	case autoheal.EndCancelled:
		switch {
		case strings.HasPrefix(rec.Reason, takenOverBy):
			return takenOver
		case strings.HasSuffix(rec.Reason, madeByOther):
			return movedOn
		case strings.HasSuffix(rec.Reason, hasCompleted):
			return "completed"
		}
		return "cancelled"
	}
	return string(rec.End)
}

// How the reasons of cancelled recoveries end.
const (
	madeByOther  = "was made by somebody else"
	hasCompleted = " completed"
)

// nextSteps names what a person should do next, with the command to type: what the kind of failure asks for, then what
// each hold and each workload that was given up asks for.
func nextSteps(i *incident) []autoheal.NextStep {
	w := wordsOf(i)
	switch {
	case i.Phase == autoheal.Dismissed:
		return []autoheal.NextStep{{Do: "Nothing more is done " + w.deal + ": a person dismissed it"}}
	case i.MergedInto != "":
		return []autoheal.NextStep{{Do: "Go on with its cause, " + w.deal, Command: "autoheal incidents show " + string(i.MergedInto)}}
	}
	var out []autoheal.NextStep
	if i.Phase != autoheal.Cleared {
		out = append(out, w.steps(i)...)
	}
	out = append(out, failedSteps(i)...)
	if i.Held != nil {
		out = append(out, gateStep(i, i.Subject, w.deal, *i.Held))
	}
	for _, id := range i.Order {
		rec := i.Recoveries[id]
		switch {
		case rec.Held != nil:
			out = append(out, gateStep(i, autoheal.WorkloadRef(id), fmt.Sprintf(w.purpose, id), *rec.Held))
		case rec.End == autoheal.EndEscalated:
			out = append(out,
				autoheal.NextStep{Do: fmt.Sprintf(w.look, id), Command: fmt.Sprintf(w.lookAt, id)},
				autoheal.NextStep{Do: fmt.Sprintf(w.retry, id), Command: "autoheal workloads resume " + string(id)})
		}
	}
	switch {
	case len(out) > 0:
	case i.Ended.IsZero():
		out = append(out, autoheal.NextStep{Do: w.watch, Command: "autoheal incidents show " + string(i.ID) + " --watch"})
	default:
		out = append(out, autoheal.NextStep{Do: w.fine})
	}
	return out
}

// recommend writes the next steps as sentences; what needs nobody has none.
func recommend(i *incident) []string {
	var out []string
	w := wordsOf(i)
	for _, s := range nextSteps(i) {
		if s.Do != w.fine && s.Do != w.watch && i.Phase != autoheal.Dismissed {
			out = append(out, s.String())
		}
	}
	return out
}
