package detect

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// nodeFault claims that a node which answers cannot be relied on: its disk is full or read-only, its kernel reported broken
// hardware or a lock-up, or it is short of memory or of processes (behaviour B7). What a silent node reported last is no
// news, and what a workload writes says nothing of its node.
type nodeFault struct{}

func (nodeFault) Kind() autoheal.FailureKind { return autoheal.NodeFault }

func (nodeFault) Detect(v View, c Change, now time.Time) []autoheal.Finding {
	switch {
	case c.Signal != nil:
		return faultBySignal(v, c.Signal, now)
	case c.Node != nil:
		return faultByNode(v, c, now)
	}
	return nil
}

// faultBySignal looks at what the kernel of a node calls critical.
func faultBySignal(v View, s *autoheal.Signal, now time.Time) []autoheal.Finding {
	n := v.Node(autoheal.NodeID(s.Subject.ID))
	if s.Subject.Kind != autoheal.RefNode || n == nil || !MachineFault(s) || now.Sub(s.At) > v.Policy().Evidence.MaxAge {
		return nil
	}
	return []autoheal.Finding{{
		Kind: autoheal.NodeFault, Subject: n.Ref(), Affected: hurtBy(v, n, autoheal.CondFault+s.Rule), Confidence: sureKernel, Conclusive: true,
		Since: s.At, Because: s.Rule, Cause: said(s), Evidence: []autoheal.Signal{*s},
	}}
}

// MachineFault reports whether a signal of a node's kernel says that the machine itself is broken.
func MachineFault(s *autoheal.Signal) bool {
	broken := s.Failure == autoheal.FailureHostHW || s.Failure == autoheal.FailureHostSW || s.Failure == autoheal.FailureDisk
	return s.Conclusive && !s.Clears && broken
}

// faultByNode looks at the faults that a node reports of itself, each once.
func faultByNode(v View, c Change, now time.Time) []autoheal.Finding {
	n, before := c.Node, c.NodeBefore
	if n.Link != autoheal.LinkUp {
		return nil
	}
	if before != nil && (before.Link != autoheal.LinkUp || before.BootID != n.BootID) {
		before = nil // whatever was reported then
	}
	faults, known := n.Faults(), []string(nil)
	if before != nil {
		known = before.Faults()
	}
	if len(faults) == 0 && len(known) > 0 {
		return []autoheal.Finding{{Kind: autoheal.NodeFault, Subject: n.Ref(), Withdrawn: true, Since: now, Because: "node_fault.cleared", Cause: "the node reports no fault any more"}}
	}
	var out []autoheal.Finding
	for _, name := range faults {
		if slices.Contains(known, name) {
			continue
		}
		f := autoheal.Finding{
			Kind: autoheal.NodeFault, Subject: n.Ref(), Affected: hurtBy(v, n, name), Confidence: 0.95, Conclusive: true, Since: now,
			Because: "node_fault." + name, Cause: DescribeFault(n, name),
		}
		if !autoheal.FromKernel(name) || c.NodeBefore == nil { // else its line comes as a signal of its own
			f.Evidence = []autoheal.Signal{conditionSignal(n, name, now)}
		}
		out = append(out, f)
	}
	return out
}

// hurtBy names what cannot run on a node with a fault: everything, where the machine is broken; what writes, where the disk
// takes nothing; nothing, where it is short of something, because nobody is ended who may not be its cause.
func hurtBy(v View, n *autoheal.Node, fault string) []autoheal.Ref {
	if autoheal.IsPressure(fault) {
		return nil
	}
	var out []autoheal.Ref
	for _, w := range v.WorkloadsOn(n.ID) {
		if autoheal.FromKernel(fault) || w.AtMostOnce || w.Kind == autoheal.KindJob {
			out = append(out, w.Ref())
		}
	}
	return out
}

// DescribeFault says in words what a node reports.
func DescribeFault(n *autoheal.Node, name string) string {
	words := map[string]string{
		autoheal.CondDiskFull: "its disk is full", autoheal.CondReadOnly: "its disk is read-only",
		autoheal.CondMemory: "it is short of memory", autoheal.CondPids: "it is short of processes",
	}
	if autoheal.FromKernel(name) {
		return n.Conditions[name]
	}
	return fmt.Sprintf("%s: %s", cmp.Or(words[name], name), n.Conditions[name])
}

func conditionSignal(n *autoheal.Node, name string, now time.Time) autoheal.Signal {
	failure, action := autoheal.FailureDisk, autoheal.AdviceFreeDisk
	switch {
	case name == autoheal.CondReadOnly:
		action = autoheal.AdviceReplaceHW
	case autoheal.IsPressure(name):
		failure, action = autoheal.FailureHostSW, autoheal.AdviceNone
	case autoheal.FromKernel(name):
		failure, action = autoheal.FailureHostHW, autoheal.AdviceReplaceHW
	}
	return autoheal.Signal{
		Rule: "condition/" + name, Source: "agent", Failure: failure, Subject: n.Ref(), At: now, SeenAt: now, Count: 1, Conclusive: true,
		Action: action, Excerpt: n.Conditions[name],
	}
}
