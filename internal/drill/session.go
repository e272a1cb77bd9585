package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"autoheal.dev/autoheal"
)

// Session is one run of one drill.
type Session struct {
	drill   Drill
	profile Profile
	opt     Options
	cluster *cluster
	say     func(string) // the live line

	injected time.Time
	hit      map[autoheal.WorkloadID]bool // workloads that may change
	nodes    map[autoheal.NodeID]bool     // nodes that may change
	broken   map[autoheal.NodeID]bool     // nodes that stay out of service, although they answer
	proof    autoheal.Proof               // that lets at-most-once workloads start elsewhere; "" = their own deadline
	before   *snapshot
	expect   []expectedIncident
	result   string
	headline autoheal.IncidentID
	timed    bool // the recoveries' times belong into the report
	overlap  *autoheal.Seconds
	steps    []StepRow
	stalls   int
	problems []string
}

// expectedIncident is an incident that the drill is meant to cause. Any other one means that something else was touched.
type expectedIncident struct {
	Kind    autoheal.FailureKind
	Subject autoheal.Ref
	Phase   autoheal.Phase
	Times   int // how many of them; 0 = one
	// Optional says that it may be too short for the healer to notice.
	Optional bool
}

// spec is what workload_submit takes, as far as drills need it.
type spec struct {
	Name      string            `json:"name"`
	Image     string            `json:"image"`
	Command   []string          `json:"command"`
	GPUs      int               `json:"gpus,omitempty"`
	MemoryMB  int64             `json:"memoryMb,omitempty"`
	Priority  int               `json:"priority"`
	Labels    map[string]string `json:"labels,omitempty"`
	RequestID string            `json:"requestId"`

	Preemptible *bool `json:"preemptible,omitempty"`
}

// problem notes why the drill failed, and goes on: one run should tell all.
func (s *Session) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// observe keeps the largest number of stalls that a healer told of.
func (s *Session) observe(st *state) { s.stalls = max(s.stalls, st.Healer.Stalls) }

// sleeper is a program that does nothing and ends at the first SIGTERM.
var sleeper = []string{"/bin/sh", "-c", "exec sleep 86400"}

// everyClass are the workloads that run in each node drill: a service that may run twice, a job that may not, and two
// less urgent ones.
func everyClass(suffix string) []spec {
	return []spec{
		{Name: "inference" + suffix, Command: sleeper, GPUs: 1, Priority: 95, Labels: map[string]string{autoheal.LabelClass: "critical", autoheal.LabelKind: "service"}},
		{Name: "training" + suffix, Command: sleeper, GPUs: 1, Priority: 70, Labels: map[string]string{autoheal.LabelClass: "high", autoheal.LabelAtMostOnce: "true"}},
		{Name: "batch" + suffix, Command: sleeper, Priority: 40},
		{Name: "notebook" + suffix, Command: sleeper, Priority: 10},
	}
}

// submitOn submits workloads to one node: the others are cordoned by a person until they run, and uncordoned then.
func (s *Session) submitOn(ctx context.Context, node autoheal.NodeID, specs ...spec) ([]autoheal.WorkloadID, error) {
	st, err := s.cluster.look(ctx)
	if err != nil {
		return nil, err
	}
	var others []autoheal.NodeID
	for _, n := range st.Nodes {
		if n.ID != node {
			others = append(others, n.ID)
		}
	}
	for _, n := range others {
		if err := s.cluster.call(ctx, "node_cordon", map[string]any{"nodeId": n, "reason": "drill: placement"}, nil); err != nil {
			return nil, err
		}
	}
	if _, err := s.wait(ctx, "the cordons of the drill", func(st *state) (bool, string) { return marksAre(st, others, true) }); err != nil {
		return nil, err
	}
	ids, err := s.submit(ctx, specs...)
	if err != nil {
		return nil, err
	}
	for _, n := range others {
		if err := s.cluster.call(ctx, "node_uncordon", map[string]any{"nodeId": n}, nil); err != nil {
			return nil, err
		}
	}
	_, err = s.wait(ctx, "the end of the drill's cordons", func(st *state) (bool, string) { return marksAre(st, others, false) })
	return ids, err
}

func marksAre(st *state, nodes []autoheal.NodeID, on bool) (bool, string) {
	for _, id := range nodes {
		n := st.node(id)
		if n == nil || (len(n.CordonedBy) > 0) != on {
			return false, fmt.Sprintf("node %s is not yet as asked", id)
		}
	}
	return true, ""
}

