package claw

import (
	"context"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// Programs are the site's own programs for repairs, as in its configuration. What has none cannot be done, but for the
// reset, for which nodes have a tool of their driver's.
type Programs struct {
	Reset, Test   nodeproto.Program // run by the node
	Reboot, Fence []string          // run here
	RebootTime    time.Duration
}

// repairVerbs are the verbs that a site makes possible by its programs.
func (p Programs) repairVerbs() []autoheal.Verb {
	out := []autoheal.Verb{autoheal.ResetGPU}
	if len(p.Reboot) > 0 {
		out = append(out, autoheal.Reboot)
	}
	if len(p.Fence) > 0 {
		out = append(out, autoheal.Fence)
	}
	if len(p.Test.Argv) > 0 {
		out = append(out, autoheal.Test)
	}
	return out
}

// offers reports whether a repair works on this node.
func (n *node) offers(v autoheal.Verb, p Programs) bool {
	switch v {
	case autoheal.Fence:
		return true // it is told to somebody else
	case autoheal.Reboot:
		return n.status != nil && slices.Contains(n.status.Caps, autoheal.Reboot)
	case autoheal.Test:
		return n.status != nil && n.status.Programs
	}
	able := n.status != nil && (slices.Contains(n.status.Caps, v) || n.status.Programs && len(p.Reset.Argv) > 0)
	return able && len(n.status.GPUs) > 0
}

// doReset and doTest ask a node, which takes its time: it is accepted when the node has taken it on. Both are called with
// d.mu held and release it.
func (d *Driver) doReset(ctx context.Context, a autoheal.Action) autoheal.Result {
	n, err := d.targetGPU(a)
	if err == nil {
		err = d.canRepair(n, a, autoheal.GPUID(a.Target.ID))
	}
	if err != nil {
		d.mu.Unlock()
		return d.refused(a, err)
	}
	req := nodeproto.ResetRequest{Epoch: d.epoch, Action: a.ID, BootID: a.Target.Generation, GPU: autoheal.GPUID(a.Target.ID), Program: d.opts.Programs().Reset}
	return d.handOver(ctx, a, n, nodeproto.CmdReset, req)
}

func (d *Driver) doTest(ctx context.Context, a autoheal.Action) autoheal.Result {
	var n *node
	var err *autoheal.Error
	var gpus []autoheal.GPUID
	if a.Target.Kind == autoheal.RefGPU {
		n, err = d.targetGPU(a)
		gpus = append(gpus, autoheal.GPUID(a.Target.ID))
	} else {
		n, err = d.targetNode(a, a.Target)
	}
	if err == nil {
		err = d.canRepair(n, a, gpus...)
	}
	if err != nil {
		d.mu.Unlock()
		return d.refused(a, err)
	}
	req := nodeproto.TestRequest{Epoch: d.epoch, Action: a.ID, BootID: a.Target.Generation, Target: a.Target, Program: d.opts.Programs().Test}
	return d.handOver(ctx, a, n, nodeproto.CmdTest, req)
}

// canRepair refuses what the node does not offer, or what is in use as far as the registry knows: the node looks again.
func (d *Driver) canRepair(n *node, a autoheal.Action, gpus ...autoheal.GPUID) *autoheal.Error {
	if !slices.Contains(d.capsLocked(n), a.Verb) {
		return problem(autoheal.ErrUnsupported, "%s cannot %s", n.id, a.Verb)
	}
	for _, ref := range d.activeLocked(n.id) {
		for _, g := range d.attemptLocked(ref).gpus {
			if slices.Contains(gpus, g) {
				return problem(autoheal.ErrConflict, "it is held by attempt %d of %s", ref.n, ref.id)
			}
		}
	}
	return nil
}

// handOver sends a repair to its node. It is called with d.mu held and releases it.
func (d *Driver) handOver(ctx context.Context, a autoheal.Action, n *node, command string, req any) autoheal.Result {
	d.mu.Unlock()
	var resp nodeproto.Accepted
	err := d.call(ctx, n.device, command, d.key(string(a.Verb)+"/"+string(a.ID)), req, &resp, d.budget(a, sendTimeout))
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		return d.failed(a, err)
	}
	return d.acceptLocked(ctx, a, effect{})
}

// targetGPU returns the node of the GPU that the action is about, in the boot that it means.
func (d *Driver) targetGPU(a autoheal.Action) (*node, *autoheal.Error) {
	if a.Target.Kind != autoheal.RefGPU {
		return nil, problem(autoheal.ErrInvalid, "%s needs a GPU, not a %s", a.Verb, a.Target.Kind)
	}
	n := d.nodeOfGPU(autoheal.GPUID(a.Target.ID))
	if n == nil {
		return nil, problem(autoheal.ErrNotFound, "no node has this GPU")
	}
	if g := a.Target.Generation; g != "" && n.bootID != "" && g != n.bootID {
		return nil, problem(autoheal.ErrConflict, "node %s has booted since: this was meant for boot %s", n.id, g)
	}
	return n, nil
}
