package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A reload takes over all of a configuration or nothing, and says everything that is wrong at once.
func TestRealReload(t *testing.T) {
	c := newCluster(t, "--ephemeral")
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(c.dir, "config.yaml")
	writeFile(t, config, "autoHeal:\n  workload:\n    maxRestarts: 2\n", 0o600)
	c.start()
	hash := func() string {
		return call[struct{ ConfigHash string }](c, "healer_status", nil).ConfigHash
	}
	before := hash()
	writeFile(t, config, "autoHeal:\n  workload:\n    maxRestarts: many\n    oomFactor: 0.5\n  node:\n    offlineGrace: 1m\n", 0o600)
	c.up.signal(syscall.SIGHUP)
	c.up.line("was not taken over")
	for _, place := range []string{":3:18: ", ":4:16: ", ":6:5: "} {
		c.up.line(config + place)
	}
	if now := hash(); now != before {
		t.Errorf("a wrong configuration changed what is in force from %s to %s", before, now)
	}
	writeFile(t, config, "autoHeal:\n  workload:\n    maxRestarts: 2\n", 0o600)
	c.up.signal(syscall.SIGHUP)
	c.up.line("has not changed")
	writeFile(t, config, "autoHeal:\n  workload:\n    maxRestarts: 1\n", 0o600)
	c.up.signal(syscall.SIGHUP)
	c.up.line("is in force")
	if now := hash(); now == before {
		t.Errorf("the new configuration is not in force")
	}
	// It is: the second crash is one too many.
	id := c.submit("crashes", "exit 7")
	c.await("the workload to be paused", func() bool { return c.workload(id).Paused != nil })
	if w := c.workload(id); w.Attempt != 2 {
		t.Errorf("paused after attempt %d, want 2", w.Attempt)
	}
	c.stop()
}

