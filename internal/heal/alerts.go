package heal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// alertSpec is a message before it is queued; dedup makes it the same message when asked for twice.
type alertSpec struct {
	name     string
	severity autoheal.Severity
	dedup    string
	text     string
	source   string
	labels   map[string]string
}

// alert queues a message once. The outbox is journalled, so that none is lost and none is sent twice after a restart.
func (c *Core) alert(i *incident, s alertSpec) string {
	if s.dedup != "" && c.d.alerted(s.dedup) {
		return ""
	}
	id := fmt.Sprintf("alert-%06d", c.d.Counters.Alert+1)
	if s.source == "" {
		s.source = "autoheal"
		if i != nil {
			s.source = string(i.ID)
		}
	}
	if i != nil && i.Simulated {
		s.text += " [simulated hardware]"
	}
	c.record(incidentID(i), journal.AlertQueued{
		ID: id, Severity: s.severity, Name: s.name, Channel: "default", DedupKey: s.dedup, Text: s.text, Source: s.source, Labels: s.labels,
	})
	return id
}

// notifyFailure tells that an incident is being acted upon.
func (c *Core) notifyFailure(i *incident) {
	if i.Subject.Kind == autoheal.RefDomain {
		c.pageOutage(i)
		return
	}
	if i.isCommon() {
		c.alertCommon(i)
		return
	}
	if !c.pol.Alerts.NotifyOnFailure || i.Kind == autoheal.ResourceExhaustion && slices.Contains(c.ladder(i), policy.StepAlertCapacity) {
		return // see stepAlertCapacity
	}
	c.alert(i, alertSpec{
		name: failureName(i), severity: autoheal.SeverityWarning, dedup: string(i.ID) + " failure",
		text: fmt.Sprintf("%s: %s. %s", i.Subject, strings.TrimSuffix(i.Cause, "."), c.intention(i)),
	})
}

// pageOutage is the one page about a domain that is out.
func (c *Core) pageOutage(i *incident) {
	c.alert(i, alertSpec{
		name: "domain-outage", severity: autoheal.SeverityCritical, dedup: string(i.ID) + " failure",
		text: fmt.Sprintf("%s. Workloads affected: %d; each is moved after its grace and with its proof. Check the power and the network of %s: nodes that are back return to service by themselves; of one that is off for good: autoheal fence confirm NODE --powered-off", i.Cause, i.Open, i.Subject.ID),
	})
}

// failureName is the name of the alert about an incident: its kind, but what ended through no fault of its own is no crash.
func failureName(i *incident) string {
	if i.Kind == autoheal.CrashLoop && i.Because != "crash_loop."+string(autoheal.ExitCrashed) && i.Because != "crash_loop."+string(autoheal.ExitStartFailed) {
		return "workload-ended"
	}
	return strings.ReplaceAll(string(i.Kind), "_", "-")
}

// intention says what is going to be done about an incident.
func (c *Core) intention(i *incident) string {
	if i.Kind == autoheal.GPUFailure {
		return gpuIntention(i)
	}
	if i.Subject.Kind == autoheal.RefNode {
		return fmt.Sprintf("Workloads affected: %d.", i.Open)
	}
	if i.Kind == autoheal.NetworkPartition {
		return "It is restarted as one, once it is clear which nodes to keep off."
	}
	for _, w := range i.Order {
		switch rec := i.Recoveries[w]; rec.Rung {
		case string(policy.StepPause):
			return "It is paused."
		case string(policy.StepGrowMemory):
			return fmt.Sprintf("It is restarted with %d MiB.", rec.MemoryMB)
		default:
			return fmt.Sprintf("It is restarted in %s.", max(0, rec.NotBefore.Sub(c.now)).Round(100*time.Millisecond))
		}
	}
	return ""
}

// alertHardware asks for the machine to be looked at.
func (c *Core) alertHardware(i *incident) {
	c.alert(i, alertSpec{
		name: "check-hardware", severity: autoheal.SeverityWarning, dedup: string(i.ID) + " hardware",
		text: fmt.Sprintf("node %s has not answered since %s: check its power, network and agent. When it is back it returns to service by itself; if it is off for good: autoheal fence confirm %s --powered-off", i.Subject.ID, i.Since.Format(time.RFC3339), i.Subject.ID),
	})
}

// howOften says what makes silences persistent.
func (c *Core) howOften() string {
	o := c.pol.Transient.Silence
	return fmt.Sprintf("%d silences within %s", o.Count, policy.FormatDuration(o.Window))
}

