package agent

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/nodeproto"
)

// BenchmarkFloor is what starting a process costs at least: fork, exec and the end of this binary.
func BenchmarkFloor(b *testing.B) {
	n := benchNode(b)
	for b.Loop() {
		if err := exec.Command(n.opts.ShimCommand[0], "workload", "true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStart is from the request to "running": checks, durable spec, shim, control group, fork.
func BenchmarkStart(b *testing.B) {
	n := benchNode(b)
	var took []time.Duration
	i := 0
	for b.Loop() {
		i++
		id := fmt.Sprintf("wl-%d", i)
		begun := time.Now()
		n.start(n.request(id, 1, "sit"))
		n.waitFor(id, 1, running)
		took = append(took, time.Since(begun))
		b.StopTimer()
		n.stop(id, 1, nodeproto.StopRequest{Force: true})
		n.waitFor(id, 1, exited)
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
}

// BenchmarkPoll is one answered poll of a node with a hundred attempts.
func BenchmarkPoll(b *testing.B) {
	a := bareAgent(b)
	for i := range 100 {
		a.list(fmt.Sprintf("wl-%d", i), "")
	}
	after := a.ring.seq
	for b.Loop() {
		if _, err := a.doPoll(b.Context(), nodeproto.PollRequest{Epoch: 0, Life: a.life, After: after - 1}); err != nil {
			b.Fatal(err)
		}
	}
}
