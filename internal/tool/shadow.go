package tool

import (
	"context"
	"fmt"
	"time"

	"autoheal.dev/autoheal"
)

// ShadowReportIn are the parameters of shadow_report.
type ShadowReportIn struct {
	Since string `json:"since,omitempty" check:"default=7d" jsonschema:"incidents opened since then: an age such as 24h or 7d, or an ISO 8601 time"`
}

// ShadowReportOut is the result of shadow_report.
type ShadowReportOut struct {
	Since     time.Time        `json:"since"`
	Shadow    bool             `json:"shadow" jsonschema:"the healer only writes down what it would do now"`
	Actions   int              `json:"actions" jsonschema:"that would have been taken, in all"`
	Incidents []ShadowIncident `json:"incidents" jsonschema:"newest first, those with such actions only"`
}

// ShadowIncident is what would have been done about one incident.
type ShadowIncident struct {
	ID       autoheal.IncidentID     `json:"id"`
	Kind     autoheal.FailureKind    `json:"kind"`
	Phase    autoheal.Phase          `json:"phase"`
	Subject  autoheal.Ref            `json:"subject"`
	Cause    string                  `json:"cause" jsonschema:"may quote logs"`
	OpenedAt time.Time               `json:"openedAt"`
	Actions  []autoheal.ShadowAction `json:"actions" jsonschema:"in order of time; what would have followed from one that was not taken is not known"`
}

func shadowReport(ctx context.Context, env *Env, in ShadowReportIn) (ShadowReportOut, error) {
	since, err := parseWhen("since", in.Since, env.Now())
	if err != nil {
		return ShadowReportOut{}, err
	}
	status, err := env.Healer.Status(ctx)
	if err != nil {
		return ShadowReportOut{}, fmt.Errorf("ask for the healer's status: %w", err)
	}
	all, err := env.Healer.Incidents(ctx, autoheal.IncidentFilter{Since: since, Brief: true})
	if err != nil {
		return ShadowReportOut{}, fmt.Errorf("list incidents: %w", err)
	}
	out := ShadowReportOut{Since: since, Shadow: status.Shadow, Incidents: []ShadowIncident{}}
	for _, i := range all {
		if len(i.Shadow) == 0 {
			continue
		}
		out.Actions += len(i.Shadow)
		out.Incidents = append(out.Incidents, ShadowIncident{
			ID: i.ID, Kind: i.Kind, Phase: i.Phase, Subject: i.Subject, Cause: i.Cause, OpenedAt: i.OpenedAt, Actions: i.Shadow,
		})
	}
	return out, nil
}
