// Package nodeproto owns the shapes that the fleet driver and the node agent exchange through a gateway.
//
// Only internal/agent and internal/driver/claw import it: each command is a node.invoke whose params and payload are the
// request and response types below, as JSON. It holds types and pure helpers; it never dials, waits or stores.
//
// Time on the wire is always an age or a remaining time in milliseconds: the two sides' clocks are not compared.
//
// # The lease by echo
//
// The agent numbers its poll answers (N) and remembers on CLOCK_BOOTTIME when it sent each. The next poll acknowledges
// the largest N that the healer received, for this agent Life. Only then does the agent's lease become sentAt[N] +
// SelfStop. A late, replayed or duplicated poll acknowledges an N that is already acknowledged and extends nothing. The
// healer counts its wait from its receipt of N, which is later than sentAt[N]; so when wait > selfStop + margin has
// passed, every shim of that agent has passed its deadline (behaviour C3).
package nodeproto

import "autoheal.dev/autoheal"

// Commands of an autoheal agent, as declared at connect.
const (
	CmdPoll    = "autoheal.poll"    // PollRequest -> PollResponse
	CmdStatus  = "autoheal.status"  // StatusRequest -> StatusResponse, answered from the read loop itself
	CmdStart   = "autoheal.start"   // StartRequest -> Accepted
	CmdStop    = "autoheal.stop"    // StopRequest -> Accepted
	CmdLogs    = "autoheal.logs"    // LogsRequest -> LogsResponse
	CmdCollect = "autoheal.collect" // CollectRequest -> CollectResponse
)

// Commands lists every command.
func Commands() []string {
	return []string{CmdPoll, CmdStatus, CmdStart, CmdStop, CmdLogs, CmdCollect, CmdReset, CmdTest, CmdReboot, CmdNetwork}
}

// Error codes that an agent answers with, beside the gateway's own.
const (
	CodeStaleEpoch   = "STALE_EPOCH"   // the request's epoch is below the highest seen
	CodeLeaseExpired = "LEASE_EXPIRED" // an at-most-once start while contact is not proven: nothing was started
	CodeInvalid      = "INVALID"       // the request is wrong
	CodeGPUBusy      = "GPU_BUSY"      // an assigned GPU is held by another attempt
	CodeInUse        = "IN_USE"        // what a repair is about is in use; Message says by whom
	CodeOtherBoot    = "OTHER_BOOT"    // the request was meant for another boot of this node
	CodeNodeFault    = "NODE_FAULT"    // this machine cannot start it (its disk, its control groups, its processes): nothing was started
	CodeUnsupported  = "UNSUPPORTED"   // no container runtime, no right, …; Message says what was looked for
	CodeNotFound     = "NOT_FOUND"
)

// MaxAnswerBytes bounds a PollResponse; the rest follows with More.
const MaxAnswerBytes = 256 << 10

// PollRequest asks for what changed since After. The agent answers at once when there is something to tell (changes
// after After, or a full listing is due), else when something happens, at the latest after WaitMS: an empty answer is the
// heartbeat.
type PollRequest struct {
	Epoch      uint64 `json:"epoch"`
	Life       string `json:"life"`       // the agent life that Ack and After belong to; another life's are ignored
	Ack        int64  `json:"ack"`        // largest N received from that life
	After      int64  `json:"after"`      // largest Seq applied from that life; 0 = send a full listing
	WaitMS     int64  `json:"waitMs"`     // at most
	SelfStopMS int64  `json:"selfStopMs"` // lease length; 0 = no self-stop: at-most-once workloads do not stop themselves
	// RulesHash names the site's own signal rules, empty for none. Rules holds them as long as the agent answers with
	// another hash.
	RulesHash string `json:"rulesHash,omitempty"`
	Rules     *Rules `json:"rules,omitempty"`
}

// Rules are a site's own signal rules and what single Xid numbers ask for there, as in its configuration.
type Rules struct {
	Rules []map[string]any        `json:"rules,omitempty"`
	Xid   map[int]autoheal.Advice `json:"xid,omitempty"`
}

// PollResponse carries the changes after After in order, or with Full the whole listing (in pages when it does not fit:
// More is set on all but the last, and the next poll's After is this Seq).
type PollResponse struct {
	BootID    string          `json:"bootId"` // of the host
	Life      string          `json:"life"`   // of the agent process
	N         int64           `json:"n"`
	Seq       int64           `json:"seq"` // of the last change contained
	Full      bool            `json:"full"`
	Node      *NodeStatus     `json:"node,omitempty"`
	Workloads []AttemptStatus `json:"workloads,omitempty"` // with Full
	Changes   []Change        `json:"changes,omitempty"`
	Standing  []Change        `json:"standing,omitempty"` // on the first page of a listing: the signals that hold; Seq is 0
	Dropped   int64           `json:"dropped"`            // changes that fell out of the ring since After (then Full is set)
	More      bool            `json:"more"`
	RulesHash string          `json:"rulesHash,omitempty"` // of the site's rules that the agent has taken, or could not take
}

