package autoheal

import "time"

// PostMortem is the written account of an incident: in parts, and as the Markdown that people read.
type PostMortem struct {
	Incident Incident `json:"incident"`
	Account  Account  `json:"account"`
	Markdown string   `json:"markdown"`
	SHA256   string   `json:"sha256"` // of the Markdown as it was when it was journalled
}

// Account is an incident told. Its text is ours, except what stands between quotation marks: that is quoted from logs
// and untrusted.
type Account struct {
	Summary   string       `json:"summary"`
	RootCause RootCause    `json:"rootCause"`
	Transient bool         `json:"transient"`
	Nature    string       `json:"nature"` // transient or persistent, and why
	Times     AccountTimes `json:"times"`
	Proofs    []ProofGiven `json:"proofs"`
	Holds     []Hold       `json:"holds"`
	Loss      Loss         `json:"loss"`
	Repeats   int          `json:"repeats"` // earlier incidents of this kind on this subject, within 30 days
	Next      []NextStep   `json:"next"`
}

// Confidence is how sure a root cause is (behaviour F3).
type Confidence string

// Confidences.
const (
	Certain Confidence = "certain"
	Likely  Confidence = "likely"
	Unsure  Confidence = "unknown"
)

// RootCause is the first cause with the line that told of it.
type RootCause struct {
	Text       string     `json:"text"`
	Confidence Confidence `json:"confidence"`
	Rule       string     `json:"rule"`
	Quote      string     `json:"quote"` // the line, untrusted; empty where no line told of it
	Source     string     `json:"source"`
	At         *time.Time `json:"at"`
}

// AccountTimes are the clocks of an incident (behaviour A3): when it began, when a source first showed it, and how long
// after its beginning the healer knew. Safe and running are those of the slowest workload; null when none got there.
type AccountTimes struct {
	Onset                 time.Time `json:"onset"`
	FirstEvidence         time.Time `json:"firstEvidence"`
	DetectionDelaySeconds Seconds   `json:"detectionDelaySeconds"`
	SafeSeconds           *Seconds  `json:"safeSeconds"`
	RunningSeconds        *Seconds  `json:"runningSeconds"`
	EndSeconds            *Seconds  `json:"endSeconds"`
	Within                int       `json:"within"`   // workloads that were back within their objective
	Measured              int       `json:"measured"` // of so many that have one to keep
}

// ProofGiven says how it is known that the old copy of a workload was gone before a new one started.
type ProofGiven struct {
	Workload WorkloadID `json:"workload"`
	Proof    Proof      `json:"proof"`
	Text     string     `json:"text"`
}

// Loss is what an incident cost.
type Loss struct {
	GPUSeconds float64 `json:"gpuSeconds"` // of the workloads' GPUs, from the failure until they were of use again
	Counting   int     `json:"counting"`   // workloads whose loss goes on, or was not followed to its end
}

// NextStep is what a person should do next. Command is what to type, empty where there is nothing to type.
type NextStep struct {
	Do      string `json:"do"`
	Command string `json:"command"`
}

// String writes a step as a sentence of a message.
func (s NextStep) String() string {
	if s.Command == "" {
		return s.Do
	}
	return s.Do + ": " + s.Command
}
