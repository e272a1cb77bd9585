package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// snapshot is how a cluster is at one moment, with the processes behind it.
type snapshot struct {
	state *state
	mains map[autoheal.WorkloadID]process
}

func (s *Session) snapshot(ctx context.Context) (*snapshot, error) {
	st, err := s.cluster.look(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.cluster.proc.find(s.cluster.data)
	if err != nil {
		return nil, err
	}
	return &snapshot{state: st, mains: mains(all)}, nil
}

// complete reports whether each workload that runs was seen with its process. One that is between fork and exec, or between
// two execs, has neither arguments nor environment for a moment, and cannot be told for what it is.
func (sn *snapshot) complete() (bool, string) {
	for _, w := range sn.state.Workloads {
		if _, ok := sn.mains[w.ID]; w.State == autoheal.Running && !ok {
			return false, fmt.Sprintf("%s runs and has no process yet", w.ID)
		}
	}
	return true, ""
}

// judgeBystanders compares what was not hit before and after: attempt, place, process and count of crashes must be the
// same, and its node must carry no mark.
func judgeBystanders(before, after *snapshot, hit map[autoheal.WorkloadID]bool, nodes map[autoheal.NodeID]bool) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, b := range before.state.Workloads {
		if hit[b.ID] {
			continue
		}
		a := after.state.workload(b.ID)
		if a == nil {
			add("%s was not hit and is gone", b.ID)
			continue
		}
		if a.State != b.State || a.Attempt != b.Attempt || a.Node != b.Node || a.Restarts != b.Restarts {
			add("%s was not hit and changed: it was %s with %d restarts counted, it is %s with %d", b.ID, describe(&b), b.Restarts, describe(a), a.Restarts)
		}
		if x, y := before.mains[b.ID], after.mains[b.ID]; x.PID != y.PID || x.Start != y.Start {
			add("%s was not hit and its process changed from %d to %d", b.ID, x.PID, y.PID)
		}
	}
	for _, a := range after.state.Workloads {
		if before.state.workload(a.ID) == nil && !hit[a.ID] {
			add("workload %s appeared", a.ID)
		}
	}
	for _, a := range after.state.Nodes {
		if nodes[a.ID] {
			continue
		}
		if len(a.CordonedBy) > 0 || a.Status != autoheal.StatusReady {
			add("node %s was not hit and is %s, marked by %q", a.ID, a.Status, a.CordonedBy)
		}
	}
	return out
}

// judgeMarks finds healthy nodes that are still marked by the healer. A node that is meant to stay dead is not healthy, nor is
// one that is broken for good.
func judgeMarks(after *state, broken map[autoheal.NodeID]bool) []string {
	var out []string
	for _, n := range after.Nodes {
		if !broken[n.ID] && n.Status == autoheal.StatusCordoned && slices.Contains(n.CordonedBy, autoheal.ByAutoheal) {
			out = append(out, fmt.Sprintf("node %s answers and is still cordoned by the healer", n.ID))
		}
	}
	return out
}

// judgeIncidents compares the incidents with the expected ones: none is missing, none is too many, each ended as it had
// to.
func judgeIncidents(got []autoheal.Incident, want []expectedIncident) []string {
	var out []string
	left := make([]int, len(want))
	for i, w := range want {
		left[i] = max(w.Times, 1)
	}
next:
	for _, g := range got {
		near := ""
		for i, w := range want {
			if g.Kind != w.Kind || g.Subject.Kind != w.Subject.Kind || g.Subject.ID != w.Subject.ID {
				continue
			}
			if left[i] > 0 && g.Phase == w.Phase {
				left[i]--
				continue next
			}
			near = fmt.Sprintf(" (expected %s)", w.Phase)
		}
		out = append(out, fmt.Sprintf("incident %s was not expected: %s of %s, %s%s: %s", g.ID, g.Kind, g.Subject, g.Phase, near, g.Cause))
	}
	for i, w := range want {
		if left[i] > 0 && !w.Optional {
			out = append(out, fmt.Sprintf("the expected incident is missing: %s of %s %s, %s", w.Kind, w.Subject.Kind, w.Subject.ID, w.Phase))
		}
	}
	return out
}

// journalRow is one line of 'autoheal journal show'.
type journalRow struct {
	Seq      uint64              `json:"seq"`
	Epoch    uint64              `json:"epoch"`
	At       time.Time           `json:"at"`
	Type     string              `json:"type"`
	Incident autoheal.IncidentID `json:"incident"`
	Data     json.RawMessage     `json:"data"`
	Problem  string              `json:"problem"`
}

