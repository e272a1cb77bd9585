// Package policy owns the configuration: its types, defaults, strict parsing, checks and explanation.
//
// A Policy is a plain value, safe to share once loaded and never changed afterwards. Any package that decides may import
// policy; it imports the nouns and the signal catalogue only. It never reads files by itself beyond what Load is given,
// never reads the environment (the caller hands it over) and never reads a clock.
package policy

import (
	"time"

	"autoheal.dev/autoheal"
)

// Policy is the whole configuration after defaults, file, environment and flags.
type Policy struct {
	Enabled     bool
	Shadow      bool
	Node        Node
	Workload    Workload
	Verify      Verify
	Alerts      Alerts
	Classes     map[autoheal.Class]Class
	Autonomy    map[string]autoheal.HealMode // by failure kind ("gpu_failure"), verb or step ("reboot"), or "KIND.STEP"
	Ladders     map[autoheal.FailureKind][]Step
	Rung        Rung
	Budgets     Budgets
	Storm       Storm
	Transient   Transient
	Offender    Offender
	Preemption  Preemption
	Fence       Fence
	Repair      Repair
	Evidence    Evidence
	Maintenance []Maintenance
	Veto        []autoheal.Ref
	Approval    Approval
	Signals     Signals
	Cluster     Cluster
	State       State
	API         API

	// Profile decides how much the healer does by itself where Autonomy says nothing (behaviour D6): ProfileAct or
	// ProfileServe. It comes from the command that runs, not from the file; empty means ProfileServe.
	Profile string
}

// Profiles of autonomy.
const (
	ProfileAct   = "act"   // everything but replacing a node: the embedded cluster and drills
	ProfileServe = "serve" // what ends something live asks a person first: OpenClaw and Kubernetes
)

// Step is one step of a ladder.
type Step string

// Ladder steps.
const (
	StepStopPlacing    Step = "stop_placing"
	StepCordon         Step = "cordon"
	StepQuarantineGPU  Step = "quarantine_gpu"
	StepCollect        Step = "collect"
	StepCollectNetwork Step = "collect_network"
	StepMigrate        Step = "migrate"
	StepRestart        Step = "restart"
	StepRestartGang    Step = "restart_gang"
	StepGrowMemory     Step = "grow_memory"
	StepPreempt        Step = "preempt"
	StepScaleDown      Step = "scale_down"
	StepDrain          Step = "drain"
	StepAdvice         Step = "advice"
	StepResetGPU       Step = "reset_gpu"
	StepReboot         Step = "reboot"
	StepReplace        Step = "replace"
	StepTest           Step = "test"
	StepIsolate        Step = "isolate"
	StepPause          Step = "pause"
	StepAlert          Step = "alert"
	StepAlertHardware  Step = "alert_hardware"
	StepAlertCapacity  Step = "alert_capacity"
	StepEscalate       Step = "escalate"
)

// Node holds autoHeal.node.
type Node struct {
	OfflineGracePeriod time.Duration
	AutoCordon         bool
	AutoMigrate        bool
	ProbeInterval      time.Duration
	ProbeTimeout       time.Duration
	Settle             time.Duration
	EarlyMove          bool
	Hedge              Hedge
	ReturnDwell        time.Duration
	ReturnTest         ReturnTest
}

// Hedge holds autoHeal.node.hedge (behaviour B2h).
type Hedge struct {
	Enabled bool
	After   time.Duration
	Max     Limit
}

// ReturnTest is the active test before a node comes back (behaviour B4); an empty Command means inventory only.
type ReturnTest struct {
	Command []string
	Timeout time.Duration
}

// Workload holds autoHeal.workload.
type Workload struct {
	MaxRestarts    int
	RestartBackoff Backoff
	RestartReset   time.Duration
	OOMAutoScale   bool
	OOMFactor      float64
	OOMMaxSteps    int
	OOMMaxMemoryMB int64 // 0 = no cap of its own
}

// Kinds of Backoff.
const (
	BackoffExponential = "exponential"
	BackoffConstant    = "constant"
	BackoffNone        = "none"
)

// Backoff is the wait before restart n (counted from 1): Initial × Factor^(n-1), at most Max. Kind is exponential,
// constant or none. The spread of ± 10 % is by hash, added by the engine.
type Backoff struct {
	Kind    string
	Initial time.Duration
	Factor  float64
	Max     time.Duration
}

