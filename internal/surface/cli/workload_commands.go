package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

func (a *app) workloadShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show WORKLOAD", Short: "Show one workload with its attempts",
		Example: "  autoheal workloads show wl-000001\n  autoheal workloads show train-1 -o json",
		Args:    cobra.ExactArgs(1),
		RunE: a.run(func(s *session, args []string) error {
			return show(s, "workload_get", tool.WorkloadIn{WorkloadID: args[0]}, renderWorkload)
		}),
	}
}

func renderWorkload(p *page, w tool.WorkloadGetOut) {
	gpus := ""
	if len(w.GPUIDs) > 0 {
		gpus = joinIDs(w.GPUIDs)
		if w.Simulated {
			gpus += " (simulated)"
		}
	}
	memory := ""
	if w.MemoryMB > 0 {
		memory = fmt.Sprintf("%d MiB", w.MemoryMB)
		if w.OriginalMemoryMB > 0 && w.OriginalMemoryMB != w.MemoryMB {
			memory += fmt.Sprintf(" (submitted with %d MiB)", w.OriginalMemoryMB)
		}
	}
	paused := ""
	if w.Paused != nil {
		paused = fmt.Sprintf("by %s, %s ago: %s", w.Paused.By, p.ago(w.Paused.At), w.Paused.Reason)
	}
	var spec tool.ShownSpec
	if w.Spec != nil {
		spec = *w.Spec
	}
	p.fields(
		"Workload", string(w.ID), "Name", w.Name, "State", string(w.State), "Wanted", string(w.Desired), "Paused", paused,
		"Node", string(w.NodeID), "GPUs", gpus, "Memory", memory, "Class", fmt.Sprintf("%s (%s)", w.Class, w.ClassRule),
		"Kind", kindText(w), "Gang", string(w.Gang), "Restarts", strconv.Itoa(w.Restarts), "Age", p.ago(w.Timing.CreatedAt),
		"Error", w.Error, "Incident", deref(w.Incident),
		"Image", spec.Image, "Command", strings.Join(append(slices.Clone(spec.Command), spec.Args...), " "),
		"Environment", envText(spec.Env), "Labels", mapText(spec.Labels),
	)
	p.head("Attempts")
	var rows [][]string
	for _, t := range w.Lineage {
		exit := ""
		if t.Exit != nil {
			exit = exitText(*t.Exit)
		}
		rows = append(rows, []string{strconv.Itoa(t.Attempt), string(t.State), string(t.NodeID), p.ago(t.StartedAt), p.ago(t.FinishedAt), exit})
	}
	p.table("None yet.", []string{"ATTEMPT", "STATE", "NODE", "STARTED", "ENDED", "EXIT"}, rows)
}

func kindText(w tool.WorkloadGetOut) string {
	s := string(w.Kind)
	if w.AtMostOnce {
		s += ", at most once"
	}
	if w.Preemptible {
		s += ", preemptible"
	}
	return s
}

func exitText(e autoheal.Exit) string {
	parts := []string{string(e.Reason)}
	if e.OOM != "" {
		parts = append(parts, "oom "+string(e.OOM))
	}
	switch {
	case e.Signal != "":
		parts = append(parts, e.Signal)
	case e.Code >= 0:
		parts = append(parts, "code "+strconv.Itoa(e.Code))
	}
	if e.Detail != "" {
		parts = append(parts, e.Detail)
	}
	return strings.Join(parts, ", ")
}

// envText names the variables; their values never come this far.
func envText(env map[string]string) string {
	if len(env) == 0 {
		return ""
	}
	return strings.Join(slices.Sorted(maps.Keys(env)), ", ") + " (values hidden)"
}

func mapText(m map[string]string) string {
	parts := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ", ")
}

func joinIDs[T ~string](ids []T) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = string(id)
	}
	return strings.Join(parts, ", ")
}

func deref[T ~string](p *T) string {
	if p == nil {
		return ""
	}
	return string(*p)
}

func (a *app) workloadPauseCmd() *cobra.Command {
	return a.workloadMarkCmd("pause WORKLOAD", "Start no new attempt; what runs goes on", "workload_pause", "  autoheal workloads pause train-1 --reason \"bad checkpoint\"")
}

func (a *app) workloadResumeCmd() *cobra.Command {
	return a.workloadMarkCmd("resume WORKLOAD", "Start attempts again", "workload_resume", "  autoheal workloads resume train-1")
}

func (a *app) workloadMarkCmd(use, short, verb, example string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ExactArgs(1)}
	reason := reasonFlag(cmd)
	cmd.RunE = a.run(func(s *session, args []string) error {
		return s.change(verb, tool.WorkloadMarkIn{WorkloadID: args[0], Reason: *reason})
	})
	return cmd
}

func (a *app) stopCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "stop WORKLOAD", Short: "Stop a workload for good",
		Example: "  autoheal stop train-1\n  autoheal stop wl-000001 --grace 5\n  autoheal stop wl-000001 --force",
		Args:    cobra.ExactArgs(1),
	}
	grace := cmd.Flags().Int64("grace", 30, "seconds between SIGTERM and SIGKILL")
	force := cmd.Flags().Bool("force", false, "kill at once")
	cmd.RunE = a.run(func(s *session, args []string) error {
		return s.change("workload_stop", map[string]any{"workloadId": args[0], "gracePeriodSeconds": *grace, "force": *force})
	})
	return cmd
}

func (a *app) scaleCmd() *cobra.Command {
	return &cobra.Command{
		Use: "scale WORKLOAD REPLICAS", Short: "Change the number of replicas of a service",
		Example: "  autoheal scale llm-server 3",
		Args:    cobra.ExactArgs(2),
		RunE: a.run(func(s *session, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 {
				return usagef("REPLICAS %q: expected a whole number from 0", args[1])
			}
			return s.change("workload_scale", tool.WorkloadScaleIn{WorkloadID: args[0], Replicas: n})
		}),
	}
}
