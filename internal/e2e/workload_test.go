package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/leakcheck"
)

// workload is what a test reads of workload_get.
type workload struct {
	ID       string
	Name     string
	State    string
	NodeID   string
	Error    string
	ExitCode *int
	Attempt  int
	Restarts int
	Desired  string
	Incident *string
	Paused   *struct{ Reason string }
	Lineage  []struct {
		Attempt int
		State   string
		NodeID  string
		Exit    *struct {
			Code   int
			Signal string
			Reason string
			Detail string
		}
	}
}

// incident is what a test reads of incident_list.
type incident struct {
	ID      string
	Kind    string
	Phase   string
	Subject struct{ Kind, ID string }
	EndedAt *time.Time
}

// node is what a test reads of node_list.
type node struct {
	ID         string
	Status     string
	CordonedBy []string
	Incident   *string
}

func (c *cluster) workload(id string) workload {
	c.t.Helper()
	return call[workload](c, "workload_get", map[string]string{"workloadId": id})
}

func (c *cluster) incidents() []incident {
	c.t.Helper()
	return call[struct{ Incidents []incident }](c, "incident_list", nil).Incidents
}

func (c *cluster) nodes() []node {
	c.t.Helper()
	return call[struct{ Nodes []node }](c, "node_list", nil).Nodes
}

// untouched fails the test when the healer did anything or a node is not as at the start.
func (c *cluster) untouched() {
	c.t.Helper()
	if all := c.incidents(); len(all) > 0 {
		c.t.Errorf("incidents without a failure: %+v", all)
	}
	for _, n := range c.nodes() {
		if n.Status != "ready" || len(n.CordonedBy) > 0 {
			c.t.Errorf("node %+v is not as it was", n)
		}
	}
}

// spec is a workload of /bin/sh that bears the marks of the test.
func (c *cluster) spec(name, script string) map[string]any {
	return map[string]any{
		"name": name, "image": "host", "command": []string{"/bin/sh", "-c", script},
		"env": map[string]string{leakcheck.MarkerEnv: c.run.Marker},
	}
}

// submit starts a script and returns the workload's ID.
func (c *cluster) submit(name, script string) string {
	c.t.Helper()
	return c.submitSpec(c.spec(name, script))
}

func (c *cluster) submitSpec(spec map[string]any) string {
	c.t.Helper()
	return call[struct{ Workload struct{ ID string } }](c, "workload_submit", spec).Workload.ID
}

func (c *cluster) awaitState(id, state string) workload {
	c.t.Helper()
	var w workload
	c.await(fmt.Sprintf("workload %s to be %s", id, state), func() bool { w = c.workload(id); return w.State == state })
	return w
}

// beacon is a pipe by which workloads say that they run. Its script is to be put before what they do.
type beacon struct {
	c      *cluster
	file   *os.File
	lines  *bufio.Reader
	script string
}

// beat is one sign of life.
type beat struct {
	attempt, pid int
}

func (c *cluster) beacon(name string) *beacon {
	c.t.Helper()
	path := filepath.Join(filepath.Dir(c.dir), name+".beacon")
	if err := unix.Mkfifo(path, 0o666); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		c.t.Fatal(err)
	}
	// Opened for both ways, it neither waits for a writer nor ends with one.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = f.Close()
		_ = os.Remove(path)
	})
	return &beacon{c: c, file: f, lines: bufio.NewReader(f), script: fmt.Sprintf("echo $AUTOHEAL_ATTEMPT $$ >%s; ", path)}
}

// next waits for the next sign of life.
func (b *beacon) next() beat {
	b.c.t.Helper()
	if err := b.file.SetReadDeadline(time.Now().Add(patience)); err != nil {
		b.c.t.Fatal(err)
	}
	line, err := b.lines.ReadString('\n')
	if err != nil {
		b.c.t.Fatalf("wait for a sign of life: %v", err)
	}
	attempt, pid, _ := strings.Cut(strings.TrimSpace(line), " ")
	a, errA := strconv.Atoi(attempt)
	p, errP := strconv.Atoi(pid)
	if errA != nil || errP != nil {
		b.c.t.Fatalf("sign of life %q", line)
	}
	return beat{a, p}
}

// quiet fails the test when there was another sign of life.
func (b *beacon) quiet() {
	b.c.t.Helper()
	if err := b.file.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		b.c.t.Fatal(err)
	}
	if line, err := b.lines.ReadString('\n'); err == nil {
		b.c.t.Errorf("another sign of life: %q", line)
	}
}

// agentPID is the process that up noted for a node's agent.
func (c *cluster) agentPID(node string) int {
	c.t.Helper()
	pid, err := strconv.Atoi(readFile(c.t, filepath.Join(c.dir, "agents", node+".pid")))
	if err != nil {
		c.t.Fatal(err)
	}
	return pid
}
