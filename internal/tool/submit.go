package tool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// HiddenValue stands for the value of an environment variable wherever a spec is shown (behaviour F6).
const HiddenValue = "(hidden)"

// SpecIn is a workload's specification.
type SpecIn struct {
	Name              string            `json:"name,omitempty" jsonschema:"at most 63 of a-z, 0-9 and -"`
	Image             string            `json:"image,omitempty" jsonschema:"container image; host runs the command as a process of the node"`
	GPUs              int               `json:"gpus,omitempty" check:"min=0,max=100000" jsonschema:"how many GPUs; 0 for none"`
	Command           []string          `json:"command,omitempty"`
	Args              []string          `json:"args,omitempty"`
	Env               map[string]string `json:"env,omitempty" jsonschema:"environment variables; their values are never shown again"`
	GPUMemoryMB       int64             `json:"gpuMemoryMb,omitempty" check:"min=0" jsonschema:"least memory of each GPU"`
	CPUCores          float64           `json:"cpuCores,omitempty" check:"min=0"`
	MemoryMB          int64             `json:"memoryMb,omitempty" check:"min=0"`
	Priority          *int              `json:"priority,omitempty" check:"min=0,max=100" jsonschema:"0 to 100, higher is more important"`
	Preemptible       *bool             `json:"preemptible,omitempty" jsonschema:"may be stopped for a more important workload"`
	MaxRuntimeSeconds int64             `json:"maxRuntimeSeconds,omitempty" check:"min=0"`
	Labels            map[string]string `json:"labels,omitempty"`
}

// WorkloadSubmitIn are the parameters of workload_submit: the specification flat, or whole under spec.
type WorkloadSubmitIn struct {
	SpecIn
	Spec      *SpecIn `json:"spec,omitempty" jsonschema:"the whole specification, in place of the flat parameters"`
	RequestID string  `json:"requestId,omitempty" jsonschema:"chosen by the caller; the same one with the same specification is one submission"`
}

// WorkloadSubmitOut is the result of workload_submit.
type WorkloadSubmitOut struct {
	Success  bool              `json:"success"`
	Workload SubmittedWorkload `json:"workload"`
	Message  string            `json:"message"`
	Warnings []string          `json:"warnings" jsonschema:"what the owner should know now"`
}

// SubmittedWorkload is a workload just accepted.
type SubmittedWorkload struct {
	ID        autoheal.WorkloadID    `json:"id"`
	Name      string                 `json:"name"`
	State     autoheal.WorkloadState `json:"state"`
	GPUs      int                    `json:"gpus"`
	CreatedAt time.Time              `json:"createdAt"`
}

func workloadSubmit(ctx context.Context, env *Env, in WorkloadSubmitIn) (WorkloadSubmitOut, error) {
	s, err := in.spec()
	if err != nil {
		return WorkloadSubmitOut{}, err
	}
	if env.Workloads == nil {
		return WorkloadSubmitOut{}, &autoheal.Error{
			Kind: autoheal.ErrUnsupported, Op: "workload_submit", Detail: "this cluster's driver takes no submissions: use the cluster's own tools",
		}
	}
	id := autoheal.ActionID(in.RequestID)
	if id == "" {
		id = env.newID()
	}
	wid, err := env.Workloads.Submit(ctx, id, s)
	if err != nil {
		if e, ok := errors.AsType[*autoheal.Error](err); ok && e.Op != "" { // the driver says what it could not do
			return WorkloadSubmitOut{}, err
		}
		return WorkloadSubmitOut{}, fmt.Errorf("submit %s: %w", s.Name, err)
	}
	out := WorkloadSubmitOut{
		Success: true, Message: fmt.Sprintf("Workload %s submitted as %s", s.Name, wid),
		Workload: SubmittedWorkload{ID: wid, Name: s.Name, State: autoheal.Pending, GPUs: s.GPUs, CreatedAt: env.Now()},
	}
	seen(ctx, env, wid, func(autoheal.WorkloadView) bool { return true })
	out.Warnings = objectiveWarnings(ctx, env, wid)
	if w, err := findWorkload(ctx, env, string(wid)); err == nil {
		out.Workload.State, out.Workload.CreatedAt = w.State, w.SubmittedAt
	}
	return out, nil
}

