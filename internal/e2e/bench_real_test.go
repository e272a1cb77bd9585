package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// leastRuns is how often everything is measured whose p95 is told.
const leastRuns = 50

// measure runs a scenario often enough, beside what this machine needs for its unavoidable part, and each time on a new cluster, so that no run meets what is remembered of the ones
// before it (restarts, cool-downs, common causes).
func measure(b *testing.B, c *cluster, floors int, scenario func() time.Duration) {
	b.Helper()
	var took, floor []time.Duration
	for range max(b.N, leastRuns) {
		took = append(took, scenario())
		floor = append(floor, leastTime(b, floors))
		if err := os.RemoveAll(c.dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op") // the mean says nothing
	b.ReportMetric(inMS(percentile(took, 50)), "p50-ms")
	b.ReportMetric(inMS(percentile(took, 95)), "p95-ms")
	b.ReportMetric(inMS(percentile(floor, 50)), "floor-p50-ms")
	b.ReportMetric(inMS(percentile(took, 50))/inMS(percentile(floor, 50)), "x-floor")
}

func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[min(len(all)*p/100, len(all)-1)]
}

func inMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// leastTime is what n starts cost at least: fork and exec of an empty program, and one durable commit, each time.
func leastTime(b *testing.B, n int) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	if _, err := f.Write(page); err != nil { // a log that is written again and again has its length already
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	for range n {
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
		if _, err := f.WriteAt(page, 0); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}

// BenchmarkRealUp starts a cluster of three nodes on an empty directory: from the fork to the word that every node answers.
func BenchmarkRealUp(b *testing.B) {
	c := newCluster(b, "--ephemeral", "--nodes", "3")
	measure(b, c, 1, func() time.Duration {
		began := time.Now()
		c.start()
		took := time.Since(began)
		c.stop()
		return took
	})
}

// withoutBackoff restarts at once: the backoff is a wait on purpose.
var withoutBackoff = []string{"--ephemeral", "--set", "autoHeal.workload.restartBackoff=none"}

// BenchmarkRealFirstRestart kills the process of a workload: from the kill to the first word of the next one.
func BenchmarkRealFirstRestart(b *testing.B) {
	c := newCluster(b, withoutBackoff...)
	life := c.beacon("life")
	measure(b, c, 1, func() time.Duration {
		c.start()
		id := c.submit("crashes", life.script+"exec sleep 1000")
		first := life.next()
		c.awaitState(id, "running")
		began := time.Now()
		if err := syscall.Kill(first.pid, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		again := life.next()
		took := time.Since(began)
		if again.attempt != 2 {
			b.Fatalf("attempt %d follows the first", again.attempt)
		}
		c.stop()
		return took
	})
}

// BenchmarkRealOOM lets the kernel kill a workload at its own memory limit: from its death to the first word of the next
// attempt, which has more memory.
func BenchmarkRealOOM(b *testing.B) {
	c := newCluster(b, withoutBackoff...)
	life := c.beacon("life")
	gate := filepath.Join(filepath.Dir(c.dir), "gate")
	measure(b, c, 1, func() time.Duration {
		c.start()
		spec := c.spec("hungry", life.script+fmt.Sprintf("exec %s drill hog --mib 140 --after %s", binary, gate))
		spec["memoryMb"] = 128
		id := c.submitSpec(spec)
		first := handle(b, life.next().pid)
		c.awaitState(id, "running")
		writeFile(b, gate, "", 0o600)
		awaitEnd(b, first)
		began := time.Now()
		again := life.next()
		took := time.Since(began)
		w := call[struct{ Lineage []struct{ MemoryMB int64 } }](c, "workload_get", map[string]string{"workloadId": id})
		if again.attempt != 2 || len(w.Lineage) != 2 || w.Lineage[1].MemoryMB != 192 {
			b.Fatalf("attempt %d follows, lineage %+v", again.attempt, w.Lineage)
		}
		c.stop()
		if err := os.Remove(gate); err != nil {
			b.Fatal(err)
		}
		return took
	})
}

// BenchmarkRealMove20 kills a whole node with 20 workloads that may run at most once: from the moment when the first is
// proven dead, which comes after waits on purpose, to the one when the last is seen to run elsewhere.
func BenchmarkRealMove20(b *testing.B) {
	const workloads = 20
	c := newCluster(
		b, "--ephemeral", "--nodes", "3",
		"--set", "autoHeal.node.probeInterval=500ms", "--set", "autoHeal.node.probeTimeout=300ms", "--set", "autoHeal.node.settle=500ms",
		"--set", "autoHeal.node.offlineGracePeriod=2s",
		"--set", "autoHeal.fence.selfStop=2s", "--set", "autoHeal.fence.margin=500ms", "--set", "autoHeal.fence.wait=3s",
	)
	life := c.beacon("life")
	measure(b, c, workloads, func() time.Duration {
		c.start()
		for _, n := range []string{"n2", "n3"} {
			call[struct{}](c, "node_cordon", map[string]string{"nodeId": n, "reason": "benchmark: placement"})
		}
		for i := range workloads {
			c.submit(fmt.Sprintf("job-%d", i), life.script+"exec sleep 1000")
		}
		for range workloads {
			life.next()
		}
		for _, n := range []string{"n2", "n3"} {
			call[struct{}](c, "node_uncordon", map[string]string{"nodeId": n})
		}
		c.killNode("n1")
		for range workloads {
			if again := life.next(); again.attempt != 2 {
				b.Fatalf("attempt %d follows the first", again.attempt)
			}
		}
		took := c.moved(workloads)
		c.reviveNode("n1")
		c.stop()
		return took
	})
}

// moved waits until all recoveries of the one incident have seen their workload run, and returns the time from the first
// proof to the last of them.
func (c *cluster) moved(workloads int) time.Duration {
	c.t.Helper()
	type recovery struct {
		FailedAt             time.Time
		TimeToSafeSeconds    *float64
		TimeToRunningSeconds *float64
	}
	after := func(r recovery, seconds float64) time.Time {
		return r.FailedAt.Add(time.Duration(seconds * float64(time.Second)))
	}
	var first, last time.Time
	c.await("every workload to run elsewhere", func() bool {
		all := call[struct {
			Incidents []struct{ Recoveries []recovery }
		}](c, "incident_list", nil).Incidents
		if len(all) != 1 || len(all[0].Recoveries) != workloads {
			return false
		}
		first, last = time.Time{}, time.Time{}
		for _, r := range all[0].Recoveries {
			if r.TimeToSafeSeconds == nil || r.TimeToRunningSeconds == nil {
				return false
			}
			if safe := after(r, *r.TimeToSafeSeconds); first.IsZero() || safe.Before(first) {
				first = safe
			}
			if ran := after(r, *r.TimeToRunningSeconds); ran.After(last) {
				last = ran
			}
		}
		return true
	})
	return last.Sub(first)
}
