package e2e

import (
	"os"
	"syscall"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// productTimes are the times of the product, in place of the short ones of this package.
var productTimes = []string{
	"--ephemeral", "--nodes", "3", "--set", "autoHeal.node.probeInterval=5s", "--set", "autoHeal.node.probeTimeout=2s",
	"--set", "autoHeal.workload.restartBackoff=exponential",
}

// BenchmarkRealSilence freezes the agent of a node, with the product's times: from the last contact with the node, as the
// journal has it, until a workload of it runs elsewhere. Nothing of that can be hurried, so it takes minutes, and the number
// of runs is that of -benchtime, such as 20x.
func BenchmarkRealSilence(b *testing.B) {
	for _, c := range []struct {
		name   string
		labels map[string]string
	}{
		{"critical", map[string]string{"autoheal.dev/class": "critical", "autoheal.dev/kind": "service"}}, // it has an extra copy (behaviour B2h)
		{"training", map[string]string{"autoheal.dev/class": "high", "autoheal.dev/kind": "job"}},         // it waits for grace and proof (C3)
	} {
		b.Run(c.name, func(b *testing.B) {
			cl := newCluster(b, productTimes...)
			var took []time.Duration
			for range b.N {
				took = append(took, cl.silence(c.labels))
				if err := os.RemoveAll(cl.dir); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(0, "ns/op") // the mean says nothing
			b.ReportMetric(percentile(took, 50).Seconds(), "p50-s")
			b.ReportMetric(percentile(took, 95).Seconds(), "p95-s")
			b.ReportMetric(float64(len(took)), "runs")
		})
	}
}

// silence runs a workload on one node of a new cluster, freezes the agent of that node, and returns how long after the last
// contact the workload ran elsewhere.
func (c *cluster) silence(labels map[string]string) time.Duration {
	c.t.Helper()
	c.start()
	began := time.Now()
	for _, n := range []string{"n2", "n3"} {
		call[struct{}](c, "node_cordon", map[string]string{"nodeId": n, "reason": "benchmark: placement"})
	}
	spec := c.spec("silent", "exec sleep 1000")
	spec["labels"] = labels
	id := c.submitSpec(spec)
	c.awaitState(id, "running")
	for _, n := range []string{"n2", "n3"} {
		call[struct{}](c, "node_uncordon", map[string]string{"nodeId": n})
	}
	c.await("the healer to trust its eyes (behaviour D3)", func() bool { return time.Since(began) > 21*time.Second })
	frozen := c.agentPID("n1")
	if err := syscall.Kill(frozen, syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	var ran *float64
	for end := time.Now().Add(3 * time.Minute); ran == nil; {
		if time.Now().After(end) {
			c.t.Fatal("the workload does not run elsewhere after 3 minutes")
		}
		<-clock.Real{}.NewTimer(100 * time.Millisecond).C()
		for _, i := range call[struct {
			Incidents []struct {
				Recoveries []struct{ TimeToRunningSeconds *float64 }
			}
		}](c, "incident_list", map[string]string{"kind": "node_offline"}).Incidents {
			for _, r := range i.Recoveries {
				ran = r.TimeToRunningSeconds
			}
		}
	}
	if err := syscall.Kill(frozen, syscall.SIGCONT); err != nil {
		c.t.Fatal(err)
	}
	c.stop()
	return time.Duration(*ran * float64(time.Second))
}
