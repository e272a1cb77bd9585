package tool

import (
	"context"
	"fmt"

	"autoheal.dev/autoheal"
)

// QuarantineListOut is the result of quarantine_list.
type QuarantineListOut struct {
	Count int                `json:"count"`
	Nodes []QuarantinedNode  `json:"nodes" jsonschema:"that wait for a person: repeated offenders, and nodes that the healer cordoned and no longer works on"`
	GPUs  []QuarantinedEntry `json:"gpus"`
}

// QuarantinedNode is a node that waits for a person.
type QuarantinedNode struct {
	NodeID        autoheal.NodeID `json:"nodeId"`
	OffenderScore float64         `json:"offenderScore"`
	Mark          autoheal.Mark   `json:"mark"`
}

// QuarantinedEntry is a quarantined GPU.
type QuarantinedEntry struct {
	NodeID    autoheal.NodeID `json:"nodeId"`
	GPUID     autoheal.GPUID  `json:"gpuId"`
	Index     int             `json:"index"`
	Model     string          `json:"model"`
	Simulated bool            `json:"simulated"`
	Mark      autoheal.Mark   `json:"mark"`
}

func quarantineList(ctx context.Context, env *Env, _ None) (QuarantineListOut, error) {
	nodes, err := env.Healer.Nodes(ctx)
	if err != nil {
		return QuarantineListOut{}, fmt.Errorf("list nodes: %w", err)
	}
	out := QuarantineListOut{}
	for _, n := range nodes {
		if m := n.MarkedBy(autoheal.ByAutoheal); m != nil && (n.Incident == nil || n.Offender >= env.Policy().Offender.Score) {
			out.Nodes = append(out.Nodes, QuarantinedNode{NodeID: n.ID, OffenderScore: n.Offender, Mark: *m})
		}
		for _, g := range n.GPUs {
			if g.Quarantined != nil {
				out.GPUs = append(out.GPUs, QuarantinedEntry{
					NodeID: n.ID, GPUID: g.UUID, Index: g.Index, Model: modelOf(g), Simulated: g.Simulated, Mark: *g.Quarantined,
				})
			}
		}
	}
	out.Count = len(out.Nodes) + len(out.GPUs)
	return out, nil
}

func quarantineClear(ctx context.Context, env *Env, in QuarantineClearIn) (Changed, error) {
	target, err := findQuarantined(ctx, env, in.Target)
	if err != nil {
		return Changed{}, err
	}
	c := autoheal.Command{Verb: autoheal.CmdQuarantineClear, Target: target, Reason: in.Reason}
	return ask(ctx, env, c, target.String(), fmt.Sprintf("Quarantine of %s cleared", target))
}

// QuarantineClearIn are the parameters of quarantine_clear.
type QuarantineClearIn struct {
	Target string `json:"target" jsonschema:"a node's name or a GPU's UUID"`
	Reason string `json:"reason,omitempty" jsonschema:"what was checked or replaced"`
}

func findQuarantined(ctx context.Context, env *Env, name string) (autoheal.Ref, error) {
	if _, gpu, err := findGPU(ctx, env, name); err == nil {
		return gpu, nil
	}
	target, err := findTarget(ctx, env, name)
	if err == nil && target.Kind != autoheal.RefNode && target.Kind != autoheal.RefGPU {
		return autoheal.Ref{}, badParam("target", "Wrong value for parameter target: %s is neither a node nor a GPU", target)
	}
	return target, err
}

// GPUQuarantineIn are the parameters of node_gpu_quarantine.
type GPUQuarantineIn struct {
	NodeID string `json:"nodeId"`
	GPUID  string `json:"gpuId" jsonschema:"UUID of the GPU, as node_get shows it"`
	Reason string `json:"reason,omitempty"`
}

func nodeGPUQuarantine(ctx context.Context, env *Env, in GPUQuarantineIn) (Changed, error) {
	want, err := findNode(ctx, env, in.NodeID)
	if err != nil {
		return Changed{}, err
	}
	n, gpu, err := findGPU(ctx, env, in.GPUID)
	if err != nil {
		return Changed{}, err
	}
	if n.ID != want.ID {
		return Changed{}, &autoheal.Error{Kind: autoheal.ErrConflict, Detail: fmt.Sprintf("GPU %s is in node %s, not in %s", gpu.ID, n.ID, want.ID)}
	}
	c := autoheal.Command{Verb: autoheal.CommandVerb(autoheal.QuarantineGPU), Target: gpu, Reason: in.Reason}
	return ask(ctx, env, c, gpu.String(), fmt.Sprintf("GPU %s of node %s quarantined: nothing new is placed on it", gpu.ID, n.ID))
}
