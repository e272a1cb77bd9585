package heal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// account tells an incident in parts: a pure function of what was journalled.
func account(i *incident) autoheal.Account {
	a := autoheal.Account{
		RootCause: rootCause(i), Transient: i.transient(), Nature: nature(i), Times: accountTimes(i), Proofs: proofs(i),
		Holds: slices.Clone(i.Holds), Loss: loss(i), Repeats: i.Repeats, Next: nextSteps(i),
	}
	a.Summary = fmt.Sprintf("%s. First cause: %s. %s", happened(i), strings.TrimSuffix(oneLine(i.Cause), "."), summary(i))
	if q := a.RootCause.Quote; q != "" && !strings.Contains(i.Cause, q) {
		a.Summary += fmt.Sprintf(" It was told by %s: %q.", a.RootCause.Source, clip(a.RootCause.Quote, 200))
	}
	neverNil(&a.Proofs)
	neverNil(&a.Holds)
	neverNil(&a.Next)
	return a
}

func (i *incident) transient() bool {
	return i.Phase == autoheal.Cleared && !i.Persistent && i.MergedInto == ""
}

// rootCause is the first cause, with the line that told of it: the first conclusive one that quotes anything, else the first.
func rootCause(i *incident) autoheal.RootCause {
	c := autoheal.RootCause{Text: i.Cause, Confidence: confidence(i), Rule: i.Because}
	quotes := func(s autoheal.Signal) bool { return s.Excerpt != "" }
	n := slices.IndexFunc(i.Evidence, func(s autoheal.Signal) bool { return s.Conclusive && quotes(s) })
	if n < 0 {
		n = slices.IndexFunc(i.Evidence, quotes)
	}
	if n >= 0 {
		s := i.Evidence[n]
		at := cmp.Or(s.At, s.SeenAt)
		c.Quote, c.Source, c.At = oneLine(s.Excerpt), s.Source, &at
	}
	return c
}

// confidence puts a number into one of the three words of behaviour F3.
func confidence(i *incident) autoheal.Confidence {
	switch {
	case i.isCommon(): // each crash is certain, that they have one cause is not
		return autoheal.Likely
	case i.Conclusive || i.Confidence >= 0.9:
		return autoheal.Certain
	case i.Confidence >= 0.5:
		return autoheal.Likely
	}
	return autoheal.Unsure
}

// everyRecovery returns those of before a relapse, too.
func (i *incident) everyRecovery() []*recovery {
	all := slices.Clone(i.Past)
	for _, w := range i.Order {
		all = append(all, i.Recoveries[w])
	}
	return all
}

// accountTimes keeps onset, first evidence and the delay of detection apart (behaviour A3).
func accountTimes(i *incident) autoheal.AccountTimes {
	t := autoheal.AccountTimes{Onset: i.Since, FirstEvidence: i.Opened, DetectionDelaySeconds: autoheal.Seconds(max(0, i.Opened.Sub(i.Since)))}
	for _, s := range i.Evidence {
		if !s.At.IsZero() && s.At.Before(t.FirstEvidence) {
			t.FirstEvidence = s.At
		}
	}
	if t.FirstEvidence.Before(t.Onset) {
		t.FirstEvidence = t.Onset // a source that dates by another clock
	}
	if !i.Ended.IsZero() {
		t.EndSeconds = since(i.Since, i.Ended)
	}
	for _, rec := range i.everyRecovery() {
		v := rec.view()
		t.SafeSeconds, t.RunningSeconds = slower(t.SafeSeconds, v.TimeToSafeSeconds), slower(t.RunningSeconds, v.TimeToRunningSeconds)
		if v.WithinObjective != nil {
			t.Measured++
			if *v.WithinObjective {
				t.Within++
			}
		}
	}
	return t
}

func slower(a, b *autoheal.Seconds) *autoheal.Seconds {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}

// proofs says for every workload how it is known that its old copy was gone (behaviour C1).
func proofs(i *incident) []autoheal.ProofGiven {
	var out []autoheal.ProofGiven
	for _, rec := range i.everyRecovery() {
		if len(out) == mostRows {
			break
		}
		if rec.SafeAt.IsZero() {
			continue
		}
		p := autoheal.ProofGiven{Workload: rec.Workload, Proof: rec.Proof, Text: proofText(rec.Proof)}
		if rec.Proof == autoheal.ProofSelfStop {
			p.Text += "; its shim enforces it, which a frozen kernel, a paused virtual machine or a stopped shim would not have obeyed"
		}
		out = append(out, p)
	}
	return out
}

// loss adds up what the incident cost.
func loss(i *incident) autoheal.Loss {
	var l autoheal.Loss
	for _, rec := range i.everyRecovery() {
		switch lost := rec.gpuSecondsLost(); {
		case lost == nil:
			l.Counting++
		default:
			l.GPUSeconds += *lost
			if rec.End == autoheal.EndEscalated && rec.GPUs > 0 {
				l.Counting++
			}
		}
	}
	return l
}

// takenOverBy begins the reason of a recovery that another incident goes on with: what it cost is counted there.
const takenOverBy = "taken over by "

// gpuSecondsLost is the time from the failure until the GPUs of a workload were of use again, times their number; nil
// while that goes on. Of what was given up it is counted until then, and of what ran on it is nothing.
func (rec *recovery) gpuSecondsLost() *float64 {
	until := rec.RunningAt
	switch {
	case rec.GPUs == 0, rec.End == autoheal.EndLeftAlone, strings.HasPrefix(rec.Reason, takenOverBy):
		return new(float64)
	case rec.Step != autoheal.StepDone && rec.Step != autoheal.StepVerifying:
		return nil
	case until.IsZero():
		until = rec.EndedAt
	}
	lost := float64(rec.GPUs) * max(0, until.Sub(rec.FailedAt)).Seconds()
	return &lost
}

// momentText is a line of the timeline. The cause stands at the top, and of a message only that it went out is news.
func momentText(i *incident, m autoheal.Moment) string {
	if m.Type == string(journal.TypeAlertQueued) {
		head, _, _ := strings.Cut(m.Text, "): ")
		return head + ")"
	}
	return i.withoutCause(m.Text)
}

// withoutCause takes an incident's cause off the end of a sentence, where it has been said already.
func (i *incident) withoutCause(s string) string {
	return strings.TrimSuffix(s, ": "+i.Cause)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

func seconds(s *autoheal.Seconds) string {
	if s == nil {
		return "-"
	}
	return time.Duration(*s).Round(time.Millisecond).String()
}
