package autoheal

import (
	"context"
	"iter"
	"time"
)

// Cluster is the one port through which a cluster is healed. Every driver implements it and passes
// internal/driver/drivertest.
type Cluster interface {
	Observer
	Actuator
	// Capabilities says what the driver can do at all; Node.Caps limits it further, node by node.
	Capabilities() Capabilities
}

// Observer is the read side.
type Observer interface {
	// Watch yields a full listing (nodes first, then workload attempts), EventSynced, then changes. After EventLost
	// everything is unknown since that event's At until a new full listing ends with EventSynced. It ends only with ctx
	// (and then yields ctx's error) or with a fatal error. One Watch at a time.
	Watch(ctx context.Context) iter.Seq2[Event, error]
	// Logs yields the lines that match q, oldest first, at most q.Limit of them (the newest ones when there are more).
	Logs(ctx context.Context, q LogQuery) iter.Seq2[LogLine, error]
	// Metrics yields the series that match q; an unknown metric yields none.
	Metrics(ctx context.Context, q MetricQuery) iter.Seq2[Series, error]
}

// Actuator is the write side: one method, so that decorators, audit and the simulator stay small.
type Actuator interface {
	// Do asks for one action and returns when it is accepted; completion is learned only by observing. It is idempotent:
	// the same Action.ID (for start: the same attempt number) never acts twice, and stopping what is stopped succeeds.
	// Result.Outcome says what is known: OutcomeDone (accepted), OutcomeNotSent (nothing happened; may be sent again with
	// the same ID) or OutcomeUnknown (observe before acting again). A verb that is not in Capabilities, or not in the
	// node's Caps, is refused as ErrUnsupported and not sent. An Epoch below the highest seen is refused as ErrConflict.
	Do(ctx context.Context, a Action) Result
}

// Workloads is the optional role of drivers that keep specs themselves: the verbs of users.
type Workloads interface {
	// Submit makes a workload exist and wanted. The same id with the same spec returns the same workload; with another
	// spec it is ErrConflict. A spec that is wrong is ErrInvalid and names the key; one that fits no node of the present
	// cluster is accepted and stays pending with the reason.
	Submit(ctx context.Context, id ActionID, s Spec) (WorkloadID, error)
	// Spec returns what was submitted, environment names with their values; callers that show it hide the values.
	Spec(ctx context.Context, id WorkloadID) (Spec, error)
	// Lineage returns the attempts of a workload, oldest first.
	Lineage(ctx context.Context, id WorkloadID) ([]Workload, error)
}

// Contacts is the optional role of drivers that know the time of each node's last answer between two events: what is shown
// to people is then no older than it has to be. Nothing is decided by it.
type Contacts interface {
	LastSeen(id NodeID) (time.Time, bool)
}

// Capabilities is what a driver can do.
type Capabilities struct {
	Verbs         []Verb `json:"verbs"`
	GPUQuarantine bool   `json:"gpuQuarantine"`
	ExactFit      bool   `json:"exactFit"`      // placement here equals placement there: Fit is exact, not a guess
	SelfStop      bool   `json:"selfStop"`      // nodes may prove a stop by deadline (proof level 3)
	OwnerRestarts bool   `json:"ownerRestarts"` // something else makes the next attempt; start observes it
	InPlaceResize bool   `json:"inPlaceResize"`
}

// EventKind says what an Event carries.
type EventKind string

// Event kinds.
const (
	EventNode     EventKind = "node"
	EventWorkload EventKind = "workload"
	EventSignal   EventKind = "signal"
	EventGone     EventKind = "gone" // the subject was removed: a node forgotten, a workload deleted
	EventSynced   EventKind = "synced"
	EventLost     EventKind = "lost"
)

// Event is one observation. Node and Workload are the whole new state of their subject, never a difference. At is when
// it was true, SeenAt when the driver learned it.
type Event struct {
	Kind     EventKind `json:"kind"`
	Node     *Node     `json:"node,omitempty"`
	Workload *Workload `json:"workload,omitempty"`
	Signal   *Signal   `json:"signal,omitempty"`
	Gone     *Ref      `json:"gone,omitempty"`
	At       time.Time `json:"at"`
	SeenAt   time.Time `json:"seenAt"`
	Source   string    `json:"source"`
}

// LogQuery selects log lines; empty fields select everything. Level is the least severe that matches.
type LogQuery struct {
	Query    string // full text: A B OR C D means (A and B) or (C and D); quotes make a phrase
	Level    string // debug, info, warn, error
	Node     NodeID
	Workload WorkloadID
	Attempt  int // 0 = all
	Since    time.Time
	Until    time.Time
	Limit    int
}

// LogLine is one line of a log. Message is untrusted. Words are those of the signals recognised in it (behaviour H2).
type LogLine struct {
	At       time.Time  `json:"at"`
	Level    string     `json:"level"`
	Source   string     `json:"source"` // stdout, stderr, kernel, agent
	Node     NodeID     `json:"node,omitempty"`
	Workload WorkloadID `json:"workload,omitempty"`
	Attempt  int        `json:"attempt,omitempty"`
	Message  string     `json:"message"`
	Words    []string   `json:"words,omitempty"`
}

// MetricQuery selects series of one metric.
type MetricQuery struct {
	Metric string
	Labels map[string]string
	Since  time.Time
	Until  time.Time
	Step   time.Duration
}

// Series is one metric's values for one set of labels.
type Series struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Points []Point           `json:"points"`
}

// Point is one value in time.
type Point struct {
	At    time.Time `json:"time"`
	Value float64   `json:"value"`
}
