// Package detect owns the detectors: each turns a change of the observed cluster into claims about it.
//
// A detector is pure and keeps no state of its own; what it needs it reads by key from the View that heal gives it, so
// its cost follows the change and not the size of the cluster. Only heal imports this package. A detector never acts,
// never reads a clock (it is handed now) and never does I/O.
package detect

import (
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// Change is one change of the observed cluster: the state before and after of a node or of a workload's current
// attempt. Before is nil for a subject that was not known.
type Change struct {
	NodeBefore, Node         *autoheal.Node
	WorkloadBefore, Workload *autoheal.Workload
	Signal                   *autoheal.Signal
}

// View is what detectors may look up. It reads by key and cannot iterate the cluster.
type View interface {
	Policy() *policy.Policy
	// Node and Workload (its current attempt) return nil for what is not known.
	Node(id autoheal.NodeID) *autoheal.Node
	Workload(id autoheal.WorkloadID) *autoheal.Workload
	// WorkloadsOn returns the workloads whose attempt holds a place on the node, in order of ID.
	WorkloadsOn(id autoheal.NodeID) []*autoheal.Workload
	// Gang returns the current attempts of a gang in order of rank.
	Gang(id autoheal.GangID) []*autoheal.Workload
}

// Detector finds one kind of failure.
type Detector interface {
	// Kind names what it finds.
	Kind() autoheal.FailureKind
	// Detect looks at one change at the time now. A finding with Withdrawn says that what was found before is over.
	Detect(v View, c Change, now time.Time) []autoheal.Finding
}
