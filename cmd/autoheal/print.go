package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"autoheal.dev/autoheal/internal/surface/cli"
)

// printAs writes v in the format that --output asks for; table writes it for people.
func printAs(cmd *cobra.Command, out io.Writer, v any, table func() error) error {
	switch format, _ := cmd.Flags().GetString("output"); format {
	case "table":
		return table()
	case "json":
		return writeJSON(out, v)
	case "yaml":
		var b bytes.Buffer
		if err := writeJSON(&b, v); err != nil {
			return err
		}
		text, err := yaml.JSONToYAML(b.Bytes())
		if err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
		_, err = out.Write(text)
		return err
	default:
		return &cli.UsageError{Text: fmt.Sprintf("--output %q: expected table, json or yaml", format)}
	}
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// refuseUnknown makes a group of commands say that it has no such command, where cobra would print its help as if
// nothing were wrong.
func refuseUnknown(group *cobra.Command) {
	for _, sub := range group.Commands() {
		refuseUnknown(sub)
	}
	if group.Runnable() || !group.HasSubCommands() || !group.HasParent() {
		return
	}
	group.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return &cli.UsageError{Text: fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())}
		}
		return cmd.Help()
	}
}
