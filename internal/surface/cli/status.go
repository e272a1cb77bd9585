package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
	"github.com/spf13/cobra"
)

// statusView is what status shows.
type statusView struct {
	Cluster   json.RawMessage `json:"cluster"`
	Healer    json.RawMessage `json:"healer"`
	Incidents json.RawMessage `json:"incidents"`
}

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the health of the cluster and of the healer",
		Long: "Show the health of the cluster and of the healer, open incidents, and what waits for a person.\n" +
			"The exit code is 2 when something waits for a person.",
		Example: "  autoheal status\n  autoheal status --watch\n  autoheal status -o json | jq .cluster.healthy",
		Args:    cobra.NoArgs,
		RunE: a.run(func(s *session, _ []string) error {
			var last json.RawMessage
			fetch := func() (raw json.RawMessage, err error) {
				last, err = s.fetchStatus()
				return last, err
			}
			if err := s.display(fetch, renderStatus); err != nil || s.watch {
				return err
			}
			return statusNeedsPerson(last)
		}),
	}
}

func (s *session) fetchStatus() (json.RawMessage, error) {
	var v statusView
	var err error
	if v.Cluster, err = s.raw("cluster_status", nil); err != nil {
		return nil, err
	}
	if v.Healer, err = s.raw("healer_status", nil); err != nil {
		return nil, err
	}
	if v.Incidents, err = s.raw("incident_list", tool.IncidentListIn{Open: true, Brief: true}); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// statusParts is statusView as read.
type statusParts struct {
	Cluster   tool.ClusterStatusOut `json:"cluster"`
	Healer    autoheal.HealerStatus `json:"healer"`
	Incidents tool.IncidentListOut  `json:"incidents"`
}

func readStatus(raw json.RawMessage) (statusParts, error) {
	var v statusParts
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("read answer: %w", err)
	}
	return v, nil
}

func renderStatus(p *page, raw json.RawMessage) error {
	v, err := readStatus(raw)
	if err != nil {
		return err
	}
	health := "healthy"
	if !v.Cluster.Healthy {
		health = "unhealthy"
	}
	p.line("%s", v.Cluster.Summary)
	p.fields(
		"Health", health,
		"Nodes", fmt.Sprintf("%d ready, %d not ready", v.Cluster.Nodes.Ready, v.Cluster.Nodes.NotReady),
		"GPUs", gpuText(v.Cluster.GPUs),
		"Workloads", fmt.Sprintf("%d running, %d pending, %d failed", v.Cluster.Workloads.Running, v.Cluster.Workloads.Pending, v.Cluster.Workloads.Failed),
		"Healer", healerText(v.Healer),
		"Vetoes", heldWindows(p, v.Healer.Vetoed),
		"Maintenance", heldWindows(p, v.Healer.Maintenance),
	)
	if len(v.Incidents.Incidents) > 0 {
		p.gap()
		renderIncidents(p, v.Incidents)
	}
	if len(v.Healer.Approvals) > 0 {
		p.gap()
		renderApprovals(p, v.Healer.Approvals)
	}
	if len(v.Healer.Stuck) > 0 {
		p.gap()
		renderStuck(p, v.Healer.Stuck)
	}
	return nil
}

func renderStuck(p *page, stuck []autoheal.Stuck) {
	var rows [][]string
	for _, s := range stuck {
		rows = append(rows, []string{s.Name + " (" + string(s.Workload) + ")", string(s.Incident), s.Why, s.Next})
	}
	p.table("", []string{"WAITS FOR A PERSON", "INCIDENT", "WHY", "NEXT"}, rows)
}

func gpuText(g tool.GPUCounts) string {
	s := fmt.Sprintf("%d available, %d allocated of %d", g.Available, g.Allocated, g.Total)
	if g.Simulated > 0 {
		s += fmt.Sprintf(" (%d simulated)", g.Simulated)
	}
	return s
}

func healerText(st autoheal.HealerStatus) string {
	said := []string{}
	for _, h := range []*autoheal.Held{st.Blocked, st.Paused, st.Observer} {
		if h != nil {
			said = append(said, heldText(*h))
		}
	}
	switch {
	case !st.Synced:
		said = append(said, "no full view of the cluster yet")
	case !st.Enabled:
		said = append(said, "disabled: it observes and alerts only")
	case st.Shadow:
		said = append(said, "shadow: it writes down what it would do and does nothing")
	case len(said) == 0:
		said = append(said, "acting")
	}
	return fmt.Sprintf("%s (version %s, epoch %d)", strings.Join(said, "; "), st.Version, st.Epoch)
}

// heldWindows names what keeps the healer away now, on whose word, and when each ends.
func heldWindows(p *page, windows []autoheal.Held) string {
	var said []string
	for _, w := range windows {
		text := w.Detail
		if !w.Until.IsZero() {
			text += ", ends " + p.until(w.Until)
		}
		said = append(said, text)
	}
	return strings.Join(said, "; ")
}

func heldText(h autoheal.Held) string {
	if h.Detail == "" {
		return string(h.Reason)
	}
	return string(h.Reason) + ": " + h.Detail
}

func renderApprovals(p *page, approvals []autoheal.Approval) {
	var rows [][]string
	for _, a := range approvals {
		if a.State == "asked" {
			rows = append(rows, []string{a.ID, string(a.Verb), a.Target.String(), string(a.Incident), p.until(a.Expires), a.Reason})
		}
	}
	p.table("No approval is asked for.", []string{"APPROVAL", "VERB", "TARGET", "INCIDENT", "EXPIRES", "WHY"}, rows)
}

// statusNeedsPerson says what waits for a person, as the exit code.
func statusNeedsPerson(raw json.RawMessage) error {
	v, err := readStatus(raw)
	if err != nil {
		return err
	}
	for _, a := range v.Healer.Approvals {
		if a.State == "asked" {
			return &NeedsPersonError{Text: "approval " + a.ID + " is asked for"}
		}
	}
	if len(v.Healer.Stuck) > 0 {
		s := v.Healer.Stuck[0]
		return &NeedsPersonError{Text: s.Name + " was given up: see autoheal incidents show " + string(s.Incident)}
	}
	holds := []*autoheal.Held{v.Healer.Blocked, v.Healer.Observer}
	for _, i := range v.Incidents.Incidents {
		holds = append(holds, i.Held)
	}
	for _, h := range holds {
		if h != nil && tool.NeedsPerson(*h) {
			return needsPerson(h)
		}
	}
	return nil
}
