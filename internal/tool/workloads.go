package tool

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// WorkloadListIn are the parameters of workload_list.
type WorkloadListIn struct {
	State  string            `json:"state,omitempty" check:"enum=pending|scheduled|running|succeeded|failed|cancelled" jsonschema:"only workloads in this state"`
	NodeID string            `json:"nodeId,omitempty" jsonschema:"only workloads whose current attempt is on this node"`
	Labels map[string]string `json:"labels,omitempty" jsonschema:"only workloads with all of these labels"`
	Limit  int               `json:"limit,omitempty" check:"min=1,max=10000,default=50"`
}

// WorkloadListOut is the result of workload_list.
type WorkloadListOut struct {
	Count     int            `json:"count"`
	Total     int            `json:"total" jsonschema:"how many match, whatever the limit"`
	Workloads []WorkloadItem `json:"workloads" jsonschema:"newest first"`
}

// WorkloadItem is a workload of a list.
type WorkloadItem struct {
	ID        autoheal.WorkloadID    `json:"id"`
	Name      string                 `json:"name"`
	State     autoheal.WorkloadState `json:"state"`
	GPUs      int                    `json:"gpus"`
	NodeID    autoheal.NodeID        `json:"nodeId,omitempty"`
	CreatedAt time.Time              `json:"createdAt"`

	StartedAt  time.Time             `json:"startedAt"`
	Class      autoheal.Class        `json:"class"`
	ClassRule  string                `json:"classRule" jsonschema:"which rule gave the class"`
	Kind       autoheal.WorkloadKind `json:"kind"`
	AtMostOnce bool                  `json:"atMostOnce"`
	Attempt    int                   `json:"attempt"`
	Restarts   int                   `json:"restarts" jsonschema:"crashes counted against it"`
	Ready      bool                  `json:"ready" jsonschema:"it runs, and its health check passes if it has one"`
	Paused     *autoheal.Mark        `json:"paused"`
	Incident   *autoheal.IncidentID  `json:"incident"`
	Detail     string                `json:"detail,omitempty" jsonschema:"why it is not running, or not ready; may quote the workload"`
	Simulated  bool                  `json:"simulated" jsonschema:"some of the GPUs it uses are made up"`
}

func workloadList(ctx context.Context, env *Env, in WorkloadListIn) (WorkloadListOut, error) {
	all, err := env.Healer.Workloads(ctx)
	if err != nil {
		return WorkloadListOut{}, fmt.Errorf("list workloads: %w", err)
	}
	if in.NodeID != "" {
		n, err := findNode(ctx, env, in.NodeID)
		if err != nil {
			return WorkloadListOut{}, err
		}
		in.NodeID = string(n.ID)
	}
	found := slices.DeleteFunc(slices.Clone(all), func(w autoheal.WorkloadView) bool {
		return in.State != "" && string(w.State) != in.State || in.NodeID != "" && string(w.Node) != in.NodeID || !matches(w.Labels, in.Labels)
	})
	slices.SortFunc(found, newestFirst)
	nodes, err := env.Healer.Nodes(ctx)
	if err != nil {
		return WorkloadListOut{}, fmt.Errorf("list nodes: %w", err)
	}
	simulated := simulatedGPUs(nodes)
	out := WorkloadListOut{Total: len(found)}
	for _, w := range found[:min(in.Limit, len(found))] {
		out.Workloads = append(out.Workloads, workloadItem(w, simulated))
	}
	out.Count = len(out.Workloads)
	return out, nil
}

func newestFirst(a, b autoheal.WorkloadView) int {
	return cmp.Or(b.SubmittedAt.Compare(a.SubmittedAt), cmp.Compare(a.ID, b.ID))
}

func simulatedGPUs(nodes []autoheal.NodeView) map[autoheal.GPUID]bool {
	out := map[autoheal.GPUID]bool{}
	for _, n := range nodes {
		for _, g := range n.GPUs {
			if g.Simulated {
				out[g.UUID] = true
			}
		}
	}
	return out
}

func workloadItem(w autoheal.WorkloadView, simulated map[autoheal.GPUID]bool) WorkloadItem {
	return WorkloadItem{
		ID: w.ID, Name: w.Name, State: w.State, GPUs: w.Request.GPUs, NodeID: w.Node, CreatedAt: w.SubmittedAt, StartedAt: w.StartedAt,
		Class: w.Class, ClassRule: w.ClassRule, Kind: w.Kind, AtMostOnce: w.AtMostOnce, Attempt: w.Attempt, Restarts: w.CrashCount,
		Ready: w.Ready, Paused: w.Paused, Incident: w.Incident, Detail: detailOf(w), Simulated: usesAny(w.GPUs, simulated),
	}
}

