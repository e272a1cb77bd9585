package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// crashPoints is how many records the healer is killed after, spread over the recovery, when not every one is asked for.
const crashPoints = 10

// healerCrash kills the healer in the middle of a recovery, at record after record of its journal.
func healerCrash() Drill {
	return Drill{
		Name: "healer-crash", Kind: autoheal.NodeOffline, Expected: Recovered, Nodes: 2, Outlives: true,
		Settings: []string{
			"autoHeal.node.probeInterval=800ms", "autoHeal.node.probeTimeout=700ms", "autoHeal.node.settle=300ms",
			"autoHeal.node.offlineGracePeriod=3s", "autoHeal.fence.selfStop=4s", "autoHeal.fence.margin=300ms", "autoHeal.fence.wait=5s",
			"autoHeal.verify.critical=500ms", "autoHeal.verify.default=500ms",
		},
		Doc: "Kill the healer by itself after records of a node recovery, start it again on the same directory: nothing is lost, nothing is done twice, and the end is that of an undisturbed run (AUTOHEAL_SOAK=1 tries every record).",
		Run: runHealerCrash,
	}
}

// deathSeen is how long after a failed call the end of a killed healer is waited for.
const deathSeen = 5 * time.Second

// ending is what a run must leave behind, however often the healer died.
type ending struct {
	workloads, nodes, incidents, alerts, processes string
}

func runHealerCrash(ctx context.Context, s *Session) error {
	s.say("an undisturbed run, to compare with")
	want, first, last, err := s.crashedNode(ctx)
	if err != nil {
		return err
	}
	s.timed = true
	points := spread(first, last, crashPoints)
	if s.opt.Soak {
		points = spread(first, last, int(last-first))
	}
	reached := 0
	for i, at := range points {
		s.say(fmt.Sprintf("killing the healer after record %d (%d of %d)", at, i+1, len(points)))
		ok, err := s.crashAt(ctx, at, want)
		if err != nil {
			return fmt.Errorf("healer killed after record %d: %w", at, err)
		}
		if ok {
			reached++
		}
	}
	s.steps = append(s.steps, StepRow{At: stamp(s.opt.Clock.Now()), Verb: "crash", Target: fmt.Sprintf("healer/%d of %d points", reached, len(points))})
	// The journal of a run may be a few records shorter than that of another, so the last points may not be reached.
	if reached*10 < len(points)*8 {
		s.problem("the healer was killed at %d of %d points only", reached, len(points))
	}
	return nil
}

// crashedNode kills n1 and waits until all is over. It returns the ending, and the numbers of the journal's records right
// after the injection and at the end.
func (s *Session) crashedNode(ctx context.Context) (ending, uint64, uint64, error) {
	ids, err := s.submitOn(ctx, "n1", everyClass("")...)
	if err != nil {
		return ending{}, 0, 0, err
	}
	if err := s.arm(ctx, ids, "n1"); err != nil {
		return ending{}, 0, 0, err
	}
	first := s.before.state.Healer.JournalSeq
	if err := s.inject("killing node n1", func() error { return s.killNode("n1") }); err != nil {
		return ending{}, 0, 0, err
	}
	if err := s.nodeLost(ctx, "n1", ids); err != nil {
		return ending{}, 0, 0, err
	}
	e, st, err := s.ending(ctx)
	if err != nil {
		return ending{}, 0, 0, err
	}
	return e, first, st.Healer.JournalSeq, nil
}

// crashAt runs the same on a cluster of its own whose healer kills itself after a record, and starts it again. It reports
// whether the record was reached.
func (s *Session) crashAt(ctx context.Context, at uint64, want ending) (reached bool, err error) {
	c, err := newCluster(s.opt, s.drill.Name)
	if err != nil {
		return false, err
	}
	t := &Session{
		drill: s.drill, profile: s.profile, opt: s.opt, cluster: c, say: func(string) {},
		hit: map[autoheal.WorkloadID]bool{}, nodes: map[autoheal.NodeID]bool{},
	}
	defer func() {
		keep := s.opt.Keep && (err != nil || len(t.problems) > 0)
		if keep {
			s.problem("healer killed after record %d: kept in %s", at, c.dir)
		}
		err = errors.Join(err, c.close(keep))
	}()
	c.args = c.upArgs(s.drill, s.profile)
	if err := c.start(ctx, s.drill.Nodes, "AUTOHEAL_CRASH_AT=record:"+strconv.FormatUint(at, 10)); err != nil {
		return false, err
	}
	reached, err = t.throughCrash(ctx)
	if errors.Is(err, errTooEarly) {
		return false, nil
	}
	if err != nil {
		return reached, err
	}
	got, _, err := t.ending(ctx)
	if err != nil {
		return reached, err
	}
	t.problems = append(t.problems, want.differences(got)...)
	if err := t.judge(ctx); err != nil {
		return reached, err
	}
	for _, p := range t.problems {
		s.problem("healer killed after record %d: %s", at, p)
	}
	s.stalls += t.stalls
	return reached, nil
}