// submit submits workloads and waits until all run.
func (s *Session) submit(ctx context.Context, specs ...spec) ([]autoheal.WorkloadID, error) {
	var ids []autoheal.WorkloadID
	for _, sp := range specs {
		id, err := s.submitOne(ctx, sp)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	_, err := s.wait(ctx, "all workloads to run", func(st *state) (bool, string) { return allRun(st, ids) })
	return ids, err
}

// submitOne submits a workload, whatever becomes of it.
func (s *Session) submitOne(ctx context.Context, sp spec) (autoheal.WorkloadID, error) {
	sp.Image, sp.RequestID = "host", "drill-"+sp.Name
	var out struct {
		Workload struct{ ID autoheal.WorkloadID }
	}
	err := s.cluster.call(ctx, "workload_submit", sp, &out)
	return out.Workload.ID, err
}

func allRun(st *state, ids []autoheal.WorkloadID) (bool, string) {
	for _, id := range ids {
		w := st.workload(id)
		if w == nil || w.State != autoheal.Running {
			return false, fmt.Sprintf("%s does not run: %s", id, describe(w))
		}
	}
	return true, ""
}

func describe(w *workloadState) string {
	if w == nil {
		return "it is not listed"
	}
	return strings.TrimSuffix(fmt.Sprintf("%s, attempt %d on %q, %s", w.State, w.Attempt, w.Node, w.Detail), ", ")
}

// arm notes what may be hit, and how everything is just before the fault.
func (s *Session) arm(ctx context.Context, workloads []autoheal.WorkloadID, nodes ...autoheal.NodeID) error {
	for _, w := range workloads {
		s.hit[w] = true
	}
	for _, n := range nodes {
		s.nodes[n] = true
	}
	_, err := s.wait(ctx, "a process of every workload that runs", func(*state) (bool, string) {
		before, err := s.snapshot(ctx)
		if err != nil {
			return false, err.Error()
		}
		s.before = before
		return before.complete()
	})
	return err
}

// inject does the fault; seconds are counted from here.
func (s *Session) inject(what string, fault func() error) error {
	s.say(what)
	s.injected = s.cluster.clock.Now()
	if err := fault(); err != nil {
		return fmt.Errorf("inject %s: %w", what, err)
	}
	return nil
}

// touch is a fault that a program waits for: it begins once the file is there.
func (s *Session) touch(what, file string) error {
	return s.inject(what, func() error { return os.WriteFile(file, nil, 0o600) })
}

// killNode kills agent, shims and workloads of a node together, and keeps the agent down.
func (s *Session) killNode(node autoheal.NodeID) error {
	if err := s.cluster.hold(node, true); err != nil {
		return err
	}
	for round := range cleanRounds {
		n, err := s.cluster.signalAll(syscall.SIGKILL, everythingOn(node))
		if err != nil {
			return err
		}
		if n == 0 {
			if round == 0 {
				return fmt.Errorf("found no process of node %s", node)
			}
			return nil
		}
		pause(s.cluster.clock, time.Millisecond)
	}
	return fmt.Errorf("processes of node %s survive SIGKILL", node)
}

// signalAgent signals the agent of a node alone.
func (s *Session) signalAgent(node autoheal.NodeID, sig syscall.Signal) error {
	n, err := s.cluster.signalAll(sig, agentOf(node))
	if err == nil && n != 1 {
		err = fmt.Errorf("found %d agents of node %s", n, node)
	}
	return err
}

// main returns the main process of a workload.
func (s *Session) main(id autoheal.WorkloadID) (process, error) {
	all, err := s.cluster.proc.find(s.cluster.data)
	if err != nil {
		return process{}, err
	}
	p, ok := mains(all)[id]
	if !ok {
		return process{}, fmt.Errorf("found no process of workload %s", id)
	}
	return p, nil
}

// file returns a path of the drill, outside of the cluster's data.
func (s *Session) file(name string) string { return filepath.Join(s.cluster.dir, name) }

// ended waits for the end of the incident that a drill is about, and expects it in a phase. What cleared by itself has no
// recovery to time.
func (s *Session) ended(ctx context.Context, kind autoheal.FailureKind, subject autoheal.Ref, phase autoheal.Phase) (*autoheal.Incident, error) {
	var out *autoheal.Incident
	_, err := s.wait(ctx, fmt.Sprintf("the end of the %s of %s", kind, subject.ID), func(st *state) (bool, string) {
		out = st.incident(kind, subject)
		if out == nil {
			return false, "no such incident was opened"
		}
		return out.Phase.Ended(), fmt.Sprintf("%s is %s%s", out.ID, out.Phase, heldText(out))
	})
	if err != nil {
		return nil, err
	}
	s.headline, s.timed, s.result = out.ID, phase != autoheal.Cleared, phaseResult(out.Phase)
	s.expect = append(s.expect, expectedIncident{Kind: kind, Subject: subject, Phase: phase})
	return out, nil
}

func heldText(i *autoheal.Incident) string {
	if i.Held != nil {
		return fmt.Sprintf(", held: %s: %s", i.Held.Reason, i.Held.Detail)
	}
	for _, r := range i.Recoveries {
		if r.Held != nil {
			return fmt.Sprintf(", %s held: %s: %s", r.Workload, r.Held.Reason, r.Held.Detail)
		}
		if r.Step != autoheal.StepDone {
			return fmt.Sprintf(", %s is %s", r.Workload, r.Step)
		}
	}
	return ""
}

// lineage returns all attempts of a workload.
func (s *Session) lineage(ctx context.Context, id autoheal.WorkloadID) (workloadDetails, error) {
	var out workloadDetails
	err := s.cluster.call(ctx, "workload_get", map[string]any{"workloadId": id}, &out)
	return out, err
}

// workloadDetails is what drills need of workload_get.
type workloadDetails struct {
	ID               autoheal.WorkloadID `json:"id"`
	MemoryMB         int64               `json:"memoryMb"`
	OriginalMemoryMB int64               `json:"originalMemoryMb"`
	Restarts         int                 `json:"restarts"`
	Lineage          []attemptRow        `json:"lineage"`
}

// attemptRow is one attempt of a workload.
type attemptRow struct {
	Attempt    int                    `json:"attempt"`
	State      autoheal.WorkloadState `json:"state"`
	NodeID     autoheal.NodeID        `json:"nodeId"`
	MemoryMB   int64                  `json:"memoryMb"`
	StartedAt  *time.Time             `json:"startedAt"`
	FinishedAt *time.Time             `json:"finishedAt"`
	Exit       *autoheal.Exit         `json:"exit"`
}

// journal reads the cluster's journal by the command that an operator would use.
func (s *Session) journal(ctx context.Context) ([]journalRow, error) {
	out, err := s.cluster.runSelf(ctx, "journal", "show", "--data", s.cluster.data)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var rows []journalRow
	for line := range strings.Lines(out) {
		var r journalRow
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}
