package autoheal

import (
	"encoding/json"
	"time"
)

// Phase is the phase of an incident.
type Phase string

// Incident phases. The last four are final, except that a relapse within the configured window takes a recovered
// incident back to recovering (behaviour F1).
const (
	Suspected  Phase = "suspected"
	Recovering Phase = "recovering"
	Recovered  Phase = "recovered"
	Cleared    Phase = "cleared"
	Escalated  Phase = "escalated"
	Dismissed  Phase = "dismissed"
)

// Ended reports whether the incident is over.
func (p Phase) Ended() bool { return p != Suspected && p != Recovering }

// StepName is the step of a recovery.
type StepName string

// Recovery steps.
const (
	StepWaiting   StepName = "waiting"
	StepStopping  StepName = "stopping"
	StepStarting  StepName = "starting"
	StepVerifying StepName = "verifying"
	StepDone      StepName = "done"
)

// RecoveryEnd is how a recovery ended.
type RecoveryEnd string

// Ends of a recovery.
const (
	EndNone      RecoveryEnd = ""
	EndRecovered RecoveryEnd = "recovered"
	EndLeftAlone RecoveryEnd = "left_alone" // the cause was withdrawn before anything was done
	EndEscalated RecoveryEnd = "escalated"
	EndCancelled RecoveryEnd = "cancelled" // its owner stopped it, or it ended by itself
)

// Reason names why something was refused or held. The set is closed: it is log field, metric label, journal entry and
// text of the dashboard at once.
type Reason string

// Reasons.
const (
	ReasonNone              Reason = ""
	ReasonDisabled          Reason = "disabled"
	ReasonPaused            Reason = "paused"
	ReasonVetoed            Reason = "vetoed"
	ReasonMaintenance       Reason = "maintenance"
	ReasonStaleEvidence     Reason = "stale_evidence"
	ReasonObserverSuspect   Reason = "observer_suspect"
	ReasonObserverStalled   Reason = "observer_stalled"
	ReasonSettling          Reason = "settling"
	ReasonNotSynced         Reason = "not_synced"
	ReasonSuperseded        Reason = "superseded"
	ReasonForeignOwner      Reason = "foreign_owner"
	ReasonManualOverride    Reason = "manual_override"
	ReasonNoCapacity        Reason = "no_capacity"
	ReasonBudgetConcurrent  Reason = "budget_concurrent"
	ReasonBudgetRate        Reason = "budget_rate"
	ReasonBudgetDomain      Reason = "budget_domain"
	ReasonCooldown          Reason = "cooldown"
	ReasonApprovalNeeded    Reason = "approval_needed"
	ReasonDomainOutage      Reason = "domain_outage"
	ReasonDriverHung        Reason = "driver_hung"
	ReasonNoVerb            Reason = "no_verb"
	ReasonAutonomyObserve   Reason = "autonomy_observe"
	ReasonAutonomySuggest   Reason = "autonomy_suggest"
	ReasonFenceUnproven     Reason = "fence_unproven"
	ReasonBackoff           Reason = "backoff"
	ReasonUnsupported       Reason = "unsupported"
	ReasonJournalUnwritable Reason = "journal_unwritable"
	ReasonNotLeader         Reason = "not_leader"
	ReasonMaxRestarts       Reason = "max_restarts"
	ReasonChainLimit        Reason = "chain_limit"
	ReasonGangIncomplete    Reason = "gang_incomplete"
	ReasonEmptySelection    Reason = "empty_selection"
)

// Held says that something waits, why, and what ends the wait: a time, or a key that somebody will wake.
type Held struct {
	Reason Reason    `json:"reason"`
	Detail string    `json:"detail"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"`
	On     string    `json:"on,omitempty"` // node/ID, budget/KIND/DOMAIN, capacity, approval/ID, person, sync, storm
}

// Hold is a time for which a gate held something.
type Hold struct {
	Target Ref        `json:"target"`
	Verb   string     `json:"verb"` // what was to be done; empty = everything about the target
	Gate   string     `json:"gate"`
	Reason Reason     `json:"reason"`
	Detail string     `json:"detail"`
	From   time.Time  `json:"from"`
	To     *time.Time `json:"to"` // null while it lasts
}

// ShadowAction is something that the healer would have done, had it not been told to write it down only.
type ShadowAction struct {
	At     time.Time    `json:"at"`
	Verb   Verb         `json:"verb"`
	Target Ref          `json:"target"`
	Step   string       `json:"step"` // of the ladder
	Reason string       `json:"reason"`
	Params ActionParams `json:"params"`
	Mode   HealMode     `json:"mode"` // act: at once; approve, suggest, observe: it would have waited for a person
}

// Seconds is a duration that is written in JSON as a number of seconds with millisecond precision. A nil *Seconds is
// null: unknown.
type Seconds time.Duration

