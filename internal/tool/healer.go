package tool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// None is for verbs without parameters.
type None struct{}

func healerStatus(ctx context.Context, env *Env, _ None) (autoheal.HealerStatus, error) {
	return env.Healer.Status(ctx)
}

// HealerPauseIn are the parameters of healer_pause.
type HealerPauseIn struct {
	Duration string `json:"duration,omitempty" jsonschema:"such as 30m; until healer_resume when left out"`
	Reason   string `json:"reason,omitempty"`
}

func healerPause(ctx context.Context, env *Env, in HealerPauseIn) (Changed, error) {
	until, err := untilOf(env, in.Duration)
	if err != nil {
		return Changed{}, err
	}
	c := autoheal.Command{Verb: autoheal.CmdPauseHealer, Reason: in.Reason, Until: until}
	return ask(ctx, env, c, "healer", "Healer paused: it observes and records, and does nothing")
}

func healerResume(ctx context.Context, env *Env, _ None) (Changed, error) {
	return ask(ctx, env, autoheal.Command{Verb: autoheal.CmdResumeHealer}, "healer", "Healer resumed")
}

func untilOf(env *Env, duration string) (time.Time, error) {
	if duration == "" {
		return time.Time{}, nil
	}
	d, err := parseAge("duration", duration)
	if err != nil {
		return time.Time{}, err
	}
	return env.Now().Add(d), nil
}

// VetoSetIn are the parameters of veto_set.
type VetoSetIn struct {
	Target   string `json:"target" jsonschema:"node/NAME, workload/ID, gang/NAME, domain/KIND/NAME, or the bare name of a node or workload"`
	Duration string `json:"duration,omitempty" jsonschema:"such as 2h; until veto_clear when left out"`
	Reason   string `json:"reason,omitempty"`
}

func vetoSet(ctx context.Context, env *Env, in VetoSetIn) (Changed, error) {
	target, err := findTarget(ctx, env, in.Target)
	if err != nil {
		return Changed{}, err
	}
	until, err := untilOf(env, in.Duration)
	if err != nil {
		return Changed{}, err
	}
	target.Generation = "" // a veto is about the name, through restarts and reboots
	c := autoheal.Command{Verb: autoheal.CmdVeto, Target: target, Until: until, Reason: in.Reason}
	return ask(ctx, env, c, target.String(), fmt.Sprintf("The healer leaves %s alone", target))
}

// TargetIn names a target.
type TargetIn struct {
	Target string `json:"target" jsonschema:"node/NAME, workload/ID, gang/NAME, domain/KIND/NAME, or the bare name of a node or workload"`
}

func vetoClear(ctx context.Context, env *Env, in TargetIn) (Changed, error) {
	target, err := vetoedTarget(ctx, env, in.Target)
	if err != nil {
		return Changed{}, err
	}
	return ask(ctx, env, autoheal.Command{Verb: autoheal.CmdUnveto, Target: target}, target.String(), fmt.Sprintf("The veto on %s is gone", target))
}

// vetoedTarget also finds a target that no longer exists, as long as its veto does.
func vetoedTarget(ctx context.Context, env *Env, name string) (autoheal.Ref, error) {
	st, err := env.Healer.Status(ctx)
	if err != nil {
		return autoheal.Ref{}, fmt.Errorf("read status: %w", err)
	}
	for _, v := range st.Vetoes {
		kind, id, _ := strings.Cut(v, "/")
		if v == name || id == name {
			return autoheal.Ref{Kind: autoheal.RefKind(kind), ID: id}, nil
		}
	}
	target, err := findTarget(ctx, env, name)
	target.Generation = ""
	return target, err
}

// MaintenanceStartIn are the parameters of maintenance_start.
type MaintenanceStartIn struct {
	Scope    string `json:"scope" jsonschema:"a node's name, a failure domain (rack/r1), or KEY=VALUE on node labels or domains (rack=r1)"`
	Duration string `json:"duration" jsonschema:"such as 2h"`
	Reason   string `json:"reason,omitempty"`
}

