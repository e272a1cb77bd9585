package tool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// CompleteAlert is the alert that ends a healing run (behaviour F5).
const CompleteAlert = "auto-heal-complete"

// HealRunIn are the parameters of heal_run.
type HealRunIn struct {
	DryRun      bool  `json:"dryRun,omitempty" jsonschema:"say what would be done, with every gate that would hold it, and change nothing"`
	Timeout     int64 `json:"timeoutSeconds,omitempty" check:"min=1,max=86400,default=600" jsonschema:"how long to follow the incidents; healing goes on after that"`
	AlwaysAlert bool  `json:"alwaysAlert,omitempty" jsonschema:"raise auto-heal-complete also when nothing had to be done"`
}

// HealRunOut is the result of heal_run and heal_plan.
type HealRunOut struct {
	DryRun bool             `json:"dryRun"`
	Status ClusterStatusOut `json:"status" jsonschema:"of the cluster when the run began"`
	Steps  []RunStep        `json:"steps" jsonschema:"what was looked at and done, in order"`
	Plan   []Planned        `json:"plan" jsonschema:"of a dry run: what would be done"`

	NodesCordoned      []autoheal.NodeID     `json:"nodesCordoned"`
	WorkloadsMigrated  []autoheal.WorkloadID `json:"workloadsMigrated"`
	WorkloadsRestarted []autoheal.WorkloadID `json:"workloadsRestarted" jsonschema:"in place, after a failure of their own"`
	Incidents          []FollowedIncident    `json:"incidents"`
	TimedOut           bool                  `json:"timedOut"`
	NeedsPerson        bool                  `json:"needsPerson" jsonschema:"something is held or escalated"`
	Alert              *CreatedAlert         `json:"alert" jsonschema:"the alert auto-heal-complete; null when nothing was done"`
	Report             []string              `json:"report" jsonschema:"what to tell the user"`
}

// RunStep is one line of a healing run.
type RunStep struct {
	Step   int    `json:"step" jsonschema:"1 to 7, as in the product's full healing run"`
	Call   string `json:"call" jsonschema:"the verb"`
	Result string `json:"result"`
}

// Planned is one thing that the healer would do.
type Planned struct {
	autoheal.Planned
	WouldHold bool `json:"wouldHold" jsonschema:"a gate refuses it now"`
}

// FollowedIncident is an incident of a healing run.
type FollowedIncident struct {
	ID      autoheal.IncidentID  `json:"id"`
	Kind    autoheal.FailureKind `json:"kind"`
	Subject autoheal.Ref         `json:"subject"`
	Phase   autoheal.Phase       `json:"phase"`
	Cause   string               `json:"cause" jsonschema:"may quote logs"`
	Held    *autoheal.Held       `json:"held"`
}

// healRun is the product's full healing run. It is no second path: the engine examines every subject and acts as ever;
// the run looks, follows and reports.
func healRun(ctx context.Context, env *Env, in HealRunIn) (HealRunOut, error) {
	if in.DryRun {
		return healPlan(ctx, env, None{})
	}
	run := healing{env: env, out: HealRunOut{}}
	open, err := env.Healer.Incidents(ctx, autoheal.IncidentFilter{Open: true})
	if err != nil {
		return HealRunOut{}, fmt.Errorf("list incidents: %w", err)
	}
	for _, inc := range open {
		run.watch(inc.ID)
	}
	if err := run.look(ctx); err != nil {
		return HealRunOut{}, err
	}
	r, err := env.command(ctx, autoheal.Command{Verb: autoheal.CmdExamine})
	if err != nil {
		return HealRunOut{}, err
	}
	for _, id := range r.Touched {
		run.watch(id)
	}
	if r.Held != nil { // paused, not synced and the like: nothing will end by waiting here
		run.step(4, "heal", heldText(*r.Held))
		run.out.NeedsPerson = true
		in.Timeout = 0
	}
	if err := run.follow(ctx, time.Duration(in.Timeout)*time.Second); err != nil {
		return HealRunOut{}, err
	}
	run.count()
	if err := run.stuck(ctx); err != nil {
		return HealRunOut{}, err
	}
	if err := run.alert(ctx, in.AlwaysAlert); err != nil {
		return HealRunOut{}, err
	}
	run.report()
	return run.out, nil
}

// healPlan is the dry run: the same looking, then what the engine would do.
func healPlan(ctx context.Context, env *Env, _ None) (HealRunOut, error) {
	run := healing{env: env, out: HealRunOut{DryRun: true}}
	if err := run.look(ctx); err != nil {
		return HealRunOut{}, err
	}
	r, err := env.command(ctx, autoheal.Command{Verb: autoheal.CmdPlan, DryRun: true})
	if err != nil {
		return HealRunOut{}, err
	}
	held := 0
	for _, p := range r.Plan {
		run.out.Plan = append(run.out.Plan, Planned{Planned: p, WouldHold: len(p.Held) > 0})
		if len(p.Held) > 0 {
			held++
		}
	}
	switch {
	case len(r.Plan) == 0:
		run.out.Report = []string{"Nothing to do"}
	default:
		run.out.Report = []string{fmt.Sprintf("%s would be done, %d of them held now; nothing was changed", things(len(r.Plan), "thing"), held)}
	}
	return run.out, nil
}

