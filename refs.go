package autoheal

// Identifiers. Each is unique within one cluster and stable for the life of what it names.
type (
	// NodeID names a node; on a gateway it is the node's name, bound to its key at the first approval.
	NodeID string
	// GPUID is a GPU's UUID as the vendor's tool prints it, such as GPU-5c89852c-….
	GPUID string
	// WorkloadID names a workload for life: restarts, migrations and growth never change it.
	WorkloadID string
	// GangID names a set of workloads that start together or not at all.
	GangID string
	// IncidentID is inc-NNNNNN, counted by the core.
	IncidentID string
	// ActionID is INCIDENT/N or cmd-NNNNNN/N; it is the idempotency key of one action.
	ActionID string
	// Domain is a failure domain, such as rack/r1, zone/z1 or fabric/f1.
	Domain string
)

// RefKind says what a Ref names.
type RefKind string

// The kinds of subject.
const (
	RefCluster  RefKind = "cluster"
	RefDomain   RefKind = "domain"
	RefNode     RefKind = "node"
	RefGPU      RefKind = "gpu"
	RefGang     RefKind = "gang"
	RefWorkload RefKind = "workload"

	// What workloads may have in common: an image, what they were submitted as, something that they need.
	RefImage      RefKind = "image"
	RefSpec       RefKind = "spec"
	RefDependency RefKind = "dependency"
)

// Ref names any subject. Generation guards against acting on a successor: it is the boot ID for a node and a GPU, and
// the attempt number for a workload.
type Ref struct {
	Kind       RefKind `json:"kind"`
	ID         string  `json:"id"`
	Generation string  `json:"generation,omitempty"`
}

// String returns KIND/ID, the form in which targets are written on the command line.
func (r Ref) String() string { return string(r.Kind) + "/" + r.ID }

// Same reports whether both name the same subject, whatever the generation.
func (r Ref) Same(o Ref) bool { return r.Kind == o.Kind && r.ID == o.ID }

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r.Kind == "" && r.ID == "" }

// NodeRef names a node without a generation.
func NodeRef(id NodeID) Ref { return Ref{Kind: RefNode, ID: string(id)} }

// WorkloadRef names a workload without a generation.
func WorkloadRef(id WorkloadID) Ref { return Ref{Kind: RefWorkload, ID: string(id)} }

// GangRef names a gang without a generation.
func GangRef(id GangID) Ref { return Ref{Kind: RefGang, ID: string(id)} }
