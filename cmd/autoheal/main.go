// Command autoheal heals GPU clusters: it detects failures, recovers from them, proves it, and writes the post-mortem.
//
// It owns the command line of what needs no running healer (up, node, shim, drill, classify, explain, config, journal) and nothing imports
// it; the commands that talk to a healer come from internal/surface/cli. It never does the work itself: each command hands
// over to the package that does.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/surface/cli"
)

// version is stamped by the build.
var version string

// stdio is where a run reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	terminal bool
}

func main() {
	// A shim lives as long as its workload: it takes the shortest way.
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(shim.Main(os.Args[2:], os.Stderr))
	}
	if version == "" {
		version = "devel"
	}
	os.Exit(run(context.Background(), os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr, term.IsTerminal(int(os.Stdout.Fd()))}))
}

// run is the whole program for one command line.
func run(ctx context.Context, args []string, io stdio) int {
	deps := cli.Deps{Stdin: io.in, Stdout: io.out, Stderr: io.err, Env: os.Getenv, Now: time.Now, IsTerminal: io.terminal}
	root := &cobra.Command{
		Use:   "autoheal",
		Short: "Detect failures in GPU clusters, recover from them, prove it, and write the post-mortem",
		Long: `autoheal heals Clawbernetes GPU clusters: nodes that go silent or break, GPUs that fail, partitions of the network,
workloads that crash, hang or stall, and a cluster without room for what is critical.

Try it:
  autoheal up                   a real cluster of three nodes on this machine
  autoheal submit -f spec.yaml  run something on it
  autoheal drill --all          break a throw-away cluster in every way that is healed, and watch`,
		SilenceUsage: true, SilenceErrors: true,
	}
	cli.AddGlobalFlags(root)
	root.AddCommand(upCommand(io), nodeCommand(io), configCommand(io), journalCommand(io), drillCommand(io), simulateCommand(io), classifyCommand(io), explainCommand(io), mcpCommand(io, deps), versionCommand(io))
	root.AddCommand(cli.Commands(deps)...)
	refuseUnknown(root)
	ctx, stop := interruptible(ctx)
	defer stop()
	return cli.Execute(ctx, root, deps, args)
}

// hurryKey carries the context that ends at the second interrupt.
type hurryKey struct{}

// interruptible ends the returned context at the first SIGINT or SIGTERM, and the one that hurry returns at the second.
func interruptible(parent context.Context) (context.Context, func()) {
	hurry, hurryNow := context.WithCancel(parent)
	ctx, cancel := context.WithCancel(context.WithValue(parent, hurryKey{}, hurry))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for _, end := range []func(){cancel, hurryNow} {
			select {
			case <-signals:
				end()
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
		hurryNow()
	}
}

func hurry(ctx context.Context) context.Context {
	if h, ok := ctx.Value(hurryKey{}).(context.Context); ok {
		return h
	}
	return ctx
}

func versionCommand(io stdio) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printAs(cmd, io.out, map[string]string{"version": version}, func() error {
				_, err := fmt.Fprintln(io.out, "autoheal", version)
				return err
			})
		},
	}
}
