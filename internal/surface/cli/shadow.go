package cli

import (
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

func (a *app) shadowCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "shadow", Short: "See what the healer would have done while it only watched (up --shadow)"}
	var in tool.ShadowReportIn
	report := &cobra.Command{
		Use: "report", Short: "List, by incident, what would have been done",
		Long: "List, by incident, what the healer would have done while autoHeal.shadow was on. Each action had passed every gate at its\n" +
			"moment; what would have followed from one that was not taken is not known. \"After approval\" means that a person would\n" +
			"have been asked first.",
		Example: "  autoheal up --shadow\n  autoheal shadow report\n  autoheal shadow report --since 24h -o json",
		Args:    cobra.NoArgs,
	}
	report.Flags().StringVar(&in.Since, "since", "7d", "incidents since when: 24h, 30d, or a time")
	report.RunE = a.run(func(s *session, _ []string) error { return show(s, "shadow_report", in, renderShadow) })
	cmd.AddCommand(report)
	return cmd
}

func renderShadow(p *page, v tool.ShadowReportOut) {
	now := "the healer acts now"
	if v.Shadow {
		now = "the healer is in the shadow now: it does nothing"
	}
	p.line("%d actions would have been taken in %d incidents since %s; %s", v.Actions, len(v.Incidents), v.Since.UTC().Format(time.DateTime), now)
	for _, i := range v.Incidents {
		p.head(string(i.ID) + " " + string(i.Kind) + " on " + i.Subject.String() + " (" + string(i.Phase) + "): " + i.Cause)
		var rows [][]string
		for _, s := range i.Actions {
			rows = append(rows, []string{s.At.UTC().Format("01-02 15:04:05"), string(s.Verb), s.Target.String(), string(s.Params.Nominated), modeWord(s.Mode), s.Reason})
		}
		p.table("", []string{"AT", "WOULD", "TARGET", "ON", "HOW", "WHY"}, rows)
	}
}

// modeWord says what would have come before an action.
func modeWord(m autoheal.HealMode) string {
	switch m {
	case autoheal.HealAct:
		return "at once"
	case autoheal.HealApprove:
		return "after approval"
	}
	return strings.TrimSpace(string(m) + " only")
}
