package app

import (
	"context"
	"fmt"
	"os"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/driver/claw"
	"autoheal.dev/autoheal/internal/heal"
	"autoheal.dev/autoheal/internal/policy"
	"autoheal.dev/autoheal/internal/tool"
)

// serve tells what happens until ctx ends or a part fails.
func (u *up) serve(ctx context.Context, reload <-chan os.Signal, began time.Time) error {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan autoheal.Change, 256)
	told := make(chan struct{})
	go func() {
		defer close(told)
		for c := range u.engine.Changes(watch) {
			select {
			case lines <- c:
			case <-watch.Done():
				return
			}
		}
	}()
	defer func() { <-told }()
	defer cancel()
	tick := u.clock.NewTimer(10 * time.Millisecond)
	defer tick.Stop()
	ready := false
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(u.opt.Out, "stopping: the workloads are ended in order; interrupt again to kill them")
			return nil
		case err := <-u.failed:
			return err
		case c := <-lines:
			u.tell(c)
		case <-reload:
			u.reload(ctx)
		case <-tick.C():
			if ready = ready || u.ready(ctx, began); !ready {
				tick.Reset(10 * time.Millisecond)
			}
		}
	}
}

// tell prints what a person at the terminal wants to follow.
func (u *up) tell(c autoheal.Change) {
	switch c.Type {
	case autoheal.ChangeSubscribed, autoheal.ChangeNode, "evidence_added", "engine_started":
		return
	}
	fmt.Fprintf(u.opt.Out, "%s %-12s %s\n", c.At.UTC().Format("15:04:05.000"), c.Incident, c.Text)
}

// ready announces the cluster once every node answers.
func (u *up) ready(ctx context.Context, began time.Time) bool {
	nodes, err := u.engine.Nodes(ctx)
	if err != nil {
		return false
	}
	up, gpus, simulated := 0, 0, ""
	for _, n := range nodes {
		if n.Status != autoheal.StatusReady && n.Status != autoheal.StatusCordoned {
			continue
		}
		up++
		for _, g := range n.GPUs {
			gpus++
			if g.Simulated {
				simulated = " (simulated)"
			}
		}
	}
	if up < u.opt.Nodes {
		return false
	}
	fmt.Fprintf(u.opt.Out, "cluster %s is ready after %s: %d nodes, %d GPUs%s, data in %s\n", u.loaded.Policy.Cluster.Name,
		u.clock.Now().Sub(began).Round(time.Millisecond), up, gpus, simulated, u.opt.Data)
	if err := u.notify.tell("READY=1"); err != nil {
		fmt.Fprintf(u.opt.Out, "notice: the service manager cannot be told that the cluster is ready: %v\n", err)
	}
	if u.opt.Ready != nil {
		u.opt.Ready()
	}
	return true
}

// reload reads the configuration again; a wrong one changes nothing.
func (u *up) reload(ctx context.Context) {
	loaded, err := LoadConfig(u.opt.Config, u.opt.Data, u.opt.Set)
	if err != nil {
		fmt.Fprintf(u.opt.Out, "the configuration is wrong and was not taken over; the one before stays in force:\n%v\n", err)
		return
	}
	if loaded.Hash() == u.policy.Load().Hash() {
		fmt.Fprintln(u.opt.Out, "the configuration has not changed")
		return
	}
	if err := u.engine.SetPolicy(ctx, heal.PolicyChange{Policy: loaded.Policy.WithProfile(policy.ProfileAct), Hash: loaded.Hash(), By: "SIGHUP"}); err != nil {
		fmt.Fprintf(u.opt.Out, "the configuration was not taken over: %v\n", err)
		return
	}
	u.policy.Store(loaded.Policy)
	now := *loaded
	now.Policy = heal.TimesOfLife(loaded.Policy, u.loaded.Policy)
	u.inForce.Store(&now)
	fmt.Fprintln(u.opt.Out, "the new configuration is in force; probe and fence times take effect at the next start")
}

// joining shows the driver's waiting nodes in the shape of the verbs.
type joining struct{ d *claw.Driver }

func (j joining) WaitingNodes(ctx context.Context) ([]tool.WaitingNode, error) {
	all, err := j.d.Joining(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]tool.WaitingNode, 0, len(all))
	for _, n := range all {
		out = append(out, waitingNode(n))
	}
	return out, nil
}

func waitingNode(n claw.Joining) tool.WaitingNode {
	return tool.WaitingNode{ID: n.Name, Fingerprint: n.Device, Known: n.Refused != ""}
}

func (j joining) ApproveNode(ctx context.Context, id autoheal.NodeID) error {
	return j.d.ApproveNode(ctx, id)
}

func (j joining) ForgetNode(ctx context.Context, id autoheal.NodeID) error {
	return j.d.ForgetNode(ctx, id)
}
