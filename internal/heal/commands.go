package heal

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// command answers one request of a person or an agent. It goes through the same gates and into the same journal as the
// engine's own actions.
func (c *Core) command(cmd autoheal.Command) {
	if cmd.ID == "" {
		cmd.ID = fmt.Sprintf("cmd-%06d", c.d.Counters.Command+1)
	}
	if said, again := c.d.Commands[cmd.ID]; again {
		c.out.Replies = append(c.out.Replies, autoheal.Reply{Command: cmd.ID, Message: said + " (asked before under this ID)"})
		return
	}
	reply := autoheal.Reply{Command: cmd.ID}
	if cmd.Verb == autoheal.CmdPlan || cmd.DryRun {
		c.plan(cmd, &reply)
		c.out.Replies = append(c.out.Replies, reply)
		return
	}
	if answered := c.carryOut(cmd, &reply); !answered {
		return // the reply leaves with the action's result
	}
	c.recordCommand(cmd, &reply)
	c.out.Replies = append(c.out.Replies, reply)
}

func (c *Core) recordCommand(cmd autoheal.Command, reply *autoheal.Reply) {
	said := reply.Message
	if reply.Err != nil {
		said = reply.Err.Error()
	}
	args, _ := json.Marshal(struct {
		Params autoheal.ActionParams `json:"params"`
		Scope  string                `json:"scope,omitempty"`
		Reason string                `json:"reason,omitempty"`
		Until  time.Time             `json:"until,omitzero"`
	}{cmd.Params, cmd.Scope, cmd.Reason, cmd.Until})
	c.record(reply.Incident, journal.Command{ID: cmd.ID, Actor: cmd.Actor, Role: cmd.Role, Verb: cmd.Verb, Target: cmd.Target, Args: args, Reply: said})
}

// carryOut does what a command asks; false means that the answer follows with the result of an action.
func (c *Core) carryOut(cmd autoheal.Command, reply *autoheal.Reply) bool {
	switch cmd.Verb {
	case autoheal.CmdExamine:
		c.examine(reply)
	case autoheal.CmdApprove:
		c.approve(cmd, reply)
	case autoheal.CmdDismiss:
		c.dismiss(cmd, reply)
	case autoheal.CmdRelease:
		c.releaseHold(cmd, reply)
	case autoheal.CmdFenceConfirm:
		c.fenceConfirm(cmd, reply)
	case autoheal.CmdPauseHealer, autoheal.CmdMaintenance:
		c.pause(cmd, reply)
	case autoheal.CmdResumeHealer, autoheal.CmdMaintenanceEnd:
		c.unpause(cmd, reply)
	case autoheal.CmdVeto, autoheal.CmdUnveto:
		c.veto(cmd, reply)
	case autoheal.CmdAlert:
		c.createAlert(cmd, reply)
	case autoheal.CmdSilence:
		c.silence(cmd, reply)
	case autoheal.CmdQuarantineClear:
		return c.quarantineClear(cmd, reply)
	default:
		return c.actuate(cmd, reply)
	}
	return true
}

func refuse(reply *autoheal.Reply, kind autoheal.ErrorKind, format string, args ...any) {
	reply.Err = &autoheal.Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// examine looks at every subject again, now.
func (c *Core) examine(reply *autoheal.Reply) {
	before := c.d.Counters.Incident
	c.askedToLook = true
	if c.v.synced {
		c.synced()
	}
	for id := range c.ix.openIDs {
		reply.Touched = append(reply.Touched, id)
	}
	slices.Sort(reply.Touched)
	reply.Message = fmt.Sprintf("examined %d nodes and %d workloads: %d new incidents, %d open", len(c.v.nodes), len(c.v.cur), c.d.Counters.Incident-before, len(reply.Touched))
}

func (c *Core) dismiss(cmd autoheal.Command, reply *autoheal.Reply) {
	i := c.d.Incidents[cmd.Incident]
	switch {
	case i == nil:
		refuse(reply, autoheal.ErrNotFound, "Incident not found: %s", cmd.Incident)
	case i.Phase.Ended():
		refuse(reply, autoheal.ErrConflict, "%s has ended already: %s", i.ID, i.Phase)
	default:
		for _, w := range slices.Clone(i.Order) {
			rec := i.Recoveries[w]
			c.done(i, rec, autoheal.EndEscalated, "dismissed by "+cmd.Actor)
		}
		c.phase(i, autoheal.Dismissed, "by "+cmd.Actor+": "+cmd.Reason)
		reply.Incident, reply.Message = i.ID, fmt.Sprintf("%s is dismissed; what it did stays as it is", i.ID)
	}
}

func (c *Core) releaseHold(cmd autoheal.Command, reply *autoheal.Reply) {
	i := c.d.Incidents[cmd.Incident]
	switch {
	case i == nil:
		refuse(reply, autoheal.ErrNotFound, "Incident not found: %s", cmd.Incident)
	case c.d.Storm == nil || c.d.Storm.Released:
		refuse(reply, autoheal.ErrConflict, "%s is not held as a mass outage", i.ID)
	default:
		c.releaseStorm(i, cmd.Actor)
		reply.Incident, reply.Message = i.ID, "released: the silent nodes are treated as gone, each after its grace and with its proof"
	}
}

func (c *Core) fenceConfirm(cmd autoheal.Command, reply *autoheal.Reply) {
	id := autoheal.NodeID(cmd.Target.ID)
	n := c.v.nodes[id]
	if n == nil && (c.onNode(id) != nil || len(c.v.onNode[id]) > 0) {
		n = cmp.Or(c.v.forgot[id], &autoheal.Node{ID: id}) // it was forgotten, and what was on it waits for this word
	}
	switch {
	case n == nil:
		refuse(reply, autoheal.ErrNotFound, "Node not found: %s", cmd.Target.ID)
	case n.Link == autoheal.LinkUp:
		refuse(reply, autoheal.ErrConflict, "node %s answers: it is not powered off", n.ID)
	default:
		c.record("", journal.FenceConfirmed{Node: n.ID, Boot: n.BootID, By: cmd.Actor})
		c.touchSubject(n.Ref())
		c.wake("node/" + string(n.ID)) // a gang of another incident may have a rank there
		reply.Message = fmt.Sprintf("noted: %s is powered off, on the word of %s; its workloads may start elsewhere", n.ID, cmd.Actor)
	}
}

func (c *Core) pause(cmd autoheal.Command, reply *autoheal.Reply) {
	c.record("", journal.PauseSet{Scope: cmd.Scope, By: cmd.Actor, Until: cmd.Until, Reason: cmd.Reason})
	c.all = true // it may end sooner than the one before
	what := "the healer is paused: it watches and records, and does nothing by itself"
	if cmd.Scope != "" {
		what = "maintenance of " + cmd.Scope + " has begun"
	}
	reply.Message = what + untilText(cmd.Until) + reasonText(cmd.Reason)
}

func untilText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + t.UTC().Format(time.RFC3339)
}