// healing is one run under way.
type healing struct {
	env       *Env
	out       HealRunOut
	ids       []autoheal.IncidentID
	incidents []autoheal.Incident
	given     []autoheal.Stuck // up, before this run or in it
}

func (h *healing) step(n int, call, result string) {
	h.out.Steps = append(h.out.Steps, RunStep{n, call, result})
}

func (h *healing) watch(id autoheal.IncidentID) {
	if !slices.Contains(h.ids, id) {
		h.ids = append(h.ids, id)
	}
}

// look is steps 1 to 3 and 5 of the product's run: status, unhealthy nodes with their workloads, failed workloads.
func (h *healing) look(ctx context.Context) error {
	var err error
	if h.out.Status, err = clusterStatus(ctx, h.env, ClusterStatusIn{}); err != nil {
		return err
	}
	st := h.out.Status
	h.step(1, "cluster_status()", fmt.Sprintf("%s not ready, %s failed; %s", things(st.Nodes.NotReady, "node"), things(st.Workloads.Failed, "workload"), st.Summary))
	var sick []NodeItem
	for _, status := range []autoheal.NodeStatus{autoheal.StatusNotReady, autoheal.StatusOffline} {
		list, err := nodeList(ctx, h.env, NodeListIn{Status: string(status)})
		if err != nil {
			return err
		}
		h.step(2, fmt.Sprintf("node_list(status: %q)", status), found(list.Nodes))
		sick = append(sick, list.Nodes...)
	}
	for _, n := range sick {
		here, err := workloadList(ctx, h.env, WorkloadListIn{NodeID: string(n.ID), Limit: 1000})
		if err != nil {
			return err
		}
		h.step(3, fmt.Sprintf("node_get(nodeId: %q)", n.ID), fmt.Sprintf("%s, last heartbeat %s ago", n.Status, h.env.Now().Sub(n.LastHeartbeat).Round(time.Second)))
		h.step(3, fmt.Sprintf("workload_list(nodeId: %q)", n.ID), fmt.Sprintf("%s on it", things(unended(here.Workloads), "workload")))
	}
	failed, err := workloadList(ctx, h.env, WorkloadListIn{State: string(autoheal.Failed), Limit: 1000})
	if err != nil {
		return err
	}
	names := make([]string, 0, len(failed.Workloads))
	for _, w := range failed.Workloads {
		names = append(names, fmt.Sprintf("%s (%s counted against it)", w.ID, things(w.Restarts, "restart")))
	}
	h.step(5, `workload_list(state: "failed")`, orNone(names))
	return nil
}

func unended(items []WorkloadItem) int {
	n := 0
	for _, w := range items {
		if !w.State.Ended() {
			n++
		}
	}
	return n
}

func found(nodes []NodeItem) string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = string(n.ID)
	}
	return orNone(names)
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// things writes "1 node" or "2 nodes".
func things(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// follow waits until every incident has ended or waits for a person, or the time is over. Incidents that open meanwhile
// are followed too: a node's loss may show as a failed workload first.
func (h *healing) follow(ctx context.Context, wait time.Duration) error {
	settled := false
	err := follow(ctx, h.env, wait, everything, func(ctx context.Context) (bool, error) {
		open, err := h.env.Healer.Incidents(ctx, autoheal.IncidentFilter{Open: true})
		if err != nil {
			return false, fmt.Errorf("list incidents: %w", err)
		}
		settled = true
		for _, inc := range open {
			h.watch(inc.ID)
			settled = settled && stuck(inc)
		}
		return settled, nil
	})
	if err != nil {
		return err
	}
	h.out.TimedOut = !settled
	for _, id := range h.ids {
		inc, err := h.env.Healer.Incident(ctx, id)
		if err != nil {
			return fmt.Errorf("read incident %s: %w", id, err)
		}
		h.incidents = append(h.incidents, inc)
		h.out.Incidents = append(h.out.Incidents, FollowedIncident{
			ID: inc.ID, Kind: inc.Kind, Subject: inc.Subject, Phase: inc.Phase, Cause: inc.Cause, Held: heldOf(inc),
		})
	}
	return nil
}

// stuck reports whether an open incident waits for something that is not a matter of time alone: following it longer
// would show nothing.
func stuck(inc autoheal.Incident) bool {
	if inc.Phase.Ended() || inc.Held == nil {
		return false
	}
	unfinished := 0
	for _, r := range inc.Recoveries {
		if r.Step == autoheal.StepDone {
			continue
		}
		if unfinished++; r.Held == nil || !waitsForSomebody(r.Held) {
			return false // this one moves, whatever the others wait for
		}
	}
	return unfinished > 0 || waitsForSomebody(inc.Held)
}

func waitsForSomebody(h *autoheal.Held) bool { return needsPerson(h) || h.Until.IsZero() }

// heldOf returns what an incident waits for while nothing of it moves.
func heldOf(inc autoheal.Incident) *autoheal.Held {
	if stuck(inc) {
		return inc.Held
	}
	return nil
}
