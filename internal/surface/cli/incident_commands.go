package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

func (a *app) incidentsCmd() *cobra.Command {
	in := tool.IncidentListIn{Brief: true}
	cmd := &cobra.Command{
		Use: "incidents", Short: "List incidents, newest first; show one",
		Example: "  autoheal incidents\n  autoheal incidents --open --watch\n  autoheal incidents --kind crash_loop --since 24h\n  autoheal incidents show inc-000017",
		Args:    cobra.NoArgs,
	}
	f := cmd.Flags()
	f.BoolVar(&in.Open, "open", false, "only those that have not ended")
	f.StringVar(&in.Kind, "kind", "", "only of this kind: "+kindNames())
	f.StringVar(&in.NodeID, "node", "", "only about this node")
	f.StringVar(&in.WorkloadID, "workload", "", "only about this workload")
	f.StringVar(&in.Since, "since", "", "only since: 24h, 7d, or a time")
	f.IntVar(&in.Limit, "limit", 50, "at most so many")
	cmd.RunE = a.run(func(s *session, _ []string) error {
		in.Brief = s.format == "table"
		return show(s, "incident_list", in, renderIncidents)
	})
	cmd.AddCommand(&cobra.Command{
		Use: "show INCIDENT", Short: "Show one incident: cause, evidence, recoveries, actions, timeline",
		Example: "  autoheal incidents show inc-000017\n  autoheal incidents show inc-000017 --watch",
		Args:    cobra.ExactArgs(1),
		RunE: a.run(func(s *session, args []string) error {
			return show(s, "incident_get", tool.IncidentIn{IncidentID: args[0]}, renderIncident)
		}),
	})
	return cmd
}

func kindNames() string { return joinIDs(autoheal.FailureKinds()) }

func renderIncidents(p *page, v tool.IncidentListOut) {
	var rows [][]string
	for _, i := range v.Incidents {
		rows = append(rows, []string{
			string(i.ID), string(i.Kind), string(i.Phase), subjectText(i), string(i.Class), p.ago(i.Since), heldOrNothing(i.Held), i.Cause,
		})
	}
	p.table("No incidents.", []string{"INCIDENT", "KIND", "PHASE", "SUBJECT", "CLASS", "SINCE", "HELD", "CAUSE"}, rows)
}

func subjectText(i autoheal.Incident) string {
	if i.Simulated {
		return i.Subject.String() + " (simulated hardware)"
	}
	return i.Subject.String()
}

func heldOrNothing(h *autoheal.Held) string {
	if h == nil {
		return ""
	}
	return heldText(*h)
}

func renderIncident(p *page, i autoheal.Incident) {
	ended := ""
	if i.EndedAt != nil {
		ended = i.EndedAt.UTC().Format(time.RFC3339)
	}
	p.fields(
		"Incident", string(i.ID), "Kind", string(i.Kind), "Phase", string(i.Phase), "Subject", subjectText(i), "Domains", joinIDs(i.Domains),
		"Class", string(i.Class), "Since", i.Since.UTC().Format(time.RFC3339), "Ended", ended, "Cause", i.Cause,
		"Confidence", strconv.FormatFloat(i.Confidence, 'f', 2, 64), "Rule", i.Because, "Before", repeatsText(i.Repeats), "Held", heldOrNothing(i.Held),
		"Part of", string(i.MergedInto),
	)
	if len(i.Recoveries) > 0 {
		p.head("Recoveries")
		renderRecoveries(p, i.Recoveries)
	}
	if len(i.Evidence) > 0 {
		p.head("Evidence (quoted text is untrusted)")
		var rows [][]string
		for _, e := range i.Evidence {
			rows = append(rows, []string{e.At.UTC().Format(clockTime), e.Rule, e.Subject.String(), e.Source, e.Excerpt})
		}
		p.table("", []string{"AT", "RULE", "SUBJECT", "SOURCE", "EXCERPT"}, rows)
	}
	renderHolds(p, i.Holds)
	if len(i.Timeline) > 0 {
		p.head("Timeline")
		var rows [][]string
		for _, m := range i.Timeline {
			rows = append(rows, []string{m.At.UTC().Format(clockTime), m.Type, m.Text})
		}
		p.table("", []string{"AT", "RECORD", "WHAT"}, rows)
	}
	if len(i.Recommendations) > 0 {
		p.head("Recommendations")
		for _, r := range i.Recommendations {
			p.line("- %s", r)
		}
	}
}

// repeatsText says how often it has happened before; nothing when it has not.
func repeatsText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d times within 30 days", n)
}

// clockTime is how moments of one incident are shown.
const clockTime = "15:04:05.000"

// renderHolds shows what gates held, and for how long.
func renderHolds(p *page, all []autoheal.Hold) {
	var rows [][]string
	for _, h := range all {
		lasted := "still"
		if h.To != nil {
			lasted = short(autoheal.Seconds(h.To.Sub(h.From)))
		}
		rows = append(rows, []string{h.From.UTC().Format(clockTime), lasted, h.Target.String(), h.Verb, string(h.Reason), h.Detail})
	}
	if len(rows) > 0 {
		p.head("Held")
		p.table("", []string{"FROM", "FOR", "TARGET", "VERB", "REASON", "WHY"}, rows)
	}
}

