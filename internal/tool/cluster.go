package tool

import (
	"context"
	"fmt"

	"autoheal.dev/autoheal"
)

// ClusterStatusIn are the parameters of cluster_status.
type ClusterStatusIn struct {
	Cluster string `json:"cluster,omitempty" jsonschema:"name of the cluster; there is one, so it may be left out"`
}

// ClusterStatusOut is the result of cluster_status.
type ClusterStatusOut struct {
	Cluster   string         `json:"cluster"`
	Healthy   bool           `json:"healthy" jsonschema:"every node is ready, no wanted workload is failed and no incident is open"`
	Nodes     NodeCounts     `json:"nodes"`
	GPUs      GPUCounts      `json:"gpus"`
	Workloads WorkloadCounts `json:"workloads"`
	Incidents int            `json:"incidents" jsonschema:"open incidents"`
	Summary   string         `json:"summary"`
}

// NodeCounts counts nodes; a node is ready or not.
type NodeCounts struct {
	Total    int `json:"total"`
	Ready    int `json:"ready"`
	NotReady int `json:"notReady"`
}

// GPUCounts counts GPUs. Available ones are free, not known to be bad, not quarantined, and on a node that takes work.
type GPUCounts struct {
	Total     int `json:"total"`
	Available int `json:"available"`
	Allocated int `json:"allocated"`
	Simulated int `json:"simulated" jsonschema:"how many of total are made up"`
}

// WorkloadCounts counts workloads by the state of their current attempt; scheduled ones count as pending, and so
// do those that a person paused and that were ended in order since.
type WorkloadCounts struct {
	Running int `json:"running"`
	Pending int `json:"pending"`
	Failed  int `json:"failed"`
}

func clusterStatus(ctx context.Context, env *Env, in ClusterStatusIn) (ClusterStatusOut, error) {
	st, err := env.Healer.Status(ctx)
	if err != nil {
		return ClusterStatusOut{}, fmt.Errorf("read status: %w", err)
	}
	if in.Cluster != "" && in.Cluster != st.Cluster {
		return ClusterStatusOut{}, notFound("Cluster", in.Cluster)
	}
	nodes, err := env.Healer.Nodes(ctx)
	if err != nil {
		return ClusterStatusOut{}, fmt.Errorf("list nodes: %w", err)
	}
	workloads, err := env.Healer.Workloads(ctx)
	if err != nil {
		return ClusterStatusOut{}, fmt.Errorf("list workloads: %w", err)
	}
	out := ClusterStatusOut{Cluster: st.Cluster, Incidents: st.Incidents}
	for _, n := range nodes {
		out.Nodes.add(n)
		out.GPUs.add(n)
	}
	wanted := 0 // failed although wanted
	for _, w := range workloads {
		out.Workloads.add(w)
		if w.State == autoheal.Failed && !waitsForResume(w) && w.Desired != autoheal.DesiredStopped && w.Desired != autoheal.DesiredCancelled {
			wanted++
		}
	}
	out.Healthy = out.Nodes.NotReady == 0 && wanted == 0 && out.Incidents == 0
	out.Summary = fmt.Sprintf("Cluster %s: %d/%d nodes ready, %d/%d GPUs available, %d workloads running",
		out.Cluster, out.Nodes.Ready, out.Nodes.Total, out.GPUs.Available, out.GPUs.Total, out.Workloads.Running)
	if out.GPUs.Simulated > 0 {
		out.Summary += fmt.Sprintf(" (%d of %d GPUs simulated)", out.GPUs.Simulated, out.GPUs.Total)
	}
	return out, nil
}

func (c *NodeCounts) add(n autoheal.NodeView) {
	c.Total++
	if n.Status == autoheal.StatusNotReady || n.Status == autoheal.StatusOffline {
		c.NotReady++
		return
	}
	c.Ready++
}

func (c *GPUCounts) add(n autoheal.NodeView) {
	takesWork := n.Status == autoheal.StatusReady
	for _, g := range n.GPUs {
		c.Total++
		if g.Simulated {
			c.Simulated++
		}
		switch {
		case g.UsedBy != "":
			c.Allocated++
		case takesWork && g.Health != autoheal.HealthFailed && g.Quarantined == nil:
			c.Available++
		}
	}
}

func (c *WorkloadCounts) add(w autoheal.WorkloadView) {
	if waitsForResume(w) {
		c.Pending++
		return
	}
	switch w.State {
	case autoheal.Running:
		c.Running++
	case autoheal.Pending, autoheal.Scheduled:
		c.Pending++
	case autoheal.Failed:
		c.Failed++
	}
}
