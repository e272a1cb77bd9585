package cli

import (
	"fmt"
	"strconv"

	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

func (a *app) nodeShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show NODE", Short: "Show one node with its GPUs, cordons and workloads",
		Example: "  autoheal nodes show n2\n  autoheal nodes show n2 -o yaml",
		Args:    cobra.ExactArgs(1),
		RunE: a.run(func(s *session, args []string) error {
			return show(s, "node_get", tool.NodeIn{NodeID: args[0]}, renderNode)
		}),
	}
}

func renderNode(p *page, n tool.NodeGetOut) {
	p.fields(
		"Node", string(n.ID), "Status", string(n.Status), "Link", string(n.Link), "Heartbeat", p.ago(n.LastHeartbeat)+" ago",
		"Platform", n.Platform, "Region", n.Region, "Zone", n.Zone, "Boot", n.BootID,
		"CPU", strconv.FormatFloat(n.Resources.CPUCores, 'g', -1, 64)+" cores", "Memory", fmt.Sprintf("%d MiB", n.Resources.MemoryMB),
		"Labels", mapText(n.Labels), "Conditions", mapText(n.Conditions),
		"Offender score", strconv.FormatFloat(n.OffenderScore, 'f', 2, 64), "Incident", deref(n.Incident),
	)
	if len(n.Marks) > 0 {
		p.head("Cordons")
		var rows [][]string
		for _, m := range n.Marks {
			rows = append(rows, []string{m.By, p.ago(m.At), string(m.Incident), m.Reason})
		}
		p.table("", []string{"BY", "AGE", "INCIDENT", "REASON"}, rows)
	}
	if len(n.Resources.GPUs) > 0 {
		p.head("GPUs")
		var rows [][]string
		for _, g := range n.Resources.GPUs {
			quarantined := ""
			if g.Quarantined != nil {
				quarantined = g.Quarantined.By + ": " + g.Quarantined.Reason
			}
			rows = append(rows, []string{
				strconv.Itoa(g.Index), g.Model, fmt.Sprintf("%d MiB", g.MemoryMB), string(g.Health),
				number(g.Utilization, "%"), number(g.Temperature, " °C"), string(g.UsedBy), quarantined, string(g.ID),
			})
		}
		p.table("", []string{"INDEX", "MODEL", "MEMORY", "HEALTH", "LOAD", "HEAT", "USED BY", "QUARANTINED", "UUID"}, rows)
	}
	p.head("Workloads")
	renderWorkloads(p, tool.WorkloadListOut{Count: len(n.Workloads), Total: len(n.Workloads), Workloads: n.Workloads})
}

func number(f *float64, unit string) string {
	if f == nil {
		return "unknown"
	}
	return strconv.FormatFloat(*f, 'f', -1, 64) + unit
}

func (a *app) nodeWaitingCmd() *cobra.Command {
	return &cobra.Command{
		Use: "waiting", Short: "List the nodes that asked to join and wait for a person",
		Example: "  autoheal nodes waiting",
		Args:    cobra.NoArgs,
		RunE: a.run(func(s *session, _ []string) error {
			return show(s, "node_waiting", nil, func(p *page, v tool.NodeWaitingOut) {
				var rows [][]string
				for _, n := range v.Nodes {
					known := "new"
					if n.Known {
						known = "name is bound to another key"
					}
					rows = append(rows, []string{string(n.ID), n.Platform, p.ago(n.Since), known, n.Fingerprint})
				}
				p.table("No node waits.", []string{"NODE", "PLATFORM", "WAITS", "NAME", "KEY"}, rows)
			})
		}),
	}
}

func (a *app) nodeApproveCmd() *cobra.Command {
	return &cobra.Command{
		Use: "approve NODE", Short: "Admit a node that asked to join",
		Long:    "Admit a node that asked to join. Its name is bound to its key from then on: compare the key first.",
		Example: "  autoheal nodes waiting\n  autoheal nodes approve gpu-7",
		Args:    cobra.ExactArgs(1),
		RunE:    a.run(func(s *session, args []string) error { return s.change("node_approve", tool.NodeIn{NodeID: args[0]}) }),
	}
}

func (a *app) nodeForgetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "forget NODE", Short: "Remove a node that is gone for good",
		Example: "  autoheal drain n3 && autoheal nodes forget n3",
		Args:    cobra.ExactArgs(1),
		RunE:    a.run(func(s *session, args []string) error { return s.change("node_forget", tool.NodeIn{NodeID: args[0]}) }),
	}
}

func (a *app) cordonCmd() *cobra.Command {
	return a.markCmd("cordon NODE", "Keep new workloads away from a node", "node_cordon", "  autoheal cordon n2 --reason \"fan replacement\"")
}

func (a *app) uncordonCmd() *cobra.Command {
	return a.markCmd("uncordon NODE", "Allow new workloads on a node again", "node_uncordon", "  autoheal uncordon n2")
}

func (a *app) markCmd(use, short, verb, example string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ExactArgs(1)}
	reason := reasonFlag(cmd)
	cmd.RunE = a.run(func(s *session, args []string) error {
		return s.change(verb, tool.NodeMarkIn{NodeID: args[0], Reason: *reason})
	})
	return cmd
}

func reasonFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("reason", "", "why; it is written down and shown")
}

