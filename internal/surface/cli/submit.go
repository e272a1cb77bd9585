package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"autoheal.dev/autoheal/internal/surface/client"
	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

// submitFlags are the flags of submit.
type submitFlags struct {
	file        string
	spec        tool.SpecIn
	labels      []string
	env         []string
	priority    int
	preemptible bool
}

func (a *app) submitCmd() *cobra.Command {
	var fl submitFlags
	cmd := &cobra.Command{
		Use: "submit (-f FILE | --name NAME --image IMAGE [flags] [-- COMMAND ARG…])", Short: "Submit workloads from a file or from flags",
		Long: "Submit workloads from a YAML or JSON file (one or several documents, - reads the standard input) or from flags.\n" +
			"The keys of a file are the parameters of workload_submit; a mistake is named with file, line and column, and nothing of\n" +
			"the file is submitted then. The values of environment variables are never shown again.",
		Example: "  autoheal submit -f examples/train.yaml\n  autoheal submit --name hello --image host -- /bin/sh -c 'echo hello; sleep 60'\n" +
			"  TOKEN=… autoheal submit --name pull --image host --env TOKEN -- ./pull.sh",
	}
	f := cmd.Flags()
	f.StringVarP(&fl.file, "file", "f", "", "YAML or JSON file, - for the standard input")
	f.StringVar(&fl.spec.Name, "name", "", "name of the workload")
	f.StringVar(&fl.spec.Image, "image", "", "container image; host runs the command as a process of the node")
	f.IntVar(&fl.spec.GPUs, "gpus", 0, "how many GPUs")
	f.Int64Var(&fl.spec.GPUMemoryMB, "gpu-memory-mb", 0, "least memory of each GPU")
	f.Float64Var(&fl.spec.CPUCores, "cpu-cores", 0, "processor cores")
	f.Int64Var(&fl.spec.MemoryMB, "memory-mb", 0, "memory limit")
	f.IntVar(&fl.priority, "priority", 0, "0 to 100, higher is more important")
	f.BoolVar(&fl.preemptible, "preemptible", false, "may be stopped for a more important workload")
	f.Int64Var(&fl.spec.MaxRuntimeSeconds, "max-runtime-seconds", 0, "longest run")
	f.StringArrayVarP(&fl.labels, "label", "l", nil, "k=v; may be repeated")
	f.StringArrayVarP(&fl.env, "env", "e", nil, "NAME=VALUE, or NAME to take the value from this environment, which keeps it out of the list of processes; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if fl.file != "" && (cmd.Flags().Changed("name") || cmd.Flags().Changed("image") || len(args) > 0) {
			return usagef("expected either -f FILE or flags, not both")
		}
		if cmd.Flags().Changed("priority") {
			fl.spec.Priority = &fl.priority
		}
		if cmd.Flags().Changed("preemptible") {
			fl.spec.Preemptible = &fl.preemptible
		}
		return a.run(func(s *session, args []string) error { return s.submit(fl, args) })(cmd, args)
	}
	return cmd
}

func (s *session) submit(fl submitFlags, args []string) error {
	if err := s.noWatch(); err != nil {
		return err
	}
	if fl.file != "" {
		return s.submitFile(fl.file)
	}
	spec := fl.spec
	if spec.Name == "" || spec.Image == "" {
		return usagef("expected -f FILE, or --name and --image")
	}
	spec.Command = args
	for _, l := range fl.labels {
		one, err := parseLabels("--label", l)
		if err != nil {
			return err
		}
		spec.Labels = merged(spec.Labels, one)
	}
	for _, e := range fl.env {
		name, value, given := strings.Cut(e, "=")
		if name == "" {
			return usagef("--env: expected NAME=VALUE or NAME")
		}
		if !given {
			if value = s.Env(name); value == "" { // a secret that is missing would be found out by a crash, much later
				return usagef("--env %s: it is not set in this environment (to pass an empty value: --env %s=)", name, name)
			}
		}
		spec.Env = merged(spec.Env, map[string]string{name: value})
	}
	return s.change("workload_submit", spec)
}

func merged(into, from map[string]string) map[string]string {
	if into == nil {
		into = map[string]string{}
	}
	maps.Copy(into, from)
	return into
}

// submitFile checks every document before it submits the first one.
func (s *session) submitFile(name string) error {
	data, err := s.readFile(name)
	if err != nil {
		return err
	}
	if name == "-" {
		name = "standard input"
	}
	docs, err := readSpecs(name, data)
	if err != nil {
		return err
	}
	var results []json.RawMessage
	for i, d := range docs {
		raw, err := s.raw("workload_submit", d.raw)
		if err != nil {
			if _, refused := errors.AsType[*client.Error](err); refused { // and not, say, that nobody listens
				err = fmt.Errorf("%s: %w", d.at, err)
			}
			if i > 0 {
				err = fmt.Errorf("%w (the %d before it were submitted)", err, i)
			}
			return err
		}
		if len(docs) == 1 || s.format == "table" {
			if err := s.sayChange(raw); err != nil {
				return err
			}
			continue
		}
		results = append(results, raw)
	}
	if len(results) == 0 {
		return nil
	}
	all, err := json.Marshal(results)
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return s.print(all, nil)
}

func (s *session) readFile(name string) ([]byte, error) {
	if name == "-" {
		return readAll(s.Stdin, "standard input")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name)
}
