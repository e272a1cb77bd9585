package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// An interrupt ends everything in order, and the next run on the directory starts again what ran, at no cost to it.
func TestRealInterruptAndStartAgain(t *testing.T) {
	c := newCluster(t)
	c.start()
	runs, over, paused := c.beacon("runs"), c.beacon("over"), c.beacon("paused")
	id := c.submit("runs", runs.script+"exec sleep 1000")
	first := runs.next()
	ended := c.submit("over", over.script+"exit 0")
	over.next()
	c.awaitState(ended, "succeeded")
	held := c.submit("paused", paused.script+"exec sleep 1000")
	paused.next()
	c.awaitState(held, "running")
	call[json.RawMessage](c, "workload_pause", map[string]string{"workloadId": held})
	process := handle(t, first.pid)
	agents := []*os.File{handle(t, c.agentPID("n1")), handle(t, c.agentPID("n2"))}
	c.stop()
	for _, h := range append(agents, process) {
		awaitEnd(t, h)
	}
	c.awaitNobody()
	if r := c.cli("status"); r.code != 1 {
		t.Errorf("status after the end: %s", r)
	} else {
		mustContain(t, "status after the end", r.stderr, "no healer is listening", "autoheal up")
	}

	c.start()
	if again := runs.next(); again.attempt != 2 {
		t.Errorf("it runs again as attempt %d, want 2", again.attempt)
	}
	w := c.awaitState(id, "running")
	if w.Restarts != 0 || len(w.Lineage) != 2 || w.Lineage[0].Exit == nil || w.Lineage[0].Exit.Reason != "shutdown" {
		t.Errorf("a restart of the cluster was held against the workload: %+v", w)
	}
	if w := c.workload(ended); w.State != "succeeded" || w.Attempt != 1 {
		t.Errorf("what was over did not stay over: %+v", w)
	}
	if w := c.workload(held); w.Attempt != 1 && w.State == "running" {
		t.Errorf("what was paused was started: %+v", w)
	}
	c.untouched()
	over.quiet()
	paused.quiet()
	c.stop()
}

// The second interrupt does not wait for a workload that takes its time.
func TestRealSecondInterruptKills(t *testing.T) {
	c := newCluster(t)
	c.start()
	b := c.beacon("stubborn")
	id := c.submit("stubborn", "trap '' TERM; "+b.script+"while :; do sleep 1000; done")
	process := handle(t, b.next().pid)
	c.awaitState(id, "running")
	c.up.signal(syscall.SIGINT)
	c.up.line("interrupt again to kill")
	c.up.signal(syscall.SIGINT)
	c.up.line("killing what still runs")
	if code := c.up.wait(); code != 0 {
		t.Errorf("up ended with %d:\n%s", code, c.up.out)
	}
	awaitEnd(t, process)

	c.start()
	if again := b.next(); again.attempt != 2 {
		t.Errorf("it runs again as attempt %d, want 2", again.attempt)
	}
	if w := c.awaitState(id, "running"); w.Restarts != 0 {
		t.Errorf("what a person killed was held against it: %+v", w)
	}
	c.up.signal(syscall.SIGINT) // the test's end is as impatient
	c.up.line("interrupt again to kill")
	c.up.signal(syscall.SIGINT)
	c.up.wait()
}

// A healer that is killed takes nothing along: the next one finds agents and workloads as they were, and its own work.
func TestRealKilledHealer(t *testing.T) {
	c := newCluster(t, "--set", "autoHeal.workload.restartBackoff={initial: 5s, factor: 2, max: 5m}")
	c.start()
	steady, sick := c.beacon("steady"), c.beacon("sick")
	id := c.submit("steady", steady.script+"exec sleep 1000")
	pid := steady.next().pid
	before := []string{identity(t, pid), identity(t, c.agentPID("n1")), identity(t, c.agentPID("n2"))}
	// It fails once, and its restart is due after the healer was killed.
	crashing := c.submit("sick", sick.script+"[ $AUTOHEAL_ATTEMPT -gt 1 ] || exit 3; exec sleep 1000")
	sick.next()
	c.await("an incident", func() bool { return len(c.incidents()) == 1 })
	open := c.incidents()[0]
	c.up.kill()

	after := []string{identity(t, pid), identity(t, c.agentPID("n1")), identity(t, c.agentPID("n2"))}
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Fatalf("processes were %v, are %v", before, after)
	}
	c.start()
	if b := sick.next(); b.attempt != 2 {
		t.Errorf("the work of the killed healer was not taken up: attempt %d", b.attempt)
	}
	c.await("the incident to go on", func() bool {
		all := c.incidents()
		return len(all) == 1 && all[0].ID == open.ID && c.workload(crashing).State == "running"
	})
	if w := c.workload(id); w.Attempt != 1 || w.State != "running" || w.Restarts != 0 {
		t.Errorf("the steady workload was touched: %+v", w)
	}
	if w := c.workload(crashing); w.Attempt != 2 || w.Restarts != 1 {
		t.Errorf("the sick workload: %+v", w)
	}
	after = []string{identity(t, pid), identity(t, c.agentPID("n1")), identity(t, c.agentPID("n2"))}
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("adopted processes were %v, are %v", before, after)
	}
	steady.quiet()
	sick.quiet()
	// The next healer ends what it adopted like what it started.
	process := handle(t, pid)
	c.stop()
	awaitEnd(t, process)
}

