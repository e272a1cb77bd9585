package tool

import (
	"context"
	"fmt"

	"autoheal.dev/autoheal"
)

// NodeWaitingOut is the result of node_waiting.
type NodeWaitingOut struct {
	Count int           `json:"count"`
	Nodes []WaitingNode `json:"nodes"`
}

func nodeAdmin(env *Env, verb string) error {
	if env.Nodes != nil {
		return nil
	}
	return &autoheal.Error{Kind: autoheal.ErrUnsupported, Op: verb, Detail: "nodes of this cluster are admitted by its own control plane"}
}

func nodeWaiting(ctx context.Context, env *Env, _ None) (NodeWaitingOut, error) {
	if err := nodeAdmin(env, "node_waiting"); err != nil {
		return NodeWaitingOut{}, err
	}
	nodes, err := env.Nodes.WaitingNodes(ctx)
	if err != nil {
		return NodeWaitingOut{}, fmt.Errorf("list waiting nodes: %w", err)
	}
	return NodeWaitingOut{Count: len(nodes), Nodes: nodes}, nil
}

func nodeApprove(ctx context.Context, env *Env, in NodeIn) (Changed, error) {
	if err := nodeAdmin(env, "node_approve"); err != nil {
		return Changed{}, err
	}
	if err := env.Nodes.ApproveNode(ctx, autoheal.NodeID(in.NodeID)); err != nil {
		return Changed{}, fmt.Errorf("approve node %s: %w", short(in.NodeID), err)
	}
	return Changed{Success: true, Target: "node/" + in.NodeID, Message: fmt.Sprintf("Node %s approved", in.NodeID)}, nil
}

func nodeForget(ctx context.Context, env *Env, in NodeIn) (Changed, error) {
	if err := nodeAdmin(env, "node_forget"); err != nil {
		return Changed{}, err
	}
	n, err := findNode(ctx, env, in.NodeID)
	if err != nil {
		return Changed{}, err
	}
	left, err := workloadsOn(ctx, env, n.ID)
	if err != nil {
		return Changed{}, err
	}
	if n.Link == autoheal.LinkUp || len(left) > 0 {
		return Changed{}, &autoheal.Error{
			Kind: autoheal.ErrConflict, Op: "forget node " + string(n.ID),
			Detail: fmt.Sprintf("its link is %s and %d workloads are on it: drain it and stop its agent first", n.Link, len(left)),
		}
	}
	if err := env.Nodes.ForgetNode(ctx, n.ID); err != nil {
		return Changed{}, fmt.Errorf("forget node %s: %w", n.ID, err)
	}
	return Changed{Success: true, Target: "node/" + string(n.ID), Message: fmt.Sprintf("Node %s forgotten", n.ID)}, nil
}
