package heal

import (
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// durable is the core's whole journalled state: what the fold of all records gives. Only apply (in apply.go) writes it.
// Everything in it survives as JSON, so that a snapshot is its encoding.
type durable struct {
	Seq          uint64                                  `json:"seq"`
	Step         uint64                                  `json:"step"`
	Epoch        uint64                                  `json:"epoch"`
	BootID       string                                  `json:"bootId"`
	Config       string                                  `json:"config"`
	Incidents    map[autoheal.IncidentID]*incident       `json:"incidents"`
	Counters     counters                                `json:"counters"`
	Restarts     map[autoheal.WorkloadID]*restarts       `json:"restarts"`
	Starts       map[string][]time.Duration              `json:"starts,omitempty"` // how long the last ones took, by what is started
	Settled      map[autoheal.WorkloadID]int             `json:"settled"`          // last attempt whose end is dealt with: escalated, dismissed
	Marks        map[string]*ownMark                     `json:"marks"`            // by Ref.String
	Budgets      map[string]*budget                      `json:"budgets"`
	Offenders    map[string]*offender                    `json:"offenders"`
	Transients   map[string][]time.Time                  `json:"transients"` // "node/n1 silence"
	Xids         map[autoheal.GPUID]*xidBook             `json:"xids,omitempty"`
	Repairs      map[string][]time.Time                  `json:"repairs,omitempty"` // by Ref.String without the generation
	Approvals    map[string]*approval                    `json:"approvals"`
	Pauses       map[string]*pause                       `json:"pauses"` // "" = the kill switch, else a maintenance scope
	Vetoes       map[string]*pause                       `json:"vetoes"` // by Ref.String
	FenceWords   map[autoheal.NodeID]*fenceWord          `json:"fenceWords"`
	Gone         map[autoheal.NodeID]autoheal.IncidentID `json:"gone"`      // silent nodes whose incident has ended
	StormOver    time.Time                               `json:"stormOver"` // when contact was last back after a storm
	Storm        *storm                                  `json:"storm"`
	CooldownFrom []time.Time                             `json:"cooldownFrom"`         // ends of the last recoveries (behaviour D5)
	Culprits     map[autoheal.NodeID][]culprit           `json:"culprits,omitempty"`   // of the last day (behaviour E9)
	Isolations   []*isolation                            `json:"isolations,omitempty"` // of the last day, and those that last
	Alerts       []*alert                                `json:"alerts"`
	Commands     map[string]string                       `json:"commands"` // replies by command ID, the last ones
	CommandOrder []string                                `json:"commandOrder"`
	CmdActions   map[autoheal.ActionID]*action           `json:"cmdActions"` // actions of commands that belong to no incident
	Orderly      bool                                    `json:"orderly"`

	Rooms        map[autoheal.WorkloadID]*room     `json:"rooms,omitempty"`       // by who waits
	Preempted    []preempted                       `json:"preempted,omitempty"`   // the last hour's
	Displaced    map[autoheal.WorkloadID]displaced `json:"displaced,omitempty"`   // victims that do not run again yet
	Scaled       []scaledDown                      `json:"scaled,omitempty"`      // services that are to be scaled up again, the last first
	ScaledBackAt time.Time                         `json:"scaledBackAt,omitzero"` // the last time

	find lookup // derived
}

// counters make IDs; they never go back.
type counters struct {
	Incident, Command, Approval, Alert int
}

type restarts struct {
	Count    int       `json:"count"`
	Attempt  int       `json:"attempt"` // the last one counted
	OOMSteps int       `json:"oomSteps"`
	At       time.Time `json:"at"`
}

type ownMark struct {
	Ref      autoheal.Ref        `json:"ref"`
	Verb     autoheal.Verb       `json:"verb"`
	Mark     autoheal.Mark       `json:"mark"`
	Incident autoheal.IncidentID `json:"incident"`
	GPUs     []autoheal.GPUID    `json:"gpus,omitempty"`
	MemoryMB int64               `json:"memoryMb,omitempty"`
	Boot     string              `json:"boot,omitempty"`
}

type budget struct {
	Open   map[autoheal.ActionID]spent `json:"open"`
	Window []spent                     `json:"window"` // the last hour's
}

type spent struct {
	Action autoheal.ActionID `json:"action"`
	Target autoheal.Ref      `json:"target"`
	Domain autoheal.Domain   `json:"domain"`
	At     time.Time         `json:"at"`
}

type offender struct {
	Score    float64       `json:"score"`
	HalfLife time.Duration `json:"halfLife"`
	At       time.Time     `json:"at"`
	Ends     []time.Time   `json:"ends"` // when its incidents began
}

// States of an approval.
const (
	approvalAsked   = "asked"
	approvalGiven   = "given"
	approvalUsed    = "used"
	approvalExpired = "expired"
)

type approval struct {
	journal.ApprovalAsked
	Incident autoheal.IncidentID `json:"incident"`
	At       time.Time           `json:"at"`
	State    string              `json:"state"`
	By       string              `json:"by"`
	UsedBy   autoheal.ActionID   `json:"usedBy,omitempty"` // the action that it was good for
	Void     string              `json:"void,omitempty"`   // why it ended before its time
}

type pause struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
}

