package autoheal

import "time"

// JobState is how far a Job has come.
type JobState string

// Job states.
const (
	JobRunning JobState = "running"
	JobPassed  JobState = "passed"
	JobFailed  JobState = "failed"
)

// Job is an action that a node carries out by itself and that takes its time: reset_gpu and test. Do returns when the node
// has taken it on; what became of it is learned by observing the node, where it stays listed for a while, also after a
// restart of the node's agent.
type Job struct {
	Action    ActionID  `json:"action"`
	Verb      Verb      `json:"verb"`
	Target    Ref       `json:"target"`
	State     JobState  `json:"state"`
	Detail    string    `json:"detail"`              // in a sentence: why it failed, or how it was done
	Output    string    `json:"output,omitempty"`    // the end of what the command wrote; untrusted
	Simulated bool      `json:"simulated,omitempty"` // it was done to a GPU that is made up
	StartedAt time.Time `json:"startedAt"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
}
