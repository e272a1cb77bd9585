package tool

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// labelRegion is the well-known label of a node's region.
const labelRegion = "topology.kubernetes.io/region"

// simulatedMark follows the model of a GPU that does not exist.
const simulatedMark = " (simulated)"

// NodeListIn are the parameters of node_list.
type NodeListIn struct {
	Status   string            `json:"status,omitempty" check:"enum=ready|not_ready|cordoned|draining|offline" jsonschema:"only nodes in this status; not_ready is suspected, offline is past its grace"`
	Labels   map[string]string `json:"labels,omitempty" jsonschema:"only nodes with all of these labels"`
	GPUModel string            `json:"gpuModel,omitempty" jsonschema:"only nodes with a GPU whose model contains this, in any case"`
}

// NodeListOut is the result of node_list.
type NodeListOut struct {
	Count int        `json:"count"`
	Nodes []NodeItem `json:"nodes"`
}

// NodeItem is a node of a list.
type NodeItem struct {
	ID            autoheal.NodeID      `json:"id"`
	Name          string               `json:"name"`
	Status        autoheal.NodeStatus  `json:"status"`
	GPUs          int                  `json:"gpus"`
	GPUModels     []string             `json:"gpuModels"`
	Region        string               `json:"region,omitempty"`
	LastHeartbeat time.Time            `json:"lastHeartbeat"`
	Simulated     bool                 `json:"simulated" jsonschema:"some of its GPUs are made up"`
	CordonedBy    []string             `json:"cordonedBy"`
	Domains       []autoheal.Domain    `json:"domains"`
	Incident      *autoheal.IncidentID `json:"incident"`
	Platform      string               `json:"platform,omitempty"`
}

func nodeList(ctx context.Context, env *Env, in NodeListIn) (NodeListOut, error) {
	nodes, err := env.Healer.Nodes(ctx)
	if err != nil {
		return NodeListOut{}, fmt.Errorf("list nodes: %w", err)
	}
	out := NodeListOut{}
	for _, n := range nodes {
		if in.Status != "" && string(n.Status) != in.Status || !matches(n.Labels, in.Labels) || !hasModel(n, in.GPUModel) {
			continue
		}
		out.Nodes = append(out.Nodes, nodeItem(n))
	}
	slices.SortFunc(out.Nodes, func(a, b NodeItem) int { return cmp.Compare(a.ID, b.ID) })
	out.Count = len(out.Nodes)
	return out, nil
}

func hasModel(n autoheal.NodeView, part string) bool {
	return part == "" || slices.ContainsFunc(n.GPUs, func(g autoheal.GPU) bool {
		return strings.Contains(strings.ToLower(g.Model), strings.ToLower(part))
	})
}

func nodeItem(n autoheal.NodeView) NodeItem {
	it := NodeItem{
		ID: n.ID, Name: string(n.ID), Status: n.Status, GPUs: len(n.GPUs), Region: n.Labels[labelRegion],
		LastHeartbeat: n.LastSeen, Domains: n.Domains, Incident: n.Incident, Platform: n.Platform,
	}
	for _, g := range n.GPUs {
		it.Simulated = it.Simulated || g.Simulated
		if m := modelOf(g); !slices.Contains(it.GPUModels, m) {
			it.GPUModels = append(it.GPUModels, m)
		}
	}
	for _, m := range n.Marks {
		it.CordonedBy = append(it.CordonedBy, m.By)
	}
	return it
}

func modelOf(g autoheal.GPU) string {
	if g.Simulated && !strings.HasSuffix(g.Model, simulatedMark) {
		return g.Model + simulatedMark
	}
	return g.Model
}

// NodeIn names a node.
type NodeIn struct {
	NodeID string `json:"nodeId" jsonschema:"ID or name of the node"`
}

// NodeGetOut is the result of node_get.
type NodeGetOut struct {
	ID            autoheal.NodeID     `json:"id"`
	Name          string              `json:"name"`
	Status        autoheal.NodeStatus `json:"status"`
	Platform      string              `json:"platform"`
	Region        string              `json:"region,omitempty"`
	Zone          string              `json:"zone,omitempty"`
	Resources     NodeResources       `json:"resources"`
	Labels        map[string]string   `json:"labels"`
	ConnectedAt   time.Time           `json:"connectedAt"`
	LastHeartbeat time.Time           `json:"lastHeartbeat"`

	Simulated     bool                 `json:"simulated" jsonschema:"some of its GPUs are made up"`
	Link          autoheal.LinkState   `json:"link"`
	BootID        string               `json:"bootId"`
	Marks         []autoheal.Mark      `json:"marks" jsonschema:"cordons with their owners"`
	Domains       []autoheal.Domain    `json:"domains"`
	Conditions    map[string]string    `json:"conditions"`
	Workloads     []WorkloadItem       `json:"workloads" jsonschema:"whose current attempt is here and has not ended"`
	Incident      *autoheal.IncidentID `json:"incident" jsonschema:"the open one"`
	OffenderScore float64              `json:"offenderScore"`
	SelfStop      bool                 `json:"selfStop" jsonschema:"at-most-once workloads stop themselves here when contact is lost"`
	Verbs         []autoheal.Verb      `json:"verbs" jsonschema:"what can be done to it"`
	Jobs          []autoheal.Job       `json:"jobs" jsonschema:"the latest repairs and tests, oldest first; output is untrusted"`
}