func maintenanceStart(ctx context.Context, env *Env, in MaintenanceStartIn) (Changed, error) {
	until, err := untilOf(env, in.Duration)
	if err != nil {
		return Changed{}, err
	}
	if until.IsZero() {
		return Changed{}, badParam("duration", "Wrong value for parameter duration: it is empty")
	}
	scope := scopeOf(in.Scope)
	if node, ok := strings.CutPrefix(scope, "node/"); ok {
		if _, err := findNode(ctx, env, node); err != nil {
			return Changed{}, err
		}
	}
	c := autoheal.Command{Verb: autoheal.CmdMaintenance, Scope: scope, Until: until, Reason: in.Reason}
	return ask(ctx, env, c, scope, fmt.Sprintf("Maintenance of %s until %s", scope, until.UTC().Format(time.RFC3339)))
}

// scopeOf writes a scope in one way, so that what was begun can be ended: a bare name is a node's.
func scopeOf(scope string) string {
	if strings.ContainsAny(scope, "=/") {
		return scope
	}
	return "node/" + scope
}

// MaintenanceEndIn are the parameters of maintenance_end.
type MaintenanceEndIn struct {
	Scope string `json:"scope" jsonschema:"as it was given to maintenance_start"`
}

func maintenanceEnd(ctx context.Context, env *Env, in MaintenanceEndIn) (Changed, error) {
	scope := scopeOf(in.Scope)
	return ask(ctx, env, autoheal.Command{Verb: autoheal.CmdMaintenanceEnd, Scope: scope}, scope, "Maintenance of "+scope+" ended")
}

// FenceConfirmIn are the parameters of fence_confirm.
type FenceConfirmIn struct {
	NodeID     string `json:"nodeId"`
	PoweredOff bool   `json:"poweredOff" jsonschema:"your word that the machine is powered off and stays off; must be true"`
	Reason     string `json:"reason,omitempty" jsonschema:"how you know"`
}

func fenceConfirm(ctx context.Context, env *Env, in FenceConfirmIn) (Changed, error) {
	if !in.PoweredOff {
		return Changed{}, badParam("poweredOff", "Wrong value for parameter poweredOff: only a machine that is powered off can be confirmed")
	}
	n, err := findNode(ctx, env, in.NodeID)
	if err != nil {
		return Changed{}, err
	}
	if n.Link == autoheal.LinkUp {
		return Changed{}, &autoheal.Error{
			Kind: autoheal.ErrConflict, Detail: fmt.Sprintf("Node %s answers, so it is not powered off: nothing was recorded", n.ID),
		}
	}
	c := autoheal.Command{
		Verb: autoheal.CmdFenceConfirm, Target: n.Ref(), Reason: in.Reason, Params: autoheal.ActionParams{Proof: autoheal.ProofOperator},
	}
	return ask(ctx, env, c, n.Ref().String(), fmt.Sprintf("Recorded: %s says that %s is powered off", env.Caller.Name, n.ID))
}

// WhyIn are the parameters of why.
type WhyIn = TargetIn

func why(ctx context.Context, env *Env, in WhyIn) (autoheal.Why, error) {
	target, err := findTarget(ctx, env, in.Target)
	if err != nil {
		return autoheal.Why{}, err
	}
	return env.Healer.Why(ctx, target)
}

// MaintenanceListOut is the result of maintenance_list.
type MaintenanceListOut struct {
	Count   int             `json:"count"`
	Windows []autoheal.Held `json:"windows"`
	Planned []Window        `json:"planned" jsonschema:"of the configuration, those that have not passed"`
}

// Window is a planned maintenance window.
type Window struct {
	Nodes string    `json:"nodes"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
}

func maintenanceList(ctx context.Context, env *Env, _ None) (MaintenanceListOut, error) {
	st, err := env.Healer.Status(ctx)
	if err != nil {
		return MaintenanceListOut{}, fmt.Errorf("read status: %w", err)
	}
	out := MaintenanceListOut{Count: len(st.Maintenance), Windows: st.Maintenance}
	for _, m := range env.Policy().Maintenance {
		if m.To.After(env.Now()) {
			out.Planned = append(out.Planned, Window{Nodes: m.Nodes, From: m.From, To: m.To})
		}
	}
	slices.SortStableFunc(out.Planned, func(a, b Window) int { return a.From.Compare(b.From) })
	return out, nil
}
