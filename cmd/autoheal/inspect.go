package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"autoheal.dev/autoheal/internal/app"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/journal/sqlite"
	"autoheal.dev/autoheal/internal/policy"
	"autoheal.dev/autoheal/internal/store"
	"autoheal.dev/autoheal/internal/surface/cli"
	"autoheal.dev/autoheal/internal/surface/client"
	"autoheal.dev/autoheal/internal/tool"
)

// configCommand shows and checks the configuration; it needs no healer.
func configCommand(io stdio) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check, show or describe the configuration"}
	var file string
	var set []string
	load := func(cmd *cobra.Command, args []string) (*policy.Loaded, error) {
		if len(args) > 0 {
			file = args[0]
		}
		flags, err := settings(set)
		if err != nil {
			return nil, err
		}
		return app.LoadConfig(file, dataDir(cmd), flags)
	}
	check := &cobra.Command{
		Use: "check [FILE]", Short: "Say everything that is wrong with a configuration", Args: cobra.MaximumNArgs(1),
		Example: "  autoheal config check config.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := load(cmd, args)
			if err != nil {
				return err
			}
			fmt.Fprintf(io.out, "the configuration is fine (%s)\n", l.Hash()[:12])
			for _, setting := range l.NotYet() {
				fmt.Fprintln(io.out, "but "+setting.Notice())
			}
			return nil
		},
	}
	show := &cobra.Command{
		Use: "show [FILE]", Short: "Print every setting in force and where it comes from", Args: cobra.MaximumNArgs(1),
		Long: "Print every setting and where it comes from: of the running healer, if one answers; of the file or the settings that are\n" +
			"named; else of what a healer would go by if it were started now. The first line says which.",
		Example: "  autoheal config show\n  autoheal config show config.yaml -o json\n  autoheal config show --server unix:/run/autoheal/api.sock",
		RunE: func(cmd *cobra.Command, args []string) error {
			addr := cli.ServerAddr(cmd.Flag("server").Value.String(), cmd.Flag("data").Value.String(), os.Getenv)
			said := "of " + cmp.Or(append(args, file)...)
			if len(args) == 0 && file == "" && len(set) == 0 {
				running, err := runningConfig(cmd, addr)
				if err == nil {
					return showSettings(cmd, io, fmt.Sprintf("of the running healer at %s (%s)", addr, shortHash(running.Hash)), running.Settings)
				}
				if cmd.Flags().Changed("server") {
					return err
				}
				said = fmt.Sprintf("that a healer started now in %s would go by; none answers at %s", dataDir(cmd), addr)
			} else if file == "" && len(args) == 0 {
				said = "that a healer started now with these settings would go by"
			}
			l, err := load(cmd, args)
			if err != nil {
				return err
			}
			return showSettings(cmd, io, said, l.Explain())
		},
	}
	schema := &cobra.Command{
		Use: "schema", Short: "Print the JSON schema of the configuration file, for editors", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return writeJSON(io.out, policy.Schema()) },
	}
	for _, c := range []*cobra.Command{check, show} {
		c.Flags().StringVar(&file, "config", "", "configuration file (default: config.yaml in the data directory)")
		c.Flags().StringArrayVar(&set, "set", nil, "set one configuration key, as KEY=VALUE")
	}
	cmd.AddCommand(check, show, schema)
	return cmd
}

// runningConfig asks a healer for the configuration that it goes by.
func runningConfig(cmd *cobra.Command, addr string) (tool.ConfigGetOut, error) {
	var out tool.ConfigGetOut
	c, err := client.New(addr)
	if err != nil {
		return out, &cli.UsageError{Text: "--server: " + err.Error()}
	}
	defer c.Close()
	return out, c.Call(cmd.Context(), "config_get", nil, &out)
}

func shortHash(h string) string { return h[:min(12, len(h))] }

// showSettings prints settings; whose they are goes before the table, or beside what a program reads.
func showSettings(cmd *cobra.Command, io stdio, said string, all []policy.Setting) error {
	if format, _ := cmd.Flags().GetString("output"); format == "json" || format == "yaml" {
		fmt.Fprintln(io.err, "configuration", said)
	}
	return printAs(cmd, io.out, all, func() error {
		fmt.Fprintln(io.out, "configuration", said)
		w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SETTING\tVALUE\tFROM")
		for _, s := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, s.Value, s.Origin)
		}
		return w.Flush()
	})
}

// journalCommand looks into a journal without a healer.
func journalCommand(io stdio) *cobra.Command {
	cmd := &cobra.Command{Use: "journal", Short: "Show or repair the journal of a data directory"}
	var from uint64
	show := &cobra.Command{
		Use: "show", Short: "Print the records, also damaged ones, one JSON object a line", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := stateFile(cmd)
			if err != nil {
				return err
			}
			db, err := store.Open(cmd.Context(), path, store.Options{ReadOnly: true, SkipCheck: true})
			if err != nil {
				return err
			}
			defer db.Close()
			enc := json.NewEncoder(io.out)
			for row, err := range sqlite.Inspect(cmd.Context(), db, from) {
				if err != nil {
					return err
				}
				if err := enc.Encode(row); err != nil {
					return err
				}
			}
			return nil
		},
	}
	show.Flags().Uint64Var(&from, "from", 0, "first record to print")
	var dryRun bool
	repair := &cobra.Command{
		Use: "repair", Short: "Take out what is damaged, so that the journal opens again", Args: cobra.NoArgs,
		Long: "Take out what is damaged, and what cannot be applied without it. What is taken out is kept in the same file. Look with --dry-run first.",
		RunE: func(cmd *cobra.Command, _ []string) error { return repairJournal(cmd, io, dryRun) },
	}
	repair.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be taken out, and change nothing")
	cmd.AddCommand(show, repair)
	return cmd
}

// stateFile is the file of a directory that a healer has run on; nothing is made where none has.
func stateFile(cmd *cobra.Command) (string, error) {
	path := filepath.Join(dataDir(cmd), "state.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no journal in %s: name the directory of a cluster with --data", dataDir(cmd))
	} else if err != nil {
		return "", fmt.Errorf("find journal: %w", err)
	}
	return path, nil
}

func repairJournal(cmd *cobra.Command, io stdio, dryRun bool) error {
	path, err := stateFile(cmd)
	if err != nil {
		return err
	}
	if !dryRun {
		lock, err := store.LockDir(dataDir(cmd), clock.Real{})
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	db, err := store.Open(cmd.Context(), path, store.Options{SkipCheck: true})
	if err != nil {
		return err
	}
	defer db.Close()
	report, err := sqlite.Repair(cmd.Context(), db, dryRun)
	if report.Problems == nil {
		report.Problems = []string{} // a list is never null
	}
	if werr := writeJSON(io.out, report); err == nil {
		err = werr
	}
	if err == nil && len(report.Problems) > 0 && dryRun {
		return &cli.NeedsPersonError{Text: "run it without --dry-run to repair"}
	}
	return err
}
