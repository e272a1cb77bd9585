package drill

import (
	"context"
	"time"

	"autoheal.dev/autoheal"
)

// Ends of a drill, as expected and as seen.
const (
	Recovered = "recovered"
	Escalated = "escalated"
	Held      = "held"
	Cleared   = "cleared"
)

// Drill is one fault with its expected end: data and a small function.
type Drill struct {
	Name     string
	Doc      string // one sentence: what is broken and what has to come of it
	Kind     autoheal.FailureKind
	Expected string

	Nodes    int      // of its cluster
	Args     []string // more arguments of 'autoheal up'; {dir} stands for the drill's directory
	Settings []string // more settings, as KEY=VALUE, of the short profile
	Always   []string // more settings of every profile; {dir} stands for the drill's directory
	Kernel   bool     // each node's kernel log is a file that the drill writes
	Cgroups  bool     // it needs the kernel to enforce memory limits
	Mounts   bool     // it needs the right to mount file systems
	Outlives bool     // agents and workloads must live on when the healer dies: the janitor alone ends them

	// Before, if set, prepares what the cluster will find when it starts.
	Before func(c *cluster) error
	// Run submits, breaks and waits. An error is a failed drill; what it observed goes into the session.
	Run func(ctx context.Context, s *Session) error
}

// Profile says with which times a cluster runs.
type Profile struct {
	Name     string        // "short" or "production"
	Settings []string      // KEY=VALUE
	Patience time.Duration // longest wait for one state; it never decides a result, it only ends a hopeless drill

	// Still is how long a mass outage lasts that is over before any workload stops itself; longer than the grace where
	// that can be.
	Still time.Duration
	// LongGrace is longer than the grace of a node by more than it takes to do something in between.
	LongGrace time.Duration
	// EarlyMove says that a critical service is moved while jobs beside it wait to stop themselves (behaviour B2).
	EarlyMove bool
}

// Short returns times that make a drill quick; they keep every check that a configuration must pass. Every deadline is
// longer than a process waits for its turn on a busy machine: a probe that is late, or a workload that stops itself for
// want of a poll, would be a failure that nobody injected.
func Short() Profile {
	return Profile{
		Name: "short", Patience: 3 * time.Minute, Still: 8 * time.Second, LongGrace: 16 * time.Second,
		Settings: []string{
			"autoHeal.node.offlineGracePeriod=6s", "autoHeal.node.probeInterval=1s", "autoHeal.node.probeTimeout=900ms",
			"autoHeal.node.settle=500ms", "autoHeal.node.returnDwell=2s",
			"autoHeal.fence.selfStop=6s", "autoHeal.fence.margin=500ms", "autoHeal.fence.wait=7s",
			"autoHeal.verify.critical=1s", "autoHeal.verify.default=2s",
			"autoHeal.workload.restartBackoff={initial: 500ms, factor: 2, max: 5s}", "autoHeal.budgets.cooldown=3s",
		},
	}
}

// Production returns the product's own times.
func Production() Profile {
	return Profile{Name: "production", Patience: 15 * time.Minute, Still: 35 * time.Second, LongGrace: 3 * time.Minute, EarlyMove: true}
}
