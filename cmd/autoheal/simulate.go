package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"autoheal.dev/autoheal/internal/sim"
)

// simulateCommand attacks the healer's core in virtual time; it needs no healer and touches nothing.
func simulateCommand(io stdio) *cobra.Command {
	cfg := sim.Config{}
	var replay uint64
	cmd := &cobra.Command{
		Use: "simulate", Short: "Attack the healer with faults in virtual time and check that it keeps its promises", Args: cobra.NoArgs,
		Long: `Simulate whole clusters in virtual time and attack the healer's own code with faults: crashes, partitions, full disks,
second leaders, people. Invariants are checked after every event; one that breaks is printed with its seed, the shortest
script that still breaks it, and the last lines of the transcript. The same seed is the same run on every machine.`,
		Example: "  autoheal simulate --seeds 200\n  autoheal simulate --replay 17 -v",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("replay") {
				cfg.Seeds, cfg.FromSeed, cfg.Exact = 1, replay, true
			}
			begun := time.Now()
			rep := sim.Run(cmd.Context(), cfg, progressBar(io))
			rep.Seconds = time.Since(begun).Round(time.Millisecond).Seconds()
			if err := renderSimulation(cmd, io.out, rep); err != nil {
				return err
			}
			if n := len(rep.Violations); n > 0 {
				return fmt.Errorf("%d of %d seeds break an invariant", n, rep.Seeds)
			}
			return cmd.Context().Err()
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Seeds, "seeds", 50, "how many clusters")
	f.Uint64Var(&cfg.FromSeed, "from-seed", 0, "the first seed")
	f.IntVar(&cfg.Nodes, "nodes", 0, "nodes of each cluster (default 4 to 16, by seed)")
	f.Float64Var(&cfg.Days, "days", 0.25, "virtual days of faults; the cluster then gets 10 hours to come to rest")
	f.Float64Var(&cfg.FaultsPerDay, "faults-per-day", 240, "faults in a virtual day")
	f.Uint64Var(&replay, "replay", 0, "run this one seed, as a violation names it")
	return cmd
}

// progressBar draws on a terminal only.
func progressBar(io stdio) func(done, of int) {
	if !io.terminal {
		return nil
	}
	const width = 40
	return func(done, of int) {
		n := width * done / max(of, 1)
		fmt.Fprintf(io.err, "\r[%s%s] %d of %d seeds", strings.Repeat("=", n), strings.Repeat(" ", width-n), done, of)
		if done == of {
			fmt.Fprintln(io.err)
		}
	}
}

func renderSimulation(cmd *cobra.Command, out io.Writer, rep sim.Report) error {
	if format, _ := cmd.Flags().GetString("output"); format == "json" {
		return writeJSON(out, rep)
	}
	for _, v := range rep.Violations {
		fmt.Fprintf(out, "seed %d breaks %s at step %d, %s after the beginning:\n  %s\n", v.Seed, v.Checker, v.Step, time.Duration(v.AtSeconds*float64(time.Second)).Round(time.Millisecond), v.Detail)
		if len(v.Script) > 0 {
			fmt.Fprintf(out, "  script:\n    %s\n  transcript:\n    %s\n", strings.Join(v.Script, "\n    "), strings.Join(v.Transcript, "\n    "))
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "seeds\t%d\nfaults injected\t%d\ninvariants checked\t%d times\nviolations\t%d\n", rep.Seeds, rep.Faults, rep.Checks, len(rep.Violations))
	fmt.Fprintf(w, "coverage\t%d of %d triples (fault, stage, point), %d of them 100 times or more\n", rep.Coverage.Triples, rep.Coverage.Of, rep.Coverage.Hundreds)
	for _, t := range rep.Coverage.Rarest {
		fmt.Fprintf(w, "  seldom\t%s × %s × %s: %d\n", t.Kind, t.Stage, t.Point, t.Count)
	}
	for _, hole := range slices.Sorted(maps.Keys(rep.Exceptions)) {
		fmt.Fprintf(w, "exceptions\t%s: %d times two copies, as documented\n", hole, rep.Exceptions[hole])
	}
	fmt.Fprintf(w, "time\t%.1f s\n", rep.Seconds)
	return w.Flush()
}