// who says by whom, and why if they said so.
func (p *pause) who() string {
	if p.Reason == "" {
		return p.By
	}
	return p.By + ": " + clip(oneLine(p.Reason), 200)
}

type fenceWord struct {
	By   string    `json:"by"`
	Boot string    `json:"boot"`
	At   time.Time `json:"at"`
	Used bool      `json:"used"`
}

type storm struct {
	Incident autoheal.IncidentID `json:"incident"`
	Since    time.Time           `json:"since"`
	Silent   int                 `json:"silent"`
	Of       int                 `json:"of"`
	Released bool                `json:"released"`
}

type alert struct {
	autoheal.Alert
	DedupKey string `json:"dedupKey"`
	Channel  string `json:"channel"`
	Sent     bool   `json:"sent"`
	Tries    int    `json:"tries"`
}

// incident is one cause, journalled.
type incident struct {
	ID         autoheal.IncidentID  `json:"id"`
	Kind       autoheal.FailureKind `json:"kind"`
	Phase      autoheal.Phase       `json:"phase"`
	Subject    autoheal.Ref         `json:"subject"`
	Domains    []autoheal.Domain    `json:"domains"`
	Members    []autoheal.NodeID    `json:"members,omitempty"` // of a domain: the nodes that fell silent together
	Suspects   []autoheal.NodeID    `json:"suspects,omitempty"`
	GPUs       []autoheal.GPUID     `json:"gpus,omitempty"`
	Node       autoheal.NodeID      `json:"node,omitempty"`
	Parts      []autoheal.GPU       `json:"parts,omitempty"`
	Action     autoheal.Advice      `json:"action,omitempty"`
	Ladder     []string             `json:"ladder,omitempty"`
	Since      time.Time            `json:"since"`
	Opened     time.Time            `json:"opened"`
	Ended      time.Time            `json:"ended"`
	Confidence float64              `json:"confidence"`
	Conclusive bool                 `json:"conclusive"`
	Cause      string               `json:"cause"`
	Because    string               `json:"because"`
	Simulated  bool                 `json:"simulated"`
	Whole      int                  `json:"whole"`
	Repeats    int                  `json:"repeats,omitempty"`
	Reopened   int                  `json:"reopened"`
	MergedInto autoheal.IncidentID  `json:"mergedInto"`
	Persistent bool                 `json:"persistent,omitempty"` // cleared, as too often before
	Evidence   []autoheal.Signal    `json:"evidence"`
	EvidenceN  int                  `json:"evidenceN"`
	Told       *blame               `json:"told,omitempty"`  // of a network partition: who holds it up
	Pairs      []pair               `json:"pairs,omitempty"` // of the nodes that are compared

	Steps      map[string]journal.StepDone       `json:"steps"`             // steps on the subject that ended
	StepsAt    map[string]time.Time              `json:"stepsAt,omitempty"` // and when
	Held       *autoheal.Held                    `json:"held"`
	Holds      []autoheal.Hold                   `json:"holds,omitempty"`
	HoldsMore  int                               `json:"holdsMore,omitempty"` // beyond those that are kept
	Recoveries map[autoheal.WorkloadID]*recovery `json:"recoveries"`
	Past       []*recovery                       `json:"past"`  // of before a relapse
	Order      []autoheal.WorkloadID             `json:"order"` // of opening
	Open       int                               `json:"open"`  // recoveries that have not ended
	Actions    []*action                         `json:"actions"`
	Timeline   []autoheal.Moment                 `json:"timeline"`
	SHA256     string                            `json:"sha256"`
	Shadow     []autoheal.ShadowAction           `json:"shadow,omitempty"`
}

