package main

import (
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"autoheal.dev/autoheal/internal/sim"
	"autoheal.dev/autoheal/internal/surface/cli"
)

// mostBase bounds the number that a user gives a seed: above it stands what the run is steered towards.
const mostBase = 1 << 40

// simulateCommand attacks the healer's core in virtual time; it needs no healer and touches nothing.
func simulateCommand(io stdio) *cobra.Command {
	cfg := sim.Config{}
	var replay uint64
	cmd := &cobra.Command{
		Use: "simulate", Short: "Attack the healer with faults in virtual time and check that it keeps its promises", Args: cobra.NoArgs,
		Long: `Simulate whole clusters in virtual time and attack the healer's own code with faults: crashes, partitions, full disks,
second leaders, people. Invariants are checked after every event; one that breaks is printed with its seed, the shortest
script that still breaks it, and the last lines of the transcript. The same seed is the same run on every machine.

The number of a seed that was steered towards what was seldom seen names what it was steered to: use it as it is printed.
An interrupt ends the simulation and prints what was done so far.`,
		Example: "  autoheal simulate --seeds 200\n  autoheal simulate --faults 1000000\n  autoheal simulate --replay 17",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSimulation(cmd, cfg); err != nil {
				return err
			}
			if cmd.Flags().Changed("replay") {
				cfg.Seeds, cfg.FromSeed, cfg.Exact = 1, replay, true
			}
			return simulate(cmd, io, cfg)
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Seeds, "seeds", 50, "how many clusters")
	f.IntVar(&cfg.Faults, "faults", 0, "instead of --seeds: go on until so many faults were injected")
	f.Uint64Var(&cfg.FromSeed, "from-seed", 0, "the first seed")
	f.IntVar(&cfg.Nodes, "nodes", 0, "nodes of each cluster (default 4 to 16, by seed)")
	f.Float64Var(&cfg.Days, "days", 0.25, "virtual days of faults; the cluster then gets 10 hours to come to rest")
	f.Float64Var(&cfg.FaultsPerDay, "faults-per-day", 480, "faults in a virtual day")
	f.Uint64Var(&replay, "replay", 0, "run this one seed, as a violation names it")
	return cmd
}

// checkSimulation refuses what cannot be simulated, and says what can.
func checkSimulation(cmd *cobra.Command, cfg sim.Config) error {
	refuse := func(format string, args ...any) error { return &cli.UsageError{Text: fmt.Sprintf(format, args...)} }
	changed := cmd.Flags().Changed
	switch format, _ := cmd.Flags().GetString("output"); {
	case format != "" && format != "table" && format != "json":
		return refuse("--output %q: expected table or json", format)
	case cfg.Seeds < 1:
		return refuse("--seeds %d: use 1 or more", cfg.Seeds)
	case changed("faults") && cfg.Faults < 1:
		return refuse("--faults %d: use 1 or more, or --seeds", cfg.Faults)
	case changed("faults") && changed("seeds"):
		return refuse("say --seeds or --faults, not both")
	case changed("replay") && (changed("seeds") || changed("from-seed") || changed("faults")):
		return refuse("--replay runs one seed: leave --seeds, --from-seed and --faults out")
	case cfg.FromSeed >= mostBase:
		return refuse("--from-seed %d: use less than %d, or --replay for a seed that was printed", cfg.FromSeed, uint64(mostBase))
	case changed("nodes") && (cfg.Nodes < 2 || cfg.Nodes > 1000):
		return refuse("--nodes %d: use 2 to 1000", cfg.Nodes)
	case !(cfg.Days > 0 && cfg.Days <= 365): // not a number, too
		return refuse("--days %v: use more than 0, at most 365", cfg.Days)
	case !(cfg.FaultsPerDay > 0 && cfg.FaultsPerDay <= 100_000):
		return refuse("--faults-per-day %v: use more than 0, at most 100000", cfg.FaultsPerDay)
	}
	return nil
}

func simulate(cmd *cobra.Command, io stdio, cfg sim.Config) error {
	// A run makes much garbage and keeps little: memory for a quarter of the collections is well spent.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	begun := time.Now()
	rep := sim.Run(cmd.Context(), cfg, simulationProgress(io, cfg, begun))
	rep.Seconds = time.Since(begun).Round(time.Millisecond).Seconds()
	if err := renderSimulation(cmd, io.out, rep); err != nil {
		return err
	}
	if n := len(rep.Violations); n > 0 {
		return fmt.Errorf("%d of %d seeds break an invariant", n, rep.Seeds)
	}
	if cmd.Context().Err() != nil {
		return fmt.Errorf("interrupted after %d seeds and %d faults, which broke nothing", rep.Seeds, rep.Faults)
	}
	return nil
}

// simulationProgress draws a bar on a terminal. Elsewhere it says at once when an invariant breaks: a long run is not waited for.
func simulationProgress(io stdio, cfg sim.Config, begun time.Time) func(*sim.Report) {
	if !io.terminal {
		told := 0
		return func(rep *sim.Report) {
			for ; told < len(rep.Violations); told++ {
				v := rep.Violations[told]
				fmt.Fprintf(io.err, "seed %d breaks %s after %d faults: %s\n", v.Seed, v.Checker, rep.Faults, v.Detail)
			}
		}
	}
	const width = 40
	return func(rep *sim.Report) {
		done, of, what := rep.Seeds, cfg.Seeds, "seeds"
		if cfg.Faults > 0 {
			done, of, what = rep.Faults, cfg.Faults, "faults"
		}
		n := width * min(done, of) / max(of, 1)
		fmt.Fprintf(io.err, "\r[%s%s] %d of %d %s, %d violations, %.0f faults/s ", strings.Repeat("=", n), strings.Repeat(" ", width-n),
			done, of, what, len(rep.Violations), float64(rep.Faults)/max(time.Since(begun).Seconds(), 0.001))
		if done >= of {
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
	fmt.Fprintf(w, "ambushes\t%d struck\nsteps\t%d of the core, %d events of the world\n", rep.Struck, rep.Steps, rep.Events)
	for _, hole := range slices.Sorted(maps.Keys(rep.Exceptions)) {
		fmt.Fprintf(w, "exceptions\t%s: %d times two copies, as documented\n", hole, rep.Exceptions[hole])
	}
	fmt.Fprintf(w, "time\t%.1f s, %.0f faults a second\n", rep.Seconds, float64(rep.Faults)/max(rep.Seconds, 0.001))
	return w.Flush()
}