// Change is one entry of the agent's ring: exactly one pointer is set.
type Change struct {
	Seq      int64            `json:"seq"`
	AgeMS    int64            `json:"ageMs"`
	Node     *NodeStatus      `json:"node,omitempty"`
	Workload *AttemptStatus   `json:"workload,omitempty"`
	Signal   *autoheal.Signal `json:"signal,omitempty"` // At and SeenAt are zero: AgeMS tells
}

// NodeStatus is what an agent says of its machine.
type NodeStatus struct {
	Name        string             `json:"name"`
	Version     string             `json:"version"`
	Platform    string             `json:"platform"`
	Labels      map[string]string  `json:"labels"`
	Capacity    autoheal.Resources `json:"capacity"`
	Allocatable autoheal.Resources `json:"allocatable"`
	GPUs        []autoheal.GPU     `json:"gpus"` // UsedBy and Quarantined are the healer's, not the agent's
	Caps        []autoheal.Verb    `json:"caps"`
	Programs    bool               `json:"programs"`       // it runs programs of the site's own
	Jobs        []JobStatus        `json:"jobs,omitempty"` // the latest resets and tests, oldest first
	SelfStop    bool               `json:"selfStop"`       // its shims enforce the lease
	Cgroups     string             `json:"cgroups"`        // "v1", "v2", "none: reason"
	Runtimes    []string           `json:"runtimes"`       // images other than host: "docker:/var/run/docker.sock"; empty = host only
	Conditions  map[string]string  `json:"conditions"`     // disk_full, memory_pressure, …
	Warnings    []string           `json:"warnings"`       // said at start: no cgroup rights, …
	UptimeMS    int64              `json:"uptimeMs"`
	Addresses   []string           `json:"addresses,omitempty"` // by which other machines may call this one: its host name, its IP addresses
	Probe       []string           `json:"probe,omitempty"`     // host:port at which it answers probes
}

// AttemptState is the state of one attempt on its node.
type AttemptState string

// Attempt states on a node.
const (
	AttemptStarting AttemptState = "starting"
	AttemptRunning  AttemptState = "running"
	AttemptStopping AttemptState = "stopping"
	AttemptExited   AttemptState = "exited"
)

// AttemptStatus is one attempt as its node knows it. Exited attempts stay listed until the healer forgets them with a
// StopRequest{Forget}, and survive the agent's and the host's restarts.
type AttemptStatus struct {
	Workload   autoheal.WorkloadID `json:"workload"`
	Attempt    int                 `json:"attempt"`
	State      AttemptState        `json:"state"`
	Pid        int                 `json:"pid,omitempty"`
	ShimPid    int                 `json:"shimPid,omitempty"`
	StartedMS  int64               `json:"startedMs"` // age; 0 = not started
	EndedMS    int64               `json:"endedMs"`   // age; 0 = not ended
	Exit       *autoheal.Exit      `json:"exit,omitempty"`
	GPUs       []autoheal.GPUID    `json:"gpus"`
	MemoryMB   int64               `json:"memoryMb"`
	AtMostOnce bool                `json:"atMostOnce"`
	Generation string              `json:"generation"`
	PeakMB     int64               `json:"peakMb,omitempty"` // highest memory use seen, where the kernel tells
	Detail     string              `json:"detail,omitempty"`
	Checks     *CheckStatus        `json:"checks,omitempty"` // nil = it has none, or this agent makes none
}

// CheckStatus is what an attempt's own checks say of it (behaviour E6). Ages are 0 where there is nothing to tell.
type CheckStatus struct {
	Ready     bool                  `json:"ready"`             // its health check passes, or it has none
	ReadyMS   int64                 `json:"readyMs,omitempty"` // since it first passed
	Failing   autoheal.CheckOutcome `json:"failing,omitempty"`
	FailingMS int64                 `json:"failingMs,omitempty"`
	Failures  int                   `json:"failures,omitempty"`
	Reason    string                `json:"reason,omitempty"`
	Output    string                `json:"output,omitempty"` // at most 1 KiB, untrusted
}

