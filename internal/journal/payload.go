package journal

import (
	"encoding/json"
	"time"

	"autoheal.dev/autoheal"
)

// Type names a record's payload.
type Type string

// EngineStarted begins a life of the healer.
type EngineStarted struct {
	Epoch      uint64 `json:"epoch"`
	Version    string `json:"version"`
	ConfigHash string `json:"configHash"`
	BootID     string `json:"bootId"`
	Orderly    bool   `json:"orderly"` // the life before ended in order
}

// EngineStopped ends a life in order.
type EngineStopped struct {
	Reason string `json:"reason"`
}

// ConfigChanged says that another configuration is in force.
type ConfigChanged struct {
	ConfigHash string `json:"configHash"`
	By         string `json:"by"`
}

// IncidentOpened begins an incident.
type IncidentOpened struct {
	Kind       autoheal.FailureKind `json:"kind"`
	Subject    autoheal.Ref         `json:"subject"`
	Since      time.Time            `json:"since"`
	Seen       time.Time            `json:"seen"`
	Domains    []autoheal.Domain    `json:"domains"`
	Confidence float64              `json:"confidence"`
	Conclusive bool                 `json:"conclusive"`
	Cause      string               `json:"cause"`
	Because    string               `json:"because"`
	Simulated  bool                 `json:"simulated"`
	// Members are the nodes of a domain that fell silent together (subject: a domain).
	Members []autoheal.NodeID `json:"members,omitempty"`
	// Suspects and GPUs are what a part that is broken keeps its workloads off: the nodes and the GPUs that it names.
	Suspects []autoheal.NodeID `json:"suspects,omitempty"`
	GPUs     []autoheal.GPUID  `json:"gpus,omitempty"`
	// Node is where a broken GPU is, and Parts says which GPUs they are for whoever orders new ones.
	Node  autoheal.NodeID `json:"node,omitempty"`
	Parts []autoheal.GPU  `json:"parts,omitempty"`
	// Action is what the evidence asks for, and Ladder the steps that follow from it; none: those of the kind, as configured.
	Action autoheal.Advice `json:"action,omitempty"`
	Ladder []string        `json:"ladder,omitempty"`
	// Whole is the number of ready GPU nodes of the pool (all ready nodes when it has none): the denominator of the budgets.
	Whole int `json:"whole"`
	// Repeats counts the incidents of this kind on this subject in the 30 days before.
	Repeats int `json:"repeats,omitempty"`
}

// EvidenceAdded adds a signal; after 64 of them only Count grows.
type EvidenceAdded struct {
	Signal *autoheal.Signal `json:"signal,omitempty"`
	Count  int              `json:"count"`
	Cause  string           `json:"cause,omitempty"` // a better first cause
}

// IncidentMerged ends an incident as a symptom of another.
type IncidentMerged struct {
	Into   autoheal.IncidentID `json:"into"`
	Reason string              `json:"reason"`
}

// IncidentPhase changes an incident's phase.
type IncidentPhase struct {
	From       autoheal.Phase `json:"from"`
	To         autoheal.Phase `json:"to"`
	Reason     string         `json:"reason"`
	Silent     bool           `json:"silent,omitempty"`     // it ended while its node did not answer: that silence is dealt with
	Persistent bool           `json:"persistent,omitempty"` // it withdrew too often to count as transient
	// Gone are those nodes of a domain that did not answer when its incident ended.
	Gone []autoheal.NodeID `json:"gone,omitempty"`
}

// NodeBack says that a node answers again whose silence had been dealt with.
type NodeBack struct {
	Node autoheal.NodeID `json:"node"`
}

// StepDone says that a subject step of an incident's ladder ended (cordon, alert, return to service …).
type StepDone struct {
	Step   string `json:"step"`
	Result string `json:"result"` // done, skipped, failed
	Reason string `json:"reason"`
}

