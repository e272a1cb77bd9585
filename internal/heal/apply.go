package heal

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// How much of what has ended is kept in memory.
const (
	keepCommands = 1000
	keepAlerts   = 2000
	keepEvidence = 64
	keepTimeline = 5000 // moments of one incident; after that only how it went on as a whole
	keepStarts   = 5
	keepImages   = 1000
)

// apply folds one record into the state. It is the only writer of durable and a pure function of both: restoring is
// applying all records since the last snapshot. It refuses an illegal transition and then has changed nothing.
func (d *durable) apply(r journal.Record) error {
	if d.Seq != 0 && r.Seq != d.Seq+1 {
		return fmt.Errorf("apply record %d: the one before it was %d", r.Seq, d.Seq)
	}
	if s, ok := r.Data.(journal.Snapshot); ok {
		return d.restore(s, r)
	}
	if err := d.fold(r); err != nil {
		return fmt.Errorf("apply record %d (%s): %w", r.Seq, r.Type, err)
	}
	d.Seq, d.Step = r.Seq, r.Step
	if i := d.Incidents[r.Incident]; i != nil {
		if text := describe(r); text != "" && (len(i.Timeline) < keepTimeline || r.Type == journal.TypeIncidentPhase) {
			i.Timeline = append(i.Timeline, autoheal.Moment{At: r.At, Type: string(r.Type), Text: text})
		}
	}
	return nil
}

func (d *durable) restore(s journal.Snapshot, r journal.Record) error {
	n := newDurable()
	if err := json.Unmarshal(s.State, n); err != nil {
		return fmt.Errorf("apply snapshot %d: %w", r.Seq, err)
	}
	*d = *n
	d.Seq, d.Step = r.Seq, r.Step
	d.lookUp()
	return nil
}

func (d *durable) fold(r journal.Record) error {
	switch p := r.Data.(type) {
	case journal.EngineStarted:
		d.Epoch, d.BootID, d.Config, d.Orderly = p.Epoch, p.BootID, p.ConfigHash, false
	case journal.EngineStopped:
		d.Orderly = true
	case journal.ConfigChanged:
		d.Config = p.ConfigHash
	case journal.RestartCounted:
		d.Restarts[p.Workload] = &restarts{Count: p.Count, Attempt: p.Attempt, OOMSteps: p.OOMSteps, At: r.At}
	case journal.RestartReset:
		delete(d.Restarts, p.Workload)
		if p.Attempt > 0 { // its end is forgiven, too
			d.Restarts[p.Workload] = &restarts{Attempt: p.Attempt, At: r.At}
		}
		delete(d.Settled, p.Workload)
	case journal.MarkSet:
		d.Marks[p.Ref.String()] = &ownMark{Ref: p.Ref, Verb: p.Verb, Mark: p.Mark, Incident: r.Incident, GPUs: p.GPUs, MemoryMB: p.MemoryMB, Boot: p.Boot}
	case journal.MarkCleared:
		delete(d.Marks, p.Ref.String())
		if p.Gone {
			delete(d.Xids, autoheal.GPUID(p.Ref.ID))
			delete(d.Repairs, p.Ref.String())
			delete(d.Offenders, p.Ref.String())
		}
		d.foldUnisolated(p.Ref)
	case journal.Offender:
		d.foldOffender(p)
	case journal.TransientSeen:
		d.foldTransient(p, r.At)
	case journal.XidSeen:
		d.foldXid(p)
	case journal.RepairTried:
		d.foldRepair(p, r.At)
	case journal.FenceConfirmed:
		d.FenceWords[p.Node] = &fenceWord{By: p.By, Boot: p.Boot, At: r.At}
	case journal.FenceUsed:
		if w := d.FenceWords[p.Node]; w != nil {
			w.Used = true
		}
	case journal.StormBegan:
		d.Storm = &storm{Incident: r.Incident, Since: r.At, Silent: p.Silent, Of: p.Of}
	case journal.StormEnded:
		d.foldStormEnded(p, r.At)
	case journal.NodeBack:
		delete(d.Gone, p.Node)
	case journal.Notice:
	case journal.PauseSet, journal.PauseCleared, journal.VetoSet, journal.VetoCleared, journal.Command:
		d.foldPerson(r)
	case journal.ApprovalAsked, journal.ApprovalGiven, journal.ApprovalUsed, journal.ApprovalExpired:
		return d.foldApproval(r)
	case journal.AlertQueued, journal.AlertSent, journal.AlertFailed, journal.AlertSilenced:
		d.foldAlert(r)
	case journal.BudgetSpent, journal.BudgetBack:
		d.foldBudget(r)
	case journal.Intent, journal.Result:
		return d.foldAction(r)
	case journal.RoomPlanned, journal.RoomBegun, journal.RoomOver, journal.DisplacedOver, journal.ScaledBack:
		return d.foldRoom(r)
	default:
		return d.foldIncident(r)
	}
	return nil
}

