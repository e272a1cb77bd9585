package tool

import (
	"context"
	"fmt"
	"time"

	"autoheal.dev/autoheal"
)

// AlertCreateIn are the parameters of alert_create.
type AlertCreateIn struct {
	Name      string            `json:"name"`
	Severity  string            `json:"severity" check:"enum=info|warning|critical"`
	Condition string            `json:"condition,omitempty" jsonschema:"such as gpu_utilization > 90 for 5m; without one the alert fires now. Not supported yet in this version"`
	Message   string            `json:"message"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// AlertCreateOut is the result of alert_create.
type AlertCreateOut struct {
	Success bool         `json:"success"`
	Alert   CreatedAlert `json:"alert"`
	Message string       `json:"message"`
	Outcome
}

// CreatedAlert is an alert just raised.
type CreatedAlert struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Severity autoheal.Severity `json:"severity"`
	Message  string            `json:"message"`
}

func alertCreate(ctx context.Context, env *Env, in AlertCreateIn) (AlertCreateOut, error) {
	if in.Condition != "" {
		return AlertCreateOut{}, &ParamError{"condition", &autoheal.Error{
			Kind:   autoheal.ErrUnsupported,
			Detail: "Conditions are not supported yet in this version: leave out condition and the alert fires now; failures that autoheal detects raise alerts by themselves",
		}}
	}
	a := autoheal.Alert{Name: in.Name, Severity: autoheal.Severity(in.Severity), Message: in.Message, Labels: in.Labels, Source: env.Caller.Name}
	r, err := env.command(ctx, autoheal.Command{Verb: autoheal.CmdAlert, Alert: &a})
	if err != nil {
		return AlertCreateOut{}, err
	}
	out := AlertCreateOut{
		Success: accepted(r), Message: messageOf(r, fmt.Sprintf("Alert %s raised", in.Name)), Outcome: outcomeOf(r),
		Alert: CreatedAlert{Name: a.Name, Severity: a.Severity, Message: a.Message},
	}
	if r.Alert != nil {
		out.Alert = CreatedAlert{ID: r.Alert.ID, Name: r.Alert.Name, Severity: r.Alert.Severity, Message: r.Alert.Message}
	}
	return out, nil
}

// AlertListIn are the parameters of alert_list.
type AlertListIn struct {
	Severity string `json:"severity,omitempty" check:"enum=info|warning|critical"`
	Active   *bool  `json:"active,omitempty" jsonschema:"only those that are active, or only those that are not"`
}

// AlertListOut is the result of alert_list.
type AlertListOut struct {
	Count  int         `json:"count"`
	Alerts []AlertItem `json:"alerts"`
}

// AlertItem is an alert of a list.
type AlertItem struct {
	ID            string              `json:"id"`
	Name          string              `json:"name"`
	Severity      autoheal.Severity   `json:"severity"`
	Message       string              `json:"message"`
	Source        string              `json:"source"`
	FiredAt       time.Time           `json:"firedAt"`
	ResolvedAt    *time.Time          `json:"resolvedAt"`
	Active        bool                `json:"active"`
	Incident      autoheal.IncidentID `json:"incident,omitempty"`
	SilencedUntil *time.Time          `json:"silencedUntil"`
	Labels        map[string]string   `json:"labels"`
}

func alertList(ctx context.Context, env *Env, in AlertListIn) (AlertListOut, error) {
	all, err := env.Healer.Alerts(ctx)
	if err != nil {
		return AlertListOut{}, fmt.Errorf("list alerts: %w", err)
	}
	out := AlertListOut{}
	for _, a := range all {
		if in.Severity != "" && string(a.Severity) != in.Severity || in.Active != nil && a.Active != *in.Active {
			continue
		}
		out.Alerts = append(out.Alerts, AlertItem{
			ID: a.ID, Name: a.Name, Severity: a.Severity, Message: a.Message, Source: a.Source, FiredAt: a.FiredAt, ResolvedAt: a.ResolvedAt,
			Active: a.Active, Incident: a.Incident, SilencedUntil: a.Silenced, Labels: a.Labels,
		})
	}
	out.Count = len(out.Alerts)
	return out, nil
}

// refAlert is the kind of a Command's target that names an alert; alerts are no subjects of failures.
const refAlert autoheal.RefKind = "alert"

// AlertSilenceIn are the parameters of alert_silence.
type AlertSilenceIn struct {
	AlertID  string `json:"alertId"`
	Duration string `json:"duration" jsonschema:"such as 1h, 24h or 7d"`
}

// AlertSilenceOut is the result of alert_silence.
type AlertSilenceOut struct {
	Success     bool   `json:"success"`
	AlertID     string `json:"alertId"`
	SilencedFor string `json:"silencedFor"`
	Message     string `json:"message"`
	Outcome
}

func alertSilence(ctx context.Context, env *Env, in AlertSilenceIn) (AlertSilenceOut, error) {
	d, err := parseAge("duration", in.Duration)
	if err != nil {
		return AlertSilenceOut{}, err
	}
	all, err := env.Healer.Alerts(ctx)
	if err != nil {
		return AlertSilenceOut{}, fmt.Errorf("list alerts: %w", err)
	}
	for _, a := range all {
		if a.ID != in.AlertID {
			continue
		}
		r, err := env.command(ctx, autoheal.Command{
			Verb: autoheal.CmdSilence, Target: autoheal.Ref{Kind: refAlert, ID: a.ID}, Alert: &a, Until: env.Now().Add(d),
		})
		if err != nil {
			return AlertSilenceOut{}, err
		}
		return AlertSilenceOut{
			Success: accepted(r), AlertID: a.ID, SilencedFor: in.Duration, Outcome: outcomeOf(r),
			Message: messageOf(r, fmt.Sprintf("Alert %s silenced for %s", a.ID, in.Duration)),
		}, nil
	}
	return AlertSilenceOut{}, notFound("Alert", in.AlertID)
}