// A healer that is gone for longer than the deadline of its at-most-once workloads stops none of them: nobody is there who
// could start a second copy. One that lives and refuses, as a firewall does in its name, is as good as silent.
func TestRealHealerOutage(t *testing.T) {
	c := newCluster(t, "--nodes", "1",
		"--set", "autoHeal.fence.selfStop=8s", "--set", "autoHeal.fence.margin=500ms", "--set", "autoHeal.fence.wait=10s")
	c.start()
	b := c.beacon("steady")
	id := c.submit("steady", b.script+"exec sleep 1000")
	process := handle(t, b.next().pid)
	c.awaitState(id, "running")
	c.up.kill()
	// The fault has a length; nothing is waited for.
	if err := exec.CommandContext(t.Context(), "sleep", "12").Run(); err != nil {
		t.Fatal(err)
	}
	c.start()
	if w := c.workload(id); w.Attempt != 1 || w.State != "running" {
		t.Errorf("the outage stopped it: %+v", w)
	}
	c.up.kill()
	lock, err := os.Open(filepath.Join(c.dir, "lock")) // as the healer would that nobody reaches
	if err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, process)
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	c.start()
	if again := b.next(); again.attempt != 2 {
		t.Errorf("after it stopped itself it runs as attempt %d, want 2:\n%s", again.attempt, c.cli("journal", "show"))
	}
	if w := c.awaitState(id, "running"); w.Restarts != 0 || w.Lineage[0].Exit == nil || w.Lineage[0].Exit.Reason != "self_stop" {
		t.Errorf("it stopped itself, which is no crash: %+v", w)
	}
	c.stop()
}

// After a reboot nothing of what ran is adopted, and it starts again.
func TestRealReboot(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := newCluster(t)
	boot := func(id string) {
		file := filepath.Join(filepath.Dir(c.dir), "boot_id")
		writeFile(t, file, id+"\n", 0o644)
		const kernel = "/proc/sys/kernel/random/boot_id"
		if err := unix.Mount(file, kernel, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("another boot ID needs the right to mount: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(kernel, unix.MNT_DETACH) })
	}
	boot("11111111-1111-4111-8111-111111111111")
	c.start()
	b := c.beacon("steady")
	id := c.submit("steady", b.script+"exec sleep 1000")
	b.next()
	c.awaitState(id, "running")
	c.up.kill()
	// The machine goes down: nothing of it is left, and nobody wrote down how it ended.
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range c.processes() {
			_ = syscall.Kill(pid, s)
		}
	}
	c.awaitNobody()
	if left, _ := filepath.Glob(filepath.Join(c.dir, "agents/*/wl/*/1/exit.json")); len(left) > 0 {
		t.Fatalf("somebody lived on and wrote %v", left)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		groups, _ := filepath.Glob(pattern + c.run.CgroupPrefix + "c/*/wl-*")
		for _, g := range groups {
			_ = syscall.Rmdir(g) // a reboot forgets control groups
		}
	}
	boot("22222222-2222-4222-8222-222222222222")

	c.start()
	if again := b.next(); again.attempt != 2 {
		t.Errorf("it runs again as attempt %d, want 2", again.attempt)
	}
	w := c.awaitState(id, "running")
	if len(w.Lineage) != 2 || w.Lineage[0].Exit == nil || w.Lineage[0].Exit.Reason != "rebooted" {
		t.Errorf("the first attempt did not end with the machine: %+v", w.Lineage)
	}
	if w.Restarts != 0 {
		t.Errorf("a reboot was held against the workload: %+v", w)
	}
	b.quiet()
	c.stop()
}

// One directory has one healer.
func TestRealSecondUpIsRefused(t *testing.T) {
	c := newCluster(t, "--ephemeral")
	first := c.start()
	second := startProcess(t, append([]string{"up", "--data", c.dir}, c.flags...)...)
	if code := second.wait(); code != 1 {
		t.Errorf("the second up ended with %d, want 1", code)
	}
	mustContain(t, "the refusal", second.out.String(), fmt.Sprint(first.pid()), c.dir)
	for _, n := range c.nodes() {
		if n.Status != "ready" {
			t.Errorf("the refused one disturbed node %+v", n)
		}
	}
	repair := c.cli("journal", "repair")
	if repair.code != 1 || !strings.Contains(repair.stderr, fmt.Sprint(first.pid())) {
		t.Errorf("a repair beside a healer: %s", repair)
	}
	c.stop()
}

// A throw-away cluster ends with its parent, however that ends.
func TestRealEphemeralLeavesNothing(t *testing.T) {
	c := newCluster(t, "--ephemeral")
	c.start()
	b := c.beacon("stubborn")
	c.submit("stubborn", "trap '' TERM; "+b.script+"while :; do sleep 1000; done")
	left := []*os.File{handle(t, b.next().pid), handle(t, c.agentPID("n1")), handle(t, c.agentPID("n2"))}
	for _, pid := range c.processes() {
		if pid != c.up.pid() {
			left = append(left, handle(t, pid))
		}
	}
	c.up.kill()
	for _, h := range left {
		awaitEnd(t, h)
	}
	if groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + c.run.CgroupPrefix + "c/*"); len(groups) > 0 {
		t.Errorf("control groups are left: %v", groups)
	}
}