func (d *durable) foldOffender(p journal.Offender) {
	o := d.Offenders[p.Subject.String()]
	if o == nil {
		o = &offender{}
		d.Offenders[p.Subject.String()] = o
	}
	o.Score, o.HalfLife, o.At = p.Score, p.HalfLife, p.At
	if p.Score == 0 { // forgiven
		o.Ends = nil
		return
	}
	o.Ends = slices.DeleteFunc(append(o.Ends, p.At), func(t time.Time) bool { return p.At.Sub(t) > 7*24*time.Hour })
}

func (d *durable) foldTransient(p journal.TransientSeen, at time.Time) {
	key := p.Subject.String() + " " + p.What
	d.Transients[key] = slices.DeleteFunc(append(d.Transients[key], at), func(t time.Time) bool { return at.Sub(t) > 24*time.Hour })
}

func (d *durable) foldStormEnded(p journal.StormEnded, at time.Time) {
	if d.Storm == nil {
		return
	}
	if p.By == stormReleased {
		d.Storm.Released = true
		return
	}
	if !d.Storm.Released && p.By == stormContact {
		d.StormOver = at
	}
	d.Storm = nil
}

func (d *durable) foldPerson(r journal.Record) {
	switch p := r.Data.(type) {
	case journal.PauseSet:
		d.Pauses[p.Scope] = &pause{By: p.By, At: r.At, Until: p.Until, Reason: p.Reason}
	case journal.PauseCleared:
		delete(d.Pauses, p.Scope)
	case journal.VetoSet:
		d.Vetoes[p.Target.String()] = &pause{By: p.By, At: r.At, Until: p.Until, Reason: p.Reason}
	case journal.VetoCleared:
		delete(d.Vetoes, p.Target.String())
	case journal.Command:
		d.Counters.Command = max(d.Counters.Command, number(p.ID, "cmd-"))
		if _, ok := d.Commands[p.ID]; !ok {
			d.CommandOrder = append(d.CommandOrder, p.ID)
		}
		d.Commands[p.ID] = p.Reply
		for len(d.CommandOrder) > keepCommands {
			delete(d.Commands, d.CommandOrder[0])
			d.CommandOrder = d.CommandOrder[1:]
		}
	}
}

func (d *durable) foldApproval(r journal.Record) error {
	set := func(id, state, by string) error {
		a := d.Approvals[id]
		if a == nil {
			return fmt.Errorf("approval %s is not known", id)
		}
		a.State = state
		if by != "" {
			a.By = by
		}
		return nil
	}
	switch p := r.Data.(type) {
	case journal.ApprovalAsked:
		d.Counters.Approval = max(d.Counters.Approval, number(p.ID, "app-"))
		a := &approval{ApprovalAsked: p, Incident: r.Incident, At: r.At, State: approvalAsked}
		d.Approvals[p.ID] = a
		d.find.addApproval(a)
		d.forgetApprovals(r.At)
	case journal.ApprovalGiven:
		return set(p.ID, approvalGiven, p.By)
	case journal.ApprovalUsed:
		if a := d.Approvals[p.ID]; a != nil {
			a.UsedBy = p.Action
		}
		return set(p.ID, approvalUsed, "")
	case journal.ApprovalExpired:
		if a := d.Approvals[p.ID]; a != nil {
			a.Void = p.Reason
		}
		return set(p.ID, approvalExpired, "")
	}
	return nil
}

