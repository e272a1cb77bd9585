package policy

import (
	"time"

	"autoheal.dev/autoheal"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
	day = 24 * time.Hour
)

// Default returns the policy of an empty configuration file. Every default of the product is written here and nowhere
// else: the reference page, the schema and the explanation print it from here.
func Default() *Policy {
	return &Policy{
		Enabled: true,
		Node: Node{
			OfflineGracePeriod: 2 * time.Minute, AutoCordon: true, AutoMigrate: true,
			ProbeInterval: 5 * time.Second, ProbeTimeout: 2 * time.Second, Settle: 2 * time.Second,
			EarlyMove:   true,
			Hedge:       Hedge{Enabled: true, After: 10 * time.Second, Max: Limit{Percent: 10}},
			ReturnDwell: 2 * time.Minute, ReturnTest: ReturnTest{Timeout: 5 * time.Minute},
		},
		Workload: Workload{
			MaxRestarts: 3, RestartBackoff: backoffOf(BackoffExponential), RestartReset: 10 * time.Minute,
			OOMAutoScale: true, OOMFactor: 1.5, OOMMaxSteps: 2,
		},
		Verify:  Verify{Critical: 15 * time.Second, Default: time.Minute, Relapse: 30 * time.Minute},
		Alerts:  Alerts{NotifyOnRecovery: true, NotifyOnFailure: true, RepeatInterval: time.Hour, MaxPerHour: 30},
		Classes: defaultClasses(), Autonomy: map[string]autoheal.HealMode{},
		Ladders:     map[autoheal.FailureKind][]Step{},
		Rung:        Rung{Attempts: 3},
		Budgets:     defaultBudgets(),
		Storm:       Storm{Fraction: 0.5, MinNodes: 3, Window: time.Minute, AutoRelease: ReleaseCriticalStateless},
		Transient:   Transient{Silence: Occurrences{3, time.Hour}, Link: Occurrences{2, 5 * time.Minute}, Xid: Occurrences{5, day}},
		Offender:    Offender{Score: 3, HalfLife: 7 * day},
		Preemption:  defaultPreemption(),
		Fence:       Fence{SelfStop: time.Minute, Margin: 15 * time.Second, Wait: 90 * time.Second, TrustSelfStop: true},
		Repair:      Repair{Timeout: 2 * time.Minute},
		Evidence:    Evidence{MaxAge: 5 * time.Minute, Collect: time.Minute},
		Approval:    Approval{Expires: 15 * time.Minute},
		Signals:     Signals{Xid: map[int]autoheal.Advice{}},
		Cluster:     Cluster{Driver: DriverEmbedded, Name: "default"},
		State:       State{JournalBytes: 512 * mib, TapeBytes: 256 * mib, LogBytes: gib, IncidentsKeep: 90 * day},
		API:         API{Listen: "127.0.0.1:7433"},
		Profile:     ProfileServe,
		Maintenance: nil, Veto: nil,
	}
}

func defaultClasses() map[autoheal.Class]Class {
	return map[autoheal.Class]Class{
		autoheal.Critical: {Objective: time.Minute, MinPriority: 90},
		autoheal.High:     {Objective: 5 * time.Minute, MinPriority: 60},
		autoheal.Medium:   {Objective: 15 * time.Minute, MinPriority: 30},
		autoheal.Low:      {Objective: time.Hour, MinPriority: 0},
	}
}

func defaultBudgets() Budgets {
	return Budgets{
		Disrupt: Budget{Concurrent: Limit{Percent: 5}, PerHour: Limit{Percent: 10}, PerDomain: Limit{Count: 1}, Min: 1},
		Contain: Budget{Concurrent: Limit{Percent: 50}, PerHour: Limit{Percent: 100}, PerDomain: Limit{Percent: 50}, Min: 1},
		Pace:    10, Cooldown: 5 * time.Minute,
	}
}

func defaultPreemption() Preemption {
	return Preemption{
		Enabled: true, PendingFor: 10 * time.Second, ForClasses: []autoheal.Class{autoheal.Critical}, MinPriorityGap: 10,
		Chain: 1, PerHour: Limit{Percent: 10}, NominationTTL: time.Minute,
	}
}

// backoffOf returns the backoff that a word stands for.
func backoffOf(kind string) Backoff {
	switch kind {
	case BackoffConstant:
		return Backoff{Kind: kind, Initial: 5 * time.Second, Factor: 1, Max: 5 * time.Second}
	case BackoffNone:
		return Backoff{Kind: kind, Factor: 1}
	default:
		return Backoff{Kind: BackoffExponential, Initial: 5 * time.Second, Factor: 2, Max: 5 * time.Minute}
	}
}