// RecoveryOpened begins the recovery of one workload or gang.
type RecoveryOpened struct {
	Workload   autoheal.WorkloadID   `json:"workload"`
	Members    []autoheal.WorkloadID `json:"members"`
	Gang       autoheal.GangID       `json:"gang,omitempty"`
	Attempts   []int                 `json:"attempts"` // the failed attempt of each member
	From       autoheal.NodeID       `json:"from"`
	Class      autoheal.Class        `json:"class"`
	Objective  time.Duration         `json:"objective"`
	Grace      time.Duration         `json:"grace"`
	FailedAt   time.Time             `json:"failedAt"`
	Deadline   time.Time             `json:"deadline"`
	AtMostOnce bool                  `json:"atMostOnce"`
	Rung       string                `json:"rung"`
	Ran        time.Duration         `json:"ran,omitempty"`  // how long the run that crashed lasted
	GPUs       int                   `json:"gpus,omitempty"` // of all members
}

// RecoveryStep moves a recovery. NotBefore is the end of a backoff or a grace; MemoryMB a new size.
type RecoveryStep struct {
	Workload  autoheal.WorkloadID  `json:"workload"`
	From      autoheal.StepName    `json:"from"`
	To        autoheal.StepName    `json:"to"`
	End       autoheal.RecoveryEnd `json:"end,omitempty"`
	Rung      string               `json:"rung"`
	Try       int                  `json:"try"`
	Reason    string               `json:"reason"`
	Proof     autoheal.Proof       `json:"proof,omitempty"`
	NotBefore time.Time            `json:"notBefore,omitzero"`
	Deadline  time.Time            `json:"deadline,omitzero"` // of this step on this rung
	Attempts  []int                `json:"attempts,omitempty"`
	MemoryMB  int64                `json:"memoryMb,omitempty"`
	Ran       time.Duration        `json:"ran,omitempty"` // how long the run that crashed lasted
	Node      autoheal.NodeID      `json:"node,omitempty"`
	Avoid     []autoheal.NodeID    `json:"avoid,omitempty"`    // where the next copy must not go, beside the suspects
	Spots     []autoheal.NodeID    `json:"spots,omitempty"`    // reserved before anything is stopped, in the order of the members
	Hedge     bool                 `json:"hedge,omitempty"`    // what follows is an extra copy: its node is only suspected
	OldNodes  bool                 `json:"oldNodes,omitempty"` // there is no room without the suspects: they are used again
}

// Held says that something waits; Released that it no longer does. Target names a recovery's workload or the incident's
// own subject; Verb is what was to be done.
type Held struct {
	Target autoheal.Ref    `json:"target"`
	Verb   string          `json:"verb"`
	Gate   string          `json:"gate"`
	Reason autoheal.Reason `json:"reason"`
	Detail string          `json:"detail"`
	Until  time.Time       `json:"until,omitzero"`
	On     string          `json:"on,omitempty"`
}

// Released ends a Held.
type Released struct {
	Target autoheal.Ref `json:"target"`
	Verb   string       `json:"verb"`
	By     string       `json:"by"`
}

// Intent is written before an action leaves. No intent, no action.
type Intent struct {
	Action    autoheal.Action     `json:"action"`
	Effect    autoheal.Effect     `json:"effect"`
	BudgetKey string              `json:"budgetKey,omitempty"`
	Workload  autoheal.WorkloadID `json:"workload,omitempty"` // the recovery it belongs to
	Try       int                 `json:"try"`                // times this very action was sent
	Command   string              `json:"command,omitempty"`
}

// Shadowed is an action that would have been taken, had the healer not been told to write it down only.
type Shadowed struct {
	Action autoheal.ShadowAction `json:"action"`
}

// Result is what became of an action.
type Result struct {
	Action    autoheal.ActionID  `json:"action"`
	Outcome   autoheal.Outcome   `json:"outcome"`
	ErrorKind autoheal.ErrorKind `json:"errorKind,omitempty"`
	Detail    string             `json:"detail,omitempty"`
	Proof     autoheal.Proof     `json:"proof,omitempty"`
}

// Safe is the moment from which at most one copy can run.
type Safe struct {
	Workload autoheal.WorkloadID `json:"workload"`
	At       time.Time           `json:"at"`
	Proof    autoheal.Proof      `json:"proof"`
}

// Running is the moment at which the new attempt was ready.
type Running struct {
	Workload autoheal.WorkloadID `json:"workload"`
	At       time.Time           `json:"at"`
	Attempt  int                 `json:"attempt"`
	Node     autoheal.NodeID     `json:"node"`
	Like     string              `json:"like,omitempty"` // what takes as long to start: its image, of a process its name
	Took     time.Duration       `json:"took,omitempty"` // since the start was asked for
}

