package tool

import (
	"context"
	"fmt"
	"time"

	"autoheal.dev/autoheal"
)

// NodeChanged is the result of node_cordon and node_uncordon.
type NodeChanged struct {
	Success bool            `json:"success"`
	NodeID  autoheal.NodeID `json:"nodeId"`
	Message string          `json:"message"`
	Outcome
}

// NodeMarkIn are the parameters of node_cordon and node_uncordon.
type NodeMarkIn struct {
	NodeID string `json:"nodeId" jsonschema:"ID or name of the node"`
	Reason string `json:"reason,omitempty" jsonschema:"shown wherever the mark is shown"`
}

func nodeCordon(ctx context.Context, env *Env, in NodeMarkIn) (NodeChanged, error) {
	return changeNode(ctx, env, in, autoheal.Cordon, "Node %s cordoned: nothing new is placed there")
}

func nodeUncordon(ctx context.Context, env *Env, in NodeMarkIn) (NodeChanged, error) {
	return changeNode(ctx, env, in, autoheal.Uncordon, "Node %s uncordoned")
}

func changeNode(ctx context.Context, env *Env, in NodeMarkIn, verb autoheal.Verb, done string) (NodeChanged, error) {
	n, err := findNode(ctx, env, in.NodeID)
	if err != nil {
		return NodeChanged{}, err
	}
	r, err := env.command(ctx, autoheal.Command{Verb: autoheal.CommandVerb(verb), Target: n.Ref(), Reason: in.Reason})
	if err != nil {
		return NodeChanged{}, err
	}
	return NodeChanged{Success: accepted(r), NodeID: n.ID, Message: messageOf(r, fmt.Sprintf(done, n.ID)), Outcome: outcomeOf(r)}, nil
}

// NodeDrainIn are the parameters of node_drain.
type NodeDrainIn struct {
	NodeID string `json:"nodeId" jsonschema:"ID or name of the node"`
	Grace  int64  `json:"gracePeriodSeconds,omitempty" check:"min=0,max=86400,default=300" jsonschema:"time between SIGTERM and SIGKILL"`
	Force  bool   `json:"force,omitempty" jsonschema:"drain also where a workload cannot be moved"`
	Wait   int64  `json:"waitSeconds,omitempty" check:"min=0,max=3600,default=30" jsonschema:"how long to wait for the workloads to have left; the drain goes on after that"`
	Reason string `json:"reason,omitempty" jsonschema:"shown wherever the mark is shown"`
}

// NodeDrainOut is the result of node_drain.
type NodeDrainOut struct {
	Success           bool            `json:"success"`
	NodeID            autoheal.NodeID `json:"nodeId"`
	MigratedWorkloads int             `json:"migratedWorkloads" jsonschema:"that have left the node when the verb returns"`
	Message           string          `json:"message"`
	Remaining         int             `json:"remainingWorkloads" jsonschema:"that are still on it"`
	Outcome
}

func nodeDrain(ctx context.Context, env *Env, in NodeDrainIn) (NodeDrainOut, error) {
	n, err := findNode(ctx, env, in.NodeID)
	if err != nil {
		return NodeDrainOut{}, err
	}
	before, err := workloadsOn(ctx, env, n.ID)
	if err != nil {
		return NodeDrainOut{}, err
	}
	r, err := env.command(ctx, autoheal.Command{
		Verb: autoheal.CommandVerb(autoheal.Drain), Target: n.Ref(), Reason: in.Reason,
		Params: autoheal.ActionParams{Grace: time.Duration(in.Grace) * time.Second, Force: in.Force},
	})
	if err != nil {
		return NodeDrainOut{}, err
	}
	out := NodeDrainOut{Success: accepted(r), NodeID: n.ID, Remaining: len(before), Outcome: outcomeOf(r)}
	if r.Held != nil {
		out.Message = messageOf(r, "")
		return out, nil
	}
	err = follow(ctx, env, time.Duration(in.Wait)*time.Second, everything, func(ctx context.Context) (bool, error) {
		left, err := workloadsOn(ctx, env, n.ID)
		out.Remaining = len(left)
		return len(left) == 0, err
	})
	if err != nil {
		return out, err
	}
	out.MigratedWorkloads = max(0, len(before)-out.Remaining)
	out.Message = fmt.Sprintf("Node %s drained: %s moved", n.ID, things(out.MigratedWorkloads, "workload"))
	if out.Remaining > 0 {
		out.Message = fmt.Sprintf("Node %s is draining: %d of %d workloads have left", n.ID, out.MigratedWorkloads, len(before))
	}
	return out, nil
}
