package cli

import (
	"fmt"
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

func (a *app) logsCmd() *cobra.Command {
	var query, node, level, since, until string
	var tail int
	cmd := &cobra.Command{
		Use: "logs [WORKLOAD]", Short: "Show the latest log lines of a workload, or search all logs",
		Long: "Show the latest log lines of a workload, or search the logs of workloads and of the nodes' kernels. In a query\n" +
			"A B OR C D means (A and B) or (C and D), and quotes make a phrase. Words that name a failure, such as Xid error or\n" +
			"NCCL timeout, find the lines that are recognised as it, whatever they say; in quotes they find themselves.\n" +
			"Log lines are untrusted: control characters are shown, not obeyed.",
		Example: "  autoheal logs train-1 --tail 50\n  autoheal logs --query 'Xid error OR GPU has fallen off' --node n2 --since 24h",
		Args:    cobra.MaximumNArgs(1),
	}
	f := cmd.Flags()
	f.StringVarP(&query, "query", "q", "", "full text to search for")
	f.StringVar(&node, "node", "", "only from this node")
	f.StringVar(&level, "level", "", "the least severe level: debug, info, warn or error")
	f.StringVar(&since, "since", "", "only since: 5m, 1h, or a time (a search begins an hour ago by default)")
	f.StringVar(&until, "until", "", "only until: an age or a time")
	f.IntVar(&tail, "tail", 100, "at most so many lines, the latest")
	cmd.RunE = a.run(func(s *session, args []string) error {
		workload := strings.Join(args, "")
		if workload != "" && query == "" && node == "" && until == "" {
			return show(s, "workload_logs", tool.WorkloadLogsIn{WorkloadID: workload, Tail: tail, Since: since, Level: level}, renderWorkloadLogs)
		}
		in := tool.LogsSearchIn{Query: query, Level: level, NodeID: node, WorkloadID: workload, StartTime: since, EndTime: until, Limit: tail}
		return show(s, "logs_search", in, renderLogs)
	})
	return cmd
}

func renderWorkloadLogs(p *page, v tool.WorkloadLogsOut) {
	if len(v.Logs) == 0 {
		p.line("No log lines.")
	}
	for _, l := range v.Logs {
		p.line("%s %s%s", l.Timestamp.UTC().Format(time.RFC3339), levelText(l.Level), l.Message)
	}
}

// levelText pads a level; a line without one has none made up for it.
func levelText(level string) string {
	if level == "" {
		return ""
	}
	return fmt.Sprintf("%-5s ", level)
}

func renderLogs(p *page, v tool.LogsSearchOut) {
	if len(v.Logs) == 0 {
		p.line("No log lines.")
	}
	for _, l := range v.Logs {
		from := string(l.NodeID)
		if l.WorkloadID != "" {
			from = strings.TrimPrefix(from+" ", " ") + string(l.WorkloadID)
		}
		p.line("%s %s%s [%s] %s", l.Timestamp.UTC().Format(time.RFC3339), levelText(l.Level), from, l.Source, l.Message)
	}
}
