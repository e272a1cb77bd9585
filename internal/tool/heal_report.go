package tool

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
)

// count reads from the incidents what was done. A workload that moved to another node counts as migrated, one that
// recovered where it was as restarted.
func (h *healing) count() {
	for _, inc := range h.incidents {
		for _, a := range inc.Actions {
			if a.Verb == autoheal.Cordon && a.Outcome != nil && *a.Outcome == autoheal.OutcomeDone {
				addOnce(&h.out.NodesCordoned, autoheal.NodeID(a.Target.ID))
			}
		}
		for _, r := range inc.Recoveries {
			h.countRecovery(r)
		}
		h.out.NeedsPerson = h.out.NeedsPerson || inc.Phase == autoheal.Escalated || stuck(inc)
	}
	slices.Sort(h.out.NodesCordoned)
	slices.Sort(h.out.WorkloadsMigrated)
	slices.Sort(h.out.WorkloadsRestarted)
	for _, n := range h.out.NodesCordoned {
		h.step(3, fmt.Sprintf("node_cordon(nodeId: %q)", n), "cordoned")
	}
	for _, w := range h.out.WorkloadsMigrated {
		h.step(4, fmt.Sprintf("workload_stop, workload_submit (%s)", w), "migrated")
	}
	for _, w := range h.out.WorkloadsRestarted {
		h.step(5, fmt.Sprintf("workload_submit (%s)", w), "restarted")
	}
	for _, inc := range h.incidents {
		if held := heldOf(inc); held != nil {
			h.step(5, string(inc.ID), heldText(*held))
		}
	}
}

func (h *healing) countRecovery(r autoheal.Recovery) {
	if r.End != autoheal.EndRecovered {
		return
	}
	members := r.Members
	if len(members) == 0 {
		members = []autoheal.WorkloadID{r.Workload}
	}
	list := &h.out.WorkloadsRestarted
	if r.From != "" && r.To != "" && r.From != r.To {
		list = &h.out.WorkloadsMigrated
	}
	for _, w := range members {
		addOnce(list, w)
	}
}

func addOnce[T comparable](list *[]T, v T) {
	if !slices.Contains(*list, v) {
		*list = append(*list, v)
	}
}

// alert raises auto-heal-complete. Its second number counts every workload that was started anew, moved ones included.
func (h *healing) alert(ctx context.Context, always bool) error {
	nodes, workloads := len(h.out.NodesCordoned), len(h.out.WorkloadsMigrated)+len(h.out.WorkloadsRestarted)
	always = always || h.env.Policy().Alerts.AlwaysAlert
	if nodes == 0 && workloads == 0 && !always {
		h.step(6, "alert_create", "nothing cordoned and nothing restarted, so no alert")
		return nil
	}
	created, err := alertCreate(ctx, h.env, AlertCreateIn{
		Name: CompleteAlert, Severity: string(autoheal.SeverityInfo),
		Message: fmt.Sprintf("Auto-heal: %d nodes cordoned, %d workloads restarted", nodes, workloads),
	})
	if err != nil {
		return err
	}
	h.out.Alert = &created.Alert
	h.step(6, fmt.Sprintf("alert_create(name: %q)", CompleteAlert), created.Alert.Message)
	return nil
}

// report writes what to tell the user.
func (h *healing) report() {
	add := func(format string, args ...any) { h.out.Report = append(h.out.Report, fmt.Sprintf(format, args...)) }
	if n := len(h.out.NodesCordoned); n > 0 {
		add("Cordoned %s", things(n, "unhealthy node"))
	}
	if n := len(h.out.WorkloadsMigrated); n > 0 {
		add("Migrated %s", things(n, "workload"))
	}
	if n := len(h.out.WorkloadsRestarted); n > 0 {
		add("Restarted %s", things(n, "failed workload"))
	}
	for _, inc := range h.incidents {
		h.reportOpen(inc, add)
	}
	if h.out.TimedOut {
		add("Not finished in time: healing goes on; see autoheal incidents")
	}
	for _, r := range h.recommendations() {
		add("Recommend: %s", r)
	}
	if len(h.out.Report) == 0 {
		add("Nothing to do: %s", h.out.Status.Summary)
	}
	h.step(7, "report", strings.Join(h.out.Report, "; "))
	slices.SortStableFunc(h.out.Steps, func(a, b RunStep) int { return a.Step - b.Step })
}

func (h *healing) reportOpen(inc autoheal.Incident, add func(string, ...any)) {
	held := heldOf(inc)
	switch {
	case inc.Phase == autoheal.Escalated:
		add("Escalated %s (%s of %s): see autoheal incidents show %s", inc.ID, inc.Kind, inc.Subject, inc.ID)
	case held != nil:
		add("%s (%s of %s): %s", inc.ID, inc.Kind, inc.Subject, lowerFirst(heldText(*held)))
	}
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// stuck takes in what the healer gave up on before this run: it is not forgotten because its incident has ended.
func (h *healing) stuck(ctx context.Context) error {
	st, err := h.env.Healer.Status(ctx)
	if err != nil {
		return err
	}
	h.given = st.Stuck
	h.out.NeedsPerson = h.out.NeedsPerson || len(st.Stuck) > 0
	return nil
}

// recommendations joins the nodes whose hardware is to be looked at into one sentence and adds what the incidents say.
func (h *healing) recommendations() []string {
	var nodes, out []string
	for _, inc := range h.incidents {
		hardware := inc.Kind == autoheal.NodeOffline || inc.Kind == autoheal.GPUFailure || inc.Kind == autoheal.NodeFault
		name := autoheal.NodeID(inc.Subject.ID)
		if hardware && inc.Subject.Kind == autoheal.RefNode && slices.Contains(h.out.NodesCordoned, name) {
			addOnce(&nodes, inc.Subject.ID)
		}
		for _, r := range inc.Recommendations {
			addOnce(&out, r)
		}
	}
	for _, s := range h.given {
		addOnce(&out, fmt.Sprintf("%s (%s) waits for a person: %s", s.Name, s.Workload, s.Next))
	}
	if len(nodes) > 0 {
		slices.Sort(nodes)
		out = slices.Insert(out, 0, fmt.Sprintf("Investigate %s hardware", joinAnd(nodes)))
	}
	return out
}

func joinAnd(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