// spec returns what is to be submitted. Flat parameters beside spec are refused: which of two names wins would be a
// guess.
func (in WorkloadSubmitIn) spec() (autoheal.Spec, error) {
	from, prefix := in.SpecIn, ""
	if in.Spec != nil {
		if name := firstGiven(in.SpecIn); name != "" {
			return autoheal.Spec{}, badParam(name, "Wrong parameter: %s is given beside spec: put it inside spec", name)
		}
		from, prefix = *in.Spec, "spec."
	}
	for _, p := range []struct{ name, val string }{{"name", from.Name}, {"image", from.Image}} {
		if p.val == "" {
			return autoheal.Spec{}, badParam(prefix+p.name, "Missing parameter: %s", prefix+p.name)
		}
	}
	if err := autoheal.CheckName(from.Name); err != nil {
		return autoheal.Spec{}, badParam(prefix+"name", "Wrong value for parameter %sname: %s", prefix, err.Detail)
	}
	for _, name := range slices.Sorted(maps.Keys(from.Env)) {
		if from.Env[name] == HiddenValue {
			at := prefix + "env." + name
			return autoheal.Spec{}, badParam(at, "Wrong value for parameter %s: it is the stand-in for a hidden value; give the value itself", short(at))
		}
	}
	if _, problems := autoheal.ParseLabels(from.Labels); len(problems) > 0 {
		key := strings.TrimPrefix(problems[0].Op, "label ")
		return autoheal.Spec{}, badParam(prefix+"labels."+key, "Wrong value for parameter %slabels: %s", prefix, problemTexts(problems))
	}
	return autoheal.Spec{
		Name: from.Name, Image: from.Image, Command: from.Command, Args: from.Args, Env: from.Env, GPUs: from.GPUs, GPUMemoryMB: from.GPUMemoryMB,
		CPUCores: from.CPUCores, MemoryMB: from.MemoryMB, Priority: from.Priority, Preemptible: from.Preemptible,
		MaxRuntimeSeconds: from.MaxRuntimeSeconds, Labels: from.Labels,
	}, nil
}

func problemTexts(problems []*autoheal.Error) string {
	var s strings.Builder
	for i, p := range problems {
		if i > 0 {
			s.WriteString("; ")
		}
		s.WriteString(Printable(p.Error()))
	}
	return s.String()
}

// ShownSpec is a specification as it may be shown: the names of the environment variables, never their values.
type ShownSpec struct {
	Name              string            `json:"name"`
	Image             string            `json:"image"`
	GPUs              int               `json:"gpus"`
	Command           []string          `json:"command,omitempty"`
	Args              []string          `json:"args,omitempty"`
	Env               map[string]string `json:"env,omitempty" jsonschema:"every value reads (hidden)"`
	GPUMemoryMB       int64             `json:"gpuMemoryMb,omitempty"`
	CPUCores          float64           `json:"cpuCores,omitempty"`
	MemoryMB          int64             `json:"memoryMb,omitempty"`
	Priority          *int              `json:"priority,omitempty"`
	Preemptible       *bool             `json:"preemptible,omitempty"`
	MaxRuntimeSeconds int64             `json:"maxRuntimeSeconds,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
}

// hideEnv copies what may be shown, key by key: a key that Spec grows later is not shown until somebody adds it here.
func hideEnv(s autoheal.Spec) *ShownSpec {
	out := &ShownSpec{
		Name: s.Name, Image: s.Image, GPUs: s.GPUs, Command: s.Command, Args: s.Args, GPUMemoryMB: s.GPUMemoryMB, CPUCores: s.CPUCores,
		MemoryMB: s.MemoryMB, Priority: s.Priority, Preemptible: s.Preemptible, MaxRuntimeSeconds: s.MaxRuntimeSeconds, Labels: s.Labels,
	}
	if len(s.Env) > 0 {
		out.Env = map[string]string{}
		for name := range s.Env {
			out.Env[name] = HiddenValue
		}
	}
	return out
}

// objectiveWarnings says at once where the objective of a new workload cannot be met: on silence alone (behaviour A4), or
// with the time that its like takes to start (F1).
func objectiveWarnings(ctx context.Context, env *Env, id autoheal.WorkloadID) []string {
	if y, err := env.Healer.Why(ctx, autoheal.WorkloadRef(id)); err == nil {
		return y.Warnings
	}
	w, err := findWorkload(ctx, env, string(id)) // the healer has not seen it yet
	if err != nil || w.Class != autoheal.Critical || !w.AtMostOnce {
		return nil
	}
	wait, objective := env.Policy().Fence.Wait, time.Duration(w.ObjectiveSeconds)
	if wait < objective {
		return nil
	}
	return []string{fmt.Sprintf(
		"critical and at-most-once: when its node goes silent the old copy is proven gone only after %s, so the objective of %s cannot be met on silence alone", wait, objective)}
}

// CheckSubmission reports what is wrong with the parameters of workload_submit before they are sent: the same refusals,
// as a *ParamError that names the parameter.
func CheckSubmission(raw json.RawMessage) error {
	var in WorkloadSubmitIn
	if err := decode(raw, &in); err != nil {
		return err
	}
	_, err := in.spec()
	return err
}
