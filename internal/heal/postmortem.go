package heal

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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

// postMortem writes the account of an incident in Markdown: a pure function of what was journalled.
func postMortem(i *incident) string {
	var b strings.Builder
	pf := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	pf("# %s: %s on %s\n\n", i.ID, i.Kind, i.Subject)
	if i.Simulated {
		pf("**Simulated hardware: the GPUs of this cluster are made up.**\n\n")
	}
	pf("- Outcome: **%s**. %s\n", i.Phase, summary(i))
	pf("- Cause: %s (confidence %s, rule `%s`)\n", i.Cause, confidenceWord(i), i.Because)
	pf("- Onset %s, first seen %s later", stamp(i.Since), i.Opened.Sub(i.Since).Round(time.Millisecond))
	if !i.Ended.IsZero() {
		pf(", ended %s (%s after the onset)", stamp(i.Ended), i.Ended.Sub(i.Since).Round(time.Millisecond))
	}
	pf("\n- %s\n", nature(i))
	if i.MergedInto != "" {
		pf("- It was a symptom of %s.\n", i.MergedInto)
	}
	pf("\n## Workloads\n\n")
	recoveryTable(&b, i)
	pf("\n## Evidence\n\n")
	for _, s := range i.Evidence {
		pf("- %s `%s` from %s on %s", stamp(s.At), s.Rule, s.Source, s.Subject)
		if s.Excerpt != "" {
			pf(": %q", clip(s.Excerpt, 400))
		}
		pf("\n")
	}
	if more := i.EvidenceN - len(i.Evidence); more > 0 {
		pf("- and %d more of the same\n", more)
	}
	pf("\n## What was done\n\n")
	actionTable(&b, i)
	pf("\n## Timeline\n\n")
	for _, m := range i.Timeline {
		if m.Type != string(journal.TypePostMortem) {
			pf("- %s %s\n", m.At.UTC().Format("15:04:05.000"), oneLine(momentText(i, m)))
		}
	}
	pf("\n## Next\n\n")
	next := recommend(i)
	switch {
	case len(next) > 0:
	case i.Ended.IsZero():
		next = []string{"It has not ended: watch it with autoheal incidents show " + string(i.ID) + " --watch"}
	default:
		next = []string{"Nothing to do."}
	}
	for _, r := range next {
		pf("- %s\n", r)
	}
	return b.String()
}

// withoutCause takes an incident's cause off the end of a sentence, where it has been said already.
func (i *incident) withoutCause(s string) string {
	return strings.TrimSuffix(s, ": "+i.Cause)
}

// momentText is a line of the timeline. The cause stands at the top, and of a message only that it went out is news.
func momentText(i *incident, m autoheal.Moment) string {
	if m.Type == string(journal.TypeAlertQueued) {
		head, _, _ := strings.Cut(m.Text, "): ")
		return head + ")"
	}
	return i.withoutCause(m.Text)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func confidenceWord(i *incident) string {
	switch {
	case i.Conclusive || i.Confidence >= 0.9:
		return "certain"
	case i.Confidence >= 0.5:
		return "likely"
	}
	return "unknown"
}

func nature(i *incident) string {
	switch {
	case i.Persistent:
		return "Persistent: it went away by itself, as too often before."
	case i.Phase == autoheal.Cleared:
		return "Transient: the evidence was withdrawn before the grace was over."
	case i.Reopened > 0:
		return fmt.Sprintf("Persistent: it came back %d times within the window of a relapse.", i.Reopened)
	case i.Conclusive:
		return "Persistent: the evidence was conclusive."
	}
	return "Persistent: the silence outlasted its grace."
}

func recoveryTable(b *strings.Builder, i *incident) {
	all := append([]*recovery{}, i.Past...)
	for _, w := range i.Order {
		all = append(all, i.Recoveries[w])
	}
	if len(all) == 0 {
		b.WriteString("None was affected.\n")
		return
	}
	b.WriteString("| workload | class | objective | end | proof | time to safe | time to running | from | to | why |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, rec := range all {
		v := rec.view()
		end, within := cmp.Or(string(rec.End), "under way"), ""
		if v.WithinObjective != nil && !*v.WithinObjective {
			within = " (objective missed)"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s%s | %s | %s | %s | %s | %s | %s |\n", rec.Workload, rec.Class, rec.Objective, end, within, rec.Proof,
			seconds(v.TimeToSafeSeconds), seconds(v.TimeToRunningSeconds), dash(rec.From), dash(rec.Node), strings.ReplaceAll(oneLine(i.withoutCause(rec.Reason)), "|", `\|`))
	}
	for _, rec := range all {
		if rec.Overlap != nil {
			fmt.Fprintf(b, "\n%s: overlap of the old and the new copy %s.\n", rec.Workload, rec.Overlap.Round(time.Millisecond))
		}
		if rec.Proof == autoheal.ProofSelfStop {
			fmt.Fprintf(b, "\n%s: the proof is a deadline that its shim enforces; a frozen kernel, a paused virtual machine or a stopped shim would not have obeyed it.\n", rec.Workload)
		}
	}
}

func seconds(s *autoheal.Seconds) string {
	if s == nil {
		return "-"
	}
	return time.Duration(*s).Round(time.Millisecond).String()
}

func dash(n autoheal.NodeID) string {
	if n == "" {
		return "-"
	}
	return string(n)
}

func actionTable(b *strings.Builder, i *incident) {
	if len(i.Actions) == 0 {
		b.WriteString("Nothing.\n")
		return
	}
	b.WriteString("| action | verb | target | by | intent | result | outcome |\n|---|---|---|---|---|---|---|\n")
	for _, a := range i.Actions {
		result := "-"
		if !a.ResultAt.IsZero() {
			result = a.ResultAt.Sub(a.IntentAt).Round(time.Millisecond).String() + " later"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", a.ID, a.Verb, a.Target, a.Actor, a.IntentAt.UTC().Format("15:04:05.000"), result,
			strings.ReplaceAll(oneLine(outcomeText(a)), "|", `\|`))
	}
}