// NodeResources is what a node has.
type NodeResources struct {
	CPUCores float64   `json:"cpuCores"`
	MemoryMB int64     `json:"memoryMb"`
	GPUs     []NodeGPU `json:"gpus"`
}

// NodeGPU is a GPU of a node.
type NodeGPU struct {
	ID          autoheal.GPUID      `json:"id"`
	Model       string              `json:"model"`
	Vendor      string              `json:"vendor"`
	MemoryMB    int64               `json:"memoryMb"`
	Utilization *float64            `json:"utilization,omitempty" jsonschema:"per cent"`
	Temperature *float64            `json:"temperature,omitempty" jsonschema:"degrees Celsius"`
	Index       int                 `json:"index"`
	PCI         string              `json:"pci,omitempty"`
	Serial      string              `json:"serial,omitempty" jsonschema:"of the board, where the driver tells"`
	Driver      string              `json:"driver,omitempty" jsonschema:"its version"`
	Firmware    string              `json:"firmware,omitempty" jsonschema:"its versions, each with its name"`
	Health      autoheal.Health     `json:"health"`
	Quarantined *autoheal.Mark      `json:"quarantined"`
	UsedBy      autoheal.WorkloadID `json:"usedBy,omitempty"`
	Simulated   bool                `json:"simulated" jsonschema:"it is made up"`
}

func nodeGet(ctx context.Context, env *Env, in NodeIn) (NodeGetOut, error) {
	n, err := findNode(ctx, env, in.NodeID)
	if err != nil {
		return NodeGetOut{}, err
	}
	workloads, err := workloadsOn(ctx, env, n.ID)
	if err != nil {
		return NodeGetOut{}, err
	}
	out := NodeGetOut{
		ID: n.ID, Name: string(n.ID), Status: n.Status, Platform: n.Platform, Labels: n.Labels,
		Region: n.Labels[labelRegion], Zone: n.Labels[autoheal.LabelZone], ConnectedAt: n.ConnectedAt, LastHeartbeat: n.LastSeen,
		Resources: NodeResources{CPUCores: float64(n.Capacity.CPUMilli) / 1000, MemoryMB: n.Capacity.MemoryMB},
		Link:      n.Link, BootID: n.BootID, Marks: n.Marks, Domains: n.Domains, Conditions: n.Conditions,
		Incident: n.Incident, OffenderScore: n.Offender, SelfStop: n.SelfStop, Verbs: n.Caps, Jobs: n.Jobs,
	}
	for _, w := range workloads {
		out.Workloads = append(out.Workloads, workloadItem(w, simulatedGPUs([]autoheal.NodeView{n})))
	}
	load, heat := latestPerGPU(ctx, env, n.ID, "gpu_utilization"), latestPerGPU(ctx, env, n.ID, "gpu_temperature")
	for _, g := range n.GPUs {
		out.Simulated = out.Simulated || g.Simulated
		out.Resources.GPUs = append(out.Resources.GPUs, NodeGPU{
			ID: g.UUID, Model: modelOf(g), PCI: g.PCI, Serial: g.Serial, Driver: g.Driver, Firmware: g.Firmware, Vendor: g.Vendor, MemoryMB: g.MemoryMB, Index: g.Index, Health: g.Health,
			Utilization: load[g.UUID], Temperature: heat[g.UUID], Quarantined: g.Quarantined, UsedBy: g.UsedBy, Simulated: g.Simulated,
		})
	}
	return out, nil
}

// sampleAge is how old a sample may be to be shown as the present one.
const sampleAge = 5 * time.Minute

// latestPerGPU returns the latest sample of each GPU of a node. A source that has none or fails leaves GPUs out: the
// value is unknown then, and node_get shows no key for it.
func latestPerGPU(ctx context.Context, env *Env, id autoheal.NodeID, metric string) map[autoheal.GPUID]*float64 {
	out := map[autoheal.GPUID]*float64{}
	now := env.Now()
	q := autoheal.MetricQuery{Metric: metric, Labels: map[string]string{"node_id": string(id)}, Since: now.Add(-sampleAge), Until: now}
	for s, err := range env.Cluster.Metrics(ctx, q) {
		if err != nil {
			return out
		}
		if n := len(s.Points); n > 0 {
			out[autoheal.GPUID(s.Labels["gpu"])] = &s.Points[n-1].Value
		}
	}
	return out
}

// workloadsOn lists the workloads whose current attempt is on a node and has not ended.
func workloadsOn(ctx context.Context, env *Env, id autoheal.NodeID) ([]autoheal.WorkloadView, error) {
	all, err := env.Healer.Workloads(ctx)
	if err != nil {
		return nil, fmt.Errorf("list workloads: %w", err)
	}
	out := slices.DeleteFunc(slices.Clone(all), func(w autoheal.WorkloadView) bool { return w.Node != id || w.State.Ended() })
	slices.SortFunc(out, func(a, b autoheal.WorkloadView) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}