func reasonText(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + clip(oneLine(reason), 200) + ")"
}

func (c *Core) unpause(cmd autoheal.Command, reply *autoheal.Reply) {
	switch {
	case c.d.Pauses[cmd.Scope] != nil:
	case cmd.Scope != "": // a scope that is written in another way would go on unnoticed
		refuse(reply, autoheal.ErrConflict, "there is no maintenance of %s", cmd.Scope)
		return
	default: // it is as it was asked for
		reply.Message = "the healer is not paused: it goes on"
		return
	}
	c.record("", journal.PauseCleared{Scope: cmd.Scope, By: cmd.Actor})
	c.wake("person")
	c.all = true
	reply.Message = "the healer goes on"
	if cmd.Scope != "" {
		reply.Message = "maintenance of " + cmd.Scope + " has ended"
	}
}

func (c *Core) veto(cmd autoheal.Command, reply *autoheal.Reply) {
	r := autoheal.Ref{Kind: cmd.Target.Kind, ID: cmd.Target.ID}
	if cmd.Verb == autoheal.CmdVeto {
		c.record("", journal.VetoSet{Target: r, By: cmd.Actor, Until: cmd.Until, Reason: cmd.Reason})
		c.all = true // it may end sooner than the one before
		reply.Message = "nothing is done to " + r.String() + untilText(cmd.Until) + reasonText(cmd.Reason)
		return
	}
	configured := slices.ContainsFunc(c.pol.Veto, func(v autoheal.Ref) bool { return v.Same(r) })
	switch {
	case c.d.Vetoes[r.String()] != nil:
	case configured:
		refuse(reply, autoheal.ErrConflict, "%s is under a veto of the configuration: take it off autoHeal.veto", r)
		return
	default: // it is as it was asked for
		reply.Message = r.String() + " is under no veto: it may be healed"
		return
	}
	c.record("", journal.VetoCleared{Target: r, By: cmd.Actor})
	c.wake("person")
	c.all = true
	reply.Message = r.String() + " may be healed again"
	if configured {
		reply.Message = "the veto of a person on " + r.String() + " is gone; autoHeal.veto of the configuration still names it"
	}
}

func (c *Core) createAlert(cmd autoheal.Command, reply *autoheal.Reply) {
	if cmd.Alert == nil || cmd.Alert.Name == "" {
		refuse(reply, autoheal.ErrInvalid, "an alert needs a name")
		return
	}
	id := c.alert(nil, alertSpec{name: cmd.Alert.Name, severity: cmd.Alert.Severity, text: cmd.Alert.Message, source: cmd.Actor, labels: cmd.Alert.Labels})
	if a := c.d.alert(id); a != nil {
		reply.Alert = &a.Alert
	}
	reply.Message = "alert " + id + " was raised"
}

func (c *Core) silence(cmd autoheal.Command, reply *autoheal.Reply) {
	a := c.d.alert(cmd.Target.ID)
	if a == nil {
		refuse(reply, autoheal.ErrNotFound, "Alert not found: %s", cmd.Target.ID)
		return
	}
	c.record(a.Incident, journal.AlertSilenced{ID: a.ID, Until: cmd.Until, By: cmd.Actor})
	reply.Alert, reply.Message = &a.Alert, "alert "+a.ID+" is silenced"+untilText(cmd.Until)
}

