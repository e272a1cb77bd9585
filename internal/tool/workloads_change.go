package tool

import (
	"context"
	"fmt"
	"time"

	"autoheal.dev/autoheal"
)

// WorkloadChanged is the result of workload_stop, workload_pause and workload_resume.
type WorkloadChanged struct {
	Success    bool                `json:"success"`
	WorkloadID autoheal.WorkloadID `json:"workloadId"`
	Message    string              `json:"message"`
	Outcome
}

// WorkloadStopIn are the parameters of workload_stop.
type WorkloadStopIn struct {
	WorkloadID string `json:"workloadId" jsonschema:"ID of the workload, or its name where that is unique"`
	Grace      int64  `json:"gracePeriodSeconds,omitempty" check:"min=0,max=86400,default=30" jsonschema:"time between SIGTERM and SIGKILL"`
	Force      bool   `json:"force,omitempty" jsonschema:"kill at once"`
}

func workloadStop(ctx context.Context, env *Env, in WorkloadStopIn) (WorkloadChanged, error) {
	w, err := findWorkload(ctx, env, in.WorkloadID)
	if err != nil {
		return WorkloadChanged{}, err
	}
	c := autoheal.Command{
		Verb: autoheal.CommandVerb(autoheal.Stop), Target: w.Ref(),
		Params: autoheal.ActionParams{Grace: time.Duration(in.Grace) * time.Second, Force: in.Force, Final: true},
	}
	if in.Force {
		c.Params.Grace = 0
	}
	return changeWorkload(ctx, env, w, c, "Workload %s is stopping and will not be started again")
}

// WorkloadMarkIn are the parameters of workload_pause and workload_resume.
type WorkloadMarkIn struct {
	WorkloadID string `json:"workloadId" jsonschema:"ID of the workload, or its name where that is unique"`
	Reason     string `json:"reason,omitempty" jsonschema:"shown wherever the mark is shown"`
}

func workloadPause(ctx context.Context, env *Env, in WorkloadMarkIn) (WorkloadChanged, error) {
	return markWorkload(ctx, env, in, autoheal.Pause, "Workload %s paused: what runs goes on, nothing new is started")
}

func workloadResume(ctx context.Context, env *Env, in WorkloadMarkIn) (WorkloadChanged, error) {
	return markWorkload(ctx, env, in, autoheal.Resume, "Workload %s resumed")
}

func markWorkload(ctx context.Context, env *Env, in WorkloadMarkIn, verb autoheal.Verb, done string) (WorkloadChanged, error) {
	w, err := findWorkload(ctx, env, in.WorkloadID)
	if err != nil {
		return WorkloadChanged{}, err
	}
	return changeWorkload(ctx, env, w, autoheal.Command{Verb: autoheal.CommandVerb(verb), Target: w.Ref(), Reason: in.Reason}, done)
}

func changeWorkload(ctx context.Context, env *Env, w autoheal.WorkloadView, c autoheal.Command, done string) (WorkloadChanged, error) {
	r, err := env.command(ctx, c)
	if err != nil {
		return WorkloadChanged{}, err
	}
	out := WorkloadChanged{
		Success: accepted(r), WorkloadID: w.ID, Message: messageOf(r, fmt.Sprintf(done, w.ID)), Outcome: outcomeOf(r),
	}
	if r.Held != nil || !out.Success {
		return out, nil
	}
	switch autoheal.Verb(c.Verb) {
	case autoheal.Pause:
		seen(ctx, env, w.ID, func(w autoheal.WorkloadView) bool { return w.Paused != nil })
	case autoheal.Resume:
		seen(ctx, env, w.ID, func(w autoheal.WorkloadView) bool { return w.Paused == nil })
	}
	return out, nil
}

// WorkloadScaleIn are the parameters of workload_scale.
type WorkloadScaleIn struct {
	WorkloadID string `json:"workloadId" jsonschema:"ID of the workload, or its name where that is unique"`
	Replicas   int    `json:"replicas" check:"min=0,max=100000"`
}

// WorkloadScaleOut is the result of workload_scale.
type WorkloadScaleOut struct {
	Success          bool                `json:"success"`
	WorkloadID       autoheal.WorkloadID `json:"workloadId"`
	PreviousReplicas int                 `json:"previousReplicas"`
	NewReplicas      int                 `json:"newReplicas"`
	Message          string              `json:"message"`
	Outcome
}

func workloadScale(ctx context.Context, env *Env, in WorkloadScaleIn) (WorkloadScaleOut, error) {
	w, err := findWorkload(ctx, env, in.WorkloadID)
	if err != nil {
		return WorkloadScaleOut{}, err
	}
	r, err := env.command(ctx, autoheal.Command{
		Verb: autoheal.CommandVerb(autoheal.Scale), Target: w.Ref(), Params: autoheal.ActionParams{Replicas: in.Replicas},
	})
	if err != nil {
		return WorkloadScaleOut{}, err
	}
	out := WorkloadScaleOut{
		Success: accepted(r), WorkloadID: w.ID, PreviousReplicas: w.Replicas, NewReplicas: in.Replicas, Outcome: outcomeOf(r),
		Message: messageOf(r, fmt.Sprintf("Workload %s scaled from %d to %d replicas", w.ID, w.Replicas, in.Replicas)),
	}
	if r.Held != nil {
		out.NewReplicas = w.Replicas
		return out, nil
	}
	seen(ctx, env, w.ID, func(w autoheal.WorkloadView) bool { return w.Replicas == in.Replicas })
	return out, nil
}
