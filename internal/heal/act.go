package heal

import (
	"fmt"
	"hash/fnv"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// progress is where an action stands.
type progress int

const (
	actHeld    progress = iota // a gate refused it; the hold is journalled
	actPending                 // sent, or waiting to be sent again
	actDone                    // accepted
	actFailed                  // refused for good, or unknown twice in a row
)

// How long an action may take to be accepted, and how long one that was not sent waits before it is sent again.
const (
	actionTimeout = 30 * time.Second
	resendAfter   = time.Second
	resendMost    = 30 * time.Second
)

// act asks for one action and says where it stands. It is called again on every change until it is done: a new action
// goes through the gates and is journalled as an intent before it leaves; the same target and verb is the same action.
func (c *Core) act(p *proposal) (progress, *action) {
	a := c.existing(p)
	if a == nil {
		return c.send(p, nil)
	}
	switch a.Outcome {
	case "":
		return actPending, a
	case autoheal.OutcomeDone:
		return actDone, a
	case autoheal.OutcomeNotSent:
		return c.notSent(p, a)
	default:
		return c.unknown(p, a)
	}
}

func (c *Core) existing(p *proposal) *action {
	if p.i != nil {
		return c.newestAction(p.i, p.verb, p.target)
	}
	return nil
}

// notSent sends again what never left, later and later; what can never succeed fails.
func (c *Core) notSent(p *proposal, a *action) (progress, *action) {
	switch a.ErrorKind {
	case autoheal.ErrInvalid, autoheal.ErrDenied, autoheal.ErrUnsupported:
		return actFailed, a
	case autoheal.ErrNotFound:
		if p.verb == autoheal.Stop || p.verb == autoheal.Uncordon || p.verb == autoheal.ReleaseGPU {
			return actDone, a
		}
		return actFailed, a
	case autoheal.ErrConflict:
		// its node may have booted unseen: what is known of it is asked for anew
		if p.target.Kind == autoheal.RefNode || p.target.Kind == autoheal.RefGPU && p.node != nil {
			c.refresh(p)
		}
	}
	wait := min(resendAfter<<min(a.Try-1, 10), resendMost)
	if at := a.ResultAt.Add(wait); c.now.Before(at) {
		c.after(p.k, at)
		return actPending, a
	}
	return c.send(p, a)
}

// unknown looks before it acts again: the target is listed anew, then the same action is sent under the same ID. Twice in
// a row fails.
func (c *Core) unknown(p *proposal, a *action) (progress, *action) {
	if a.Unknowns >= 2 {
		return actFailed, a
	}
	at := a.ResultAt.Add(c.pol.Node.ProbeTimeout)
	if c.now.Before(at) {
		c.refresh(p)
		c.after(p.k, at)
		return actPending, a
	}
	return c.send(p, a)
}

// refresh asks for the target to be listed anew; it is safe, at most one is under way for a target.
func (c *Core) refresh(p *proposal) {
	if p.i == nil {
		return
	}
	target := p.target
	if target.Kind == autoheal.RefGPU && p.node != nil { // its node is listed with all of its GPUs
		target = p.node.Ref()
	}
	if target.Kind == autoheal.RefNode {
		target.Generation = "" // whatever boot answers
	}
	if r := c.newestAction(p.i, autoheal.Refresh, target); r != nil && (r.pending() || c.now.Sub(r.IntentAt) < c.pol.Node.ProbeTimeout) {
		return
	}
	q := *p
	q.target = target
	q.verb, q.params, q.budget, q.need, q.reason = autoheal.Refresh, autoheal.ActionParams{}, "", nil, "the outcome of an action is unknown"
	c.intend(&q, nil)
}

// send asks the gates, then intends.
func (c *Core) send(p *proposal, again *action) (progress, *action) {
	if again != nil {
		p.again = again.ID
	}
	name, v := c.ask(p)
	if v.Reason == autoheal.ReasonApprovalNeeded && v.On == "approval" {
		c.askApproval(p, v)
		name, v = c.ask(p)
	}
	if !v.OK {
		if name == "shadow" {
			c.shadowed(p)
		}
		c.hold(p, name, v)
		return actHeld, again
	}
	c.release(p)
	return actPending, c.intend(p, again)
}

// intend journals the intent and hands the action over.
func (c *Core) intend(p *proposal, again *action) *action {
	a := autoheal.Action{
		Incident: incidentID(p.i), Epoch: c.life.Epoch, Verb: p.verb, Target: p.target, Actor: p.actor, Reason: p.reason,
		Deadline: c.now.Add(c.timeFor(p.verb)), Params: p.params,
	}
	if a.Verb == autoheal.Fence {
		a.Deadline = c.now.Add(fenceTimeout)
	}
	if a.Actor == "" {
		a.Actor = autoheal.ActorEngine
	}
	in := journal.Intent{Effect: p.verb.Effect(), BudgetKey: p.budget, Command: p.command, Try: 1}
	if p.rec != nil {
		in.Workload = p.rec.Workload
	}
	if again != nil {
		a.ID, in.Try = again.ID, again.Try+1
	} else {
		a.ID = c.actionID(p)
		c.spend(p, a.ID)
	}
	in.Action = a
	c.useApproval(p, a.ID)
	if !c.record(a.Incident, in) {
		return nil
	}
	c.out.Actions = append(c.out.Actions, a)
	return c.d.action(a.ID, a.Incident)
}

// timeFor is how long a verb may take to be accepted: evidence is captured, and a site's command for a reboot has ended, by
// then.
func (c *Core) timeFor(verb autoheal.Verb) time.Duration {
	switch verb {
	case autoheal.Collect:
		return max(actionTimeout, c.pol.Evidence.Collect)
	case autoheal.Reboot:
		return max(actionTimeout, c.pol.Repair.Timeout+resendAfter)
	}
	return actionTimeout
}

func (c *Core) actionID(p *proposal) autoheal.ActionID {
	if p.i == nil {
		return autoheal.ActionID(p.command + "/1")
	}
	return autoheal.ActionID(fmt.Sprintf("%s/%d", p.i.ID, len(p.i.Actions)+1))
}

// result takes in what became of an action.
func (c *Core) result(r autoheal.Result) {
	inc, a := c.findAction(r.Action)
	if a == nil || !a.pending() {
		return
	}
	res := journal.Result{Action: r.Action, Outcome: r.Outcome, Proof: r.Proof}
	if r.Err != nil {
		res.ErrorKind, res.Detail = r.Err.Kind, r.Err.Error()
	}
	if !c.record(inc, res) {
		return
	}
	if r.Outcome == autoheal.OutcomeNotSent && a.BudgetKey != "" {
		c.giveBack(inc, a.BudgetKey, a.ID, true)
	}
	c.marked(inc, a)
	if inc == "" {
		c.commandResult(a, r)
		return
	}
	c.dirty[key{inc: inc, w: a.Workload}] = true
	c.dirty[key{inc: inc}] = true
	if a.Verb == autoheal.Fence { // every workload there waits for it
		c.wake("node/" + a.Target.ID)
	}
	if i := c.d.Incidents[inc]; i != nil && i.Phase.Ended() {
		c.repairsOver(i)
	}
	if a.Target.Kind == autoheal.RefWorkload {
		c.touchWorkload(autoheal.WorkloadID(a.Target.ID))
	}
	if a.Verb == autoheal.Uncordon || a.Verb == autoheal.ReleaseGPU || a.Verb == autoheal.Test {
		c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(autoheal.Ref{Kind: a.Target.Kind, ID: a.Target.ID}.String())}] = true
	}
}

