package autoheal

import "time"

// IncidentFilter selects incidents; what is empty selects everything. Results come newest first.
type IncidentFilter struct {
	Open     bool // only those that have not ended
	Kind     FailureKind
	Node     NodeID     // the subject, or where an affected workload ran or went
	Workload WorkloadID // the subject, or one of the recoveries
	Since    time.Time  // opened or ended at or after it
	Limit    int        // 0 = all that are kept
	Brief    bool       // without evidence, actions and timeline
}

// Change says that something changed, for live views. It is a hint to look again and a line to show, never the state
// itself: a reader who misses one has lost a line and nothing else.
type Change struct {
	Seq      uint64     `json:"seq"` // rises within one life of the healer
	At       time.Time  `json:"at"`
	Type     string     `json:"type"` // a journal record's type, or ChangeSubscribed, ChangeLost, ChangeNode, ChangeWorkload, ChangeSignal
	Incident IncidentID `json:"incident,omitempty"`
	Subject  Ref        `json:"subject"`
	Text     string     `json:"text"` // one line; what stands between quotation marks is untrusted
}

// Types of Change beside those of the journal's records.
const (
	// ChangeSubscribed is the first change of every stream: from here on nothing is missed. Seq is the latest number
	// given out so far.
	ChangeSubscribed = "subscribed"
	// ChangeLost says that the reader was too slow, or asked for changes that are no longer kept: look at everything
	// again.
	ChangeLost     = "lost"
	ChangeNode     = "node"
	ChangeWorkload = "workload"
	ChangeSignal   = "signal"
)