// Overlap records for how long two copies of a workload were seen to run.
type Overlap struct {
	Workload autoheal.WorkloadID `json:"workload"`
	For      time.Duration       `json:"for"`
	Attempts []int               `json:"attempts"`
}

// MarkSet and MarkCleared follow our own marks.
type MarkSet struct {
	Ref  autoheal.Ref  `json:"ref"`
	Verb autoheal.Verb `json:"verb"`
	Mark autoheal.Mark `json:"mark"`
	// What the node had, which it must have again before it comes back (behaviour B4).
	GPUs     []autoheal.GPUID `json:"gpus,omitempty"`
	MemoryMB int64            `json:"memoryMb,omitempty"`
	Boot     string           `json:"boot,omitempty"` // of the node then
}

// MarkCleared ends a MarkSet.
type MarkCleared struct {
	Ref    autoheal.Ref `json:"ref"`
	Reason string       `json:"reason"`
	Gone   bool         `json:"gone,omitempty"` // the GPU was taken out: what was remembered of it is forgotten
}

// BudgetSpent takes from a budget, BudgetBack gives back what was taken for an action that was never sent, or that no
// longer holds its place among the concurrent ones.
type BudgetSpent struct {
	Key    string            `json:"key"` // disrupt or contain
	Action autoheal.ActionID `json:"action"`
	Target autoheal.Ref      `json:"target"`
	Domain autoheal.Domain   `json:"domain,omitempty"`
}

// BudgetBack gives back.
type BudgetBack struct {
	Key    string            `json:"key"`
	Action autoheal.ActionID `json:"action"`
	Unsent bool              `json:"unsent"` // it also leaves the hourly window
}

// Offender is a subject's new score.
type Offender struct {
	Subject  autoheal.Ref  `json:"subject"`
	Score    float64       `json:"score"`
	HalfLife time.Duration `json:"halfLife"`
	At       time.Time     `json:"at"`
}

// TransientSeen counts a failure that went away by itself (behaviour B3).
type TransientSeen struct {
	Subject autoheal.Ref `json:"subject"`
	What    string       `json:"what"` // silence, link, xid
}

// XidSeen counts an error of a GPU by its node's kernel, of whatever vendor; a burst of the same is one.
type XidSeen struct {
	GPU      autoheal.GPUID      `json:"gpu"`
	Code     string              `json:"code"`
	App      bool                `json:"app,omitempty"` // by itself it asks for no more than that the application starts anew
	Workload autoheal.WorkloadID `json:"workload,omitempty"`
	Attempt  int                 `json:"attempt,omitempty"`
	Like     string              `json:"like,omitempty"` // what ran there: an image, or a program of the host
	At       time.Time           `json:"at"`
}

// RepairTried counts a reset or a reboot that is sent out (behaviour E1).
type RepairTried struct {
	Target autoheal.Ref      `json:"target"`
	Verb   autoheal.Verb     `json:"verb"`
	Action autoheal.ActionID `json:"action"`
}

// RestartCounted holds a crash against a workload; RestartReset forgives them.
type RestartCounted struct {
	Workload autoheal.WorkloadID `json:"workload"`
	Attempt  int                 `json:"attempt"`
	Count    int                 `json:"count"`
	OOMSteps int                 `json:"oomSteps"`
}

// RestartReset forgives; Attempt is the last one that is not to be counted any more.
type RestartReset struct {
	Workload autoheal.WorkloadID `json:"workload"`
	Reason   string              `json:"reason"`
	Attempt  int                 `json:"attempt,omitempty"`
}

// ApprovalAsked asks a person; ID is app-N. It is for one verb on one generation of a target, for the incident that asks or
// for the agent that does, with those parameters.
type ApprovalAsked struct {
	ID         string            `json:"id"`
	Action     autoheal.ActionID `json:"action"`
	Verb       autoheal.Verb     `json:"verb"`
	Target     autoheal.Ref      `json:"target"`
	Generation string            `json:"generation"`
	Reason     string            `json:"reason"`
	Expires    time.Time         `json:"expires"`
	Actor      string            `json:"actor,omitempty"` // of a command: who wants it
	// Params are those of a command: an agent may do what was approved, and nothing like it.
	Params *autoheal.ActionParams `json:"params,omitempty"`
	// Offer says that nothing waits for it: it is offered to a person, and done when they approve. Cordoned is whether its
	// target was kept from new work then; an offer is void once that is over.
	Offer    bool `json:"offer,omitempty"`
	Cordoned bool `json:"cordoned,omitempty"`
}