// recovery is one affected workload or gang, journalled. Attempts and NewAttempts go with Members.
type recovery struct {
	journal.RecoveryOpened
	Step        autoheal.StepName    `json:"step"`
	End         autoheal.RecoveryEnd `json:"end"`
	Rung        string               `json:"rungNow"`
	Try         int                  `json:"try"`
	Reason      string               `json:"reason"`
	Proof       autoheal.Proof       `json:"proof"`
	NotBefore   time.Time            `json:"notBefore"`
	StepAt      time.Time            `json:"stepAt"`
	StepBy      time.Time            `json:"stepBy"` // deadline of this step
	NewAttempts []int                `json:"newAttempts"`
	MemoryMB    int64                `json:"memoryMb"`
	Avoid       []autoheal.NodeID    `json:"avoid,omitempty"`    // beside the suspects
	Spots       []autoheal.NodeID    `json:"spots,omitempty"`    // reserved for the new copies
	Hedge       bool                 `json:"hedge,omitempty"`    // the new copy is an extra one (behaviour B2h)
	OldNodes    bool                 `json:"oldNodes,omitempty"` // the suspects are used again for want of others
	Node        autoheal.NodeID      `json:"node"`
	SafeAt      time.Time            `json:"safeAt"`
	RunningAt   time.Time            `json:"runningAt"`
	Overlap     *time.Duration       `json:"overlap"`
	Held        *autoheal.Held       `json:"held"`
	Opened      time.Time            `json:"opened"`
	EndedAt     time.Time            `json:"endedAt"`
	Decided     int                  `json:"decided"` // the newest attempt whose end this recovery has decided on
	OldGone     bool                 `json:"oldGone"` // nothing is left to settle of the copies that were replaced
}

// action is one intent and what became of it.
type action struct {
	autoheal.Action
	Effect    autoheal.Effect     `json:"effect"`
	BudgetKey string              `json:"budgetKey"`
	Workload  autoheal.WorkloadID `json:"workload"`
	Command   string              `json:"command"`
	Try       int                 `json:"try"`
	IntentAt  time.Time           `json:"intentAt"`
	ResultAt  time.Time           `json:"resultAt"`
	Outcome   autoheal.Outcome    `json:"outcome"`
	ErrorKind autoheal.ErrorKind  `json:"errorKind"`
	Detail    string              `json:"detail"`
	Unknowns  int                 `json:"unknowns"`        // unknown outcomes in a row
	Proof     autoheal.Proof      `json:"proof,omitempty"` // that it gave
}

// pending reports whether the action was sent and its result is not known yet.
func (a *action) pending() bool { return a.Outcome == "" }

func newDurable() *durable {
	return &durable{
		Incidents: map[autoheal.IncidentID]*incident{}, Restarts: map[autoheal.WorkloadID]*restarts{},
		Starts: map[string][]time.Duration{}, Settled: map[autoheal.WorkloadID]int{}, Marks: map[string]*ownMark{}, Budgets: map[string]*budget{},
		Offenders: map[string]*offender{}, Transients: map[string][]time.Time{}, Xids: map[autoheal.GPUID]*xidBook{}, Repairs: map[string][]time.Time{}, Approvals: map[string]*approval{},
		Culprits: map[autoheal.NodeID][]culprit{},
		Pauses:   map[string]*pause{}, Vetoes: map[string]*pause{}, FenceWords: map[autoheal.NodeID]*fenceWord{}, Gone: map[autoheal.NodeID]autoheal.IncidentID{},
		Commands: map[string]string{}, CmdActions: map[autoheal.ActionID]*action{}, find: newLookup(),
		Rooms: map[autoheal.WorkloadID]*room{}, Displaced: map[autoheal.WorkloadID]displaced{},
	}
}

// incidentIDs returns the IDs of all incidents in order.
func (d *durable) incidentIDs() []autoheal.IncidentID { return slices.Sorted(maps.Keys(d.Incidents)) }

// action finds an action by its ID.
func (d *durable) action(id autoheal.ActionID, inc autoheal.IncidentID) *action {
	if i := d.Incidents[inc]; i != nil {
		if n := number(string(id), string(inc)+"/"); n > 0 && n <= len(i.Actions) && i.Actions[n-1].ID == id { // see actionID
			return i.Actions[n-1]
		}
	}
	return d.CmdActions[id]
}
