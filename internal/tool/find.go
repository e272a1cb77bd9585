package tool

import (
	"context"
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
)

func notFound(what, id string) error {
	return &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: fmt.Sprintf("%s not found: %s", what, short(id))}
}

// findNode returns the node of that name.
func findNode(ctx context.Context, env *Env, id string) (autoheal.NodeView, error) {
	nodes, err := env.Healer.Nodes(ctx)
	if err != nil {
		return autoheal.NodeView{}, fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes {
		if string(n.ID) == id {
			return n, nil
		}
	}
	return autoheal.NodeView{}, notFound("Node", id)
}

// findWorkload returns the workload with that ID, else the only one with that name; among several of one name the only
// one that has not ended.
func findWorkload(ctx context.Context, env *Env, id string) (autoheal.WorkloadView, error) {
	all, err := env.Healer.Workloads(ctx)
	if err != nil {
		return autoheal.WorkloadView{}, fmt.Errorf("list workloads: %w", err)
	}
	var named, live []autoheal.WorkloadView
	for _, w := range all {
		if string(w.ID) == id {
			return w, nil
		}
		if w.Name == id {
			named = append(named, w)
			if !w.State.Ended() {
				live = append(live, w)
			}
		}
	}
	switch {
	case len(named) == 1:
		return named[0], nil
	case len(live) == 1:
		return live[0], nil
	case len(named) == 0:
		return autoheal.WorkloadView{}, notFound("Workload", id)
	}
	ids := make([]string, len(named))
	for i, w := range named {
		ids[i] = string(w.ID)
	}
	return autoheal.WorkloadView{}, &autoheal.Error{
		Kind: autoheal.ErrConflict, Detail: fmt.Sprintf("Workload name %s is not unique: use one of %s", short(id), strings.Join(ids, ", ")),
	}
}

// findTarget reads "node/n1", "workload/wl-1", "gpu/GPU-…", "gang/g", "domain/rack/r1", or the bare name of a node or a
// workload.
func findTarget(ctx context.Context, env *Env, target string) (autoheal.Ref, error) {
	kind, id, ok := strings.Cut(target, "/")
	if !ok {
		return findBare(ctx, env, target)
	}
	switch autoheal.RefKind(kind) {
	case autoheal.RefNode:
		n, err := findNode(ctx, env, id)
		return n.Ref(), err
	case autoheal.RefWorkload:
		w, err := findWorkload(ctx, env, id)
		return w.Ref(), err
	case autoheal.RefGPU:
		_, gpu, err := findGPU(ctx, env, id)
		return gpu, err
	case autoheal.RefGang, autoheal.RefDomain, autoheal.RefCluster:
		if id != "" {
			return autoheal.Ref{Kind: autoheal.RefKind(kind), ID: id}, nil
		}
	}
	return autoheal.Ref{}, badParam("target", "Wrong value for parameter target: %q is not node/NAME, workload/ID, gpu/UUID, gang/NAME or domain/KIND/NAME", short(target))
}

func findBare(ctx context.Context, env *Env, name string) (autoheal.Ref, error) {
	n, nodeErr := findNode(ctx, env, name)
	w, workloadErr := findWorkload(ctx, env, name)
	switch {
	case nodeErr == nil && workloadErr == nil:
		return autoheal.Ref{}, &autoheal.Error{
			Kind: autoheal.ErrConflict, Detail: fmt.Sprintf("%s is a node and a workload: say node/%s or workload/%s", name, n.ID, w.ID),
		}
	case nodeErr == nil:
		return n.Ref(), nil
	case workloadErr == nil:
		return w.Ref(), nil
	case autoheal.KindOf(nodeErr) != autoheal.ErrNotFound:
		return autoheal.Ref{}, nodeErr
	case autoheal.KindOf(workloadErr) != autoheal.ErrNotFound:
		return autoheal.Ref{}, workloadErr
	}
	return autoheal.Ref{}, notFound("Node or workload", name)
}

// findGPU returns the GPU with that UUID and its node.
func findGPU(ctx context.Context, env *Env, uuid string) (autoheal.NodeView, autoheal.Ref, error) {
	nodes, err := env.Healer.Nodes(ctx)
	if err != nil {
		return autoheal.NodeView{}, autoheal.Ref{}, fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes {
		for _, g := range n.GPUs {
			if string(g.UUID) == uuid {
				return n, autoheal.Ref{Kind: autoheal.RefGPU, ID: uuid, Generation: n.BootID}, nil
			}
		}
	}
	return autoheal.NodeView{}, autoheal.Ref{}, notFound("GPU", uuid)
}

// matches reports whether labels hold all that want asks for; an empty want matches everything.
func matches(labels, want map[string]string) bool {
	for k, v := range want {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
