package detect

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// Names of the conditions by which a node says what is wrong with its GPUs.
const (
	condDriverHung = "driver_hung"
	condGPU        = "gpu:"        // + UUID: why its driver is not content
	condGPUSignal  = "gpu_signal:" // + UUID: what the kernel calls it broken for
)

// gpuByNode looks at what a node reports of its GPUs: one that has failed, or a driver that does not answer (behaviour E2).
// What a silent node reported last is no news.
func gpuByNode(v View, c Change, now time.Time) []autoheal.Finding {
	n, before := c.Node, c.NodeBefore
	if n.Link != autoheal.LinkUp {
		return nil
	}
	if before != nil && (before.Link != autoheal.LinkUp || before.BootID != n.BootID) {
		before = nil // whatever was reported then
	}
	var out []autoheal.Finding
	if why, hung := n.Conditions[condDriverHung]; hung && (before == nil || before.Conditions[condDriverHung] == "") {
		out = append(out, hungDriver(n, why, now).byScope(v)...)
	}
	for k := range n.GPUs {
		p := part{n, &n.GPUs[k]}
		if p.gpu.Health == autoheal.HealthFailed && !failedBefore(before, p.gpu.UUID) {
			out = append(out, failedGPU(p, now).byScope(v)...)
		}
	}
	return out
}

func failedBefore(n *autoheal.Node, id autoheal.GPUID) bool {
	return n != nil && slices.ContainsFunc(n.GPUs, func(g autoheal.GPU) bool { return g.UUID == id && g.Health == autoheal.HealthFailed })
}

func hungDriver(n *autoheal.Node, why string, now time.Time) claim {
	return claim{
		part: part{node: n}, failure: autoheal.FailureGPU, action: autoheal.AdviceRebootNode, confidence: sureDriver, since: now, because: "gpu_failure.driver_hung",
		cause: fmt.Sprintf("the GPU driver of node %s does not answer: %s", n.ID, why),
		evidence: []autoheal.Signal{{
			Rule: "probe.driver_hung", Source: "nvidia-smi", Failure: autoheal.FailureGPU, Subject: n.Ref(), At: now, SeenAt: now, Count: 1,
			Action: autoheal.AdviceRebootNode, Excerpt: why,
		}},
	}
}

// failedGPU is the claim about a GPU that its node calls failed. Without a word on what would help it, it is reset.
func failedGPU(p part, now time.Time) claim {
	s := healthSignal(p, now)
	return claim{
		part: p, failure: autoheal.FailureGPU, action: s.Action, confidence: sureDriver, since: now, because: "gpu_failure.health",
		cause: fmt.Sprintf("%s has failed: %s", p.name(), s.Excerpt), evidence: []autoheal.Signal{s},
	}
}

// healthSignal says as a signal what a node reports of a GPU.
func healthSignal(p part, now time.Time) autoheal.Signal {
	id := string(p.gpu.UUID)
	return autoheal.Signal{
		Rule: "gpu.health", Source: "nvidia-smi", Failure: autoheal.FailureGPU, Subject: p.ref(), At: now, SeenAt: now, Count: 1,
		Action:  cmp.Or(p.gpu.Action, autoheal.AdviceResetGPU),
		Fields:  map[string]string{"index": fmt.Sprint(p.gpu.Index), "pci": p.gpu.PCI, "health": string(p.gpu.Health)},
		Excerpt: cmp.Or(p.node.Conditions[condGPUSignal+id], p.node.Conditions[condGPU+id], "its health is "+string(p.gpu.Health)),
	}
}

// gpuByExit looks at the end of an attempt that the kernel's log puts down to its GPU. As a rule the log has spoken before.
func gpuByExit(v View, c Change, _ time.Time) []autoheal.Finding {
	w := c.Workload
	if w.State != autoheal.Failed || !w.Exit.MachineFault() || w.Exit.Verdict.Failure != autoheal.FailureGPU || !Wanted(w) {
		return nil
	}
	if b := c.WorkloadBefore; b != nil && b.Attempt == w.Attempt && b.State == w.State {
		return nil
	}
	p, ok := partOfExit(v, w)
	if !ok {
		return nil
	}
	s := exitSignal(w, w.EndedAt)
	x := claim{
		part: p, failure: autoheal.FailureGPU, action: w.Exit.Verdict.Action, confidence: w.Exit.Verdict.Confidence, since: w.EndedAt,
		because: "gpu_failure.exit", cause: fmt.Sprintf("%s ended %s: %s", p.name(), w.ID, DescribeExit(w)), evidence: []autoheal.Signal{s},
	}
	if r, _ := v.Policy().Respond(x.failure, x.action); r.Kind != autoheal.GPUFailure || x.action == autoheal.AdviceRestartApp {
		return nil // the crash is seen to, and not held against the workload
	}
	return withEnded(x.byScope(v), w)
}

// partOfExit finds the GPU that a verdict names, or the only one that the attempt held.
func partOfExit(v View, w *autoheal.Workload) (part, bool) {
	id := autoheal.GPUID("")
	if s := w.Exit.Verdict.Subject; s != nil && s.Kind == autoheal.RefGPU {
		id = autoheal.GPUID(s.ID)
	}
	n := v.Node(w.Node)
	if n == nil {
		return part{}, false
	}
	if !slices.Contains(w.GPUs, id) && len(w.GPUs) == 1 {
		id = w.GPUs[0]
	}
	at := slices.IndexFunc(n.GPUs, func(g autoheal.GPU) bool { return g.UUID == id })
	if at < 0 {
		return part{}, false
	}
	return part{n, &n.GPUs[at]}, true
}

// withEnded adds the workload that has ended to who is affected: it holds no place any more.
func withEnded(fs []autoheal.Finding, w *autoheal.Workload) []autoheal.Finding {
	for n := range fs {
		if !slices.Contains(fs[n].Affected, w.Ref()) {
			fs[n].Affected = append(fs[n].Affected, w.Ref())
		}
	}
	return fs
}
