package cli

import (
	"fmt"
	"strings"

	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

func (a *app) nodesCmd() *cobra.Command {
	var in tool.NodeListIn
	cmd := &cobra.Command{
		Use:     "nodes",
		Short:   "List nodes; show, admit or forget one",
		Example: "  autoheal nodes\n  autoheal nodes --status not_ready\n  autoheal nodes --labels topology.kubernetes.io/rack=r1\n  autoheal nodes show n2",
		Args:    cobra.NoArgs,
	}
	labels := labelsFlag(cmd, "only nodes with these labels: k=v,k=v")
	cmd.Flags().StringVar(&in.Status, "status", "", "only nodes in this status: ready, not_ready, cordoned, draining or offline")
	cmd.Flags().StringVar(&in.GPUModel, "gpu-model", "", "only nodes with a GPU whose model contains this")
	cmd.RunE = a.run(func(s *session, _ []string) (err error) {
		if in.Labels, err = labels(); err != nil {
			return err
		}
		return show(s, "node_list", in, renderNodes)
	})
	cmd.AddCommand(a.nodeShowCmd(), a.nodeWaitingCmd(), a.nodeApproveCmd(), a.nodeForgetCmd())
	return cmd
}

func renderNodes(p *page, v tool.NodeListOut) {
	rows := make([][]string, 0, len(v.Nodes))
	for _, n := range v.Nodes {
		gpus := "none"
		if n.GPUs > 0 {
			gpus = fmt.Sprintf("%d × %s", n.GPUs, strings.Join(n.GPUModels, ", "))
		}
		incident := ""
		if n.Incident != nil {
			incident = string(*n.Incident)
		}
		domains := make([]string, len(n.Domains))
		for i, d := range n.Domains {
			domains[i] = string(d)
		}
		rows = append(rows, []string{
			string(n.ID), string(n.Status), gpus, strings.Join(domains, " "), strings.Join(n.CordonedBy, ", "), p.ago(n.LastHeartbeat), incident,
		})
	}
	p.table("No nodes.", []string{"NODE", "STATUS", "GPUS", "DOMAINS", "CORDONED BY", "HEARTBEAT", "INCIDENT"}, rows)
}

// labelsFlag adds --labels and returns what reads it.
func labelsFlag(cmd *cobra.Command, usage string) func() (map[string]string, error) {
	text := cmd.Flags().StringP("labels", "l", "", usage)
	return func() (map[string]string, error) { return parseLabels("--labels", *text) }
}

func parseLabels(flag, text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	out := map[string]string{}
	for term := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(term, "=")
		if !ok || strings.TrimSpace(k) == "" {
			return nil, usagef("%s %q: expected k=v,k=v", flag, text)
		}
		out[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return out, nil
}
