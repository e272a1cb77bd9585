package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/drill"
	"autoheal.dev/autoheal/internal/surface/cli"
)

// drillCommand runs drills.
func drillCommand(io stdio) *cobra.Command {
	var all, list, production, strict, keep bool
	cmd := &cobra.Command{
		Use: "drill [NAME…]", Short: "Break a throw-away cluster in every way that is healed, and watch",
		Args: cobra.ArbitraryArgs,
		Long: `Run drills: each makes a real cluster of its own on this machine, breaks it by real signals to real processes, and
checks that it is healed and that nothing else was touched. GPUs are simulated. Everything is cleaned up, also after Ctrl-C
and after a kill. The exit code is 0 only if every drill ended as expected.`,
		Example: `  autoheal drill --list
  autoheal drill --all
  autoheal drill node-crash crash-once
  autoheal drill --all --production-defaults --strict -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				return listDrills(io)
			}
			drills := drill.All()
			switch {
			case all && len(args) > 0:
				return &cli.UsageError{Text: "name drills or say --all, not both"}
			case !all && len(args) == 0:
				return &cli.UsageError{Text: "name the drills to run, or say --all (--list shows them)"}
			case !all:
				var err error
				if drills, err = drill.Find(args); err != nil {
					return &cli.UsageError{Text: err.Error()}
				}
			}
			format, _ := cmd.Flags().GetString("output")
			if format != "table" && format != "json" {
				return &cli.UsageError{Text: fmt.Sprintf("--output %q: expected table or json", format)}
			}
			opt := drill.Options{
				Version: version, Profile: drill.Short(), Strict: strict, Keep: keep, Soak: os.Getenv("AUTOHEAL_SOAK") == "1",
				Clock: clock.NewSteady(), Err: io.err, Live: io.out, Terminal: io.terminal,
			}
			if production {
				opt.Profile = drill.Production()
			}
			if format == "json" {
				opt.Live, opt.Terminal = io.err, false
			}
			var err error
			if opt.Self, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			return runDrills(cmd, io, opt, drills, format)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "run every drill")
	f.BoolVar(&list, "list", false, "list the drills and run none")
	f.BoolVar(&production, "production-defaults", false, "run with the product's own times instead of short ones; takes an hour")
	f.BoolVar(&strict, "strict", false, "also fail when an objective was missed or the healer noticed a stall")
	f.BoolVar(&keep, "keep", false, "leave the directories of the clusters, to look into their journals and logs")
	cmd.AddCommand(drillJanitorCommand(io), drillWorkloadCommand(io), drillServeCommand(io), drillRankCommand(io))
	return cmd
}

func runDrills(cmd *cobra.Command, io stdio, opt drill.Options, drills []drill.Drill, format string) error {
	report, err := drill.Run(cmd.Context(), opt, drills)
	if format == "json" {
		err = errors.Join(err, report.WriteJSON(io.out))
	} else if len(report.Drills) > 0 {
		fmt.Fprintln(io.out)
		err = errors.Join(err, report.WriteTable(io.out))
	}
	if err != nil {
		return err
	}
	return report.Err()
}

func listDrills(io stdio) error {
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DRILL\tKIND\tEXPECTED\tWHAT IT DOES")
	for _, d := range drill.All() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Name, d.Kind, d.Expected, d.Doc)
	}
	return w.Flush()
}

// drillJanitorCommand cleans up after one cluster once its drill has ended, however it ended.
func drillJanitorCommand(io stdio) *cobra.Command {
	j := drill.Janitor{Clock: clock.Real{}, Proc: "/proc"}
	cmd := &cobra.Command{
		Use: "janitor", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			j.Dir = filepath.Clean(j.Dir)
			return j.Serve(io.in)
		},
	}
	cmd.Flags().StringVar(&j.Dir, "dir", "", "directory of the cluster")
	cmd.Flags().StringVar(&j.Cgroup, "cgroup", "", "control group of the cluster")
	return cmd
}

// drillServeCommand is a service that drills make hang.
func drillServeCommand(io stdio) *cobra.Command {
	s := drill.Server{Out: io.out}
	cmd := &cobra.Command{
		Use: "serve", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.Run(cmd.Context()) },
	}
	cmd.Flags().IntVar(&s.Port, "port", 0, "port of the loopback")
	return cmd
}

// drillWorkloadCommand is what workloads of drills run where a shell is too coarse.
func drillWorkloadCommand(io stdio) *cobra.Command {
	h := drill.Hog{Clock: clock.Real{}, Out: io.out}
	cmd := &cobra.Command{
		Use: "hog", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return h.Run(cmd.Context()) },
	}
	cmd.Flags().Int64Var(&h.MiB, "mib", 0, "how much memory to hold")
	cmd.Flags().StringVar(&h.After, "after", "", "wait until this file exists")
	cmd.Flags().StringVar(&h.Done, "done", "", "make this file when all is taken")
	return cmd
}

// drillRankCommand is one rank of a drill's gang.
func drillRankCommand(io stdio) *cobra.Command {
	r := drill.Rank{Clock: clock.Real{}, Out: io.out, Generation: os.Getenv("AUTOHEAL_GENERATION"), Node: os.Getenv("AUTOHEAL_NODE")}
	cmd := &cobra.Command{
		Use: "rank", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err1, err2 error
			r.Number, err1 = strconv.Atoi(os.Getenv("RANK"))
			r.Size, err2 = strconv.Atoi(os.Getenv("WORLD_SIZE"))
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("read RANK and WORLD_SIZE: %w", err)
			}
			return r.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&r.Dir, "dir", "", "where the ranks of a generation find each other")
	cmd.Flags().StringVar(&r.Stall, "stall", "", "file that names the node on which answering stops")
	cmd.Flags().DurationVar(&r.Timeout, "timeout", 4*time.Second, "of one collective")
	cmd.Flags().BoolVar(&r.Hangs, "hangs", false, "live on after giving up")
	return cmd
}
