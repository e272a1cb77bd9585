package autoheal

import (
	"strconv"
	"time"
)

// WorkloadState is the state of one attempt, in the words of the Clawbernetes tools.
type WorkloadState string

// Workload states. Pending has no node yet; Scheduled has one and is not running yet.
const (
	Pending   WorkloadState = "pending"
	Scheduled WorkloadState = "scheduled"
	Running   WorkloadState = "running"
	Succeeded WorkloadState = "succeeded"
	Failed    WorkloadState = "failed"
	Cancelled WorkloadState = "cancelled"
)

// Ended reports whether the attempt is over for good.
func (s WorkloadState) Ended() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Desired is what the workload's owner wants of it.
type Desired string

// Desired states.
const (
	DesiredRunning   Desired = "running"
	DesiredStopped   Desired = "stopped"
	DesiredPaused    Desired = "paused"
	DesiredCancelled Desired = "cancelled"
)

// WorkloadKind tells a service, which is meant to run for ever, from a job, which ends.
type WorkloadKind string

// Workload kinds.
const (
	KindService WorkloadKind = "service"
	KindJob     WorkloadKind = "job"
)

// Class is a recovery class of the product: it decides the objective.
type Class string

// Classes, most urgent first.
const (
	Critical Class = "critical"
	High     Class = "high"
	Medium   Class = "medium"
	Low      Class = "low"
)

// Classes lists the classes, most urgent first.
func Classes() []Class { return []Class{Critical, High, Medium, Low} }

// Workload is the light view of one attempt that the engine keeps; the full Spec stays with the driver. A workload has
// one current attempt (the highest number); older ones are reported only while they may still run.
type Workload struct {
	ID      WorkloadID    `json:"id"`
	Name    string        `json:"name"`
	Image   string        `json:"image"`
	State   WorkloadState `json:"state"`
	Desired Desired       `json:"desired"`
	Attempt int           `json:"attempt"`
	Node    NodeID        `json:"node"`
	GPUs    []GPUID       `json:"gpus"`
	Ready   bool          `json:"ready"` // running, and its health check (if it has one) passes

	Class       Class        `json:"class"`
	ClassRule   string       `json:"classRule"` // which rule gave the class: "label", "classes.critical[0]", "priority", "gang", "default"
	Priority    int          `json:"priority"`
	Preemptible bool         `json:"preemptible"`
	AtMostOnce  bool         `json:"atMostOnce"`
	Kind        WorkloadKind `json:"kind"`
	Gang        GangID       `json:"gang"`
	Rank        int          `json:"rank"`
	GangSize    int          `json:"gangSize"`
	Parent      WorkloadID   `json:"parent"` // of a replica: the workload that was scaled
	Replicas    int          `json:"replicas"`
	MinReplicas int          `json:"minReplicas"`

	Request          Resources         `json:"request"` // of this attempt, grown memory included
	OriginalMemoryMB int64             `json:"originalMemoryMb"`
	Selector         map[string]string `json:"selector"`
	Labels           map[string]string `json:"labels"`
	Options          WorkloadOptions   `json:"options"`
	// SpecHash is the same for workloads that run the same program in the same way; empty when the driver cannot tell.
	SpecHash string `json:"specHash,omitempty"`

	Paused   *Mark `json:"paused"`
	Owner    *Ref  `json:"owner"`    // set when something else manages it: hands off
	Restarts int   `json:"restarts"` // crashes counted against it, as the driver last knew
	Hedge    bool  `json:"hedge"`    // this attempt is an extra copy

	SubmittedAt time.Time `json:"submittedAt"`
	StartedAt   time.Time `json:"startedAt"`
	ReadyAt     time.Time `json:"readyAt,omitzero"` // when its health check first passed; zero without one
	EndedAt     time.Time `json:"endedAt"`
	Exit        *Exit     `json:"exit"`
	// Failing is what its own checks hold against it while it runs; nil = nothing, or it has none.
	Failing *CheckFailure `json:"failing,omitempty"`
	Detail  string        `json:"detail"` // why it is pending or could not start, in words; untrusted where it comes from a workload
}

// Ref names the workload in this attempt.
func (w *Workload) Ref() Ref {
	return Ref{Kind: RefWorkload, ID: string(w.ID), Generation: strconv.Itoa(w.Attempt)}
}

// WorkloadOptions are the per-workload settings given by labels; nil and zero mean "as configured".
type WorkloadOptions struct {
	Heal        HealMode      `json:"heal,omitempty"`
	MaxRestarts *int          `json:"maxRestarts,omitempty"`
	Grace       time.Duration `json:"grace,omitempty"`
	Objective   time.Duration `json:"objective,omitempty"`

	Health   *HealthSpec   `json:"health,omitempty"`
	Progress *ProgressSpec `json:"progress,omitempty"`
}

