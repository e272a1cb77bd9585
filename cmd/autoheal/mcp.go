package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"autoheal.dev/autoheal/internal/surface/cli"
	"autoheal.dev/autoheal/internal/surface/client"
	"autoheal.dev/autoheal/internal/surface/mcp"
)

func mcpCommand(stdio stdio, deps cli.Deps) *cobra.Command {
	var embedded bool
	cmd := &cobra.Command{
		Use: "mcp", Short: "Offer the verbs to an AI agent over MCP, on standard input and output",
		Long: `Offer the verbs to an AI agent over the Model Context Protocol, on standard input and output: every verb as a tool with its
schema and effect, the prompts heal and investigate, and incidents, post-mortems and the configuration as resources.

It talks to a running healer (--server, --data), which may also be started later. What an agent asks for passes the same
gates as what the healer does by itself; where that needs approval, the call is held until a person gives it.`,
		Example: "  autoheal mcp --data ~/cluster\n  autoheal mcp --embedded\n  openclaw mcp add autoheal --command autoheal --arg mcp",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flag := func(name string) string { return cmd.Flag(name).Value.String() }
			addr := cli.ServerAddr(flag("server"), flag("data"), deps.Env)
			ctx := cmd.Context()
			if embedded {
				if flag("server") != "" || flag("data") != "" {
					return errors.New("--embedded makes a cluster of its own: leave out --server and --data")
				}
				c, err := startThrowAway(ctx, stdio.err)
				if err != nil {
					return err
				}
				defer c.stop()
				addr = c.addr
			}
			return serveMCP(ctx, addr, stdio)
		},
	}
	cmd.Flags().BoolVar(&embedded, "embedded", false, "start a throw-away cluster with simulated GPUs, which ends with this process")
	return cmd
}

func serveMCP(ctx context.Context, addr string, stdio stdio) error {
	c, err := client.New(addr)
	if err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	defer c.Close()
	server, err := mcp.NewServer(c.ForAgent("mcp"), version)
	if err != nil {
		return err
	}
	err = server.Run(ctx, &mcp.Stdio{In: stdio.in, Out: stdio.out})
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil // the agent has gone, or an interrupt
	}
	if err != nil {
		return fmt.Errorf("serve MCP: %w", err)
	}
	return nil
}

// throwAway is a cluster of its own, in a process of its own and a directory that goes with it.
type throwAway struct {
	addr  string
	cmd   *exec.Cmd
	leash io.Closer // its standard input: however this process ends, the cluster does, too
	done  chan error
}

// Of a throw-away cluster: its nodes, and how long they may take to answer.
const (
	throwAwayNodes = 3
	throwAwayReady = time.Minute
)

func startThrowAway(ctx context.Context, errOut io.Writer) (*throwAway, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	dir, err := os.MkdirTemp("", "autoheal-mcp-")
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	t := &throwAway{addr: "unix:" + filepath.Join(dir, "api.sock"), done: make(chan error, 1)}
	t.cmd = exec.Command(self, "up", "--leash", "--ephemeral", "--data", dir, "--nodes", strconv.Itoa(throwAwayNodes), "--simulate-gpus", "8:H100")
	t.cmd.Stdout, t.cmd.Stderr = errOut, errOut // the standard output is the protocol's
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if t.leash, err = t.cmd.StdinPipe(); err == nil {
		err = t.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), os.RemoveAll(dir))
	}
	go func() { t.done <- t.cmd.Wait() }()
	if err := t.awaitReady(ctx); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

func (t *throwAway) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, throwAwayReady)
	defer cancel()
	c, err := client.New(t.addr)
	if err != nil {
		return fmt.Errorf("start cluster: %w", err)
	}
	defer c.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var status struct {
			Nodes struct{ Ready int } `json:"nodes"`
		}
		var raw json.RawMessage
		if err := c.Call(ctx, "cluster_status", nil, &raw); err == nil && json.Unmarshal(raw, &status) == nil && status.Nodes.Ready == throwAwayNodes {
			return nil
		}
		select {
		case err := <-t.done:
			t.done <- err
			return fmt.Errorf("start cluster: it ended: %w; its words are on the standard error", err)
		case <-ctx.Done():
			return fmt.Errorf("start cluster: it is not ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// stop ends the cluster in order; it removes its directory.
func (t *throwAway) stop() {
	_ = t.leash.Close() // one that has ended is as good
	<-t.done
}