// quarantineClear forgives an offender: its node returns to service as any other. A GPU is back at once: that it is well is
// the person's word.
func (c *Core) quarantineClear(cmd autoheal.Command, reply *autoheal.Reply) bool {
	r := autoheal.Ref{Kind: cmd.Target.Kind, ID: cmd.Target.ID}
	gpu := r.Kind == autoheal.RefGPU && c.outOfService(r)
	if c.d.Offenders[r.String()] == nil && !gpu {
		refuse(reply, autoheal.ErrConflict, "%s is not in quarantine", r)
		return true
	}
	c.record("", journal.Offender{Subject: r, Score: 0, HalfLife: c.pol.Offender.HalfLife, At: c.now})
	c.dirty[key{what: dutyMark, w: autoheal.WorkloadID(r.String())}] = true
	if gpu {
		cmd.Verb = autoheal.CommandVerb(autoheal.ReleaseGPU)
		return c.actuate(cmd, reply)
	}
	reply.Message = r.String() + " is out of quarantine"
	return true
}

// actuate sends a verb of the Actuator for a person. The reply follows when the action was accepted or refused.
func (c *Core) actuate(cmd autoheal.Command, reply *autoheal.Reply) bool {
	verb := autoheal.Verb(cmd.Verb)
	if !slices.Contains(autoheal.Verbs(), verb) {
		refuse(reply, autoheal.ErrInvalid, "unknown command %q", cmd.Verb)
		return true
	}
	p := &proposal{
		verb: verb, target: cmd.Target, params: cmd.Params, reason: cmd.Reason, step: policy.Step(verb), actor: cmd.Actor, role: cmd.Role,
		command: cmd.ID, k: key{what: "command"},
	}
	if !c.resolve(p, reply) {
		return true
	}
	if v := verb.Effect(); v == autoheal.EffectDisrupt && p.target.Kind == autoheal.RefNode {
		p.budget = budgetDisrupt
	}
	if _, v := c.ask(p); !v.OK {
		if v.Reason == autoheal.ReasonApprovalNeeded && v.On == "approval" {
			c.askApproval(p, v)
			_, v = c.ask(p)
		}
		reply.Held = &autoheal.Held{Reason: v.Reason, Detail: v.Detail, Since: c.now, Until: v.Until, On: v.On}
		reply.Message = v.Detail
		return true
	}
	c.recordCommand(cmd, &autoheal.Reply{Command: cmd.ID, Message: fmt.Sprintf("%s %s", verb, p.target)})
	if verb == autoheal.Resume {
		for _, id := range c.withGang(autoheal.WorkloadID(p.target.ID)) {
			c.record("", journal.RestartReset{Workload: id, Reason: "resumed by " + cmd.Actor, Attempt: c.v.cur[id].Attempt})
		}
	}
	c.intend(p, nil)
	return false
}

// withGang returns a workload with the other ranks of its gang: they are paused and resumed as one.
func (c *Core) withGang(id autoheal.WorkloadID) []autoheal.WorkloadID {
	w := c.v.cur[id]
	if w == nil || w.Gang == "" {
		return []autoheal.WorkloadID{id}
	}
	var out []autoheal.WorkloadID
	for _, m := range c.v.Gang(w.Gang) {
		out = append(out, m.ID)
	}
	return out
}

// resolve finds the target and gives it its present generation.
func (c *Core) resolve(p *proposal, reply *autoheal.Reply) bool {
	switch p.target.Kind {
	case autoheal.RefNode:
		n := c.v.nodes[autoheal.NodeID(p.target.ID)]
		if n == nil {
			refuse(reply, autoheal.ErrNotFound, "Node not found: %s", p.target.ID)
			return false
		}
		p.node, p.target = n, n.Ref()
	case autoheal.RefWorkload:
		w := c.v.cur[autoheal.WorkloadID(p.target.ID)]
		if w == nil {
			refuse(reply, autoheal.ErrNotFound, "Workload not found: %s", p.target.ID)
			return false
		}
		p.node, p.target = c.v.nodes[w.Node], w.Ref()
		if p.verb == autoheal.Stop && p.params.Attempt == 0 {
			p.params.Attempt = w.Attempt
		}
	}
	return true
}

// commandResult answers a command whose action came back.
func (c *Core) commandResult(a *action, r autoheal.Result) {
	reply := autoheal.Reply{Command: a.Command, Err: r.Err, Message: fmt.Sprintf("%s %s: %s", a.Verb, a.Target.ID, outcomeText(a))}
	v := a.view()
	reply.Action = &v
	if a.BudgetKey != "" && r.Outcome == autoheal.OutcomeDone && a.Verb != autoheal.Drain {
		c.giveBack("", a.BudgetKey, a.ID, false)
	}
	c.out.Replies = append(c.out.Replies, reply)
}