// HealMode is a degree of autonomy.
type HealMode string

// Degrees of autonomy, weakest first. HealOff does not even observe.
const (
	HealOff     HealMode = "off"
	HealObserve HealMode = "observe"
	HealSuggest HealMode = "suggest"
	HealApprove HealMode = "approve"
	HealAct     HealMode = "act"
)

// OOMKind says whose memory ran out.
type OOMKind string

// OOM kinds: the attempt's own limit, a limit above it or the whole host, the GPU's memory.
const (
	OOMNone       OOMKind = ""
	OOMHostCgroup OOMKind = "host_cgroup"
	OOMHostGlobal OOMKind = "host_global"
	OOMGPU        OOMKind = "gpu"
)

// ExitReason is why an attempt ended, as far as the driver can prove it.
type ExitReason string

// Exit reasons. Only ExitCrashed and ExitStartFailed can be the workload's own fault.
const (
	ExitCompleted   ExitReason = "completed"    // exit code 0 by itself
	ExitCrashed     ExitReason = "crashed"      // a code other than 0, or a signal that nobody of ours sent
	ExitStartFailed ExitReason = "start_failed" // the program could not be started: not found, not executable, bad image
	ExitNodeFault   ExitReason = "node_fault"   // its node could not start it: no control group, no pipe, no process to be had
	ExitStopped     ExitReason = "stopped"      // a stop that was asked for
	ExitDrained     ExitReason = "drained"      // stopped by a drain
	ExitPreempted   ExitReason = "preempted"    // stopped for a more important workload
	ExitSelfStop    ExitReason = "self_stop"    // the shim's deadline passed without contact
	ExitShimKilled  ExitReason = "shim_killed"  // the process that owned it was killed, and it with it
	ExitRebooted    ExitReason = "rebooted"     // the machine booted since; nothing of it can be left
	ExitShutdown    ExitReason = "shutdown"     // the embedded cluster was stopped in order
	ExitMaxRuntime  ExitReason = "max_runtime"  // ran as long as its spec allows
	ExitSuperseded  ExitReason = "superseded"   // given up for a newer attempt; its end was proven otherwise
)

// Exit is how an attempt ended. Code is -1 when a signal ended it or nobody saw the code.
type Exit struct {
	Code   int        `json:"code"`
	Signal string     `json:"signal,omitempty"` // "SIGKILL"
	OOM    OOMKind    `json:"oom,omitempty"`
	Reason ExitReason `json:"reason"`
	Detail string     `json:"detail,omitempty"` // untrusted where it quotes a workload
	// Verdict says why, by the logs of the time; nil if they say nothing or nobody looked.
	Verdict *Verdict `json:"verdict,omitempty"`
}

// OwnFault reports whether the exit can be held against the workload: it ended by itself and badly.
func (e *Exit) OwnFault() bool {
	return e != nil && (e.Reason == ExitCrashed || e.Reason == ExitStartFailed)
}

// sureOfMachine is the least confidence at which an end is held against the machine. What a workload writes itself is
// never believed that much: it could clear itself of every crash.
const sureOfMachine = 0.9

// MachineFault reports whether the attempt ended because of hardware, by what the kernel of its node said at the time.
func (e *Exit) MachineFault() bool {
	return e != nil && e.Verdict != nil && e.Verdict.Confidence >= sureOfMachine &&
		(e.Verdict.Failure == FailureGPU || e.Verdict.Failure == FailureHostHW)
}

// Spec is what workload_submit takes. Unset pointers mean "not said".
type Spec struct {
	Name              string            `json:"name"`
	Image             string            `json:"image"`
	Command           []string          `json:"command,omitempty"`
	Args              []string          `json:"args,omitempty"`
	Env               map[string]string `json:"env,omitempty"`
	GPUs              int               `json:"gpus,omitempty"`
	GPUMemoryMB       int64             `json:"gpuMemoryMb,omitempty"`
	CPUCores          float64           `json:"cpuCores,omitempty"`
	MemoryMB          int64             `json:"memoryMb,omitempty"`
	Priority          *int              `json:"priority,omitempty"`
	Preemptible       *bool             `json:"preemptible,omitempty"`
	MaxRuntimeSeconds int64             `json:"maxRuntimeSeconds,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
}

// ImageHost is the image name that means: run the command as a process of the node itself.
const ImageHost = "host"
