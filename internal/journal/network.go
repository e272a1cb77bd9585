package journal

import (
	"time"

	"autoheal.dev/autoheal"
)

// CulpritTold says whom the ranks of a gang, or the kernel of a node, hold responsible for a failure of the network. Without
// Node it is nobody, or one of several Suspects.
type CulpritTold struct {
	Gang       autoheal.GangID     `json:"gang,omitempty"`
	Node       autoheal.NodeID     `json:"node,omitempty"`
	Workload   autoheal.WorkloadID `json:"workload,omitempty"`
	Role       string              `json:"role,omitempty"` // what gives it away: behind, missing, named, link
	Confidence float64             `json:"confidence"`
	Because    string              `json:"because"`
	Suspects   []autoheal.NodeID   `json:"suspects,omitempty"` // that the next placement keeps off
	Accusers   []autoheal.NodeID   `json:"accusers,omitempty"` // nodes of the ranks that lost the others
	Peers      []autoheal.NodeID   `json:"peers,omitempty"`    // that the suspects are compared with
}

// PairChecked is one direction of a pairwise check: so many probes of From to To, so many of them lost. Sent is 0 where
// nothing could be tried.
type PairChecked struct {
	From   autoheal.NodeID `json:"from"`
	To     autoheal.NodeID `json:"to"`
	Sent   int             `json:"sent"`
	Lost   int             `json:"lost"`
	RTT    time.Duration   `json:"rtt,omitempty"`
	Detail string          `json:"detail"`
}

// Isolated says that a node was taken out of use because of its network, and on what evidence. Gangs are those that it was
// taken from.
type Isolated struct {
	Node     autoheal.NodeID   `json:"node"`
	Gangs    []autoheal.GangID `json:"gangs,omitempty"`
	Evidence string            `json:"evidence"`
}