// StartRequest makes one attempt exist on the node. It is idempotent on (Workload, Attempt): a second one is accepted and
// changes nothing. The deadline of an at-most-once attempt starts as the agent's present lease, never as now + SelfStop.
type StartRequest struct {
	Epoch      uint64              `json:"epoch"`
	Action     autoheal.ActionID   `json:"action"`
	Workload   autoheal.WorkloadID `json:"workload"`
	Attempt    int                 `json:"attempt"`
	Generation string              `json:"generation"` // exported as AUTOHEAL_GENERATION
	Spec       autoheal.Spec       `json:"spec"`       // environment values included; MemoryMB is this attempt's
	GPUs       []autoheal.GPUID    `json:"gpus"`       // exported by index as CUDA_VISIBLE_DEVICES
	AtMostOnce bool                `json:"atMostOnce"`
	Gang       autoheal.GangID     `json:"gang,omitempty"`
	Rank       int                 `json:"rank"`
	GangSize   int                 `json:"gangSize"`
}

// StopRequest ends one attempt: SIGTERM, and SIGKILL to its whole cgroup after GraceMS (0 with Force). Reason becomes
// the exit's reason. Stopping what has exited, or is unknown, succeeds. With Forget the node removes what it keeps of an
// exited attempt.
type StopRequest struct {
	Epoch    uint64              `json:"epoch"`
	Action   autoheal.ActionID   `json:"action"`
	Workload autoheal.WorkloadID `json:"workload"`
	Attempt  int                 `json:"attempt"`
	GraceMS  int64               `json:"graceMs"`
	Force    bool                `json:"force"`
	Forget   bool                `json:"forget"`
	Reason   autoheal.ExitReason `json:"reason"`
}

// Accepted says that the request was taken (or had been before).
type Accepted struct {
	Accepted bool `json:"accepted"`
	Repeated bool `json:"repeated"` // it was known already
	Unknown  bool `json:"unknown"`  // stop: no such attempt here, and there will be none under this number
}

// StatusRequest asks for signs of life.
type StatusRequest struct {
	Epoch uint64 `json:"epoch"`
}

// StatusResponse tells busy from dead.
type StatusResponse struct {
	Life        string   `json:"life"`
	BootID      string   `json:"bootId"`
	Busy        []string `json:"busy"`        // commands under way
	LeaseLeftMS int64    `json:"leaseLeftMs"` // negative = expired
	N           int64    `json:"n"`
}

// LogsRequest asks for lines of one attempt (0 = the newest) or of the kernel, oldest first, the last Limit ones that
// match.
type LogsRequest struct {
	Workload autoheal.WorkloadID `json:"workload"`
	Attempt  int                 `json:"attempt"`
	Kernel   bool                `json:"kernel"`  // the kernel's log instead of an attempt's
	SinceMS  int64               `json:"sinceMs"` // age; 0 = all
	Level    string              `json:"level,omitempty"`
	Query    string              `json:"query,omitempty"`
	Limit    int                 `json:"limit"`
}

// LogsResponse answers with at most Limit lines and at most 1 MiB; Truncated says that there was more.
type LogsResponse struct {
	Lines     []LogLine `json:"lines"`
	Truncated bool      `json:"truncated"`
	Lost      int64     `json:"lost"` // lines rotated away or dropped because the workload wrote faster than the disk
}

// LogLine is one line of a workload's output: valid UTF-8, at most 16 KiB, untrusted.
type LogLine struct {
	AgeMS   int64  `json:"ageMs"`
	Stream  string `json:"stream"` // stdout, stderr, kernel
	Level   string `json:"level"`  // by the line's own words: debug, info, warn, error
	Attempt int    `json:"attempt"`
	Message string `json:"message"`
	// Words are those of the signal recognised in the line; a query finds the line by them, too (behaviour H2).
	Words []string `json:"words,omitempty"`
}

// CollectRequest captures evidence before a repair (behaviour F4): of the node, with the stacks of what uses a GPU, is one
// workload, or is all that runs here, and the log of the workload that is named. With Dump, processes that catch SIGQUIT get one, by which many write their stacks.
type CollectRequest struct {
	Epoch    uint64              `json:"epoch"`
	Action   autoheal.ActionID   `json:"action"`
	Workload autoheal.WorkloadID `json:"workload,omitempty"`
	GPU      autoheal.GPUID      `json:"gpu,omitempty"`
	Whole    bool                `json:"whole,omitempty"` // the stacks of all that runs here
	Dump     bool                `json:"dump,omitempty"`
}

// CollectResponse holds named texts: kernel lines, GPU report, process list, stacks, the end of a workload's log. What
// could not be had says why. Environment values are not in them.
type CollectResponse struct {
	Texts map[string]string `json:"texts"`
}