// waitsForResume reports whether a workload that a person paused was ended in order meanwhile, as by a shutdown of the
// cluster: it has not failed, it is as that person wanted it.
func waitsForResume(w autoheal.WorkloadView) bool {
	return w.State == autoheal.Failed && w.Paused != nil && w.Paused.By != autoheal.ByAutoheal && w.Exit != nil &&
		(w.Exit.Reason == autoheal.ExitShutdown || w.Exit.Reason == autoheal.ExitDrained || w.Exit.Reason == autoheal.ExitPreempted)
}

// detailOf says in one line why a workload is not running, or does not do its work.
func detailOf(w autoheal.WorkloadView) string {
	switch {
	case waitsForResume(w):
		return fmt.Sprintf("paused by %s, and ended in order since (%s): it starts again with autoheal workloads resume %s", w.Paused.By, w.Exit.Reason, w.ID)
	case w.Detail != "":
		return w.Detail
	case w.State == autoheal.Failed && w.Exit != nil:
		return exitText(*w.Exit)
	case w.Failing != nil:
		return fmt.Sprintf("%s: %s", w.Failing.What, w.Failing.Reason)
	case w.State == autoheal.Running && !w.Ready && w.Options.Health != nil:
		return "its health check has not passed yet"
	}
	return ""
}

func usesAny(gpus []autoheal.GPUID, set map[autoheal.GPUID]bool) bool {
	return slices.ContainsFunc(gpus, func(id autoheal.GPUID) bool { return set[id] })
}

// WorkloadIn names a workload.
type WorkloadIn struct {
	WorkloadID string `json:"workloadId" jsonschema:"ID of the workload, or its name where that is unique"`
}

// WorkloadGetOut is the result of workload_get.
type WorkloadGetOut struct {
	ID       autoheal.WorkloadID    `json:"id"`
	Name     string                 `json:"name"`
	State    autoheal.WorkloadState `json:"state"`
	NodeID   autoheal.NodeID        `json:"nodeId,omitempty"`
	Spec     *ShownSpec             `json:"spec" jsonschema:"as submitted, the values of the environment hidden; null where the driver keeps no specs"`
	Timing   Timing                 `json:"timing"`
	ExitCode *int                   `json:"exitCode,omitempty"`
	Error    string                 `json:"error,omitempty" jsonschema:"how it ended, or why it does not start; may quote the workload"`

	Ready     bool                   `json:"ready" jsonschema:"it runs, and its health check passes if it has one"`
	Failing   *autoheal.CheckFailure `json:"failing" jsonschema:"what its own checks hold against it while it runs; its output is untrusted"`
	Restarts  int                    `json:"restarts" jsonschema:"crashes counted against it"`
	Lineage   []AttemptItem          `json:"lineage" jsonschema:"its attempts, oldest first"`
	Attempt   int                    `json:"attempt"`
	Desired   autoheal.Desired       `json:"desired"`
	Class     autoheal.Class         `json:"class"`
	ClassRule string                 `json:"classRule"`

	Kind             autoheal.WorkloadKind `json:"kind"`
	AtMostOnce       bool                  `json:"atMostOnce"`
	Priority         int                   `json:"priority"`
	Preemptible      bool                  `json:"preemptible"`
	Gang             autoheal.GangID       `json:"gang,omitempty"`
	Replicas         int                   `json:"replicas"`
	MemoryMB         int64                 `json:"memoryMb" jsonschema:"of this attempt, growth included"`
	OriginalMemoryMB int64                 `json:"originalMemoryMb"`
	GPUIDs           []autoheal.GPUID      `json:"gpuIds"`
	Simulated        bool                  `json:"simulated" jsonschema:"some of the GPUs it uses are made up"`
	Paused           *autoheal.Mark        `json:"paused"`
	Incident         *autoheal.IncidentID  `json:"incident"`
	NextRestart      *time.Time            `json:"nextRestart"`
	ObjectiveSeconds autoheal.Seconds      `json:"objectiveSeconds"`
}

