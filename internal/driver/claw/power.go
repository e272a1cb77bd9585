package claw

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/program"
)

// What powering a node off gets (behaviour C6).
const (
	fenceTime  = time.Minute
	fenceTries = 3
	fencePause = time.Second
)

// rebootHold is for how long after its program a node that is to reboot takes nothing on.
const rebootHold = 10 * time.Minute

// powerInput is what the programs get on their standard input, as JSON.
type powerInput struct {
	Action   autoheal.ActionID   `json:"action"`
	Verb     autoheal.Verb       `json:"verb"` // fence: power it off; reboot
	Node     autoheal.NodeID     `json:"node"`
	BootID   string              `json:"bootId"`
	Labels   map[string]string   `json:"labels"`
	Incident autoheal.IncidentID `json:"incident"`
	Reason   string              `json:"reason"`
}

func (n *node) powerInput(a autoheal.Action) powerInput {
	labels := map[string]string{}
	if n.status != nil {
		maps.Copy(labels, n.status.Labels)
	}
	maps.Copy(labels, n.labels)
	return powerInput{Action: a.ID, Verb: a.Verb, Node: n.id, BootID: n.bootID, Labels: labels, Incident: a.Incident, Reason: a.Reason}
}

// doFence powers a node off by the site's program: exit status 0 is the proof that it is off. It is called with d.mu held
// and releases it.
func (d *Driver) doFence(ctx context.Context, a autoheal.Action) autoheal.Result {
	n, err := d.targetNode(a, a.Target)
	if err != nil {
		d.mu.Unlock()
		return d.refused(a, err)
	}
	in, argv := n.powerInput(a), d.opts.Programs().Fence
	d.mu.Unlock()
	r := d.tryFence(ctx, a, in, argv)
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Err != nil {
		return d.programFailed(a, "fence.command", r)
	}
	return d.acceptLocked(ctx, a, effect{proof: autoheal.ProofPowerOff})
}

// tryFence runs the program until it confirms, its tries are used up or there is no time left.
func (d *Driver) tryFence(ctx context.Context, a autoheal.Action, in powerInput, argv []string) (r program.Result) {
	for try := 1; ; try++ {
		r = program.Run(ctx, d.clock, program.Call{Argv: argv, Input: in, Timeout: d.budget(a, fenceTime)})
		left := a.Deadline.IsZero() || d.clock.Now().Add(fencePause).Before(a.Deadline)
		if r.Err == nil || try == fenceTries || !left || !d.sleep(ctx, fencePause, nil) {
			return r
		}
	}
}

// doReboot makes sure that the node is empty and has the site's program reboot it; that it did is seen by its new boot. It
// is called with d.mu held and releases it.
func (d *Driver) doReboot(ctx context.Context, a autoheal.Action) autoheal.Result {
	n, err := d.targetNode(a, a.Target)
	if err == nil {
		err = d.canReboot(n, a)
	}
	if err != nil {
		d.mu.Unlock()
		return d.refused(a, err)
	}
	programs, in, up, epoch := d.opts.Programs(), n.powerInput(a), n.link == autoheal.LinkUp, d.epoch
	d.mu.Unlock()
	if up { // an agent that does not answer starts nothing either, and the registry knows of nothing there
		hold := programs.RebootTime + rebootHold
		if err := d.holdNode(ctx, a, n, epoch, hold); err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			res := d.failed(a, err)
			res.Outcome = autoheal.OutcomeNotSent // nothing was rebooted, whatever became of the question
			return res
		}
	}
	r := program.Run(ctx, d.clock, program.Call{Argv: programs.Reboot, Input: in, Timeout: d.budget(a, programs.RebootTime)})
	if r.Err != nil && up {
		_ = d.holdNode(ctx, a, n, epoch, 0) // it takes things on again by itself later
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Err != nil {
		return d.programFailed(a, "repair.rebootCommand", r)
	}
	return d.acceptLocked(ctx, a, effect{})
}

// canReboot refuses while anything runs there, as far as the registry knows.
func (d *Driver) canReboot(n *node, a autoheal.Action) *autoheal.Error {
	if err := d.canRepair(n, a); err != nil {
		return err
	}
	if active := d.activeLocked(n.id); len(active) > 0 {
		return problem(autoheal.ErrConflict, "attempt %d of %s runs there", active[0].n, active[0].id)
	}
	for ref, v := range d.strays {
		if v.Node == n.id {
			return problem(autoheal.ErrConflict, "attempt %d of %s runs there, which is not in the registry", ref.n, ref.id)
		}
	}
	return nil
}

// holdNode has a node start nothing for a while; 0 ends that. It refuses when it is not empty.
func (d *Driver) holdNode(ctx context.Context, a autoheal.Action, n *node, epoch uint64, hold time.Duration) error {
	req := nodeproto.RebootRequest{Epoch: epoch, Action: a.ID, BootID: a.Target.Generation, HoldMS: hold.Milliseconds()}
	var resp nodeproto.Accepted
	return d.call(ctx, n.device, nodeproto.CmdReboot, d.key("reboot/"+string(a.ID)), req, &resp, d.budget(a, sendTimeout))
}

// programFailed is the result of an action whose program did not confirm it. One that was cut off may have done it.
func (d *Driver) programFailed(a autoheal.Action, key string, r program.Result) autoheal.Result {
	said := strings.TrimSpace(r.Output)
	if i := strings.LastIndexByte(said, '\n'); i >= 0 {
		said = said[i+1:]
	}
	detail := "autoHeal." + key + " did not confirm it"
	if said != "" {
		detail += fmt.Sprintf("; it said %q", said)
	}
	outcome := autoheal.OutcomeUnknown
	if errors.Is(r.Err, program.ErrStart) {
		outcome = autoheal.OutcomeNotSent
	}
	return autoheal.Result{
		Action: a.ID, Outcome: outcome, At: d.clock.Now(),
		Err: &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: string(a.Verb) + " " + a.Target.String(), Detail: detail, Err: r.Err},
	}
}
