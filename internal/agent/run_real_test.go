package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

func writeToken(t *testing.T, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("s3cret\n"), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRealTokenFile(t *testing.T) {
	if token, err := readToken(writeToken(t, 0o600)); err != nil || token != "s3cret" {
		t.Errorf("%q, %v", token, err)
	}
	open := writeToken(t, 0o644)
	if _, err := readToken(open); err == nil || !strings.Contains(err.Error(), "chmod 600 "+open) {
		t.Errorf("readable by others: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "none")
	if _, err := readToken(missing); err == nil || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "node.token") {
		t.Errorf("missing: %v", err)
	}
}

// cluster is a gateway with one agent that runs as cmd/autoheal runs it.
type cluster struct {
	t    *testing.T
	op   openclaw.Operator
	node string
	opts Options
	last *nodeproto.PollResponse
	key  int
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	g := gateway.New(gateway.Options{
		Listen: "127.0.0.1:0", Token: "s3cret", AllowCommands: nodeproto.Commands(),
		AutoApprove: func(string, string, []string) bool { return true },
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{t: t, op: g.Operator(), opts: testOptions(t)}
	c.opts.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	c.opts.Gateway, c.opts.TokenFile = g.URL(), writeToken(t, 0o600)
	return c
}

// run starts the agent and returns what ends it and gives its error.
func (c *cluster) run(opts Options) (cancel func(), done <-chan error) {
	c.await("the gateway has let go of the agent before", func(n openclaw.NodeInfo) bool { return n.Connected }, false)
	ctx, stop := context.WithCancel(context.Background())
	c.t.Cleanup(stop)
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, opts) }()
	c.awaitNode()
	return stop, ended
}

func (c *cluster) awaitNode() {
	c.t.Helper()
	c.await("the agent joins", func(n openclaw.NodeInfo) bool {
		c.node = n.NodeID
		return n.Connected && len(n.Commands) == len(nodeproto.Commands())
	}, true)
}

// await waits until some node is as asked for, or none is.
func (c *cluster) await(what string, is func(openclaw.NodeInfo) bool, want bool) {
	c.t.Helper()
	events, unsubscribe := c.op.Events()
	defer unsubscribe()
	deadline := time.After(patience)
	for {
		nodes, err := c.op.NodeList(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		if slices.ContainsFunc(nodes, is) == want {
			return
		}
		select {
		case <-events:
		case <-deadline:
			c.t.Fatalf("still waiting until %s: %+v", what, nodes)
		}
	}
}

func call[Out any](c *cluster, command string, in any) (Out, error) {
	c.t.Helper()
	params, err := json.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	c.key++
	var out Out
	payload, err := c.op.Invoke(c.t.Context(), openclaw.InvokeParams{
		NodeID: c.node, Command: command, Params: params, Timeout: patience, IdempotencyKey: command + strings.Repeat("+", c.key),
	})
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(payload, &out); err != nil {
		c.t.Fatalf("%s: %s", err, payload)
	}
	return out, nil
}

// poll asks for what is new.
func (c *cluster) poll() nodeproto.PollResponse {
	c.t.Helper()
	req := nodeproto.PollRequest{Epoch: 1, WaitMS: 10_000, SelfStopMS: 3_600_000}
	if c.last != nil {
		req.Life, req.Ack, req.After = c.last.Life, c.last.N, c.last.Seq
	}
	r, err := call[nodeproto.PollResponse](c, nodeproto.CmdPoll, req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.last = &r
	return r
}

// awaitState polls until the attempt is told to be in a state.
func (c *cluster) awaitState(id string, state nodeproto.AttemptState) nodeproto.AttemptStatus {
	c.t.Helper()
	for begun := time.Now(); time.Since(begun) < patience; {
		r := c.poll()
		for _, w := range r.Workloads {
			if string(w.Workload) == id && w.State == state {
				return w
			}
		}
		for _, ch := range r.Changes {
			if w := ch.Workload; w != nil && string(w.Workload) == id && w.State == state {
				return *w
			}
		}
	}
	c.t.Fatalf("%s does not become %s", id, state)
	return nodeproto.AttemptStatus{}
}

// TestRealAgentOverGateway is the whole way: join, list, start, be restarted, go on, stop, forget.
func TestRealAgentOverGateway(t *testing.T) {
	c := startCluster(t)
	cancel, done := c.run(c.opts)
	first := c.poll()
	if !first.Full || first.Node == nil || len(first.Node.GPUs) != 2 || !first.Node.GPUs[0].Simulated || first.Node.Name != "n1" {
		t.Fatalf("first listing %+v", first)
	}
	c.poll() // acknowledges the first: the lease begins
	exe := c.opts.ShimCommand[0]
	req := nodeproto.StartRequest{
		Epoch: 1, Workload: "wl-1", Attempt: 1, Generation: "wl-1/1", AtMostOnce: true,
		Spec: autoheal.Spec{Name: "wl-1", Image: autoheal.ImageHost, Command: []string{exe, "workload", "idle"}},
	}
	if a, err := call[nodeproto.Accepted](c, nodeproto.CmdStart, req); err != nil || !a.Accepted {
		t.Fatalf("start: %+v, %v", a, err)
	}
	before := c.awaitState("wl-1", nodeproto.AttemptRunning)
	if s, err := call[nodeproto.StatusResponse](c, nodeproto.CmdStatus, nodeproto.StatusRequest{Epoch: 1}); err != nil || s.LeaseLeftMS <= 0 || s.N == 0 {
		t.Errorf("status %+v, %v", s, err)
	}

	cancel()
	if err := <-done; err != nil {
		t.Fatalf("agent ended with %v", err)
	}
	cancel, done = c.run(c.opts)
	after := c.awaitState("wl-1", nodeproto.AttemptRunning)
	if after.Pid != before.Pid || c.last.Life == first.Life {
		t.Errorf("after the restart of the agent %+v, before %+v", after, before)
	}

	stop := nodeproto.StopRequest{Epoch: 1, Workload: "wl-1", Attempt: 1, GraceMS: 60_000, Reason: autoheal.ExitStopped}
	if a, err := call[nodeproto.Accepted](c, nodeproto.CmdStop, stop); err != nil || !a.Accepted {
		t.Fatalf("stop: %+v, %v", a, err)
	}
	if s := c.awaitState("wl-1", nodeproto.AttemptExited); s.Exit.Reason != autoheal.ExitStopped || s.Exit.Signal != "SIGTERM" {
		t.Errorf("exit %+v", s.Exit)
	}
	if col, err := call[nodeproto.CollectResponse](c, nodeproto.CmdCollect, nodeproto.CollectRequest{Epoch: 1, Workload: "wl-1"}); err != nil ||
		!strings.Contains(col.Texts["gpu"], "SIMULATED") || !strings.Contains(col.Texts["processes"], "PROGRAM") {
		t.Errorf("evidence %v, %v", col.Texts, err)
	}
	stop.Epoch = 0
	_, err := call[nodeproto.Accepted](c, nodeproto.CmdStop, stop)
	var refused *openclaw.Error
	if !errors.As(err, &refused) {
		t.Errorf("a stale epoch: %v", err)
	} else if ne, ok := refused.Details.NodeError(); !ok || ne.Code != nodeproto.CodeStaleEpoch {
		t.Errorf("a stale epoch: %+v", refused)
	}
	stop.Epoch, stop.Forget = 1, true
	if _, err := call[nodeproto.Accepted](c, nodeproto.CmdStop, stop); err != nil {
		t.Fatal(err)
	}
	c.last = nil
	if r := c.poll(); len(r.Workloads) != 0 {
		t.Errorf("listing after forget: %+v", r.Workloads)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("agent ended with %v", err)
	}
	removeGroups(t, c.opts)
}

// TestRealThrowAwayClusterEndsWithItsParent closes the inherited pipe, as the parent's death does.
func TestRealThrowAwayClusterEndsWithItsParent(t *testing.T) {
	c := startCluster(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := dup(r)
	if err != nil {
		t.Fatal(err)
	}
	c.opts.EphemeralFD = fd
	_, done := c.run(c.opts)
	c.poll()
	c.poll()
	exe := c.opts.ShimCommand[0]
	if _, err := call[nodeproto.Accepted](c, nodeproto.CmdStart, nodeproto.StartRequest{
		Epoch: 1, Workload: "wl-1", Attempt: 1,
		Spec: autoheal.Spec{Name: "wl-1", Image: autoheal.ImageHost, Command: []string{exe, "workload", "idle"}},
	}); err != nil {
		t.Fatal(err)
	}
	s := c.awaitState("wl-1", nodeproto.AttemptRunning)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("agent ended with %v", err)
	}
	if alive(s.Pid) {
		t.Errorf("process %d lives on", s.Pid)
	}
	removeGroups(t, c.opts)
}