// Timing holds the times of the current attempt. Runtime is in seconds, null before it started.
type Timing struct {
	CreatedAt  time.Time `json:"createdAt"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
	Runtime    *float64  `json:"runtime" jsonschema:"seconds"`
}

// AttemptItem is one attempt of a workload.
type AttemptItem struct {
	Attempt    int                    `json:"attempt"`
	State      autoheal.WorkloadState `json:"state"`
	NodeID     autoheal.NodeID        `json:"nodeId,omitempty"`
	GPUIDs     []autoheal.GPUID       `json:"gpuIds"`
	MemoryMB   int64                  `json:"memoryMb"`
	StartedAt  time.Time              `json:"startedAt"`
	FinishedAt time.Time              `json:"finishedAt"`
	Exit       *autoheal.Exit         `json:"exit"`
}

func workloadGet(ctx context.Context, env *Env, in WorkloadIn) (WorkloadGetOut, error) {
	w, err := findWorkload(ctx, env, in.WorkloadID)
	if err != nil {
		return WorkloadGetOut{}, err
	}
	nodes, err := env.Healer.Nodes(ctx)
	if err != nil {
		return WorkloadGetOut{}, fmt.Errorf("list nodes: %w", err)
	}
	out := workloadDetails(w, env.Now())
	out.Simulated = usesAny(w.GPUs, simulatedGPUs(nodes))
	if env.Workloads == nil {
		out.Lineage = []AttemptItem{attemptItem(w.Workload)}
		return out, nil
	}
	spec, err := env.Workloads.Spec(ctx, w.ID)
	switch {
	case autoheal.KindOf(err) == autoheal.ErrUnsupported: // made by something else, such as a Kubernetes controller
	case err != nil:
		return WorkloadGetOut{}, fmt.Errorf("read spec of %s: %w", w.ID, err)
	default:
		out.Spec = hideEnv(spec)
	}
	lineage, err := env.Workloads.Lineage(ctx, w.ID)
	if err != nil && autoheal.KindOf(err) != autoheal.ErrUnsupported {
		return WorkloadGetOut{}, fmt.Errorf("read attempts of %s: %w", w.ID, err)
	}
	for _, a := range lineage {
		out.Lineage = append(out.Lineage, attemptItem(a))
	}
	return out, nil
}

func workloadDetails(w autoheal.WorkloadView, now time.Time) WorkloadGetOut {
	out := WorkloadGetOut{
		ID: w.ID, Name: w.Name, State: w.State, NodeID: w.Node, Error: w.Detail, Ready: w.Ready, Failing: w.Failing, Restarts: w.CrashCount, Attempt: w.Attempt, Desired: w.Desired,
		Class: w.Class, ClassRule: w.ClassRule, Kind: w.Kind, AtMostOnce: w.AtMostOnce, Priority: w.Priority, Preemptible: w.Preemptible,
		Gang: w.Gang, Replicas: w.Replicas, MemoryMB: w.Request.MemoryMB, OriginalMemoryMB: w.OriginalMemoryMB, GPUIDs: w.GPUs,
		Paused: w.Paused, Incident: w.Incident, NextRestart: w.NextRestart, ObjectiveSeconds: w.ObjectiveSeconds,
		Timing: Timing{CreatedAt: w.SubmittedAt, StartedAt: w.StartedAt, FinishedAt: w.EndedAt},
	}
	if !w.StartedAt.IsZero() {
		end := w.EndedAt
		if end.IsZero() {
			end = now
		}
		runtime := end.Sub(w.StartedAt).Round(time.Millisecond).Seconds()
		out.Timing.Runtime = &runtime
	}
	if w.Exit != nil {
		if w.Exit.Code >= 0 {
			out.ExitCode = &w.Exit.Code
		}
		if w.State != autoheal.Succeeded {
			out.Error = exitText(*w.Exit)
		}
	}
	return out
}

// exitText says in words how an attempt ended.
func exitText(e autoheal.Exit) string {
	s := string(e.Reason)
	switch {
	case e.OOM == autoheal.OOMHostCgroup:
		s += ", out of memory at its own limit"
	case e.OOM == autoheal.OOMHostGlobal:
		s += ", out of memory of the host"
	case e.OOM == autoheal.OOMGPU:
		s += ", out of GPU memory"
	}
	switch {
	case e.Signal != "":
		s += ", " + e.Signal
	case e.Code >= 0:
		s += fmt.Sprintf(", exit code %d", e.Code)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func attemptItem(a autoheal.Workload) AttemptItem {
	return AttemptItem{
		Attempt: a.Attempt, State: a.State, NodeID: a.Node, GPUIDs: a.GPUs, MemoryMB: a.Request.MemoryMB,
		StartedAt: a.StartedAt, FinishedAt: a.EndedAt, Exit: a.Exit,
	}
}
