package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
)

// Options say how drills run.
type Options struct {
	Self     string // this binary
	Version  string
	TempDir  string // where clusters live; "" = the machine's folder for temporary files
	Profile  Profile
	Strict   bool // also fail on a missed objective or a noticed stall
	Keep     bool // leave the directories of the clusters
	Soak     bool // healer-crash: every crash point instead of a few spread ones
	Env      []string
	Clock    clock.Clock
	Err      io.Writer // what goes wrong with cleaning up
	Live     io.Writer // a line per drill while it runs; nil = none
	Terminal bool      // Live may be rewritten
}

// Run runs drills one after the other and returns their report. It ends early only with ctx; then the error says so and
// the report has what was done.
func Run(ctx context.Context, opt Options, drills []Drill) (*Report, error) {
	rep := &Report{Version: opt.Version, Profile: opt.Profile.Name, Simulated: true, Drills: []Row{}}
	for _, d := range drills {
		if ctx.Err() != nil {
			break
		}
		l := newLine(opt, d.Name)
		row := runOne(ctx, opt, d, l.say)
		if ctx.Err() != nil {
			l.end("interrupted")
			break
		}
		rep.add(row)
		l.end(verdict(row))
	}
	if ctx.Err() != nil {
		return rep, &InterruptedError{Ran: len(rep.Drills), Of: len(drills)}
	}
	return rep, nil
}

// InterruptedError says that not all drills were run. Their clusters have ended all the same.
type InterruptedError struct{ Ran, Of int }

func (e *InterruptedError) Error() string {
	return fmt.Sprintf("interrupted: %d of %d drills were run, and all that was started for them has ended", e.Ran, e.Of)
}

// runOne runs one drill on a cluster of its own, and always cleans up.
func runOne(ctx context.Context, opt Options, d Drill, say func(string)) Row {
	began := opt.Clock.Now()
	s := &Session{
		drill: d, profile: opt.Profile, opt: opt, say: say,
		hit: map[autoheal.WorkloadID]bool{}, nodes: map[autoheal.NodeID]bool{}, broken: map[autoheal.NodeID]bool{},
	}
	row := Row{Name: d.Name, Kind: d.Kind, Expected: d.Expected}
	if why := s.missing(); why != "" {
		row.Skipped = why
		return row
	}
	if err := s.run(ctx, &row); err != nil {
		s.problem("%v", err)
	}
	s.fill(&row)
	row.TookSeconds = autoheal.Seconds(opt.Clock.Now().Sub(began))
	return row
}

// run makes the cluster, runs the drill, judges and cleans up.
func (s *Session) run(ctx context.Context, row *Row) (err error) {
	s.say("starting a cluster of its own")
	c, err := newCluster(s.opt, s.drill.Name)
	if err != nil {
		return err
	}
	s.cluster = c
	defer func() {
		s.say("cleaning up")
		if s.opt.Keep {
			row.Kept = c.dir
		}
		err = errors.Join(err, c.close(s.opt.Keep))
	}()
	c.args = c.upArgs(s.drill, s.profile)
	if s.drill.Before != nil {
		if err := s.drill.Before(c); err != nil {
			return err
		}
	}
	if err := c.start(ctx, s.drill.Nodes); err != nil {
		return err
	}
	if err := s.drill.Run(ctx, s); err != nil {
		return errors.Join(err, s.collect(ctx, row))
	}
	s.say("looking whether anything else was touched")
	return errors.Join(s.judge(ctx), s.collect(ctx, row))
}

// runSelf runs another command of this binary and returns what it printed.
func (c *cluster) runSelf(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.self, args...)
	cmd.Env = productEnv(cmd.Environ())
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("autoheal %s: %w: %s", args[0], err, lastLines(errs.String(), 2))
	}
	return out.String(), nil
}

// collect reads the headline incident into the row.
func (s *Session) collect(ctx context.Context, row *Row) error {
	if s.headline == "" || ctx.Err() != nil {
		return nil
	}
	var inc autoheal.Incident
	if err := s.cluster.call(ctx, "incident_get", map[string]any{"incidentId": s.headline}, &inc); err != nil {
		return err
	}
	st, err := s.cluster.look(ctx)
	if err != nil {
		return err
	}
	describeIncident(row, &inc, st, s.injected, s.timed)
	return nil
}

