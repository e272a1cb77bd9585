package heal

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// writePostMortem journals the fingerprint of an ended incident's account; the text follows from the journal.
func (c *Core) writePostMortem(i *incident) {
	if i.Phase == autoheal.Cleared && len(i.Actions) == 0 {
		return
	}
	sum := sha256.Sum256([]byte(postMortem(i)))
	c.record(i.ID, journal.PostMortem{SHA256: hex.EncodeToString(sum[:])})
}

// sheet is a post-mortem being written.
type sheet struct{ b strings.Builder }

func (s *sheet) pf(format string, args ...any) { fmt.Fprintf(&s.b, format, args...) }

// mostRows is how many of each sort a post-mortem tells of. Of a zone that was lost it counts the others: nobody reads a
// hundred thousand rows, and nobody is healed while they are written.
const mostRows = 1000

// first returns the first of a list, and says how many are left out when they have been told.
func first[T any](s *sheet, all []T) ([]T, func()) {
	more := len(all) - mostRows
	if more <= 0 {
		return all, func() {}
	}
	return all[:mostRows], func() { s.pf("\nAnd %d more.\n", more) }
}

// head begins a section.
func (s *sheet) head(title string) { s.pf("\n## %s\n\n", title) }

// postMortem writes the account of an incident in Markdown: a pure function of what was journalled. Whatever text may come
// from elsewhere passes said, cell or code.
func postMortem(i *incident) string {
	s, a := &sheet{}, account(i)
	s.pf("# %s: %s on %s\n\n", i.ID, i.Kind, said(i.Subject.String()))
	if i.Simulated {
		s.pf("**Simulated hardware: the GPUs of this cluster are made up.**\n\n")
	}
	s.summary(i, a)
	s.rootCause(i, a)
	s.head("Workloads")
	s.recoveries(i, a)
	s.head("Evidence")
	s.evidence(i)
	s.head("What was done")
	s.actions(i)
	s.head("What held it")
	s.holds(i, a)
	s.head("Cost")
	s.cost(i, a)
	s.head("Timeline")
	moments, more := first(s, i.Timeline)
	for _, m := range moments {
		if m.Type != string(journal.TypePostMortem) {
			s.pf("- %s %s\n", momentAt(i.Since, m.At), said(momentText(i, m)))
		}
	}
	more()
	s.head("Next")
	s.next(a)
	return s.b.String()
}

// momentAt writes a moment, with its day when that is not the one on which the incident began.
func momentAt(since, t time.Time) string {
	if t.UTC().Format(time.DateOnly) != since.UTC().Format(time.DateOnly) {
		return stamp(t)
	}
	return t.UTC().Format("15:04:05.000")
}

func (s *sheet) summary(i *incident, a autoheal.Account) {
	t := a.Times
	s.pf("%s. Outcome: **%s**. %s\n\n", said(happened(i)), i.Phase, said(summary(i)))
	s.pf("| onset | first evidence | detection delay | safe | running | within objective | ended |\n|---|---|---|---|---|---|---|\n")
	within, ended := "-", "not yet"
	if t.Measured > 0 {
		within = fmt.Sprintf("%d of %d", t.Within, t.Measured)
	}
	if t.EndSeconds != nil {
		ended = stamp(i.Ended) + ", after " + seconds(t.EndSeconds)
	}
	s.pf("| %s | %s | %s | %s | %s | %s | %s |\n", stamp(t.Onset), stamp(t.FirstEvidence), seconds(&t.DetectionDelaySeconds),
		seconds(t.SafeSeconds), seconds(t.RunningSeconds), within, ended)
	if i.MergedInto != "" {
		s.pf("\nIt was a symptom of %s.\n", i.MergedInto)
	}
}

func (s *sheet) rootCause(i *incident, a autoheal.Account) {
	c := a.RootCause
	s.head("Root cause")
	s.pf("%s. Confidence: **%s**, by the rule %s.\n", said(strings.TrimSuffix(oneLine(c.Text), ".")), c.Confidence, code(c.Rule))
	if c.Quote != "" {
		s.pf("\nThe line that told of it, from %s at %s (quoted, untrusted): %s\n", said(c.Source), stamp(*c.At), code(clip(c.Quote, 400)))
	}
	s.pf("\n%s", said(a.Nature))
	switch a.Repeats {
	case 0:
		s.pf(" It is the first of its kind on %s within 30 days.\n", said(subjectName(i)))
	case 1:
		s.pf(" It has happened to %s once before within 30 days.\n", said(subjectName(i)))
	default:
		s.pf(" It has happened to %s %d times before within 30 days.\n", said(subjectName(i)), a.Repeats)
	}
}

