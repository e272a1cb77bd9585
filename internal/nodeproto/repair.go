package nodeproto

import "autoheal.dev/autoheal"

// Commands of repairs. A reset and a test are accepted and take their time: they are among the node's Jobs until long
// after their end. Each is refused with CodeInUse while what it is about is in use.
const (
	CmdReset  = "autoheal.reset"  // ResetRequest -> Accepted
	CmdTest   = "autoheal.test"   // TestRequest -> Accepted
	CmdReboot = "autoheal.reboot" // RebootRequest -> Accepted
)

// Program is one that the site configured. The node runs it as the agent's own user, without a shell, with JSON on its
// standard input.
type Program struct {
	Argv      []string `json:"argv"`
	TimeoutMS int64    `json:"timeoutMs"`
}

// ResetRequest resets one GPU that nothing uses: with Program, else with the driver's own tool. BootID, unless empty, is
// the boot that it is meant for. The same action is never carried out twice.
type ResetRequest struct {
	Epoch   uint64            `json:"epoch"`
	Action  autoheal.ActionID `json:"action"`
	BootID  string            `json:"bootId"`
	GPU     autoheal.GPUID    `json:"gpu"`
	Program Program           `json:"program"`
}

// TestRequest runs the site's test on the node, or for one of its GPUs, which nothing may use then. The same action is
// never carried out twice.
type TestRequest struct {
	Epoch   uint64            `json:"epoch"`
	Action  autoheal.ActionID `json:"action"`
	BootID  string            `json:"bootId"`
	Target  autoheal.Ref      `json:"target"`
	Program Program           `json:"program"`
}

// RebootRequest asks whether the node is empty and keeps it so for HoldMS: meanwhile nothing is started on it. Whoever
// asked reboots it.
type RebootRequest struct {
	Epoch  uint64            `json:"epoch"`
	Action autoheal.ActionID `json:"action"`
	BootID string            `json:"bootId"`
	HoldMS int64             `json:"holdMs"`
}

// JobStatus is one of a node's latest resets and tests.
type JobStatus struct {
	Action    autoheal.ActionID `json:"action"`
	Verb      autoheal.Verb     `json:"verb"`
	Target    autoheal.Ref      `json:"target"`
	State     autoheal.JobState `json:"state"`
	Detail    string            `json:"detail,omitempty"`
	Output    string            `json:"output,omitempty"` // at most MaxJobOutput bytes of the end; untrusted
	Simulated bool              `json:"simulated,omitempty"`
	StartedMS int64             `json:"startedMs"` // age
	EndedMS   int64             `json:"endedMs"`   // age; 0 = not ended
}

// Bounds of the jobs that a node tells: how many that have ended, and the output of each.
const (
	MaxJobs      = 8
	MaxJobOutput = 2 << 10
)