// alertFlapping tells of a node that comes back each time, and too often (behaviour B3).
func (c *Core) alertFlapping(i *incident) {
	c.alert(i, alertSpec{
		name: "node-flapping", severity: autoheal.SeverityWarning, dedup: string(i.ID) + " flapping",
		text: fmt.Sprintf("node %s answers again, but that is no transient any more: %s. Check its network and its agent, or keep work away from it: autoheal cordon %s", i.Subject.ID, c.howOften(), i.Subject.ID),
	})
}

// notifyEnd tells how an incident ended. What needs a person is always said; good news only when they are wanted.
func (c *Core) notifyEnd(i *incident) {
	switch i.Phase {
	case autoheal.Recovered:
		if c.pol.Alerts.NotifyOnRecovery {
			c.alert(i, alertSpec{
				name: "recovered", severity: autoheal.SeverityInfo, dedup: fmt.Sprintf("%s recovered %d", i.ID, i.Reopened),
				text: c.goodNews(i),
			})
		}
	case autoheal.Escalated:
		if c.ticketed(i) {
			return
		}
		c.alert(i, alertSpec{
			name: "needs-a-person", severity: autoheal.SeverityCritical, dedup: fmt.Sprintf("%s escalated %d", i.ID, i.Reopened),
			text: escalation(i) + c.offerDrains(i),
		})
	}
}

// goodNews says what is well again: of a node that is still silent, its work.
func (c *Core) goodNews(i *incident) string {
	what := i.Subject.String() + " recovered"
	if len(c.silentOnes(i)) > 0 {
		what = i.Subject.String() + " is still silent, and its work is taken care of"
	}
	return fmt.Sprintf("%s: %s. %s", what, strings.TrimSuffix(i.Cause, "."), summary(i))
}

// escalation is the whole message for the person on call: what broke, what was tried, what to type.
func escalation(i *incident) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s needs a person: %s.", i.Subject, strings.TrimSuffix(i.Cause, "."))
	if c := rootCause(i); c.Quote != "" && !strings.Contains(i.Cause, c.Quote) {
		fmt.Fprintf(&b, " It was told by %s, %s: %q.", c.Source, c.Confidence, clip(c.Quote, 200))
	}
	if i.Repeats > 0 {
		fmt.Fprintf(&b, " It happened %s before within 30 days.", times(i.Repeats, "time", "times"))
	}
	for _, w := range i.Order {
		if rec := i.Recoveries[w]; rec.End == autoheal.EndEscalated {
			fmt.Fprintf(&b, " %s: %s.", w, strings.TrimSuffix(i.withoutCause(rec.Reason), "."))
		}
	}
	if tried := tried(i); tried != "" {
		fmt.Fprintf(&b, " Tried: %s.", tried)
	}
	b.WriteString(" Next: " + strings.Join(recommend(i), "; "))
	return b.String()
}

func tried(i *incident) string {
	var out []string
	for _, a := range i.Actions {
		if a.Verb != autoheal.Refresh {
			out = append(out, fmt.Sprintf("%s %s (%s)", a.Verb, a.Target.ID, outcomeText(a)))
		}
	}
	if n := len(out); n > 8 {
		out = append(out[:4:4], append([]string{fmt.Sprintf("%d more", n-8)}, out[n-4:]...)...)
	}
	return strings.Join(out, ", ")
}

func outcomeText(a *action) string {
	switch a.Outcome {
	case "":
		return "under way"
	case autoheal.OutcomeDone:
		return "accepted"
	case autoheal.OutcomeNotSent:
		return "not sent: " + a.Detail
	default:
		return "outcome unknown"
	}
}