// Verify holds autoHeal.verify: how long a workload must stay up, and the window of a relapse.
type Verify struct {
	Critical time.Duration
	Default  time.Duration
	Relapse  time.Duration
}

// Alerts holds autoHeal.alerts.
type Alerts struct {
	NotifyOnRecovery bool
	NotifyOnFailure  bool
	Receivers        []string
	RepeatInterval   time.Duration
	MaxPerHour       int
	AlwaysAlert      bool
}

// Class holds one of autoHeal.classes.
type Class struct {
	Objective   time.Duration
	MinPriority int
	Match       []Match
}

// Match selects workloads; all that is set must hold. Labels is "k=v,k=v", Name and Namespace are globs.
type Match struct {
	Labels    map[string]string
	Namespace string
	Name      string
}

// Rung holds autoHeal.rung.
type Rung struct{ Attempts int }

// Limit is an amount or a share of a stated whole. Of returns max(Min, …).
type Limit struct {
	Count   int     // used when Percent is 0
	Percent float64 // 5 = 5 %
}

// Budget holds one of autoHeal.budgets.
type Budget struct {
	Concurrent Limit
	PerHour    Limit
	PerDomain  Limit
	Min        int
}

// Budgets holds autoHeal.budgets.
type Budgets struct {
	Disrupt  Budget
	Contain  Budget
	Pace     float64 // workloads a second moved off what is proven dead
	Cooldown time.Duration
}

// Values of Storm.AutoRelease.
const (
	ReleaseCriticalStateless = "critical-stateless"
	ReleaseNever             = "never"
)

// Storm holds autoHeal.storm (behaviour D1, D2). AutoRelease is "critical-stateless" or "never".
type Storm struct {
	Fraction    float64 // 0.5
	MinNodes    int
	Window      time.Duration
	AutoRelease string
}

// Occurrences is "N in WINDOW".
type Occurrences struct {
	Count  int
	Window time.Duration
}

// Transient holds autoHeal.transient (behaviour B3).
type Transient struct{ Silence, Link, Xid Occurrences }

// Offender holds autoHeal.offender (behaviour B3).
type Offender struct {
	Score    float64
	HalfLife time.Duration
}

// Preemption holds autoHeal.preemption (behaviour E7).
type Preemption struct {
	Enabled        bool
	PendingFor     time.Duration
	ForClasses     []autoheal.Class
	MinPriorityGap int
	Chain          int
	PerHour        Limit
	NominationTTL  time.Duration
}

// Fence holds autoHeal.fence (behaviour C).
type Fence struct {
	SelfStop      time.Duration
	Margin        time.Duration
	Wait          time.Duration
	TrustSelfStop bool
	Command       []string
}

// Repair holds autoHeal.repair: programs of the site's own. ResetCommand runs on the node whose GPU is reset; empty means
// nvidia-smi. RebootCommand runs beside the healer; without it no node is rebooted.
type Repair struct {
	ResetCommand  []string
	RebootCommand []string
	Timeout       time.Duration // of one run
}

// Evidence holds autoHeal.evidence.
type Evidence struct{ MaxAge, Collect time.Duration }

// Maintenance is one planned window. Nodes is a node name, a glob, or k=v on node labels or domains ("rack=r1").
type Maintenance struct {
	Nodes    string
	From, To time.Time
}

// Approval holds autoHeal.approval.
type Approval struct{ Expires time.Duration }

// Signals holds autoHeal.signals: own rules (raw, checked by the catalogue) and Xid actions.
type Signals struct {
	Rules []map[string]any
	Xid   map[int]autoheal.Advice
}

// Drivers of a cluster.
const (
	DriverEmbedded   = "embedded"
	DriverOpenClaw   = "openclaw"
	DriverKubernetes = "kubernetes"
)

// Cluster holds cluster.
type Cluster struct {
	Driver    string // embedded openclaw kubernetes
	URL       string
	TokenFile string
	Approve   []string
	Name      string
}

// State holds state. Sizes are in bytes.
type State struct {
	Dir           string
	JournalBytes  int64
	TapeBytes     int64
	LogBytes      int64
	IncidentsKeep time.Duration
}

// API holds api.
type API struct {
	Listen string
	Socket string
}