// describeIncident writes what became of the headline incident, in seconds since the injection.
func describeIncident(row *Row, inc *autoheal.Incident, st *state, injected time.Time, timed bool) {
	row.Incident = &inc.ID
	row.DetectedSeconds = secondsSince(injected, inc.OpenedAt)
	for _, a := range inc.Actions {
		id := a.ID
		row.Steps = append(row.Steps, StepRow{At: stamp(a.IntentAt), Verb: a.Verb, Target: string(a.Target.Kind) + "/" + a.Target.ID, Outcome: a.Outcome, Action: &id})
	}
	if !timed {
		return
	}
	for _, r := range inc.Recoveries {
		row.Recoveries = append(row.Recoveries, recoveryRow(r, st, injected))
	}
	i := headline(row.Recoveries)
	if i < 0 {
		return
	}
	h := row.Recoveries[i]
	row.Class, row.Proof, row.ObjectiveSeconds = &h.Class, &h.Proof, &h.ObjectiveSeconds
	row.SafeSeconds, row.RunningSeconds = h.SafeSeconds, h.RunningSeconds
	row.WithinObjective = allWithin(row.Recoveries)
}

// headline returns the recovery that stands for all of a drill: of those that had something to do, the most urgent.
func headline(all []RecoveryRow) int {
	best := -1
	for i, r := range all {
		if r.End == autoheal.EndLeftAlone {
			continue
		}
		if best < 0 || rank(r.Class) < rank(all[best].Class) {
			best = i
		}
	}
	return best
}

// allWithin reports whether every workload that was to run again did so within its objective; nil when none ran.
func allWithin(all []RecoveryRow) *bool {
	var out *bool
	for _, r := range all {
		if r.WithinObjective != nil && (out == nil || *out) {
			out = r.WithinObjective
		}
	}
	return out
}

func recoveryRow(r autoheal.Recovery, st *state, injected time.Time) RecoveryRow {
	out := RecoveryRow{
		Workload: r.Workload, Class: r.Class, AtMostOnce: r.AtMostOnce, End: r.End, From: r.From, To: r.To, Proof: r.Proof,
		ObjectiveSeconds: r.ObjectiveSeconds,
	}
	if w := st.workload(r.Workload); w != nil {
		out.Name = w.Name
	}
	if r.TimeToSafeSeconds != nil {
		out.SafeSeconds = secondsSince(injected, r.FailedAt.Add(time.Duration(*r.TimeToSafeSeconds)))
	}
	if r.TimeToRunningSeconds != nil {
		out.RunningSeconds = secondsSince(injected, r.FailedAt.Add(time.Duration(*r.TimeToRunningSeconds)))
		within := *out.RunningSeconds <= r.ObjectiveSeconds
		out.WithinObjective = &within
	}
	return out
}

// secondsSince returns the time since the injection; what was true before it counts as at once.
func secondsSince(injected, at time.Time) *autoheal.Seconds {
	if at.IsZero() || injected.IsZero() {
		return nil
	}
	d := autoheal.Seconds(max(0, at.Sub(injected)))
	return &d
}

func rank(c autoheal.Class) int {
	for i, x := range autoheal.Classes() {
		if x == c {
			return i
		}
	}
	return len(autoheal.Classes())
}

// fill ends the row with the verdict.
func (s *Session) fill(row *Row) {
	if s.result != "" {
		row.Result = &s.result
		if s.result != s.drill.Expected {
			s.problem("it ended %s, expected was %s", s.result, s.drill.Expected)
		}
	} else if len(s.problems) == 0 {
		s.problem("the drill came to no result")
	}
	row.Steps = append(s.steps, row.Steps...)
	row.OverlapSeconds, row.Stalls = s.overlap, s.stalls
	if s.opt.Strict {
		if row.WithinObjective != nil && !*row.WithinObjective {
			s.problem("an objective was missed")
		}
		if s.stalls > 0 {
			s.problem("the healer noticed %d stalls", s.stalls)
		}
	}
	row.Problems = s.problems
	row.Passed = len(s.problems) == 0
}