// MarshalJSON writes seconds, rounded to milliseconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Round(time.Millisecond).Seconds())
}

// UnmarshalJSON reads seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*s = Seconds(time.Duration(f * float64(time.Second)))
	return nil
}

// Incident is the shape in which an incident is shown everywhere: one cause, from first suspicion to its end.
type Incident struct {
	ID         IncidentID     `json:"id"`
	Kind       FailureKind    `json:"kind"`
	Phase      Phase          `json:"phase"`
	Subject    Ref            `json:"subject"`
	Domains    []Domain       `json:"domains"`
	Class      Class          `json:"class"` // the most urgent class affected
	Since      time.Time      `json:"since"` // onset: when a source could first show it
	OpenedAt   time.Time      `json:"openedAt"`
	EndedAt    *time.Time     `json:"endedAt"`
	Transient  bool           `json:"transient"`
	Confidence float64        `json:"confidence"`
	Cause      string         `json:"cause"`
	Because    string         `json:"because"` // the rule that said it
	Held       *Held          `json:"held"`
	Holds      []Hold         `json:"holds"`   // what held it, past and present
	Repeats    int            `json:"repeats"` // earlier incidents of this kind on this subject, within 30 days
	MergedInto IncidentID     `json:"mergedInto,omitempty"`
	Simulated  bool           `json:"simulated"` // some of its hardware is simulated
	Evidence   []Signal       `json:"evidence"`
	Shadow     []ShadowAction `json:"shadow"` // what would have been done while the healer was in the shadow
	Recoveries []Recovery     `json:"recoveries"`
	Actions    []ActionView   `json:"actions"`
	Timeline   []Moment       `json:"timeline"`

	Recommendations []string `json:"recommendations"`
}

// Recovery is one affected workload or gang of an incident.
type Recovery struct {
	Workload   WorkloadID   `json:"workload"` // of a gang: its first rank
	Gang       GangID       `json:"gang,omitempty"`
	Members    []WorkloadID `json:"members"`
	Attempt    int          `json:"attempt"` // the attempt being made or verified
	Class      Class        `json:"class"`
	AtMostOnce bool         `json:"atMostOnce"`
	Step       StepName     `json:"step"`
	End        RecoveryEnd  `json:"end"`
	Rung       string       `json:"rung"`
	Try        int          `json:"try"`
	Proof      Proof        `json:"proof"`
	Held       *Held        `json:"held"`
	From       NodeID       `json:"from"`
	To         NodeID       `json:"to"`
	Reason     string       `json:"reason"` // why it is where it is; may quote logs
	GPUs       int          `json:"gpus"`   // of all members
	EndedAt    *time.Time   `json:"endedAt"`

	ObjectiveSeconds     Seconds   `json:"objectiveSeconds"`
	FailedAt             time.Time `json:"failedAt"`
	Deadline             time.Time `json:"deadline"`
	TimeToSafeSeconds    *Seconds  `json:"timeToSafeSeconds"`
	TimeToRunningSeconds *Seconds  `json:"timeToRunningSeconds"`
	OverlapSeconds       *Seconds  `json:"overlapSeconds"` // two copies at once; null when it was not observed
	WithinObjective      *bool     `json:"withinObjective"`
	GPUSecondsLost       *float64  `json:"gpuSecondsLost"` // its GPUs, from the failure until they were of use again; null while that goes on
}

// ActionView is one action of an incident with its result. ResultAt and Outcome are null while it is under way.
type ActionView struct {
	ID       ActionID     `json:"id"`
	Verb     Verb         `json:"verb"`
	Target   Ref          `json:"target"`
	Actor    string       `json:"actor"`
	Reason   string       `json:"reason"`
	Params   ActionParams `json:"params"`
	IntentAt time.Time    `json:"intentAt"`
	ResultAt *time.Time   `json:"resultAt"`
	Outcome  *Outcome     `json:"outcome"`
	Error    *Error       `json:"error"`
}

// Moment is one line of an incident's timeline. Text is ours, except what stands between quotation marks: that is
// quoted from logs and untrusted.
type Moment struct {
	At   time.Time `json:"at"`
	Type string    `json:"type"` // the journal record's type
	Text string    `json:"text"`
}

// Severity of an alert.
type Severity string

// Severities.
const (
	SeverityInfo     Severity = "info"
	SeverityWarning  Severity = "warning"
	SeverityCritical Severity = "critical"
)

// Alert is one message to people.
type Alert struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Severity   Severity          `json:"severity"`
	Message    string            `json:"message"`
	Source     string            `json:"source"` // an incident's ID, or who created it
	Incident   IncidentID        `json:"incident,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	FiredAt    time.Time         `json:"firedAt"`
	ResolvedAt *time.Time        `json:"resolvedAt"`
	Active     bool              `json:"active"`
	Silenced   *time.Time        `json:"silencedUntil,omitempty"`
}
