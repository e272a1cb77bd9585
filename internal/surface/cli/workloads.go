package cli

import (
	"fmt"
	"strconv"
	"strings"

	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

func (a *app) workloadsCmd() *cobra.Command {
	var in tool.WorkloadListIn
	cmd := &cobra.Command{
		Use:     "workloads",
		Short:   "List workloads; show, pause or resume one",
		Example: "  autoheal workloads\n  autoheal workloads --state failed\n  autoheal workloads --node n2\n  autoheal workloads pause train-1",
		Args:    cobra.NoArgs,
	}
	labels := labelsFlag(cmd, "only workloads with these labels: k=v,k=v")
	cmd.Flags().StringVar(&in.State, "state", "", "only workloads in this state: pending, scheduled, running, succeeded, failed or cancelled")
	cmd.Flags().StringVar(&in.NodeID, "node", "", "only workloads on this node")
	cmd.Flags().IntVar(&in.Limit, "limit", 500, "at most so many, the newest")
	cmd.RunE = a.run(func(s *session, _ []string) (err error) {
		if in.Labels, err = labels(); err != nil {
			return err
		}
		return show(s, "workload_list", in, renderWorkloads)
	})
	cmd.AddCommand(a.workloadShowCmd(), a.workloadPauseCmd(), a.workloadResumeCmd())
	return cmd
}

// lastWords is what fits into a table of a detail, which may be a page that a program wrote: its last line, which is
// where programs say why they end. workloads show has it whole.
func lastWords(detail string) string {
	const most = 100
	detail = strings.TrimSpace(detail)
	line := []rune(strings.TrimSpace(detail[strings.LastIndexByte(detail, '\n')+1:]))
	if len(line) > most {
		return string(line[:most]) + "…"
	}
	return string(line)
}

func renderWorkloads(p *page, v tool.WorkloadListOut) {
	rows := make([][]string, 0, len(v.Workloads))
	for _, w := range v.Workloads {
		state := string(w.State)
		if w.Paused != nil {
			state += ", paused"
		}
		gpus := strconv.Itoa(w.GPUs)
		if w.Simulated {
			gpus += " (simulated)"
		}
		rows = append(rows, []string{
			string(w.ID), w.Name, state, fmt.Sprintf("%s (%s)", w.Class, w.ClassRule), string(w.NodeID), gpus,
			strconv.Itoa(w.Attempt), strconv.Itoa(w.Restarts), p.ago(w.CreatedAt), lastWords(w.Detail),
		})
	}
	p.table("No workloads.", []string{"WORKLOAD", "NAME", "STATE", "CLASS (RULE)", "NODE", "GPUS", "ATTEMPT", "RESTARTS", "AGE", "DETAIL"}, rows)
	if v.Total > v.Count {
		p.line("%d more are not shown: raise --limit.", v.Total-v.Count)
	}
}
