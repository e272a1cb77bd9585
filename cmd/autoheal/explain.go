package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/app"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/policy"
	"autoheal.dev/autoheal/internal/signal"
	"autoheal.dev/autoheal/internal/surface/cli"
)

// explainCommand says what a code or a line means; it needs no healer.
func explainCommand(io stdio) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: "explain CODE|LINE", Short: "Say in plain words what an error means and what autoheal does about it", Args: cobra.MinimumNArgs(1),
		Long: `Explain the number of an NVIDIA Xid, an NVSwitch error (SXid NUMBER), a rule of the catalogue, or a pasted line of a
log: what it means, how bad it is, what autoheal does about it and where that is from. It needs no cluster.`,
		Example: `  autoheal explain 79
  autoheal explain sxid 20034
  autoheal explain "Memory cgroup out of memory: Killed process 4711 (python3) total-vm:1kB"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := app.LoadConfig(config, dataDir(cmd), nil)
			if err != nil {
				return err
			}
			c, err := l.Policy.Signals.Catalogue()
			if err != nil {
				return err
			}
			asked := strings.TrimSpace(strings.Join(args, " "))
			m, err := lookUp(c, asked)
			if err != nil {
				return err
			}
			e := explain(l.Policy, m)
			return printAs(cmd, io.out, e, func() error { return e.write(io) })
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "configuration whose rules and ladders count (default: config.yaml in the data directory, if there is one)")
	return cmd
}

var (
	xidForm  = regexp.MustCompile(`^(?i)(?:nvidia/)?(?:xid)?[ :/#-]*(\d{1,3})$`)
	sxidForm = regexp.MustCompile(`^(?i)(?:nvidia/)?(?:sxid[ :/#-]*(\d{1,6})|(\d{5}))$`)
)

// lookUp finds what was asked for: a number, a code, or a line.
func lookUp(c *signal.Catalogue, asked string) (signal.Match, error) {
	code := asked
	if n := xidForm.FindStringSubmatch(asked); n != nil {
		code = "nvidia/xid/" + strings.TrimLeft(n[1], "0")
	} else if n := sxidForm.FindStringSubmatch(asked); n != nil {
		code = "nvidia/sxid/" + strings.TrimLeft(n[1]+n[2], "0")
	}
	if m, ok := c.Explain(code); ok {
		return m, nil
	}
	if code != asked {
		return signal.Match{}, fmt.Errorf("%s is in no table: it is unknown, and autoheal does nothing about it", strings.TrimPrefix(code, "nvidia/"))
	}
	if found := c.Excerpt([]byte(asked), signal.KindAny, nil); len(found) > 0 {
		return found[0].Match, nil
	}
	return signal.Match{}, &cli.UsageError{Text: "no rule knows this line: expected the number of an Xid, SXid NUMBER, the code of a rule, or a line of a log as it was written"}
}

// explanation is what explain prints.
type explanation struct {
	Code        string               `json:"code"`
	Name        string               `json:"name"`
	Meaning     string               `json:"meaning"`
	Severity    signal.Severity      `json:"severity"`
	Failure     autoheal.Failure     `json:"failure"`
	Action      autoheal.Advice      `json:"action"`
	Scope       signal.Scope         `json:"scope"`
	Consequence bool                 `json:"consequence"`
	Kind        autoheal.FailureKind `json:"kind"`
	Ladder      []policy.Step        `json:"ladder"`
	Does        string               `json:"does"`
	Source      string               `json:"source"`
	Fields      map[string]string    `json:"fields"`
}

func explain(p *policy.Policy, m signal.Match) explanation {
	e := explanation{
		Code: m.Code, Name: m.Name, Meaning: m.Because, Severity: m.Severity, Failure: m.Failure, Action: m.Action, Scope: m.Scope,
		Consequence: m.Consequence, Source: m.Source, Ladder: []policy.Step{}, Fields: m.Fields,
	}
	if e.Fields == nil {
		e.Fields = map[string]string{}
	}
	r, _ := p.Respond(m.Failure, m.Action)
	e.Kind = r.Kind
	e.Ladder = append(e.Ladder, r.Steps...)
	e.Does = does(m, r)
	return e
}

// does says in words what the healer does.
func does(m signal.Match, r policy.Response) string {
	switch {
	case m.Benign:
		return "nothing: the line is known and harmless"
	case r.Kind == "":
		return "nothing by itself: it is recorded, and counts if it repeats"
	case m.Stated:
		return "what the driver states, instead of what tables say of other errors of this GPU"
	}
	steps := make([]string, len(r.Steps))
	for i, s := range r.Steps {
		steps[i] = strings.ReplaceAll(string(s), "_", " ")
		if s == policy.StepAdvice {
			steps[i] = strings.ReplaceAll(string(m.Action), "_", " ")
		}
	}
	ladder := strings.Join(steps, ", then ")
	if !healed(r.Kind) {
		return fmt.Sprintf("it is recorded and found by autoheal logs; incidents of the kind %s are not healed yet: the plan is %s", r.Kind, ladder)
	}
	text := fmt.Sprintf("an incident of the kind %s: %s", r.Kind, ladder)
	if m.Consequence {
		text += "; only if nothing else explains it"
	}
	return text
}

// healed reports whether anything finds failures of the kind.
func healed(kind autoheal.FailureKind) bool {
	return slices.ContainsFunc(detect.All(), func(d detect.Detector) bool { return d.Kind() == kind })
}

var howBad = map[signal.Severity]string{
	signal.Critical: "critical: something is broken", signal.Error: "error: something stopped working",
	signal.Warning: "warning: worth watching", signal.Info: "information",
}

func (e explanation) write(io stdio) error {
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	title := e.Code
	if e.Name != "" {
		title += ": " + e.Name
	}
	_, err := fmt.Fprintf(w, "%s\n\nmeaning\t%s\nhow bad\t%s\nfailure\t%s (reaches a %s)\naction\t%s\nautoheal does\t%s\nsource\t%s\n",
		title, e.Meaning, howBad[e.Severity], e.Failure, e.Scope, e.Action, e.Does, e.Source)
	return errors.Join(err, w.Flush())
}
