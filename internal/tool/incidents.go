package tool

import (
	"context"
	"fmt"

	"autoheal.dev/autoheal"
)

// IncidentListIn are the parameters of incident_list.
type IncidentListIn struct {
	Open       bool   `json:"open,omitempty" jsonschema:"only those that have not ended"`
	Kind       string `json:"kind,omitempty" check:"enum=node_offline|gpu_failure|node_fault|network_partition|health_check|crash_loop|resource_exhaustion"`
	NodeID     string `json:"nodeId,omitempty" jsonschema:"about this node, or that moved work from or to it"`
	WorkloadID string `json:"workloadId,omitempty" jsonschema:"about this workload, or that affected it"`
	Since      string `json:"since,omitempty" jsonschema:"an age such as 24h or 7d, or an ISO 8601 time"`
	Limit      int    `json:"limit,omitempty" check:"min=1,max=10000,default=50"`
	Brief      bool   `json:"brief,omitempty" jsonschema:"leave out evidence, actions and timeline"`
}

// IncidentListOut is the result of incident_list.
type IncidentListOut struct {
	Count     int                 `json:"count"`
	Incidents []autoheal.Incident `json:"incidents" jsonschema:"newest first"`
}

func incidentList(ctx context.Context, env *Env, in IncidentListIn) (IncidentListOut, error) {
	since, err := parseWhen("since", in.Since, env.Now())
	if err != nil {
		return IncidentListOut{}, err
	}
	f := autoheal.IncidentFilter{
		Open: in.Open, Kind: autoheal.FailureKind(in.Kind), Node: autoheal.NodeID(in.NodeID), Workload: autoheal.WorkloadID(in.WorkloadID),
		Since: since, Limit: in.Limit, Brief: in.Brief,
	}
	if in.WorkloadID != "" { // a name will do, and the ID of a workload that is gone too
		if w, err := findWorkload(ctx, env, in.WorkloadID); err == nil {
			f.Workload = w.ID
		}
	}
	found, err := env.Healer.Incidents(ctx, f)
	if err != nil {
		return IncidentListOut{}, fmt.Errorf("list incidents: %w", err)
	}
	return IncidentListOut{Count: len(found), Incidents: found}, nil
}

// IncidentIn names an incident.
type IncidentIn struct {
	IncidentID string `json:"incidentId" jsonschema:"such as inc-000017"`
}

func incidentGet(ctx context.Context, env *Env, in IncidentIn) (autoheal.Incident, error) {
	inc, err := env.Healer.Incident(ctx, autoheal.IncidentID(in.IncidentID))
	return inc, incidentError(err, in.IncidentID)
}

// incidentError gives "not found" the words of the other verbs.
func incidentError(err error, id string) error {
	if autoheal.KindOf(err) == autoheal.ErrNotFound {
		return notFound("Incident", id)
	}
	return err
}

// PostMortemGetIn are the parameters of postmortem_get.
type PostMortemGetIn struct {
	IncidentID string `json:"incidentId,omitempty" jsonschema:"such as inc-000017; the latest ended one when left out"`
}

func postMortemGet(ctx context.Context, env *Env, in PostMortemGetIn) (autoheal.PostMortem, error) {
	id := autoheal.IncidentID(in.IncidentID)
	if id == "" {
		all, err := env.Healer.Incidents(ctx, autoheal.IncidentFilter{Brief: true})
		if err != nil {
			return autoheal.PostMortem{}, fmt.Errorf("list incidents: %w", err)
		}
		for _, inc := range all {
			if inc.Phase.Ended() {
				id = inc.ID
				break
			}
		}
		if id == "" {
			return autoheal.PostMortem{}, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: "No incident has ended yet"}
		}
	}
	pm, err := env.Healer.PostMortem(ctx, id)
	return pm, incidentError(err, string(id))
}

// ApproveIn are the parameters of incident_approve.
type ApproveIn struct {
	IncidentID string `json:"incidentId,omitempty" jsonschema:"gives every approval that the incident waits for"`
	ApprovalID string `json:"approvalId,omitempty" jsonschema:"gives this one"`
	Reason     string `json:"reason,omitempty"`
}

func incidentApprove(ctx context.Context, env *Env, in ApproveIn) (Changed, error) {
	if (in.IncidentID == "") == (in.ApprovalID == "") {
		return Changed{}, badParam("incidentId", "Wrong parameters: give either incidentId or approvalId")
	}
	target := in.IncidentID + in.ApprovalID
	return ask(ctx, env, autoheal.Command{
		Verb: autoheal.CmdApprove, Incident: autoheal.IncidentID(in.IncidentID), Approval: in.ApprovalID, Reason: in.Reason,
	}, target, "Approved")
}

// IncidentEndIn are the parameters of incident_dismiss and incident_release.
type IncidentEndIn struct {
	IncidentID string `json:"incidentId" jsonschema:"such as inc-000017"`
	Reason     string `json:"reason,omitempty"`
}

func incidentDismiss(ctx context.Context, env *Env, in IncidentEndIn) (Changed, error) {
	c := autoheal.Command{Verb: autoheal.CmdDismiss, Incident: autoheal.IncidentID(in.IncidentID), Reason: in.Reason}
	return ask(ctx, env, c, in.IncidentID, "Incident dismissed: nothing more is done for it")
}

func incidentRelease(ctx context.Context, env *Env, in IncidentEndIn) (Changed, error) {
	c := autoheal.Command{Verb: autoheal.CmdRelease, Incident: autoheal.IncidentID(in.IncidentID), Reason: in.Reason}
	return ask(ctx, env, c, in.IncidentID, "Hold released: recovery goes on")
}

// ask sends a command whose result is a Changed.
func ask(ctx context.Context, env *Env, c autoheal.Command, target, done string) (Changed, error) {
	r, err := env.command(ctx, c)
	if err != nil {
		return Changed{}, err
	}
	return changed(r, target, done), nil
}