func renderRecoveries(p *page, all []autoheal.Recovery) {
	var rows [][]string
	for _, r := range all {
		step := string(r.Step)
		if r.End != autoheal.EndNone {
			step = string(r.End)
		}
		name := string(r.Workload)
		if r.Gang != "" {
			name = fmt.Sprintf("gang %s (%d)", r.Gang, len(r.Members))
		}
		rows = append(rows, []string{
			name, string(r.Class), step, r.Rung, strconv.Itoa(r.Attempt), moveText(r), string(r.Proof),
			seconds(r.TimeToSafeSeconds), seconds(r.TimeToRunningSeconds), time.Duration(r.ObjectiveSeconds).String(), heldOrNothing(r.Held),
		})
	}
	p.table("", []string{"WORKLOAD", "CLASS", "STEP", "RUNG", "ATTEMPT", "MOVE", "PROOF", "SAFE", "RUNNING", "OBJECTIVE", "HELD"}, rows)
}

func moveText(r autoheal.Recovery) string {
	if r.To == "" || r.To == r.From {
		return string(r.From)
	}
	return string(r.From) + " to " + string(r.To)
}

func seconds(s *autoheal.Seconds) string {
	if s == nil {
		return ""
	}
	return time.Duration(*s).Round(time.Millisecond).String()
}

func (a *app) postmortemCmd() *cobra.Command {
	return &cobra.Command{
		Use: "postmortem [INCIDENT]", Short: "Print the post-mortem of an incident, by default the latest that ended",
		Example: "  autoheal postmortem\n  autoheal postmortem inc-000017 > inc-000017.md",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.run(func(s *session, args []string) error {
			return show(s, "postmortem_get", tool.PostMortemGetIn{IncidentID: strings.Join(args, "")}, func(p *page, v autoheal.PostMortem) {
				p.text(v.Markdown)
			})
		}),
	}
}

func (a *app) approveCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "approve INCIDENT|APPROVAL", Short: "Give the approval that an action waits for",
		Example: "  autoheal approve inc-000017\n  autoheal approve app-000003",
		Args:    cobra.ExactArgs(1),
	}
	reason := reasonFlag(cmd)
	cmd.RunE = a.run(func(s *session, args []string) error {
		in := tool.ApproveIn{ApprovalID: args[0], Reason: *reason}
		if strings.HasPrefix(args[0], "inc-") {
			in = tool.ApproveIn{IncidentID: args[0], Reason: *reason}
		}
		return s.change("incident_approve", in)
	})
	return cmd
}

func (a *app) dismissCmd() *cobra.Command {
	return a.incidentEndCmd("dismiss INCIDENT", "End an incident: nothing more is done for it", "incident_dismiss", "  autoheal dismiss inc-000017 --reason \"planned reboot\"")
}

func (a *app) releaseCmd() *cobra.Command {
	return a.incidentEndCmd("release INCIDENT", "End the hold of a mass outage: recovery goes on", "incident_release", "  autoheal release inc-000017")
}

func (a *app) incidentEndCmd(use, short, verb, example string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ExactArgs(1)}
	reason := reasonFlag(cmd)
	cmd.RunE = a.run(func(s *session, args []string) error {
		return s.change(verb, tool.IncidentEndIn{IncidentID: args[0], Reason: *reason})
	})
	return cmd
}

func (a *app) alertsCmd() *cobra.Command {
	var in tool.AlertListIn
	var active bool
	cmd := &cobra.Command{
		Use: "alerts", Short: "List alerts; silence one",
		Example: "  autoheal alerts\n  autoheal alerts --active --severity critical\n  autoheal alerts silence alert-000004 24h",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&in.Severity, "severity", "", "only of this severity: info, warning or critical")
	cmd.Flags().BoolVar(&active, "active", false, "only those that are active")
	cmd.RunE = a.run(func(s *session, _ []string) error {
		if active {
			in.Active = &active
		}
		return show(s, "alert_list", in, renderAlerts)
	})
	cmd.AddCommand(&cobra.Command{
		Use: "silence ALERT DURATION", Short: "Silence an alert for a time",
		Example: "  autoheal alerts silence alert-000004 24h",
		Args:    cobra.ExactArgs(2),
		RunE: a.run(func(s *session, args []string) error {
			return s.change("alert_silence", tool.AlertSilenceIn{AlertID: args[0], Duration: args[1]})
		}),
	})
	return cmd
}

func renderAlerts(p *page, v tool.AlertListOut) {
	var rows [][]string
	for _, al := range v.Alerts {
		state := "active"
		switch {
		case al.SilencedUntil != nil && al.SilencedUntil.After(p.now):
			state = "silenced"
		case !al.Active:
			state = "resolved"
		}
		rows = append(rows, []string{al.ID, string(al.Severity), state, al.Name, al.Source, p.ago(al.FiredAt), al.Message})
	}
	p.table("No alerts.", []string{"ALERT", "SEVERITY", "STATE", "NAME", "SOURCE", "AGE", "MESSAGE"}, rows)
}