func (d *durable) foldAlert(r journal.Record) {
	find := func(id string) *alert {
		if a := d.alert(id); a != nil {
			return a
		}
		return &alert{}
	}
	switch p := r.Data.(type) {
	case journal.AlertQueued:
		if d.renewed(p, r.At) {
			return
		}
		d.Counters.Alert = max(d.Counters.Alert, number(p.ID, "alert-"))
		a := &alert{DedupKey: p.DedupKey, Channel: p.Channel, Alert: autoheal.Alert{
			ID: p.ID, Name: p.Name, Severity: p.Severity, Message: p.Text, Source: p.Source, Incident: r.Incident, Labels: p.Labels,
			FiredAt: r.At, Active: p.Severity != autoheal.SeverityInfo,
		}}
		d.Alerts = append(d.Alerts, a)
		d.find.addAlert(a)
		for len(d.Alerts) > keepAlerts {
			d.find.dropAlert(d.Alerts[0])
			d.Alerts = d.Alerts[1:]
		}
	case journal.AlertSent:
		find(p.ID).Sent = true
	case journal.AlertFailed:
		find(p.ID).Tries = p.Try
	case journal.AlertSilenced:
		find(p.ID).Silenced = &p.Until
	}
}

func (d *durable) foldBudget(r journal.Record) {
	get := func(key string) *budget {
		if d.Budgets[key] == nil {
			d.Budgets[key] = &budget{Open: map[autoheal.ActionID]spent{}}
		}
		return d.Budgets[key]
	}
	switch p := r.Data.(type) {
	case journal.BudgetSpent:
		b, s := get(p.Key), spent{Action: p.Action, Target: p.Target, Domain: p.Domain, At: r.At}
		b.Open[p.Action] = s
		b.Window = slices.DeleteFunc(append(b.Window, s), func(s spent) bool { return r.At.Sub(s.At) > time.Hour })
	case journal.BudgetBack:
		b := get(p.Key)
		delete(b.Open, p.Action)
		if p.Unsent {
			b.Window = slices.DeleteFunc(b.Window, func(s spent) bool { return s.Action == p.Action })
		}
	}
}

func (d *durable) foldAction(r journal.Record) error {
	switch p := r.Data.(type) {
	case journal.Intent:
		if a := d.action(p.Action.ID, r.Incident); a != nil { // sent again
			a.Action, a.Try, a.Outcome, a.Detail, a.ErrorKind = p.Action, p.Try, "", "", ""
			return nil
		}
		a := &action{Action: p.Action, Effect: p.Effect, BudgetKey: p.BudgetKey, Workload: p.Workload, Command: p.Command, Try: p.Try, IntentAt: r.At}
		if i := d.Incidents[r.Incident]; i != nil {
			i.Actions = append(i.Actions, a)
			return nil
		}
		d.CmdActions[a.ID] = a
	case journal.Result:
		a := d.action(p.Action, r.Incident)
		if a == nil {
			return fmt.Errorf("action %s is not known", p.Action)
		}
		a.Outcome, a.ErrorKind, a.Detail, a.Proof, a.ResultAt = p.Outcome, p.ErrorKind, p.Detail, p.Proof, r.At
		a.Unknowns++
		if p.Outcome != autoheal.OutcomeUnknown {
			a.Unknowns = 0
		}
		if r.Incident == "" && p.Outcome != autoheal.OutcomeNotSent {
			d.forgetCmdActions()
		}
	}
	return nil
}

// forgetCmdActions keeps the newest actions of commands only.
func (d *durable) forgetCmdActions() {
	if len(d.CmdActions) <= keepCommands {
		return
	}
	var oldest *action
	for _, a := range d.CmdActions {
		if !a.pending() && (oldest == nil || a.IntentAt.Before(oldest.IntentAt) || a.IntentAt.Equal(oldest.IntentAt) && a.ID < oldest.ID) {
			oldest = a
		}
	}
	if oldest != nil {
		delete(d.CmdActions, oldest.ID)
	}
}
