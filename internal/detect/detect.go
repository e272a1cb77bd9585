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
	// NodeOfGPU returns the node that lists a GPU, or nil.
	NodeOfGPU(id autoheal.GPUID) *autoheal.Node
	// Xids returns what the kernel has said of a GPU in the last days, XidsOf what it said of GPUs under one program.
	Xids(id autoheal.GPUID) []Xid
	XidsOf(program string) []Xid
	// PendingSince is since when the current attempt waits for a place, as far as was seen; zero if it does not.
	PendingSince(id autoheal.WorkloadID) time.Time
	// Missing says in words what ws lack for a place for all of them together, "" if there is one.
	Missing(ws []*autoheal.Workload) string
	// Said returns the failures that the current attempt of a workload has told of, oldest first, as many as are kept.
	Said(id autoheal.WorkloadID) []autoheal.Signal
	// Catalogue is what signals mean.
	Catalogue() *Catalogue
}

// Xid is one error of a GPU by the kernel's log, of whatever vendor; a burst of the same counts once.
type Xid struct {
	GPU  autoheal.GPUID
	Code string
	Like string // what ran there: an image, or a program of the host
	App  bool   // by itself it asks for no more than that the application starts anew
	At   time.Time
}

// Detector finds one kind of failure.
type Detector interface {
	// Kind names what it finds.
	Kind() autoheal.FailureKind
	// Detect looks at one change at the time now. A finding with Withdrawn says that what was found before is over.
	Detect(v View, c Change, now time.Time) []autoheal.Finding
}
