package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

// maxInput bounds what is read from a file or the standard input.
const maxInput = 1 << 20

func (a *app) toolCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "tool", Short: "List the verbs and call them by name, as programs and AI agents do"}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List the verbs; -o json prints their schemas", Example: "  autoheal tool list\n  autoheal tool list -o json",
		Args: cobra.NoArgs,
		RunE: a.run(func(s *session, _ []string) error {
			fetch := func() (json.RawMessage, error) {
				var raw json.RawMessage
				err := s.client.Tools(s.ctx, &raw)
				return raw, err
			}
			return s.display(fetch, func(p *page, raw json.RawMessage) error { return renderAs(p, raw, renderTools) })
		}),
	}, &cobra.Command{
		Use: "call NAME [JSON|-]", Short: "Call a verb with JSON parameters, - reads them from the standard input",
		Example: "  autoheal tool call cluster_status\n  autoheal tool call node_list '{\"status\":\"not_ready\"}'\n  echo '{\"nodeId\":\"n2\"}' | autoheal tool call node_get -",
		Args:    cobra.RangeArgs(1, 2),
		RunE:    a.run(func(s *session, args []string) error { return s.callTool(args) }),
	})
	return cmd
}

// toolList is the answer of GET /api/v1/tools, as far as the table shows it.
type toolList struct {
	Tools []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Effect      string `json:"effect"`
		Role        string `json:"role"`
	} `json:"tools"`
}

func renderTools(p *page, v toolList) {
	var rows [][]string
	for _, t := range v.Tools {
		rows = append(rows, []string{t.Name, t.Effect, t.Role, t.Description})
	}
	p.table("No verbs.", []string{"VERB", "EFFECT", "ROLE", "WHAT"}, rows)
}

func (s *session) callTool(args []string) error {
	if err := s.noWatch(); err != nil {
		return err
	}
	params := json.RawMessage("{}")
	if len(args) == 2 {
		params = json.RawMessage(args[1])
		if args[1] == "-" {
			data, err := readAll(s.Stdin, "standard input")
			if err != nil {
				return err
			}
			params = data
		}
	}
	if !json.Valid(params) {
		return usagef("parameters of %s: expected a JSON object, such as '{\"nodeId\":\"n2\"}'", args[0])
	}
	raw, err := s.raw(args[0], params)
	if err != nil {
		return err
	}
	if s.format == "table" { // a verb has no table of its own here
		s.format = "json"
	}
	if err := s.print(raw, nil); err != nil {
		return err
	}
	var o tool.Outcome
	if json.Unmarshal(raw, &o) == nil && o.NeedsPerson() { // a result of another shape has no such keys
		return needsPerson(o.Held)
	}
	return nil
}

func readAll(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxInput {
		return nil, fmt.Errorf("read %s: more than %d KiB", name, maxInput>>10)
	}
	return data, nil
}
