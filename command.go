package autoheal

import "time"

// CommandVerb is what a person or an AI agent may ask of the healer: the Actuator's verbs and the healer's own.
type CommandVerb string

// The healer's own commands. Any Verb is a CommandVerb too and goes through the same gates as the engine's actions.
const (
	CmdExamine         CommandVerb = "heal"          // re-examine every subject now
	CmdPlan            CommandVerb = "plan"          // what heal would do; changes nothing
	CmdApprove         CommandVerb = "approve"       // Approval, or the pending approvals of Incident
	CmdDismiss         CommandVerb = "dismiss"       // end Incident as dismissed
	CmdRelease         CommandVerb = "release"       // end a storm hold of Incident
	CmdFenceConfirm    CommandVerb = "fence_confirm" // Target is powered off, on the actor's word: single use
	CmdPauseHealer     CommandVerb = "healer_pause"
	CmdResumeHealer    CommandVerb = "healer_resume"
	CmdVeto            CommandVerb = "veto" // no action on Target
	CmdUnveto          CommandVerb = "unveto"
	CmdMaintenance     CommandVerb = "maintenance_start" // Target or Scope, until Until
	CmdMaintenanceEnd  CommandVerb = "maintenance_end"
	CmdAlert           CommandVerb = "alert_create"
	CmdSilence         CommandVerb = "alert_silence"
	CmdQuarantineClear CommandVerb = "quarantine_clear"
)

// RoleAgent is the role of an AI agent: a pause of the healer and the approval of a person hold for what it asks.
const RoleAgent = "agent"

// Command is a request of a person or an AI agent to the engine.
type Command struct {
	ID       string       `json:"id"` // chosen by the caller; the same ID twice is one command. Empty = the engine counts one
	Actor    string       `json:"actor"`
	Role     string       `json:"role"` // viewer operator approver admin, or RoleAgent
	Verb     CommandVerb  `json:"verb"`
	Target   Ref          `json:"target"`
	Incident IncidentID   `json:"incident,omitempty"`
	Approval string       `json:"approval,omitempty"`
	Scope    string       `json:"scope,omitempty"` // maintenance: "node/n1", "rack=r1"
	Until    time.Time    `json:"until,omitzero"`
	Reason   string       `json:"reason,omitempty"`
	Params   ActionParams `json:"params"`
	Alert    *Alert       `json:"alert,omitempty"`
	DryRun   bool         `json:"dryRun,omitempty"`
}

// Reply answers a Command once it is journalled and, for verbs of the Actuator, once its action was accepted, refused
// or held.
type Reply struct {
	Command  string       `json:"command"`
	Message  string       `json:"message"`
	Incident IncidentID   `json:"incident,omitempty"`
	Action   *ActionView  `json:"action,omitempty"`
	Held     *Held        `json:"held,omitempty"` // it waits; Held.On names the approval to ask for
	Err      *Error       `json:"error,omitempty"`
	Plan     []Planned    `json:"plan,omitempty"`
	Alert    *Alert       `json:"alert,omitempty"`
	Touched  []IncidentID `json:"touched,omitempty"` // incidents that an examination opened or moved
}

// Planned is one thing that the healer would do, or does not and why.
type Planned struct {
	Incident IncidentID `json:"incident,omitempty"`
	Verb     string     `json:"verb"` // an Actuator verb or a ladder step
	Target   Ref        `json:"target"`
	Text     string     `json:"text"`
	Held     []Held     `json:"held"` // every gate that would refuse it
}

// HealerStatus is the healer's view of itself and of the cluster, in numbers.
type HealerStatus struct {
	Cluster     string     `json:"cluster"`
	Version     string     `json:"version"`
	Epoch       uint64     `json:"epoch"`
	Enabled     bool       `json:"enabled"`
	Shadow      bool       `json:"shadow"`
	Synced      bool       `json:"synced"`
	Paused      *Held      `json:"paused"`  // the kill switch
	Blocked     *Held      `json:"blocked"` // journal_unwritable and the like: nothing is done
	Observer    *Held      `json:"observer"`
	Simulated   bool       `json:"simulated"` // some GPUs are simulated
	Incidents   int        `json:"incidents"` // open ones
	Stalls      int        `json:"stalls"`    // late wake-ups of this life
	JournalSeq  uint64     `json:"journalSeq"`
	StartedAt   time.Time  `json:"startedAt"`
	ConfigHash  string     `json:"configHash"`
	Vetoes      []string   `json:"vetoes"`
	Vetoed      []Held     `json:"vetoed"` // the same with whose word it is, why, and until when
	Maintenance []Held     `json:"maintenance"`
	Approvals   []Approval `json:"approvals"`
	Stuck       []Stuck    `json:"stuck"` // what the healer gave up on and a person has to go on with
}

// Stuck is a workload that does not run and that the healer has left to a person.
type Stuck struct {
	Workload WorkloadID `json:"workload"`
	Name     string     `json:"name"`
	Incident IncidentID `json:"incident"`
	Why      string     `json:"why"`  // may quote logs
	Next     string     `json:"next"` // what to type
}

// Approval is a request to a person, bound to one action on one target.
type Approval struct {
	ID       string     `json:"id"`
	Incident IncidentID `json:"incident"`
	Verb     Verb       `json:"verb"`
	Target   Ref        `json:"target"`
	Reason   string     `json:"reason"`
	AskedAt  time.Time  `json:"askedAt"`
	Expires  time.Time  `json:"expires"`
	State    string     `json:"state"` // asked given used expired
	By       string     `json:"by,omitempty"`
}

// NodeView is a node with what the healer thinks of it.
type NodeView struct {
	Node
	Status   NodeStatus  `json:"status"`
	Incident *IncidentID `json:"incident"` // the open one
	Offender float64     `json:"offenderScore"`
}

// WorkloadView is the current attempt of a workload with what the healer thinks of it.
type WorkloadView struct {
	Workload
	Incident         *IncidentID `json:"incident"`
	CrashCount       int         `json:"crashCount"`  // held against it, as the healer counts
	NextRestart      *time.Time  `json:"nextRestart"` // while it backs off
	ObjectiveSeconds Seconds     `json:"objectiveSeconds"`
}

// Why says what would happen if the target died now.
type Why struct {
	Target           Ref      `json:"target"`
	Class            Class    `json:"class,omitempty"`
	ClassRule        string   `json:"classRule,omitempty"`
	AtMostOnce       bool     `json:"atMostOnce"`
	ObjectiveSeconds *Seconds `json:"objectiveSeconds"`
	GraceSeconds     *Seconds `json:"graceSeconds"`
	FenceSeconds     *Seconds `json:"fenceSeconds"` // wait until a stop by deadline is proven; null = cannot be proven
	Proof            Proof    `json:"proof"`        // the best one available without a person
	GoesTo           NodeID   `json:"goesTo,omitempty"`
	Placement        string   `json:"placement"` // where, or why nowhere
	Text             []string `json:"text"`      // the same in sentences
	Gates            []Held   `json:"gates"`     // what would refuse it now
	Warnings         []string `json:"warnings"`  // what of its objective cannot be kept, with the figures; also in Text
}