// ApprovalGiven is a person's yes.
type ApprovalGiven struct {
	ID string `json:"id"`
	By string `json:"by"`
}

// ApprovalUsed ends an approval: it is single use.
type ApprovalUsed struct {
	ID     string            `json:"id"`
	Action autoheal.ActionID `json:"action"`
}

// ApprovalExpired ends an approval that nobody gave or used in time, or that is void before that, for a reason.
type ApprovalExpired struct {
	ID     string `json:"id"`
	Reason string `json:"reason,omitempty"`
}

// Command is a request of a person or an agent and what was answered at once. Args never hold secrets.
type Command struct {
	ID     string               `json:"id"`
	Actor  string               `json:"actor"`
	Role   string               `json:"role"`
	Verb   autoheal.CommandVerb `json:"verb"`
	Target autoheal.Ref         `json:"target"`
	Args   json.RawMessage      `json:"args,omitempty"`
	Reply  string               `json:"reply"`
}

// PauseSet stops all actions of the healer (scope "") or those of a maintenance scope; VetoSet those on one target.
type PauseSet struct {
	Scope  string    `json:"scope"`
	By     string    `json:"by"`
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// PauseCleared ends a PauseSet.
type PauseCleared struct {
	Scope string `json:"scope"`
	By    string `json:"by"`
}

// VetoSet forbids actions on one target.
type VetoSet struct {
	Target autoheal.Ref `json:"target"`
	By     string       `json:"by"`
	Until  time.Time    `json:"until,omitzero"`
	Reason string       `json:"reason,omitempty"`
}

// VetoCleared ends a VetoSet.
type VetoCleared struct {
	Target autoheal.Ref `json:"target"`
	By     string       `json:"by"`
}

// FenceConfirmed is a person's word that a node is powered off: single use (behaviour C1).
type FenceConfirmed struct {
	Node autoheal.NodeID `json:"node"`
	Boot string          `json:"boot"`
	By   string          `json:"by"`
}

// FenceUsed ends a FenceConfirmed.
type FenceUsed struct {
	Node autoheal.NodeID `json:"node"`
	By   string          `json:"by"`
}

// StormBegan and StormEnded bracket an observer-suspect hold (behaviour D1, D2).
type StormBegan struct {
	Silent int `json:"silent"`
	Of     int `json:"of"`
}

// StormEnded ends it; By is "released" (a person), "contact", or "domain" (it is the outage of a domain).
type StormEnded struct {
	By string `json:"by"`
}

// AlertQueued puts a message in the outbox; AlertSent and AlertFailed follow its delivery.
type AlertQueued struct {
	ID       string            `json:"id"`
	Severity autoheal.Severity `json:"severity"`
	Name     string            `json:"name"`
	Channel  string            `json:"channel"`
	DedupKey string            `json:"dedupKey"`
	Text     string            `json:"text"`
	Source   string            `json:"source"`
	Labels   map[string]string `json:"labels,omitempty"`
	Resolves string            `json:"resolves,omitempty"` // the alert that this one ends
}

// AlertSent says that a channel took it.
type AlertSent struct {
	ID      string `json:"id"`
	Channel string `json:"channel"`
}

// AlertFailed says that a channel did not.
type AlertFailed struct {
	ID      string `json:"id"`
	Channel string `json:"channel"`
	Detail  string `json:"detail"`
	Try     int    `json:"try"`
}

// AlertSilenced mutes an alert.
type AlertSilenced struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until"`
	By    string    `json:"by"`
}

// PostMortem says that an incident's account was written; its text follows from the journal.
type PostMortem struct {
	SHA256 string `json:"sha256"`
}

// Notice is something the healer found out about itself: observer_stalled, journal repaired.
type Notice struct {
	Reason autoheal.Reason `json:"reason"`
	Detail string          `json:"detail"`
	For    time.Duration   `json:"for,omitempty"`
}

// Snapshot is the whole durable state of the core, as it writes and reads it.
type Snapshot struct {
	State json.RawMessage `json:"state"`
}
