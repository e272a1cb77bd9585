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

func (a *app) reportCmd() *cobra.Command {
	var in tool.ReportIn
	cmd := &cobra.Command{
		Use: "report", Short: "Show how healing went: recovery times against the objectives, holds, offenders, GPU-hours",
		Long: "Show how healing went since a time, from the incidents that are kept: recovery times by kind and class against the\n" +
			"objectives, what was held and why, the subjects with the most incidents, and GPU-hours lost and saved.\n\n" +
			"Lost is measured. Saved is an estimate against --baseline, the time in which a person would bring each workload back\n" +
			"by hand; a workload that took longer than that counts against it.",
		Example: "  autoheal report\n  autoheal report --since 7d --baseline 15m\n  autoheal report -o json | jq .recoveries",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&in.Since, "since", "30d", "since when: 24h, 30d, or a time")
	cmd.Flags().StringVar(&in.Baseline, "baseline", "30m", "how long a person would take to bring a workload back by hand")
	cmd.RunE = a.run(func(s *session, _ []string) error { return show(s, "report_get", in, renderReport) })
	return cmd
}

func renderReport(p *page, v tool.ReportOut) {
	simulated := ""
	if v.Simulated {
		simulated = "; some of the hardware is simulated"
	}
	p.line("%s to %s: %s%s", v.Since.UTC().Format(time.DateTime), v.Until.UTC().Format(time.DateTime), counted(v.Incidents, "incident", "incidents"), simulated)
	var rows [][]string
	for _, o := range v.Outcomes {
		end := string(o.Phase)
		if o.Symptom {
			end += " (symptom)"
		}
		rows = append(rows, []string{string(o.Kind), end, strconv.Itoa(o.Count)})
	}
	if len(rows) > 0 {
		p.head("Incidents")
		p.table("", []string{"KIND", "OUTCOME", "COUNT"}, rows)
	}
	p.head("Recoveries (from the failure; p50/p95/max)")
	p.table("None.", []string{"KIND", "CLASS", "RECOVERED", "GIVEN UP", "OTHER", "WITHIN", "OBJECTIVE", "SAFE", "RUNNING"}, recoveryRows(v.Recoveries))
	p.head("Held")
	rows = nil
	for _, h := range v.Held {
		rows = append(rows, []string{
			string(h.Reason), h.Verb, strconv.Itoa(h.Times), strconv.Itoa(h.Incidents), short(h.TotalSeconds), short(h.LongestSeconds) + " in " + string(h.Longest), h.Detail,
		})
	}
	p.table("Nothing.", []string{"REASON", "VERB", "TIMES", "INCIDENTS", "TOTAL", "LONGEST", "WHY"}, rows)
	p.head("Offenders")
	rows = nil
	for _, o := range v.Offenders {
		score := ""
		if o.Score != nil {
			score = strconv.FormatFloat(*o.Score, 'f', 1, 64)
		}
		rows = append(rows, []string{o.Subject.String(), strconv.Itoa(o.Incidents), joinIDs(o.Kinds), p.ago(o.Last), score})
	}
	p.table("None.", []string{"SUBJECT", "INCIDENTS", "KINDS", "LAST", "SCORE"}, rows)
	renderGPUHours(p, v.GPUHours)
}

func recoveryRows(all []tool.RecoveryStats) [][]string {
	var rows [][]string
	for _, r := range all {
		within := ""
		if r.WithinShare != nil {
			within = fmt.Sprintf("%d of %d (%.0f %%)", r.Within, r.Recovered+r.GivenUp, 100**r.WithinShare)
		}
		rows = append(rows, []string{
			string(r.Kind), string(r.Class), strconv.Itoa(r.Recovered), strconv.Itoa(r.GivenUp), strconv.Itoa(r.NotMeasured), within,
			time.Duration(r.ObjectiveSeconds).String(), percentiles(r.Safe), percentiles(r.Running),
		})
	}
	return rows
}

func percentiles(v tool.Percentiles) string {
	if v.MaxSeconds == nil {
		return ""
	}
	return strings.Join([]string{short(*v.P50Seconds), short(*v.P95Seconds), short(*v.MaxSeconds)}, " / ")
}

// short writes a time with no more digits than it deserves.
func short(s autoheal.Seconds) string {
	d := time.Duration(s)
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func renderGPUHours(p *page, g tool.GPUHours) {
	p.head("GPU-hours")
	more := ""
	if g.StillCounting > 0 {
		more = ", and more: " + counted(g.StillCounting, "workload is", "workloads are") + " not back, or given up"
	}
	p.fields(
		"Lost", fmt.Sprintf("%.2f%s", g.Lost, more),
		"Saved", fmt.Sprintf("%.2f by %s, an estimate: a person would take %s for each", g.Saved, counted(g.Counted, "recovery", "recoveries"), time.Duration(g.BaselineSeconds)),
	)
}
