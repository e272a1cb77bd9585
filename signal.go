package autoheal

import "time"

// Failure is what a signal means.
type Failure string

// Failures.
const (
	FailureGPU     Failure = "gpu_failure"
	FailureApp     Failure = "app_fault"
	FailureOOMHost Failure = "oom_host"
	FailureOOMGPU  Failure = "oom_gpu"
	FailureNetwork Failure = "network"
	FailureDisk    Failure = "disk"
	FailureHostHW  Failure = "host_hw"
	FailureHostSW  Failure = "host_sw"
	FailureCrash   Failure = "crash_generic"
	FailureNone    Failure = "none"
)

// Failures lists all failures in the order above.
func Failures() []Failure {
	return []Failure{
		FailureGPU, FailureApp, FailureOOMHost, FailureOOMGPU, FailureNetwork, FailureDisk, FailureHostHW, FailureHostSW,
		FailureCrash, FailureNone,
	}
}

// Advice is the action that a source or the catalogue asks for.
type Advice string

// Advices.
const (
	AdviceRestartApp     Advice = "restart_app"
	AdviceResetGPU       Advice = "reset_gpu"
	AdviceRebootNode     Advice = "reboot_node"
	AdviceReplaceHW      Advice = "replace_hw"
	AdviceIncreaseMemory Advice = "increase_memory"
	AdviceReduceGPUMem   Advice = "reduce_gpu_memory"
	AdviceCheckNetwork   Advice = "check_network"
	AdviceFreeDisk       Advice = "free_disk"
	AdviceFixCode        Advice = "fix_code"
	AdviceContactSupport Advice = "contact_support"
	AdviceNone           Advice = "none"
)

// Advices lists all advices in the order above.
func Advices() []Advice {
	return []Advice{
		AdviceRestartApp, AdviceResetGPU, AdviceRebootNode, AdviceReplaceHW, AdviceIncreaseMemory, AdviceReduceGPUMem,
		AdviceCheckNetwork, AdviceFreeDisk, AdviceFixCode, AdviceContactSupport, AdviceNone,
	}
}

// Signal is one typed, de-duplicated observation. It has a source, a time and a time to live, and it can be cleared.
type Signal struct {
	Rule       string            `json:"rule"`   // code of the catalogue, such as "nvidia/xid/79"
	Source     string            `json:"source"` // "kmsg", "workload", "probe", "nvidia-smi"
	Failure    Failure           `json:"failure"`
	Subject    Ref               `json:"subject"`
	Also       []Ref             `json:"also,omitempty"`
	At         time.Time         `json:"at"`     // when it happened, by the source
	SeenAt     time.Time         `json:"seenAt"` // when the healer got it
	TTL        time.Duration     `json:"ttl"`
	Count      int               `json:"count"`
	Clears     bool              `json:"clears,omitempty"` // an all-clear for the same rule and subject
	Conclusive bool              `json:"conclusive,omitempty"`
	Action     Advice            `json:"action,omitempty"`
	Fields     map[string]string `json:"fields,omitempty"`
	Excerpt    string            `json:"excerpt,omitempty"` // at most 2 KiB; untrusted
}

// Verdict is the one answer over all that an excerpt of logs says.
type Verdict struct {
	Failure    Failure  `json:"failure"`
	Code       string   `json:"code"` // of the rule or table entry that decided, such as "nvidia/xid/79"
	Xid        *int     `json:"xid"`  // that decided; null if another line did
	Action     Advice   `json:"action"`
	Subject    *Ref     `json:"subject"`    // null if nothing failed; the ID is empty where no line names it
	Because    []string `json:"because"`    // quotes lines: untrusted
	Confidence float64  `json:"confidence"` // 0 to 1
}

// FailureKind is a kind of failure that the product recovers from.
type FailureKind string

// Failure kinds, in the order of precedence of behaviour A5: of two open on one subject the earlier one acts.
const (
	NodeOffline        FailureKind = "node_offline"
	GPUFailure         FailureKind = "gpu_failure"
	NodeFault          FailureKind = "node_fault"
	NetworkPartition   FailureKind = "network_partition"
	HealthCheck        FailureKind = "health_check"
	CrashLoop          FailureKind = "crash_loop"
	ResourceExhaustion FailureKind = "resource_exhaustion"
)

// FailureKinds lists the kinds in order of precedence.
func FailureKinds() []FailureKind {
	return []FailureKind{NodeOffline, GPUFailure, NodeFault, NetworkPartition, HealthCheck, CrashLoop, ResourceExhaustion}
}

// Finding is a detector's claim about one subject. It never acts.
type Finding struct {
	Kind       FailureKind
	Subject    Ref
	Affected   []Ref   // workloads to recover; of a part also the nodes and GPUs that what is recovered must keep off
	Failure    Failure // with Action: which ladder of the table it gets (behaviour E10); empty: the kind's whole ladder
	Action     Advice  // what the evidence asks for
	Confidence float64 // 0 to 1
	Conclusive bool    // behaviour A6: needs no grace
	Withdrawn  bool    // the evidence is gone
	Since      time.Time
	Evidence   []Signal
	Because    string // the rule that said it
	Cause      string // the first cause, in words
}