// intentRow and resultRow are what drills need of two types of records.
type intentRow struct {
	Action struct {
		ID     autoheal.ActionID `json:"id"`
		Verb   autoheal.Verb     `json:"verb"`
		Target autoheal.Ref      `json:"target"`
		Params struct {
			Attempt int                 `json:"attempt"`
			For     autoheal.WorkloadID `json:"for"`
		} `json:"params"`
	} `json:"action"`
}

type resultRow struct {
	Action autoheal.ActionID `json:"action"`
}

// start names one attempt of one workload.
type start struct {
	workload autoheal.WorkloadID
	attempt  int
}

// judgeJournal checks that nothing was done that was not written down before: every result has its intent, every attempt
// but the owner's first has the intent of a start, and every mark of ours that of a cordon. No attempt was ordered twice
// by different actions.
func judgeJournal(rows []journalRow, attempts []start, marked []autoheal.NodeID) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	intents := map[autoheal.ActionID]bool{}
	starts := map[start]autoheal.ActionID{}
	cordons := map[autoheal.NodeID]bool{}
	last := uint64(0)
	for _, r := range rows {
		if r.Problem != "" {
			add("record %d is damaged: %s", r.Seq, r.Problem)
		}
		if r.Seq != last+1 {
			add("record %d follows record %d", r.Seq, last)
		}
		last = r.Seq
		switch r.Type {
		case "intent":
			var i intentRow
			if err := json.Unmarshal(r.Data, &i); err != nil {
				add("record %d: %v", r.Seq, err)
				continue
			}
			intents[i.Action.ID] = true
			switch i.Action.Verb {
			case autoheal.Start:
				k := start{autoheal.WorkloadID(i.Action.Target.ID), i.Action.Params.Attempt}
				if other, ok := starts[k]; ok && other != i.Action.ID {
					add("attempt %d of %s was ordered twice, by %s and %s", k.attempt, k.workload, other, i.Action.ID)
				}
				starts[k] = i.Action.ID
			case autoheal.Stop: // what gives way to another waits again: its driver makes the next attempt
				if p := i.Action.Params; p.For != "" {
					starts[start{autoheal.WorkloadID(i.Action.Target.ID), p.Attempt + 1}] = i.Action.ID
				}
			case autoheal.Cordon:
				cordons[autoheal.NodeID(i.Action.Target.ID)] = true
			}
		case "result":
			var res resultRow
			if err := json.Unmarshal(r.Data, &res); err != nil {
				add("record %d: %v", r.Seq, err)
			} else if !intents[res.Action] {
				add("record %d is the result of action %s, which has no intent before it", r.Seq, res.Action)
			}
		}
	}
	for _, a := range attempts {
		if a.attempt > 1 && starts[a] == "" {
			add("attempt %d of %s exists and no start of it was written down", a.attempt, a.workload)
		}
	}
	for _, n := range marked {
		if !cordons[n] {
			add("node %s is marked by the healer and no cordon of it was written down", n)
		}
	}
	return out
}

// judge looks at the whole cluster after a drill.
func (s *Session) judge(ctx context.Context) error {
	if s.before == nil {
		return nil // nothing was broken yet
	}
	after, err := s.snapshot(ctx)
	if err != nil {
		return fmt.Errorf("look at the end: %w", err)
	}
	s.observe(after.state)
	s.problems = append(s.problems, judgeBystanders(s.before, after, s.hit, s.nodes)...)
	s.problems = append(s.problems, judgeMarks(after.state, s.broken)...)
	s.problems = append(s.problems, judgeIncidents(after.state.Incidents, s.expect)...)
	rows, err := s.journal(ctx)
	if err != nil {
		return err
	}
	var attempts []start
	for _, w := range after.state.Workloads {
		d, err := s.lineage(ctx, w.ID)
		if err != nil {
			return err
		}
		for _, a := range d.Lineage {
			attempts = append(attempts, start{w.ID, a.Attempt})
		}
	}
	var marked []autoheal.NodeID
	for _, n := range after.state.Nodes {
		if slices.Contains(n.CordonedBy, autoheal.ByAutoheal) {
			marked = append(marked, n.ID)
		}
	}
	s.problems = append(s.problems, judgeJournal(rows, attempts, marked)...)
	return nil
}
