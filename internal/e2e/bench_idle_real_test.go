package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// idleTime is how long everything idles before and while it is measured.
const idleTime = time.Minute

// BenchmarkRealIdle measures what a cluster of three nodes with 30 workloads costs while nothing happens: the private
// memory of healer, agents and shims after a minute, and the healer's share of a core over the minute that follows.
func BenchmarkRealIdle(b *testing.B) {
	const workloads = 30
	c := newCluster(
		b, "--ephemeral", "--nodes", "3", // with the product's own intervals, not those of the tests
		"--set", "autoHeal.node.probeInterval=5s", "--set", "autoHeal.node.probeTimeout=2s",
	)
	c.start()
	life := c.beacon("life")
	for i := range workloads {
		c.submit("idle-"+strconv.Itoa(i), life.script+"exec sleep 1000")
	}
	for range workloads {
		life.next()
	}
	floor := emptyProgram(b)
	idle(b)
	before, began := cpuTime(b, c.up.pid()), time.Now()
	idle(b)
	spent, passed := cpuTime(b, c.up.pid())-before, time.Since(began)
	shims := c.shims("")
	if len(shims) != workloads {
		b.Fatalf("%d shims run for %d workloads", len(shims), workloads)
	}
	var agents []int
	for _, n := range []string{"n1", "n2", "n3"} {
		agents = append(agents, c.agentPID(n))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(privateMiB(b, c.up.pid()), "healer-MiB")
	b.ReportMetric(100*spent.Seconds()/passed.Seconds(), "healer-%core")
	b.ReportMetric(privateMiB(b, agents...), "agent-MiB")
	b.ReportMetric(privateMiB(b, shims...), "shim-MiB")
	b.ReportMetric(privateMiB(b, floor), "empty-MiB")
	c.stop()
}

func idle(b *testing.B) {
	b.Helper()
	t := clock.Real{}.NewTimer(idleTime)
	defer t.Stop()
	select {
	case <-t.C():
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
}

// emptyProgram runs the least that a Go program is: one that waits for a signal.
func emptyProgram(b *testing.B) (pid int) {
	b.Helper()
	dir := b.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "empty")
	writeFile(b, source, `package main

import (
	"os"
	"os/signal"
)

func main() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	<-c
}
`, 0o600)
	if r := execute(b, exec.Command("go", "build", "-o", program, source)); r.code != 0 {
		b.Fatal(r)
	}
	return startCommand(b, exec.Command(program)).pid()
}

// privateMiB is the private memory of a process, of the largest if there are more.
func privateMiB(b *testing.B, pids ...int) float64 {
	b.Helper()
	var most int64
	for _, pid := range pids {
		kb := int64(-1)
		for line := range strings.Lines(readFile(b, filepath.Join("/proc", strconv.Itoa(pid), "status"))) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "RssAnon:" {
				kb, _ = strconv.ParseInt(f[1], 10, 64) // the kernel writes numbers
			}
		}
		if kb < 0 {
			b.Fatalf("process %d has no RssAnon", pid)
		}
		most = max(most, kb)
	}
	return float64(most) / 1024
}

// cpuTime is what a process has spent, in ticks of 10 ms.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat := readFile(b, filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		b.Fatalf("read %q", stat)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// shims lists the shims of a node, or of all nodes.
func (c *cluster) shims(node string) []int {
	c.t.Helper()
	var out []int
	folder := []byte("\x00--dir\x00" + filepath.Join(c.dir, "agents", node) + "/")
	for _, pid := range c.processes() {
		args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && bytes.Contains(args, []byte("\x00shim\x00")) && bytes.Contains(args, folder) {
			out = append(out, pid)
		}
	}
	return out
}

// killNode kills agent, shims and so workloads of a node, and keeps the agent from being started again.
func (c *cluster) killNode(node string) {
	c.t.Helper()
	writeFile(c.t, filepath.Join(c.dir, "agents", node+".hold"), "", 0o600)
	for _, pid := range append([]int{c.agentPID(node)}, c.shims(node)...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			c.t.Fatal(err)
		}
	}
}

// reviveNode lets a killed node come back, and waits until its new agent has cleared away what the dead shims left.
func (c *cluster) reviveNode(node string) {
	c.t.Helper()
	if err := os.Remove(filepath.Join(c.dir, "agents", node+".hold")); err != nil {
		c.t.Fatal(err)
	}
	c.await("the groups of the dead shims to be removed", func() bool {
		for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} { // version 2 and version 1
			left, err := filepath.Glob(filepath.Join(hierarchy, c.run.CgroupPrefix+"c", node, "wl-*"))
			if err != nil || len(left) > 0 {
				return false
			}
		}
		return true
	})
}
