package detect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// gpuFailure claims that a GPU is broken, or that what runs on it has to start anew (behaviour E1). It believes the kernel
// and the GPU's driver; what a workload writes about hardware counts only where the driver is not content either. The
// subject says how far it reaches: a workload, a GPU, or the whole node.
type gpuFailure struct{}

func (gpuFailure) Kind() autoheal.FailureKind { return autoheal.GPUFailure }

func (gpuFailure) Detect(v View, c Change, now time.Time) []autoheal.Finding {
	switch {
	case c.Signal != nil:
		return gpuBySignal(v, c.Signal, now)
	case c.Node != nil:
		return gpuByNode(v, c, now)
	case c.Workload != nil:
		return gpuByExit(v, c, now)
	}
	return nil
}

// part is a GPU with the node that it is in. gpu is nil where it is the node as a whole, or a GPU that the node does not list.
type part struct {
	node *autoheal.Node
	gpu  *autoheal.GPU
}

// partOf finds the node and the GPU that a signal is about. A GPU that is not listed is named by its place: NODE/ADDRESS.
func partOf(v View, s *autoheal.Signal) (part, bool) {
	p := part{}
	for _, r := range append([]autoheal.Ref{s.Subject}, s.Also...) {
		if r.Kind == autoheal.RefNode {
			p.node = v.Node(autoheal.NodeID(r.ID))
		}
	}
	if s.Subject.Kind == autoheal.RefGPU {
		if n := v.NodeOfGPU(autoheal.GPUID(s.Subject.ID)); n != nil {
			p.node = n
		}
	}
	if p.node == nil || s.Subject.Generation != "" && s.Subject.Generation != p.node.BootID {
		return part{}, false // of another boot (behaviour A6)
	}
	_, pci, _ := strings.Cut(s.Subject.ID, "/")
	for n := range p.node.GPUs {
		g := &p.node.GPUs[n]
		if s.Subject.Kind == autoheal.RefGPU && (string(g.UUID) == s.Subject.ID || pci != "" && g.PCI == pci) {
			p.gpu = g
		}
	}
	return p, true
}

// name says which GPU it is, or which node.
func (p part) name() string {
	if p.gpu == nil {
		return fmt.Sprintf("node %s", p.node.ID)
	}
	return fmt.Sprintf("GPU %d of node %s (%s)", p.gpu.Index, p.node.ID, p.gpu.UUID)
}

// ref names the GPU in its node's present boot.
func (p part) ref() autoheal.Ref {
	return autoheal.Ref{Kind: autoheal.RefGPU, ID: string(p.gpu.UUID), Generation: p.node.BootID}
}

// users returns the workloads that hold the GPU, in order of ID.
func (p part) users(v View) []*autoheal.Workload {
	if p.gpu == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(v.WorkloadsOn(p.node.ID)), func(w *autoheal.Workload) bool { return !slices.Contains(w.GPUs, p.gpu.UUID) })
}

// claim is what is said of a part, before it is known how far it reaches.
type claim struct {
	part
	failure    autoheal.Failure
	action     autoheal.Advice
	confidence float64
	since      time.Time
	because    string
	cause      string
	evidence   []autoheal.Signal
}

func (c claim) finding() autoheal.Finding {
	return autoheal.Finding{
		Kind: autoheal.GPUFailure, Failure: c.failure, Action: c.action, Confidence: c.confidence, Conclusive: true, Since: c.since,
		Because: c.because, Cause: c.cause, Evidence: c.evidence,
	}
}

// byScope makes the finding that the advice asks for: what needs a reboot is the node's, as is what the node does not list;
// anything else is the GPU's alone.
func (c claim) byScope(v View) []autoheal.Finding {
	f := c.finding()
	if c.gpu != nil && c.action != autoheal.AdviceRebootNode {
		f.Subject = c.ref()
		for _, w := range c.users(v) {
			f.Affected = append(f.Affected, w.Ref())
		}
		return []autoheal.Finding{f}
	}
	f.Subject, f.Action = c.node.Ref(), autoheal.AdviceRebootNode
	for _, w := range v.WorkloadsOn(c.node.ID) {
		f.Affected = append(f.Affected, w.Ref())
	}
	if c.gpu != nil {
		f.Affected = append(f.Affected, c.ref())
	}
	return []autoheal.Finding{f}
}

// restartOnly makes the finding that concerns nothing but what runs on the GPU: its workload, of a gang all of it.
func (c claim) restartOnly(v View) []autoheal.Finding {
	var out []autoheal.Finding
	for _, w := range c.users(v) {
		f := c.finding()
		f.Subject, f.Affected = w.Ref(), []autoheal.Ref{w.Ref()}
		if w.Gang != "" {
			f.Subject = autoheal.GangRef(w.Gang)
		}
		out = append(out, f)
	}
	return out
}
