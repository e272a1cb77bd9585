package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

func (a *app) whyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "why TARGET", Short: "Say what would happen if a node or workload died now",
		Long: "Say what would happen if the target died now: its class, the grace, which proof that the old copy is gone there would be,\n" +
			"where it would go, and what would hold it. TARGET is a node or a workload: node/n1, workload/wl-7, or the bare name.",
		Example: "  autoheal why n2\n  autoheal why workload/train-1",
		Args:    cobra.ExactArgs(1),
		RunE: a.run(func(s *session, args []string) error {
			return show(s, "why", tool.WhyIn{Target: args[0]}, renderWhy)
		}),
	}
}

func renderWhy(p *page, w autoheal.Why) {
	for _, t := range w.Text {
		p.line("%s", t)
	}
	once, proof := "", "" // of a node they depend on each workload
	if w.Target.Kind == autoheal.RefWorkload {
		once, proof = "may run twice", string(w.Proof)
		switch {
		case w.AtMostOnce:
			once = "at most once"
		case w.Proof == autoheal.ProofNone:
			proof = "not needed"
		}
	}
	p.gap()
	p.fields(
		"Target", w.Target.String(), "Class", classText(w), "Copies", once, "Objective", seconds(w.ObjectiveSeconds), "Grace", seconds(w.GraceSeconds),
		"Proof", proof, "Proven after", seconds(w.FenceSeconds), "Goes to", string(w.GoesTo), "Placement", w.Placement,
	)
	if len(w.Gates) > 0 {
		p.head("What would hold it now")
		for _, g := range w.Gates {
			p.line("- %s", heldText(g))
		}
	}
}

func classText(w autoheal.Why) string {
	if w.Class == "" {
		return ""
	}
	return fmt.Sprintf("%s (%s)", w.Class, w.ClassRule)
}

func (a *app) pauseCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "pause", Short: "Stop the healer from acting; it goes on observing",
		Example: "  autoheal pause --for 30m --reason \"network work\"\n  autoheal pause",
		Args:    cobra.NoArgs,
	}
	dur := cmd.Flags().String("for", "", "how long: 30m, 2h, 1d; until 'autoheal resume' when left out")
	reason := reasonFlag(cmd)
	cmd.RunE = a.run(func(s *session, _ []string) error {
		return s.change("healer_pause", tool.HealerPauseIn{Duration: *dur, Reason: *reason})
	})
	return cmd
}

func (a *app) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "Let the healer act again", Example: "  autoheal resume", Args: cobra.NoArgs,
		RunE: a.run(func(s *session, _ []string) error { return s.change("healer_resume", nil) }),
	}
}

func (a *app) vetoCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "veto TARGET", Short: "Make the healer leave one node or workload alone",
		Example: "  autoheal veto node/n2 --for 2h --reason \"being debugged\"\n  autoheal veto train-1",
		Args:    cobra.ExactArgs(1),
	}
	dur := cmd.Flags().String("for", "", "how long: 30m, 2h, 1d; until 'autoheal unveto' when left out")
	reason := reasonFlag(cmd)
	cmd.RunE = a.run(func(s *session, args []string) error {
		return s.change("veto_set", tool.VetoSetIn{Target: args[0], Duration: *dur, Reason: *reason})
	})
	return cmd
}

func (a *app) unvetoCmd() *cobra.Command {
	return &cobra.Command{
		Use: "unveto TARGET", Short: "End a veto", Example: "  autoheal unveto node/n2", Args: cobra.ExactArgs(1),
		RunE: a.run(func(s *session, args []string) error { return s.change("veto_clear", tool.TargetIn{Target: args[0]}) }),
	}
}

func (a *app) healCmd() *cobra.Command {
	var dry, always bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "heal", Short: "Check cluster health and fix any issues, then report",
		Long: "Check cluster health and fix any issues: the healer examines everything now and acts under its usual rules; this command\n" +
			"follows the incidents until each has ended or waits for a person, raises the alert auto-heal-complete, and reports.\n" +
			"The exit code is 2 when something is held or escalated.",
		Example: "  autoheal heal --dry-run\n  autoheal heal\n  autoheal heal --timeout 2m -o json",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be done and what would hold it; change nothing")
	cmd.Flags().BoolVar(&always, "always-alert", false, "raise auto-heal-complete also when nothing had to be done")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to follow the incidents; healing goes on after that")
	cmd.RunE = a.run(func(s *session, _ []string) error {
		if timeout < time.Second {
			return usagef("--timeout %s: expected at least 1s", timeout)
		}
		if err := s.noWatch(); err != nil {
			return err
		}
		if dry {
			return show(s, "heal_plan", nil, renderHeal)
		}
		return s.heal(tool.HealRunIn{Timeout: int64(timeout.Seconds()), AlwaysAlert: always})
	})
	return cmd
}

// heal runs the verb and shows the healer's changes on the side, so that a long run is not silent.
func (s *session) heal(in tool.HealRunIn) error {
	var wg sync.WaitGroup
	side := *s
	ctx, cancel := context.WithCancel(s.ctx)
	side.ctx = ctx
	if s.format == "table" && s.IsTerminal {
		wg.Go(func() { side.sideline(s.Stderr) })
	}
	raw, err := s.raw("heal_run", in)
	cancel()
	wg.Wait()
	if err != nil {
		return err
	}
	var v tool.HealRunOut
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if err := s.print(raw, func(p *page, _ json.RawMessage) error { renderHeal(p, v); return nil }); err != nil {
		return err
	}
	if v.NeedsPerson {
		return &NeedsPersonError{Text: "something is held or escalated"}
	}
	return nil
}

// sideline prints changes of incidents as they come. It says nothing when the stream cannot be had: the run's own result
// does.
func (s *session) sideline(w io.Writer) {
	for c, err := range s.client.Events(s.ctx, 0) {
		if err != nil {
			return
		}
		if c.Incident == "" || c.Text == "" {
			continue
		}
		p := &page{}
		p.line("%s  %s  %s", c.At.UTC().Format(clockTime), c.Incident, c.Text)
		_, _ = w.Write(bytes.Clone(p.buf.Bytes()))
	}
}

// reportStep is the last step of a run, the report to the user.
const reportStep = 7

func renderHeal(p *page, v tool.HealRunOut) {
	var rows [][]string
	for _, st := range v.Steps {
		if st.Step == reportStep {
			continue // it follows in full
		}
		rows = append(rows, []string{fmt.Sprint(st.Step), st.Call, st.Result})
	}
	p.rows(nil, rows)
	if len(v.Plan) > 0 {
		p.head("Would be done")
		for _, pl := range v.Plan {
			p.line("- %s", planText(pl))
			for _, h := range pl.Held {
				p.line("    held by %s", heldText(h))
			}
		}
	}
	p.head("Report")
	for _, r := range v.Report {
		p.line("- %s", r)
	}
}

func planText(pl tool.Planned) string {
	s := fmt.Sprintf("%s %s", pl.Verb, pl.Target)
	if pl.Incident != "" {
		s = string(pl.Incident) + ": " + s
	}
	if pl.Text != "" {
		s += ": " + pl.Text
	}
	return s
}