func (a *app) drainCmd() *cobra.Command {
	var in tool.NodeDrainIn
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Move all workloads off a node and keep new ones away",
		Example: "  autoheal drain n2\n  autoheal drain n2 --grace 60 --force",
		Args:    cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.Int64Var(&in.Grace, "grace", 300, "seconds between SIGTERM and SIGKILL")
	f.BoolVar(&in.Force, "force", false, "drain also where a workload cannot be moved")
	f.Int64Var(&in.Wait, "wait", 30, "seconds to wait for the workloads to have left; the drain goes on after that")
	f.StringVar(&in.Reason, "reason", "", "why; it is written down and shown")
	cmd.RunE = a.run(func(s *session, args []string) error {
		// Every number is sent, zero too: left out it would mean the default.
		return s.change("node_drain", map[string]any{
			"nodeId": args[0], "gracePeriodSeconds": in.Grace, "force": in.Force, "waitSeconds": in.Wait, "reason": in.Reason,
		})
	})
	return cmd
}

func (a *app) fenceCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "fence", Short: "Say what the healer cannot prove about a silent node"}
	confirm := &cobra.Command{
		Use: "confirm NODE --powered-off", Short: "Give your word that a silent node is powered off",
		Long: "Give your word that a silent node is powered off and stays off, so that its at-most-once workloads may start elsewhere.\n" +
			"It is written down under your name and used once. If it is wrong, two copies may run.",
		Example: "  autoheal fence confirm n2 --powered-off --reason \"PDU outlet 7 is off\"",
		Args:    cobra.ExactArgs(1),
	}
	off := confirm.Flags().Bool("powered-off", false, "the machine is powered off and stays off")
	reason := confirm.Flags().String("reason", "", "how you know")
	confirm.RunE = a.run(func(s *session, args []string) error {
		if !*off {
			return usagef("expected --powered-off: confirm only a machine that is powered off")
		}
		return s.change("fence_confirm", tool.FenceConfirmIn{NodeID: args[0], PoweredOff: true, Reason: *reason})
	})
	cmd.AddCommand(confirm)
	return cmd
}

func (a *app) quarantineCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "quarantine", Short: "See and clear quarantines of GPUs and nodes"}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List quarantined GPUs and the nodes that wait for a person",
		Example: "  autoheal quarantine list",
		Args:    cobra.NoArgs,
		RunE: a.run(func(s *session, _ []string) error {
			return show(s, "quarantine_list", nil, renderQuarantines)
		}),
	})
	clearCmd := &cobra.Command{
		Use: "clear NODE|GPU-UUID", Short: "Return a quarantined node or GPU to service",
		Example: "  autoheal quarantine clear n2 --reason \"riser reseated\"",
		Args:    cobra.ExactArgs(1),
	}
	reason := clearCmd.Flags().String("reason", "", "what was checked or replaced")
	clearCmd.RunE = a.run(func(s *session, args []string) error {
		return s.change("quarantine_clear", tool.QuarantineClearIn{Target: args[0], Reason: *reason})
	})
	cmd.AddCommand(clearCmd)
	return cmd
}

func renderQuarantines(p *page, v tool.QuarantineListOut) {
	var rows [][]string
	for _, n := range v.Nodes {
		rows = append(rows, []string{"node", string(n.NodeID), "", n.Mark.By, p.ago(n.Mark.At), fmt.Sprintf("%s (offender score %.2f)", n.Mark.Reason, n.OffenderScore)})
	}
	for _, g := range v.GPUs {
		rows = append(rows, []string{"gpu", string(g.GPUID), fmt.Sprintf("%s #%d, %s", g.NodeID, g.Index, g.Model), g.Mark.By, p.ago(g.Mark.At), g.Mark.Reason})
	}
	p.table("Nothing is quarantined.", []string{"WHAT", "NAME", "WHERE", "BY", "AGE", "REASON"}, rows)
}

func (a *app) maintenanceCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "maintenance", Short: "Announce work on nodes, so that the healer leaves them alone"}
	start := &cobra.Command{
		Use: "start SCOPE --for DURATION", Short: "Begin a maintenance window",
		Long:    "Begin a maintenance window. SCOPE is a node, a failure domain (rack/r1), or KEY=VALUE on node labels or domains (rack=r1).",
		Example: "  autoheal maintenance start n2 --for 2h --reason firmware\n  autoheal maintenance start rack=r1 --for 30m",
		Args:    cobra.ExactArgs(1),
	}
	dur := start.Flags().String("for", "", "how long: 30m, 2h, 1d")
	reason := reasonFlag(start)
	start.RunE = a.run(func(s *session, args []string) error {
		if *dur == "" {
			return usagef("expected --for DURATION, such as --for 2h: a window that nobody ends would blind the healer")
		}
		return s.change("maintenance_start", tool.MaintenanceStartIn{Scope: args[0], Duration: *dur, Reason: *reason})
	})
	end := &cobra.Command{
		Use: "end SCOPE", Short: "End a maintenance window", Example: "  autoheal maintenance end rack=r1", Args: cobra.ExactArgs(1),
		RunE: a.run(func(s *session, args []string) error {
			return s.change("maintenance_end", tool.MaintenanceEndIn{Scope: args[0]})
		}),
	}
	list := &cobra.Command{
		Use: "list", Short: "List maintenance windows, present and planned", Example: "  autoheal maintenance list", Args: cobra.NoArgs,
		RunE: a.run(func(s *session, _ []string) error {
			return show(s, "maintenance_list", nil, func(p *page, v tool.MaintenanceListOut) {
				var rows [][]string
				for _, w := range v.Windows {
					rows = append(rows, []string{"now", w.Detail, p.ago(w.Since) + " ago", p.until(w.Until)})
				}
				for _, w := range v.Planned {
					rows = append(rows, []string{"planned", w.Nodes + ", by the configuration", w.From.UTC().Format(minutes), w.To.UTC().Format(minutes)})
				}
				p.table("No maintenance.", []string{"WHEN", "SCOPE", "SINCE", "UNTIL"}, rows)
			})
		}),
	}
	cmd.AddCommand(start, end, list)
	return cmd
}

// minutes is how planned times are shown.
const minutes = "2006-01-02 15:04 UTC"
