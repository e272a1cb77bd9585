package leakcheck

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// settleFor bounds how long the end of a test waits for what was killed to vanish.
const settleFor = 10 * time.Second

// Run is the marks of one test: what it starts under them is looked for when the test ends.
type Run struct {
	// Marker is the value of MarkerEnv, which Start has already set for the processes that the test starts.
	Marker string
	// CgroupPrefix begins the names of the control groups that the test makes; no other test has it.
	CgroupPrefix string
}

// Start marks the environment of the test and fails it at its end when a process or a control group is left. The folder
// of t.TempDir is removed by the testing package, which fails the test when it cannot. A test that calls it cannot run
// in parallel with others, since the environment belongs to the whole process.
func Start(t testing.TB) Run {
	t.Helper()
	return start(t, settleFor)
}

func start(t testing.TB, settle time.Duration) Run {
	t.Helper()
	outer := os.Getenv(MarkerEnv)
	// Test programs run beside each other and are told apart by their process; in one of them a name is unique.
	name := fnv.New32a()
	_, _ = io.WriteString(name, t.Name())
	id := fmt.Sprintf("%d-%08x", os.Getpid(), name.Sum32())
	run := Run{Marker: strings.TrimPrefix(outer+"/"+id, "/"), CgroupPrefix: CgroupPrefixes[0] + id + "-"}
	// Registered first, so that it runs after every other cleanup of the test had its chance.
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), settle)
		defer cancel()
		leaks, err := Scope{Run: run.Marker, CgroupPrefixes: []string{run.CgroupPrefix}, Exclusive: true}.Settle(ctx, clock.Real{})
		if err != nil {
			t.Errorf("look for leaks: %v", err)
		}
		for _, l := range leaks {
			t.Errorf("left behind: %s", l)
		}
	})
	t.Setenv(MarkerEnv, run.Marker)
	return run
}
