package drivertest

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// can skips a check on a cluster that does not have a verb on its first node.
func (b *bench) can(v autoheal.Verb) {
	b.t.Helper()
	ok := slices.Contains(b.Cluster.Capabilities().Verbs, v)
	b.see(func(o *observer) { ok = ok && o.nodes[b.Nodes[0]].Supports(v) })
	b.need(string(v), ok)
}

// gpu names a GPU of the first node.
func (b *bench) gpu(i int) autoheal.Ref {
	var out autoheal.Ref
	b.see(func(o *observer) {
		n := o.nodes[b.Nodes[0]]
		out = autoheal.Ref{Kind: autoheal.RefGPU, ID: string(n.GPUs[i].UUID), Generation: n.BootID}
	})
	return out
}

// checkRepair: a reset and a test are refused while somebody holds the GPU, are taken on once, and are jobs of the node
// until after their end.
func checkRepair(b *bench) {
	for _, v := range []autoheal.Verb{autoheal.ResetGPU, autoheal.Test} {
		b.can(v)
	}
	b.need("GPUs and workloads", b.GPUs > 0 && b.Workloads != nil)
	all := b.Service("holder")
	all.GPUs = b.GPUs
	for _, id := range b.Nodes[1:] {
		b.mustDo(autoheal.Action{Verb: autoheal.Cordon, Target: autoheal.NodeRef(id)})
	}
	holder := b.submit(all)
	node, gpu := b.Nodes[0], b.gpu(0)
	reset := autoheal.Action{ID: "inc-9/1", Verb: autoheal.ResetGPU, Target: gpu}
	test := autoheal.Action{ID: "inc-9/2", Verb: autoheal.Test, Target: gpu}
	b.mustRefuse(reset, autoheal.ErrConflict)
	b.mustRefuse(test, autoheal.ErrConflict)
	b.mustDo(autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(holder), Params: autoheal.ActionParams{Final: true}})
	b.await("the holder to be gone", func(o *observer) bool { w := o.current(holder); return w == nil || w.State.Ended() })
	for _, a := range []autoheal.Action{reset, test} {
		b.mustDo(a)
		b.await("the end of the "+string(a.Verb), func(o *observer) bool {
			j := o.nodes[node].Job(a.ID)
			return j != nil && j.State != autoheal.JobRunning
		})
	}
	var first autoheal.Job
	b.see(func(o *observer) {
		first = *o.nodes[node].Job(reset.ID)
		if first.State != autoheal.JobPassed || first.Verb != autoheal.ResetGPU || first.Target.ID != gpu.ID || first.StartedAt.IsZero() || first.EndedAt.Before(first.StartedAt) {
			b.t.Errorf("the reset is told as %+v", first)
		}
	})
	b.mustDo(reset) // asked for again, it is done already
	b.mustDo(autoheal.Action{Verb: autoheal.Refresh, Target: autoheal.NodeRef(node)})
	b.quietly("the reset is one job that stays as it was", 5*time.Second, func(o *observer) bool {
		jobs := slices.DeleteFunc(slices.Clone(o.nodes[node].Jobs), func(j autoheal.Job) bool { return j.Action != reset.ID })
		return len(jobs) == 1 && jobs[0] == first
	})
	other := reset
	other.ID, other.Target.Generation = "inc-9/3", "another boot"
	b.mustRefuse(other, autoheal.ErrConflict)
	other.Target = autoheal.Ref{Kind: autoheal.RefGPU, ID: "GPU-nowhere"}
	b.mustRefuse(other, autoheal.ErrNotFound)
}

// checkReboot: only an empty node is rebooted.
func checkReboot(b *bench) {
	b.can(autoheal.Reboot)
	b.need("submit workloads", b.Workloads != nil)
	id := b.submit(b.Service("here"))
	var target autoheal.Ref
	b.see(func(o *observer) { target = o.nodes[o.current(id).Node].Ref() })
	b.mustRefuse(autoheal.Action{ID: "inc-9/1", Verb: autoheal.Reboot, Target: target}, autoheal.ErrConflict)
	b.mustDo(autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(id), Params: autoheal.ActionParams{Final: true}})
	b.await("it to be gone", func(o *observer) bool { w := o.current(id); return w == nil || w.State.Ended() })
	b.mustDo(autoheal.Action{ID: "inc-9/2", Verb: autoheal.Reboot, Target: target})
	target.Generation = "another boot"
	b.mustRefuse(autoheal.Action{ID: "inc-9/3", Verb: autoheal.Reboot, Target: target}, autoheal.ErrConflict)
}

// checkFence: a node that was powered off is proven off, also when it is asked for again.
func checkFence(b *bench) {
	b.can(autoheal.Fence)
	a := autoheal.Action{ID: "inc-9/1", Verb: autoheal.Fence, Target: autoheal.NodeRef(b.Nodes[0])}
	for range 2 {
		if r := b.do(a); r.Outcome != autoheal.OutcomeDone || r.Proof != autoheal.ProofPowerOff {
			b.t.Errorf("fencing ended %s with proof %q: %v", r.Outcome, r.Proof, r.Err)
		}
	}
	b.mustRefuse(autoheal.Action{ID: "inc-9/2", Verb: autoheal.Fence, Target: autoheal.NodeRef("nowhere")}, autoheal.ErrNotFound)
}

// checkCollect: what was collected can be read by its incident, where the driver keeps it.
func checkCollect(b *bench) {
	b.can(autoheal.Collect)
	a := autoheal.Action{ID: "inc-9/1", Incident: "inc-9", Verb: autoheal.Collect, Target: autoheal.NodeRef(b.Nodes[0])}
	b.mustDo(a)
	b.mustDo(a)
	kept, ok := b.Cluster.(autoheal.Captures)
	b.need("keep captures", ok)
	got, err := kept.Captures(b.t.Context(), "inc-9")
	if err != nil || len(got) != 1 || got[0].Action != a.ID || got[0].Node != b.Nodes[0] || got[0].Target != a.Target || got[0].At.IsZero() || len(got[0].Parts) == 0 {
		b.t.Errorf("captures %+v, %v", got, err)
	}
	if got, err := kept.Captures(b.t.Context(), "inc-8"); err != nil || len(got) != 0 {
		b.t.Errorf("captures of another incident: %+v, %v", got, err)
	}
}