// The gateway's port is kept for the agents that may live on. Without any, another one does.
func TestRealGatewayPortInUse(t *testing.T) {
	c := newCluster(t)
	c.start()
	b := c.beacon("steady")
	id := c.submit("steady", b.script+"exec sleep 1000")
	b.next()
	c.awaitState(id, "running")
	take := func() net.Listener {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", strings.TrimSpace(readFile(t, filepath.Join(c.dir, "gateway.addr"))))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	c.up.kill()
	taken := take()
	refused := c.launch()
	if code := refused.wait(); code != 1 {
		t.Errorf("up ended with %d, want 1", code)
	}
	mustContain(t, "the refusal", refused.out.String(), taken.Addr().String(), "address already in use", "free the port")
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	c.start()
	if w := c.awaitState(id, "running"); w.Attempt != 1 {
		t.Errorf("the workload was not adopted: %+v", w)
	}
	c.stop()

	taken = take()
	c.start()
	if b.next().attempt != 2 {
		t.Error("the workload was not started again")
	}
	c.stop()
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
}

// The secret by which nodes join is readable by its owner only, or not used.
func TestRealTokenFile(t *testing.T) {
	c := newCluster(t, "--ephemeral")
	c.start()
	token := filepath.Join(c.dir, "node.token")
	gateway := "ws://" + strings.TrimSpace(readFile(t, filepath.Join(c.dir, "gateway.addr")))
	node := func(file string) result {
		return execute(t, exec.Command(binary, "node", "--gateway", gateway, "--token-file", file, "--name", "extra", "--data",
			filepath.Join(c.dir, "extra"), "--cgroup", "none", "--simulate-gpus", "1"))
	}
	missing := filepath.Join(c.dir, "no-such-file")
	if r := node(missing); r.code != 1 {
		t.Errorf("a missing token file: %s", r)
	} else {
		mustContain(t, "the refusal", r.stderr, missing, "does not exist")
	}
	open := filepath.Join(filepath.Dir(c.dir), "open.token")
	writeFile(t, open, readFile(t, token), 0o644)
	if r := node(open); r.code != 1 {
		t.Errorf("a token file that others can read: %s", r)
	} else {
		mustContain(t, "the refusal", r.stderr, "0644", "chmod 600 "+open)
	}
	c.stop()

	if err := os.Chmod(token, 0o640); err != nil {
		t.Fatal(err)
	}
	p := c.launch()
	if code := p.wait(); code != 1 {
		t.Errorf("up with a token that others can read ended with %d:\n%s", code, p.out)
	}
	mustContain(t, "the refusal", p.out.String(), "0640", "chmod 600 "+token)
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	c.start() // what is missing is made anew
	c.stop()
}

// A name belongs to the key that it was first admitted with.
func TestRealSameNameAnotherKey(t *testing.T) {
	c := newCluster(t, "--ephemeral")
	c.start()
	b := c.beacon("steady")
	id := c.submit("steady", b.script+"exec sleep 1000")
	b.next()
	on := c.awaitState(id, "running").NodeID
	other := startProcess(t, "node", "--gateway", "ws://"+strings.TrimSpace(readFile(t, filepath.Join(c.dir, "gateway.addr"))),
		"--token-file", filepath.Join(c.dir, "node.token"), "--name", on, "--data", filepath.Join(filepath.Dir(c.dir), "other"),
		"--cgroup", "none", "--simulate-gpus", "8:H100")
	other.line("bound to another device key")
	c.up.line("bound to another device key")
	for _, n := range c.nodes() {
		if n.Status != "ready" {
			t.Errorf("the stranger disturbed node %+v", n)
		}
	}
	if got := len(c.nodes()); got != 2 {
		t.Errorf("%d nodes, want 2", got)
	}
	if w := c.workload(id); w.Attempt != 1 || w.State != "running" {
		t.Errorf("the stranger disturbed the workload: %+v", w)
	}
	other.signal(syscall.SIGINT)
	if code := other.wait(); code != 0 {
		t.Errorf("the stranger ended with %d:\n%s", code, other.out)
	}
	c.untouched()
	c.stop()
}

// A healer that did not run for a while was not looking: what it missed is no failure of the cluster.
func TestRealStarvedHealer(t *testing.T) {
	c := newCluster(t, "--ephemeral")
	c.start()
	b := c.beacon("steady")
	id := c.submit("steady", b.script+"exec sleep 1000")
	b.next()
	c.awaitState(id, "running")
	c.up.signal(syscall.SIGSTOP)
	// The fault has a length; nothing is waited for.
	if err := exec.CommandContext(t.Context(), "sleep", "5").Run(); err != nil {
		t.Fatal(err)
	}
	c.up.signal(syscall.SIGCONT)
	c.await("the stall to be noticed", func() bool {
		return call[struct{ Stalls int }](c, "healer_status", nil).Stalls > 0
	})
	c.up.line("observer_stalled")
	c.await("every node to be seen again", func() bool {
		for _, n := range c.nodes() {
			if n.Status != "ready" {
				return false
			}
		}
		return true
	})
	c.untouched()
	if w := c.workload(id); w.Attempt != 1 || w.State != "running" || w.Restarts != 0 {
		t.Errorf("the workload was touched: %+v", w)
	}
	b.quiet()
	c.stop()
}

// Who connects and says nothing holds nobody back.
func TestRealSilentConnection(t *testing.T) {
	c := newCluster(t, "--ephemeral")
	c.start()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", filepath.Join(c.dir, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	c.stop()
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// Without the right to control groups, workloads run all the same, and it is said that their limits are measured only.
func TestRealWithoutControlGroups(t *testing.T) {
	c := newCluster(t, "--ephemeral", "--cgroup", "none")
	c.start()
	b := c.beacon("steady")
	id := c.submit("steady", b.script+"sleep 1000 & exec sleep 1000")
	process := handle(t, b.next().pid)
	c.awaitState(id, "running")
	c.up.line("measured once a second and not enforced")
	if r := c.cli("stop", id); r.code != 0 {
		t.Errorf("stop: %s", r)
	}
	awaitEnd(t, process)
	c.awaitState(id, "cancelled")
	c.stop()
}

// A user without rights runs a cluster.
func TestRealAsNobody(t *testing.T) {
	if os.Geteuid() == 0 {
		if _, err := exec.LookPath("setpriv"); err != nil {
			t.Skip("as root, another user needs the program setpriv")
		}
	}
	dir := shortDir(t)
	c := newClusterAt(t, dir, "--ephemeral")
	args := append([]string{"up", "--data", c.dir}, c.flags...)
	cmd := exec.Command(binary, args...)
	if os.Geteuid() == 0 {
		const nobody = 65534
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(nobody)
		cmd = exec.Command("setpriv", append([]string{"--reuid", id, "--regid", id, "--clear-groups", binary}, args...)...)
	}
	c.up = startCommand(t, cmd)
	c.up.line("is ready after")
	b := c.beacon("steady")
	id := c.submit("steady", b.script+"exec sleep 1000")
	process := handle(t, b.next().pid)
	c.awaitState(id, "running")
	crash := c.submit("crashes", "exit 3")
	c.await("a restart", func() bool { return c.workload(crash).Attempt > 1 })
	c.stop()
	awaitEnd(t, process)
}