// errTooEarly is returned when the healer was killed before the fault: on a busy machine a run may write down more before
// it than another, and then this point lies in no recovery.
var errTooEarly = errors.New("the healer was killed before the fault")

// throughCrash kills n1, lets the healer die and live again, and waits until all is over.
func (s *Session) throughCrash(ctx context.Context) (reached bool, err error) {
	ids, err := s.submitOn(ctx, "n1", everyClass("")...)
	if err == nil {
		err = s.arm(ctx, ids, "n1")
	}
	if err != nil {
		if s.cluster.endsWithin(deathSeen) {
			return false, errTooEarly
		}
		return false, err
	}
	if err := s.inject("killing node n1", func() error { return s.killNode("n1") }); err != nil {
		return false, err
	}
	err = s.nodeLost(ctx, "n1", ids)
	seen := time.Duration(0)
	if err != nil { // maybe because the healer has just died
		seen = deathSeen
	}
	if !s.cluster.endsWithin(seen) {
		return false, err // it lived through all of it, well or not
	}
	s.problems, s.expect = nil, nil
	if err := s.cluster.restart(ctx); err != nil {
		return true, err
	}
	return true, s.nodeLost(ctx, "n1", ids)
}

// ending reads what a run left behind, without times and without the order in which things were counted.
func (s *Session) ending(ctx context.Context) (ending, *state, error) {
	st, err := s.cluster.look(ctx)
	if err != nil {
		return ending{}, nil, err
	}
	all, err := s.cluster.proc.find(s.cluster.data)
	if err != nil {
		return ending{}, nil, err
	}
	return endingOf(st, all), st, nil
}

func endingOf(st *state, all []process) ending {
	var e ending
	add := func(to *string, format string, args ...any) { *to += fmt.Sprintf(format, args...) + "\n" }
	ws := slices.Clone(st.Workloads)
	slices.SortFunc(ws, func(a, b workloadState) int { return strings.Compare(string(a.ID), string(b.ID)) })
	for _, w := range ws {
		add(&e.workloads, "%s is %s, attempt %d on %s, %d crashes counted", w.ID, w.State, w.Attempt, w.Node, w.Restarts)
		copies := 0
		for _, p := range all {
			if p.Role == roleShim && p.Workload == w.ID {
				copies++
			}
		}
		add(&e.processes, "%s has %d copies", w.ID, copies)
	}
	for _, n := range st.Nodes {
		add(&e.nodes, "%s is %s, marked by %q", n.ID, n.Status, n.CordonedBy)
	}
	for _, i := range st.Incidents {
		add(&e.incidents, "%s of %s %s: %s, %d recoveries", i.Kind, i.Subject.Kind, i.Subject.ID, i.Phase, len(i.Recoveries))
	}
	var alerts []string
	for _, a := range st.Alerts {
		alerts = append(alerts, fmt.Sprintf("%s %s", a.Severity, a.Name))
	}
	slices.Sort(alerts)
	e.alerts = strings.Join(alerts, "\n")
	return e
}

// differences says how another ending differs.
func (e ending) differences(got ending) []string {
	var out []string
	for _, x := range []struct{ what, want, got string }{
		{"workloads", e.workloads, got.workloads},
		{"processes", e.processes, got.processes},
		{"nodes", e.nodes, got.nodes},
		{"incidents", e.incidents, got.incidents},
		{"alerts", e.alerts, got.alerts},
	} {
		if x.want != x.got {
			out = append(out, fmt.Sprintf("the %s differ: undisturbed %q, now %q", x.what, x.want, x.got))
		}
	}
	return out
}

// spread returns n numbers in (first, last], evenly spread, the last one included.
func spread(first, last uint64, n int) []uint64 {
	if last <= first || n < 1 {
		return nil
	}
	n = min(n, int(last-first))
	out := make([]uint64, n)
	for i := range out {
		out[i] = first + uint64(i+1)*(last-first)/uint64(n)
	}
	return out
}
