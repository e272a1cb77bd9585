package autoheal

import "time"

// Verb is one thing that can be done to a cluster: a closed set.
type Verb string

// Verbs of the Actuator.
const (
	Cordon        Verb = "cordon"         // put a mark on a node: nothing new is placed there
	Uncordon      Verb = "uncordon"       // remove the actor's own mark; a person may remove any
	QuarantineGPU Verb = "quarantine_gpu" // as cordon, for one GPU
	ReleaseGPU    Verb = "release_gpu"
	Drain         Verb = "drain"  // cordon, then stop each attempt on the node and start it elsewhere
	Stop          Verb = "stop"   // end exactly one attempt
	Start         Verb = "start"  // make attempt Params.Attempt exist; the number is the idempotency key
	Scale         Verb = "scale"  // change the number of replicas of a service
	Pause         Verb = "pause"  // want no new attempt; kills nothing
	Resume        Verb = "resume" // want attempts again
	ResetGPU      Verb = "reset_gpu"
	Reboot        Verb = "reboot"
	Fence         Verb = "fence"   // prove a node off
	Collect       Verb = "collect" // capture evidence
	Test          Verb = "test"    // run the active test on a node or a GPU that nothing uses
	Refresh       Verb = "refresh" // list the target anew and yield it as events
)

// Verbs lists all verbs in the order above.
func Verbs() []Verb {
	return []Verb{Cordon, Uncordon, QuarantineGPU, ReleaseGPU, Drain, Stop, Start, Scale, Pause, Resume, ResetGPU, Reboot, Fence, Collect, Test, Refresh}
}

// Effect says how much a verb can hurt.
type Effect string

// Effects. Contain keeps new work away and kills nothing; Disrupt ends something that still runs.
const (
	EffectRead    Effect = "read"
	EffectSafe    Effect = "safe"
	EffectContain Effect = "contain"
	EffectDisrupt Effect = "disrupt"
)

// Effect returns the effect of v. Starting something that does not run ends nothing, so it is safe; a test runs a program
// of the site's own on a part that is out of service.
func (v Verb) Effect() Effect {
	switch v {
	case Uncordon, ReleaseGPU, Resume, Refresh, Collect, Test, Start:
		return EffectSafe
	case Cordon, QuarantineGPU, Pause:
		return EffectContain
	default:
		return EffectDisrupt
	}
}

// Action is one verb on one target. Epoch is the healer's life that asked for it.
type Action struct {
	ID       ActionID     `json:"id"`
	Incident IncidentID   `json:"incident,omitempty"`
	Epoch    uint64       `json:"epoch"`
	Verb     Verb         `json:"verb"`
	Target   Ref          `json:"target"`
	Actor    string       `json:"actor"` // ActorEngine, or a person's name
	Reason   string       `json:"reason"`
	Deadline time.Time    `json:"deadline"`
	Params   ActionParams `json:"params"`
}

// ActorEngine is the actor of what the healer does by itself.
const ActorEngine = "engine"

// ActionParams are the parameters of all verbs, flat.
type ActionParams struct {
	Grace     time.Duration `json:"grace,omitempty"`     // stop, drain: SIGTERM first, SIGKILL after this
	Force     bool          `json:"force,omitempty"`     // stop: kill at once; drain: also what cannot be moved; collect: also make processes write their stacks
	Final     bool          `json:"final,omitempty"`     // stop: the owner wants it to stay down (state cancelled)
	Hedge     bool          `json:"hedge,omitempty"`     // start: an extra copy; no proof says that the older attempt is gone
	Attempt   int           `json:"attempt,omitempty"`   // start: the number to make exist; stop: the one to end (0 = Target.Generation)
	Replicas  int           `json:"replicas,omitempty"`  // scale
	MemoryMB  int64         `json:"memoryMb,omitempty"`  // start: memory of this attempt; 0 = as the one before
	Avoid     []NodeID      `json:"avoid,omitempty"`     // start
	AvoidGPUs []GPUID       `json:"avoidGpus,omitempty"` // start
	Nominated NodeID        `json:"nominated,omitempty"` // start: place here if it fits
	For       WorkloadID    `json:"for,omitempty"`       // stop by preemption, scale: whom it makes room for
	Rooms     []Room        `json:"rooms,omitempty"`     // with For: the places to keep, from before anything ends
	Proof     Proof         `json:"proof,omitempty"`     // start: how the attempt before is known to be gone
	Peers     []NodeID      `json:"peers,omitempty"`     // collect: the state of the target's network instead, with probes to these nodes
}

// Room is a place that is kept for one workload, which is pending or about to be started again: nobody else gets it. What
// still runs there counts as its holder until it has ended.
type Room struct {
	For  WorkloadID `json:"for"`
	Node NodeID     `json:"node"`
	GPUs []GPUID    `json:"gpus,omitempty"`
}

// Outcome is what is known of an action after Do returned.
type Outcome string

// Outcomes.
const (
	OutcomeDone    Outcome = "done"     // accepted
	OutcomeNotSent Outcome = "not_sent" // nothing happened; may be sent again with the same ID
	OutcomeUnknown Outcome = "unknown"  // it may have happened or may happen late: observe, then decide
)

// Proof is how an old copy is known to be gone (behaviour C1).
type Proof string

// Proofs, strongest first. ProofNone is the zero meaning.
const (
	ProofExitObserved Proof = "exit_observed"
	ProofPowerOff     Proof = "power_off"
	ProofSelfStop     Proof = "self_stop"
	ProofOperator     Proof = "operator"
	ProofNone         Proof = "none"
)

// Result is what Do learned.
type Result struct {
	Action  ActionID  `json:"action"`
	Outcome Outcome   `json:"outcome"`
	Err     *Error    `json:"error,omitempty"`
	Proof   Proof     `json:"proof,omitempty"`
	At      time.Time `json:"at"`
}
