package heal

import (
	"fmt"
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/journal"
)

// describe says in one line what a record of an incident means: the timeline of the post-mortem, the stream of changes
// and the log use the same words. Records that say nothing to a person give "".
func describe(r journal.Record) string {
	switch p := r.Data.(type) {
	case journal.IncidentOpened:
		return fmt.Sprintf("%s suspected on %s: %s", p.Kind, p.Subject, p.Cause)
	case journal.EvidenceAdded:
		if p.Signal == nil {
			return ""
		}
		if p.Signal.Excerpt != "" {
			return fmt.Sprintf("evidence %s from %s: %q", p.Signal.Rule, p.Signal.Source, clip(p.Signal.Excerpt, 200))
		}
		return fmt.Sprintf("evidence %s from %s", p.Signal.Rule, p.Signal.Source)
	case journal.IncidentMerged:
		return fmt.Sprintf("%s %s", p.Reason, p.Into)
	case journal.IncidentPhase:
		return fmt.Sprintf("%s -> %s: %s", p.From, p.To, p.Reason)
	case journal.StepDone:
		return strings.TrimSuffix(fmt.Sprintf("step %s: %s, %s", p.Step, p.Result, p.Reason), ", ")
	case journal.StormBegan:
		return fmt.Sprintf("%d of %d nodes silent: nothing is moved", p.Silent, p.Of)
	case journal.StormEnded:
		return "the hold on silent nodes ended: " + p.By
	case journal.MarkSet:
		return fmt.Sprintf("%s of %s is in force", p.Verb, p.Ref)
	case journal.MarkCleared:
		return fmt.Sprintf("our mark on %s is gone: %s", p.Ref, p.Reason)
	case journal.AlertQueued:
		return fmt.Sprintf("alert %s (%s): %s", p.Name, p.Severity, p.Text)
	case journal.ApprovalAsked:
		if p.Offer {
			return fmt.Sprintf("offered, with approval %s: %s %s", p.ID, p.Verb, p.Target)
		}
		return fmt.Sprintf("approval %s asked for %s %s", p.ID, p.Verb, p.Target)
	case journal.ApprovalGiven:
		return fmt.Sprintf("approval %s given by %s", p.ID, p.By)
	case journal.ApprovalUsed:
		return fmt.Sprintf("approval %s used by %s", p.ID, p.Action)
	case journal.ApprovalExpired:
		if p.Reason != "" {
			return fmt.Sprintf("approval %s is void: %s", p.ID, p.Reason)
		}
		return fmt.Sprintf("approval %s expired", p.ID)
	case journal.Command:
		return fmt.Sprintf("%s asked for %s: %s", p.Actor, strings.TrimSpace(string(p.Verb)+" "+p.Target.ID), p.Reply)
	default:
		return describeRecovery(r)
	}
}

func describeRecovery(r journal.Record) string {
	switch p := r.Data.(type) {
	case journal.RecoveryOpened:
		what := string(p.Workload)
		if p.Gang != "" {
			what = fmt.Sprintf("gang %s (%d ranks)", p.Gang, len(p.Members))
		}
		return fmt.Sprintf("%s is affected: class %s, objective %s, back by %s", what, p.Class, p.Objective, p.Deadline.UTC().Format(time.TimeOnly))
	case journal.RecoveryStep:
		to := string(p.To)
		if p.End != "" {
			to += " (" + string(p.End) + ")"
		}
		return fmt.Sprintf("%s: %s -> %s, %s try %d: %s", p.Workload, p.From, to, p.Rung, p.Try, p.Reason)
	case journal.Held:
		return strings.TrimSpace(fmt.Sprintf("%s %s is held, %s: %s", p.Verb, p.Target.ID, p.Reason, p.Detail))
	case journal.Released:
		return strings.TrimSpace(fmt.Sprintf("%s %s is no longer held", p.Verb, p.Target.ID))
	case journal.Intent:
		return strings.TrimSuffix(fmt.Sprintf("%s %s of %s: %s", p.Action.ID, p.Action.Verb, p.Action.Target, p.Action.Reason), ": ")
	case journal.Result:
		return strings.TrimSuffix(fmt.Sprintf("%s %s: %s", p.Action, p.Outcome, p.Detail), ": ")
	case journal.Safe:
		return fmt.Sprintf("%s is safe since %s: %s", p.Workload, p.At.UTC().Format("15:04:05.000"), proofText(p.Proof))
	case journal.Running:
		return fmt.Sprintf("%s runs as attempt %d on %s since %s", p.Workload, p.Attempt, p.Node, p.At.UTC().Format("15:04:05.000"))
	case journal.Overlap:
		if p.For == 0 {
			return fmt.Sprintf("the two copies of %s never ran at once", p.Workload)
		}
		return fmt.Sprintf("two copies of %s ran at once for %s", p.Workload, p.For.Round(time.Millisecond))
	case journal.CulpritTold:
		return describeCulprit(p)
	case journal.PairChecked:
		return p.Detail
	case journal.Isolated:
		return fmt.Sprintf("%s is isolated: %s", p.Node, p.Evidence)
	case journal.RestartCounted:
		return fmt.Sprintf("crash %d of %s", p.Count, p.Workload)
	case journal.RestartReset:
		return fmt.Sprintf("the crashes of %s are forgiven: %s", p.Workload, p.Reason)
	case journal.Shadowed:
		return describeShadow(p.Action)
	case journal.Notice:
		return fmt.Sprintf("%s: %s", p.Reason, p.Detail)
	}
	return describeRoom(r)
}

func describeRoom(r journal.Record) string {
	switch p := r.Data.(type) {
	case journal.RoomPlanned:
		return "what would make room: " + p.Text
	case journal.RoomBegun:
		return fmt.Sprintf("room is being made for %s", p.Workload)
	case journal.RoomOver:
		text := fmt.Sprintf("no more room is made for %s: %s", p.Workload, p.Reason)
		if len(p.Spared) > 0 {
			text += fmt.Sprintf("; untouched: %s", named(p.Spared))
		}
		return text
	case journal.DisplacedOver:
		return fmt.Sprintf("%s gave way to another: %s", p.Workload, p.Reason)
	case journal.ScaledBack:
		return strings.TrimSuffix(fmt.Sprintf("%s has %d replicas again: %s", p.Workload, p.Replicas, p.Reason), ": ")
	}
	return ""
}

// clip shortens s to at most n bytes at a character's end.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
