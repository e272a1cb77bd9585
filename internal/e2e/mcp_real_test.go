package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// agent is an AI agent's side of `autoheal mcp`.
type agent struct {
	t       *testing.T
	session *mcp.ClientSession
}

func (c *cluster) agent(t *testing.T, args ...string) agent {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"mcp"}, args...)...)
	cmd.Stderr = os.Stderr
	s, err := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil).Connect(t.Context(), &mcp.CommandTransport{Command: cmd, TerminateDuration: patience}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return agent{t, s}
}

func (a agent) close() {
	a.t.Helper()
	if err := a.session.Close(); err != nil {
		a.t.Errorf("end of autoheal mcp: %v", err)
	}
}

// ask calls a tool and reads its structured result.
func ask[T any](a agent, name string, args map[string]any) T {
	a.t.Helper()
	r, err := a.session.CallTool(a.t.Context(), &mcp.CallToolParams{Name: name, Arguments: args})
	if err != nil || r.IsError {
		a.t.Fatalf("%s: %v %s", name, err, said(r))
	}
	raw, err := json.Marshal(r.StructuredContent)
	if err != nil {
		a.t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(raw, &out); err != nil {
		a.t.Fatalf("%s: %v", name, err)
	}
	return out
}

// said is what a tool says in words.
func said(r *mcp.CallToolResult) string {
	if r == nil || len(r.Content) == 0 {
		return ""
	}
	text, _ := r.Content[0].(*mcp.TextContent)
	return text.Text
}

// TestRealAgentHeals: an AI agent that is told to fix the cluster finds the dead node, has it healed and reports, with
// nothing but what the tools return. It ends with its client.
func TestRealAgentHeals(t *testing.T) {
	c := newCluster(t, "--ephemeral", "--nodes", "3",
		"--set", "autoHeal.node.probeInterval=500ms", "--set", "autoHeal.node.probeTimeout=300ms", "--set", "autoHeal.node.settle=500ms", "--set", "autoHeal.node.offlineGracePeriod=4s",
		"--set", "autoHeal.fence.selfStop=2s", "--set", "autoHeal.fence.margin=500ms", "--set", "autoHeal.fence.wait=3s",
		"--set", "autoHeal.verify.default=1s",
	)
	c.start()
	life := c.beacon("life")
	id := c.submit("job", life.script+"exec sleep 1000")
	life.next()
	on := call[struct{ NodeID string }](c, "workload_get", map[string]string{"workloadId": id}).NodeID
	c.killNode(on)

	a := c.agent(t, "--server", "unix:"+c.dir+"/api.sock")
	c.await("the node to be missed", func() bool {
		return ask[struct{ Nodes struct{ NotReady int } }](a, "cluster_status", nil).Nodes.NotReady == 1
	})
	silent := ask[struct{ Nodes []struct{ ID string } }](a, "node_list", map[string]any{"status": "not_ready"}).Nodes
	if len(silent) != 1 || silent[0].ID != on {
		t.Fatalf("not ready are %+v, want %s", silent, on)
	}
	report := ask[json.RawMessage](a, "heal_run", map[string]any{"timeoutSeconds": int(patience / time.Second)})
	if again := life.next(); again.attempt != 2 {
		t.Errorf("attempt %d follows the first", again.attempt)
	}
	alerts := ask[struct {
		Alerts []struct{ Name, Severity, Message string }
	}](a, "alert_list", nil).Alerts
	found := false
	for _, raised := range alerts {
		found = found || raised.Name == "auto-heal-complete" && raised.Severity == "info" && raised.Message == "Auto-heal: 1 nodes cordoned, 1 workloads restarted"
	}
	if !found {
		t.Errorf("report %s, alerts %+v", report, alerts)
	}
	a.close()
	c.reviveNode(on) // which clears away what the dead shims left
	c.stop()
}

// TestRealThrowAway: with --embedded the agent gets a cluster of its own, which ends with the connection.
func TestRealThrowAway(t *testing.T) {
	c := newCluster(t)
	a := c.agent(t, "--embedded")
	status := ask[struct {
		Nodes struct{ Ready int }
		GPUs  struct{ Simulated int }
	}](a, "cluster_status", nil)
	if status.Nodes.Ready != 3 || status.GPUs.Simulated != 24 {
		t.Errorf("%+v", status)
	}
	a.close()
}

// TestRealThrowAwayKilled: a throw-away cluster ends with its agent's process, however that ends, and leaves nothing behind.
func TestRealThrowAwayKilled(t *testing.T) {
	dir := t.TempDir()
	words, held, err := os.Pipe() // every process of the cluster holds its end
	if err != nil {
		t.Fatal(err)
	}
	defer words.Close()
	cmd := exec.Command(binary, "mcp", "--embedded")
	cmd.Env, cmd.Stderr = append(os.Environ(), "TMPDIR="+dir), held
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cmd.Start(), held.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, `{"jsonrpc":"2.0","id":1,"method":"ping"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it answers once the cluster is ready
		t.Fatal(err)
	}
	if left := entries(t, dir); len(left) != 1 {
		t.Errorf("its directory is not alone: %q", left)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if err := words.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(words); err != nil {
		t.Errorf("the cluster goes on: %v: %s", err, said)
	}
	if left := entries(t, dir); len(left) > 0 {
		t.Errorf("it leaves %q", left)
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range all {
		out = append(out, e.Name())
	}
	return out
}
