package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent"
	"autoheal.dev/autoheal/internal/agent/gpu"
	"autoheal.dev/autoheal/internal/app"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/surface/cli"
)

func dataDir(cmd *cobra.Command) string {
	flag, _ := cmd.Flags().GetString("data")
	return cli.DataDir(flag, os.Getenv)
}

// upCommand runs an embedded cluster.
func upCommand(std stdio) *cobra.Command {
	opt := app.UpOptions{}
	var set []string
	var shadow, leash bool
	cmd := &cobra.Command{
		Use: "up", Short: "Run a cluster on this machine: gateway, agents and healer", Args: cobra.NoArgs,
		Long: `Run a real cluster on this machine: an embedded gateway on loopback, agents as child processes, and the healer.

Workloads are processes in control groups of their own. Ctrl-C ends them in order, and the next 'up' on the same
directory starts them again; a second Ctrl-C kills them. If the healer itself is killed, agents and workloads live on
and are adopted by the next 'up'. SIGHUP reads the configuration again.`,
		Example: `  autoheal up
  autoheal up --nodes 5 --racks 2 --simulate-gpus 8:H100 --data ~/cluster
  autoheal up --set autoHeal.node.offlineGracePeriod=1m`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if opt.Set, err = settings(set); err != nil {
				return err
			}
			if shadow {
				opt.Set["autoHeal.shadow"] = "true"
			}
			if err := checkUp(opt); err != nil {
				return err
			}
			if opt.Self, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			opt.Data, err = filepath.Abs(dataDir(cmd))
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(opt.Data), 0o700); err != nil {
				return fmt.Errorf("make the data directory: %w", err)
			}
			if server, _ := cmd.Flags().GetString("server"); strings.HasPrefix(server, "unix:") {
				opt.Socket = strings.TrimPrefix(server, "unix:")
			}
			opt.Version, opt.Out, opt.Exit = version, std.out, os.Exit
			opt.Verbose, _ = cmd.Flags().GetBool("verbose")
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			if leash {
				return upOnLeash(cmd.Context(), std.in, reload, opt)
			}
			return app.Up(cmd.Context(), hurry(cmd.Context()), reload, opt)
		},
	}
	f := cmd.Flags()
	f.IntVar(&opt.Nodes, "nodes", 3, "number of nodes, named n1, n2, …")
	f.IntVar(&opt.Racks, "racks", 0, "spread the nodes over so many racks (failure domains)")
	f.StringVar(&opt.SimulateGPUs, "simulate-gpus", "", "give every node N simulated GPUs, as N or N:MODEL; they are labelled as simulated everywhere")
	f.StringVar(&opt.KernelLog, "kernel-log", "", "directory with a file per node (n1, n2, …) that stands for its kernel log")
	f.StringVar(&opt.WorkloadUser, "workload-user", "", "run workloads as this user (needs root)")
	f.Int64Var(&opt.MemoryMB, "node-memory", 0, "memory of each node in MiB (default: the machine's)")
	f.StringVar(&opt.CgroupPrefix, "cgroup", "", "control group for the nodes (default autoheal-HASH of the directory; none uses none)")
	f.BoolVar(&opt.Ephemeral, "ephemeral", false, "throw-away cluster: agents and workloads end with this process, however it ends")
	f.BoolVar(&shadow, "shadow", false, "watch, record and alert, and only write down what would be done: see autoheal shadow report")
	f.StringVar(&opt.Config, "config", "", "configuration file (default: config.yaml in the data directory)")
	f.StringArrayVar(&set, "set", nil, "set one configuration key, as KEY=VALUE; beats file and environment")
	f.StringArrayVar(&opt.NodeArgs, "node-arg", nil, "pass one more argument to every agent")
	f.BoolVar(&leash, "leash", false, "end when the standard input does, and remove the data directory: for programs that start a cluster of their own")
	_ = f.MarkHidden("leash") // it exists
	return cmd
}

// upOnLeash runs a cluster until the other end of its standard input is gone, however that ended, and removes its directory.
func upOnLeash(ctx context.Context, leash io.Reader, reload <-chan os.Signal, opt app.UpOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a read from the standard input cannot be ended: it goes with the process
		_, _ = io.Copy(io.Discard, leash)
		cancel()
	}()
	return errors.Join(app.Up(ctx, hurry(ctx), reload, opt), os.RemoveAll(opt.Data))
}