func (s *sheet) recoveries(i *incident, a autoheal.Account) {
	all := i.everyRecovery()
	if len(all) == 0 {
		s.pf("None was affected.\n")
		return
	}
	s.pf("| workload | class | objective | end | proof | time to safe | time to running | from | to | why |\n|---|---|---|---|---|---|---|---|---|---|\n")
	shown, more := first(s, byWorth(all))
	for _, rec := range shown {
		v := rec.view()
		end, within := cmp.Or(string(rec.End), "under way"), ""
		if v.WithinObjective != nil && !*v.WithinObjective {
			within = " (objective missed)"
		}
		name := string(rec.Workload)
		if rec.Gang != "" {
			name = fmt.Sprintf("gang %s, %d ranks", rec.Gang, len(rec.Members))
		}
		s.pf("| %s | %s | %s | %s%s | %s | %s | %s | %s | %s | %s |\n", cell(name), rec.Class, rec.Objective, end, within, rec.Proof,
			seconds(v.TimeToSafeSeconds), seconds(v.TimeToRunningSeconds), cell(string(rec.From)), cell(string(rec.Node)), cell(i.withoutCause(rec.Reason)))
	}
	more()
	if len(a.Proofs) > 0 {
		s.pf("\nHow it is known that an old copy was gone before a new one started:\n\n")
		for _, p := range a.Proofs {
			s.pf("- %s: %s (%s)\n", said(string(p.Workload)), said(p.Text), p.Proof)
		}
	}
	for _, rec := range all {
		if rec.Overlap != nil {
			s.pf("\n%s: overlap of the old and the new copy %s.\n", said(string(rec.Workload)), rec.Overlap.Round(time.Millisecond))
		}
	}
}

// byWorth puts, where not all are told of, what needs a reader first: what is not back, then what came back late.
func byWorth(all []*recovery) []*recovery {
	if len(all) <= mostRows {
		return all
	}
	var lost, late, well []*recovery
	for _, rec := range all {
		switch {
		case rec.End != autoheal.EndRecovered:
			lost = append(lost, rec)
		case rec.RunningAt.After(rec.Deadline):
			late = append(late, rec)
		default:
			well = append(well, rec)
		}
	}
	return slices.Concat(lost, late, well)
}

func (s *sheet) evidence(i *incident) {
	if len(i.Evidence) == 0 {
		s.pf("None was kept.\n")
	}
	for _, e := range i.Evidence {
		s.pf("- %s %s from %s on %s", stamp(e.At), code(e.Rule), said(e.Source), said(e.Subject.String()))
		if e.Excerpt != "" {
			s.pf(": %s", code(clip(oneLine(e.Excerpt), 400)))
		}
		s.pf("\n")
	}
	if more := i.EvidenceN - len(i.Evidence); more > 0 {
		s.pf("- and %d more of the same\n", more)
	}
}

func (s *sheet) actions(i *incident) {
	if len(i.Actions) == 0 {
		s.pf("Nothing.\n")
		return
	}
	s.pf("| action | verb | target | by | intent | result | outcome |\n|---|---|---|---|---|---|---|\n")
	actions, more := first(s, i.Actions)
	for _, a := range actions {
		result := "-"
		if !a.ResultAt.IsZero() {
			result = a.ResultAt.Sub(a.IntentAt).Round(time.Millisecond).String() + " later"
		}
		s.pf("| %s | %s | %s | %s | %s | %s | %s |\n", a.ID, a.Verb, cell(a.Target.String()), cell(a.Actor), a.IntentAt.UTC().Format("15:04:05.000"), result,
			cell(outcomeText(a)))
	}
	more()
}

func (s *sheet) holds(i *incident, a autoheal.Account) {
	if len(a.Holds) == 0 {
		s.pf("Nothing.\n")
		return
	}
	s.pf("| target | to be done | gate | reason | from | for | why |\n|---|---|---|---|---|---|---|\n")
	for _, h := range a.Holds {
		lasted := "still"
		if h.To != nil {
			lasted = h.To.Sub(h.From).Round(time.Millisecond).String()
		}
		s.pf("| %s | %s | %s | %s | %s | %s | %s |\n", cell(h.Target.String()), cell(h.Verb), cell(h.Gate), h.Reason, h.From.UTC().Format("15:04:05.000"), lasted, cell(h.Detail))
	}
	if i.HoldsMore > 0 {
		s.pf("\nAnd %d more.\n", i.HoldsMore)
	}
}

func (s *sheet) cost(i *incident, a autoheal.Account) {
	s.pf("GPU-seconds lost, from the failure until the GPUs were of use again: %.0f.", a.Loss.GPUSeconds)
	if a.Loss.Counting > 0 {
		s.pf(" %s more: %s not back, and what that costs is counted no further.", times(a.Loss.Counting, "workload loses", "workloads lose"), map[bool]string{true: "it is", false: "they are"}[a.Loss.Counting == 1])
	}
	s.pf(" Work since the last checkpoint is not known here.\n")
}

func (s *sheet) next(a autoheal.Account) {
	for _, n := range a.Next {
		s.pf("- %s", said(n.Do))
		if n.Command != "" {
			s.pf(": %s", code(n.Command))
		}
		s.pf("\n")
	}
}