func (c *Core) findAction(id autoheal.ActionID) (autoheal.IncidentID, *action) {
	for n := 0; n < len(id); n++ {
		if id[n] == '/' {
			inc := autoheal.IncidentID(id[:n])
			if a := c.d.action(id, inc); a != nil {
				if c.d.Incidents[inc] == nil {
					inc = ""
				}
				return inc, a
			}
		}
	}
	return "", nil
}

// marked follows our own cordons and quarantines.
func (c *Core) marked(inc autoheal.IncidentID, a *action) {
	if a.Outcome != autoheal.OutcomeDone || a.Actor != autoheal.ActorEngine {
		return
	}
	r := autoheal.Ref{Kind: a.Target.Kind, ID: a.Target.ID}
	switch a.Verb {
	case autoheal.Cordon, autoheal.QuarantineGPU:
		if m := c.d.Marks[r.String()]; m == nil || m.Incident != inc {
			c.setMark(inc, r, a.Verb, autoheal.Mark{By: autoheal.ByAutoheal, Reason: a.Reason, Incident: inc, Epoch: a.Epoch, At: c.now})
		}
		c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(r.String())}] = true
	}
}

// hold journals that something waits, once for each reason, and arranges for it to be looked at again.
func (c *Core) hold(p *proposal, gate string, v verdict) {
	target, held := holdTarget(p)
	if held == nil || held.Reason != v.Reason || held.On != v.On || !held.Until.Equal(v.Until) {
		c.record(incidentID(p.i), journal.Held{
			Target: target, Verb: string(p.verb), Gate: gate, Reason: v.Reason, Detail: v.Detail, Until: v.Until, On: v.On,
		})
	}
	if held != nil && held.On != v.On {
		c.unawait(p.k, held.On)
	}
	c.await(p.k, v.Until, v.On)
	c.starving(p, v)
	if p.rec != nil && p.k.what == "" {
		c.after(key{inc: p.i.ID, w: p.rec.Workload, what: dutyWarn}, c.now.Add(p.rec.Objective/4))
	}
	if p.rec == nil && p.i != nil {
		c.dirty[key{inc: p.i.ID, what: dutyWarn}] = true
	}
}

func (c *Core) release(p *proposal) {
	target, held := holdTarget(p)
	if held != nil {
		c.unawait(p.k, held.On)
		c.record(incidentID(p.i), journal.Released{Target: target, Verb: string(p.verb), By: "its gate"})
	}
}

// holdTarget says under which name a proposal is held and what holds it now.
func holdTarget(p *proposal) (autoheal.Ref, *autoheal.Held) {
	switch {
	case p.rec != nil:
		return autoheal.WorkloadRef(p.rec.Workload), p.rec.Held
	case p.i != nil:
		return autoheal.Ref{Kind: p.i.Subject.Kind, ID: p.i.Subject.ID}, p.i.Held
	}
	return p.target, nil
}

// spread returns a factor of 0.9 to 1.1 that depends on nothing but the name: it keeps restarts apart without chance.
func spread(name string) float64 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return 0.9 + 0.2*float64(h.Sum32()%1000)/999
}