// stepPage pages by the clock (behaviour F2): the objective has passed and the workload is not back, whatever the phase.
// Being held for a quarter of the objective is a warning before that.
func (c *Core) stepPage(i *incident, rec *recovery) {
	if rec == nil || rec.Step == autoheal.StepDone || rec.Step == autoheal.StepVerifying || i.Phase.Ended() {
		return
	}
	k := key{inc: i.ID, w: rec.Workload, what: dutyPage}
	if c.d.Storm != nil && !c.d.Storm.Released && !i.Conclusive {
		c.await(k, time.Time{}, "storm") // the storm has pages of its own
		return
	}
	if c.now.Before(rec.Deadline) {
		c.after(k, rec.Deadline)
		return
	}
	if i.isCommon() {
		c.pageCommon(i, rec)
		return
	}
	text := fmt.Sprintf("%s is not back after its objective of %s: %s.", rec.Workload, rec.Objective, strings.TrimSuffix(i.Cause, "."))
	if rec.Held != nil {
		text += fmt.Sprintf(" Held (%s): %s.", rec.Held.Reason, rec.Held.Detail)
		if i.Held != nil && rec.Held.Reason == autoheal.ReasonNoCapacity {
			text += fmt.Sprintf(" No room is made for it (%s): %s.", i.Held.Reason, i.Held.Detail)
		}
	} else {
		text += fmt.Sprintf(" It is %s; healing goes on.", rec.Step)
	}
	c.alert(i, alertSpec{
		name: "objective-missed", severity: autoheal.SeverityCritical, dedup: fmt.Sprintf("%s late %s %d", i.ID, rec.Workload, rec.Opened.UnixMilli()),
		text: text + " See: autoheal incidents show " + string(i.ID),
	})
}

// stepWarnSubject warns of a step on the subject that has been held for a quarter of the shortest objective of the workloads
// that cannot move before it is done.
func (c *Core) stepWarnSubject(i *incident) {
	lead, ok := i.waitsForSubject()
	if i.Held == nil || !ok || i.Phase.Ended() || i.Held.Reason == autoheal.ReasonApprovalNeeded { // that was said when it was asked for
		return
	}
	k := key{inc: i.ID, what: dutyWarn}
	if c.d.Storm != nil && !c.d.Storm.Released {
		c.await(k, time.Time{}, "storm")
		return
	}
	if at := i.Held.Since.Add(lead.Objective / 4); c.now.Before(at) {
		c.after(k, at)
		return
	}
	verb, _ := heldVerb(i, i.Subject)
	c.alert(i, alertSpec{
		name: "recovery-held", severity: autoheal.SeverityWarning, dedup: fmt.Sprintf("%s held %s %s", i.ID, verb, i.Held.Reason),
		text: fmt.Sprintf("%s of %s has been held for a quarter of the objective of %s, which waits for it (%s): %s", verb, i.Subject, lead.Workload, i.Held.Reason, i.Held.Detail),
	})
}

// waitsForSubject returns the recovery with the shortest objective of those that have not begun: where a part is broken, what
// runs on it is not touched before the part is contained. One that is held itself is warned of by itself, and off a silent
// node work moves whether it is cordoned or not.
func (i *incident) waitsForSubject() (lead *recovery, ok bool) {
	for _, w := range i.Order {
		rec := i.Recoveries[w]
		if i.Kind != autoheal.NodeOffline && rec.Step == autoheal.StepWaiting && rec.Held == nil && (lead == nil || rec.Objective < lead.Objective) {
			lead = rec
		}
	}
	return lead, lead != nil
}

// stepWarn warns of a recovery that has been held for a quarter of its objective (behaviour F2). A fence that is waited out
// is no news: it is part of how such a workload is recovered.
func (c *Core) stepWarn(i *incident, rec *recovery) {
	if rec == nil {
		c.stepWarnSubject(i)
		return
	}
	if rec.Step == autoheal.StepDone || rec.Held == nil || i.Phase.Ended() || !c.now.Before(rec.Deadline) {
		return // over, or late: then the page says it
	}
	k := key{inc: i.ID, w: rec.Workload, what: dutyWarn}
	if c.d.Storm != nil && !c.d.Storm.Released {
		c.await(k, time.Time{}, "storm") // the storm has messages of its own
		return
	}
	if at := rec.Held.Since.Add(rec.Objective / 4); c.now.Before(at) {
		c.after(k, at)
		return
	}
	if rec.Held.Reason == autoheal.ReasonFenceUnproven && !rec.Held.Until.IsZero() || rec.Held.Reason == autoheal.ReasonMaxRestarts {
		return
	}
	c.alert(i, alertSpec{
		name: "recovery-held", severity: autoheal.SeverityWarning, dedup: fmt.Sprintf("%s held %s %s %d", i.ID, rec.Workload, rec.Held.Reason, rec.Opened.UnixMilli()),
		text: fmt.Sprintf("%s has been held for a quarter of its objective of %s (%s): %s", rec.Workload, rec.Objective, rec.Held.Reason, rec.Held.Detail),
	})
}