// checkUp finds what every agent of the cluster would refuse, over and over.
func checkUp(opt app.UpOptions) error {
	switch {
	case opt.Nodes < 1:
		return &cli.UsageError{Text: fmt.Sprintf("--nodes %d: a cluster needs at least one", opt.Nodes)}
	case opt.Racks < 0:
		return &cli.UsageError{Text: fmt.Sprintf("--racks %d: use 0 for none, or a number of racks", opt.Racks)}
	case opt.MemoryMB < 0:
		return &cli.UsageError{Text: fmt.Sprintf("--node-memory %d: use MiB, or 0 for what the machine has", opt.MemoryMB)}
	}
	if _, err := gpu.Simulate(cmp.Or(opt.SimulateGPUs, "0"), "n1"); err != nil {
		return &cli.UsageError{Text: "--simulate-gpus: " + err.Error()}
	}
	if opt.KernelLog != "" {
		if info, err := os.Stat(opt.KernelLog); err != nil || !info.IsDir() {
			return &cli.UsageError{Text: fmt.Sprintf("--kernel-log %s: expected a directory, in which the file n1 stands for the log of node n1", opt.KernelLog)}
		}
	}
	return agent.CheckUser(opt.WorkloadUser)
}

// settings reads KEY=VALUE pairs.
func settings(pairs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok {
			return nil, &cli.UsageError{Text: fmt.Sprintf("--set %s: write KEY=VALUE", p)}
		}
		out[k] = v
	}
	return out, nil
}

// nodeCommand runs one node agent.
func nodeCommand(io stdio) *cobra.Command {
	opt := agent.Options{}
	var labels string
	var embedded bool
	cmd := &cobra.Command{
		Use: "node", Short: "Run the agent of one node", Args: cobra.NoArgs,
		Long: `Run the agent of one node: it joins a gateway, starts and stops workloads, and reports what happens.

Workloads run under shims of their own and live on when the agent ends; the next agent adopts them.`,
		Example: `  autoheal node --gateway wss://gateway:18789 --token-file token --name gpu-7`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range []string{"gateway", "token-file", "name"} {
				if !cmd.Flags().Changed(name) {
					return &cli.UsageError{Text: "--" + name + " is needed"}
				}
			}
			if err := autoheal.CheckName(opt.Name); err != nil {
				return &cli.UsageError{Text: "--" + err.Error()}
			}
			var err error
			if opt.Labels, err = nodeLabels(labels); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			opt.ShimCommand = []string{self, "shim"}
			if mark := os.Getenv("AUTOHEAL_TEST_RUN"); mark != "" {
				opt.ShimEnv = []string{"AUTOHEAL_TEST_RUN=" + mark}
			}
			opt.Data, opt.Version = dataDir(cmd), version
			if embedded {
				opt.HealerLock = filepath.Join(opt.Data, "lock")
			}
			opt.Clock = clock.Real{}
			opt.Logger = slog.New(slog.NewTextHandler(io.err, &slog.HandlerOptions{Level: slog.LevelInfo}))
			err = agent.Run(cmd.Context(), opt)
			if errors.Is(err, cmd.Context().Err()) {
				return nil
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&opt.Gateway, "gateway", "", "address of the gateway, ws://HOST:PORT")
	f.StringVar(&opt.TokenFile, "token-file", "", "file with the node token; readable by its owner only")
	f.StringVar(&opt.Name, "name", "", "name of this node; bound to its key at the first approval")
	f.StringVar(&opt.SimulateGPUs, "simulate-gpus", "", "report N simulated GPUs, as N or N:MODEL, and ask no driver")
	f.StringVar(&opt.SimulateBoots, "simulate-boots", "", "directory in which a file of the node's name stands for its boots: other content, another boot")
	f.StringVar(&opt.KernelLog, "kernel-log", "", "file that stands for the kernel log (default /dev/kmsg)")
	f.StringVar(&labels, "labels", "", "labels of the node, as k=v,k=v")
	f.StringVar(&opt.WorkloadUser, "workload-user", "", "run workloads as this user (needs root)")
	f.Int64Var(&opt.MemoryMB, "memory", 0, "memory that workloads may use in all, in MiB (default: the machine's)")
	f.Float64Var(&opt.CPUs, "cpus", 0, "cores that workloads may use in all (default: the machine's)")
	f.StringVar(&opt.CgroupPrefix, "cgroup", "", "control group for the nodes of this machine (default autoheal; none uses none)")
	f.StringVar(&opt.ProbeListen, "probe-listen", "", "where other nodes find out whether they reach this one, as HOST:PORT, or off (default: a free port; of loopback only if the gateway is on this machine)")
	f.BoolVar(&opt.NoPrograms, "no-programs", false, "run none of the programs that the healer's configuration names for resets and tests")
	f.IntVar(&opt.EphemeralFD, "ephemeral-fd", 0, "inherited pipe: when it closes, end everything")
	f.BoolVar(&embedded, "embedded", false, "the healer is on this machine and in the same data directory: a refused connection renews the lease while no healer runs")
	return cmd
}

func nodeLabels(s string) (map[string]string, error) {
	out := map[string]string{}
	if s == "" {
		return out, nil
	}
	for pair := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, &cli.UsageError{Text: fmt.Sprintf("--labels %q: write k=v,k=v", s)}
		}
		out[k] = v
	}
	return out, nil
}
