package tooltest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
	"autoheal.dev/autoheal/internal/tool"
)

// Now is the time at which a World stands.
var Now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// World is a cluster with its healer. Fields are set before it is used, or through Change.
type World struct {
	StatusNow autoheal.HealerStatus
	NodeList  []autoheal.NodeView
	Running   []autoheal.WorkloadView
	Specs     map[autoheal.WorkloadID]autoheal.Spec
	Attempts  map[autoheal.WorkloadID][]autoheal.Workload
	History   []autoheal.Incident // oldest first
	Accounts  map[autoheal.IncidentID]string
	Records   map[autoheal.IncidentID][]json.RawMessage
	Captured  map[autoheal.IncidentID][]autoheal.Capture
	Raised    []autoheal.Alert
	Lines     []autoheal.LogLine
	Samples   []autoheal.Series
	Waiting   []tool.WaitingNode
	Reasons   map[string]autoheal.Why

	// Hold makes commands of a verb wait, Refuse makes them fail, OnCommand runs after one was carried out.
	Hold      map[autoheal.CommandVerb]autoheal.Held
	Refuse    map[autoheal.CommandVerb]*autoheal.Error
	Plan      []autoheal.Planned
	OnCommand func(*World, autoheal.Command)

	mu       sync.Mutex // guards everything above once the world is in use, and what follows
	seq      uint64
	subs     map[chan autoheal.Change]bool
	commands []autoheal.Command
}

var (
	_ tool.Healer        = (*World)(nil)
	_ autoheal.Observer  = (*World)(nil)
	_ autoheal.Workloads = (*World)(nil)
	_ tool.Nodes         = (*World)(nil)
	_ autoheal.Captures  = (*World)(nil)
)

// Env returns the environment of the verbs in this world, for an admin.
func (w *World) Env() *tool.Env {
	n := 0
	return &tool.Env{
		Cluster: w, Workloads: w, Nodes: w, Captures: w, Healer: w, Policy: policy.Default, Config: defaults, Now: func() time.Time { return Now },
		Caller: tool.Caller{Name: "alice", Role: tool.RoleAdmin},
		NewID:  func() string { n++; return fmt.Sprintf("submit-%d", n) },
	}
}

// defaults is a configuration in which nothing was set.
func defaults() *policy.Loaded {
	l, err := policy.Load(policy.Source{})
	if err != nil {
		panic(err) // the defaults are refused: every test says so
	}
	return l
}

// Change changes the world under its lock and tells those who follow it.
func (w *World) Change(c autoheal.Change, change func(*World)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if change != nil {
		change(w)
	}
	w.emitLocked(c)
}

func (w *World) emitLocked(c autoheal.Change) {
	w.seq++
	c.Seq = w.seq
	if c.At.IsZero() {
		c.At = Now
	}
	for ch := range w.subs {
		select {
		case ch <- c:
		default: // the reader's buffer is far larger than any test's changes
		}
	}
}

// Commands returns what was asked for so far.
func (w *World) Commands() []autoheal.Command {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.commands)
}

// Command carries out what the verbs need to see done.
func (w *World) Command(_ context.Context, c autoheal.Command) (autoheal.Reply, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands = append(w.commands, c)
	r := autoheal.Reply{Command: fmt.Sprintf("cmd-%06d", len(w.commands))}
	if h, ok := w.Hold[c.Verb]; ok {
		r.Held = &h
		return r, nil
	}
	if e := w.Refuse[c.Verb]; e != nil {
		r.Err = e
		return r, nil
	}
	w.carryOutLocked(c, &r)
	if w.OnCommand != nil {
		w.OnCommand(w, c)
	}
	w.emitLocked(autoheal.Change{Type: "command", Subject: c.Target, Text: string(c.Verb)})
	return r, nil
}

func (w *World) carryOutLocked(c autoheal.Command, r *autoheal.Reply) {
	if slices.Contains(autoheal.Verbs(), autoheal.Verb(c.Verb)) {
		done := autoheal.OutcomeDone
		r.Action = &autoheal.ActionView{
			ID: autoheal.ActionID(r.Command + "/1"), Verb: autoheal.Verb(c.Verb), Target: c.Target, Actor: c.Actor, Params: c.Params, IntentAt: Now, Outcome: &done,
		}
	}
	switch c.Verb {
	case autoheal.CommandVerb(autoheal.Cordon):
		w.nodeLocked(c.Target.ID, func(n *autoheal.NodeView) {
			n.Marks, n.Status, n.Schedulable = append(n.Marks, autoheal.Mark{By: c.Actor, Reason: c.Reason, At: Now}), autoheal.StatusCordoned, false
		})
	case autoheal.CommandVerb(autoheal.Uncordon):
		w.nodeLocked(c.Target.ID, func(n *autoheal.NodeView) { n.Marks, n.Status, n.Schedulable = nil, autoheal.StatusReady, true })
	case autoheal.CommandVerb(autoheal.Stop):
		w.workloadLocked(c.Target.ID, func(v *autoheal.WorkloadView) {
			v.State, v.Desired, v.EndedAt = autoheal.Cancelled, autoheal.DesiredCancelled, Now
		})
	case autoheal.CommandVerb(autoheal.Scale):
		w.workloadLocked(c.Target.ID, func(v *autoheal.WorkloadView) { v.Replicas = c.Params.Replicas })
	case autoheal.CommandVerb(autoheal.Pause):
		w.workloadLocked(c.Target.ID, func(v *autoheal.WorkloadView) { v.Paused = &autoheal.Mark{By: c.Actor, Reason: c.Reason, At: Now} })
	case autoheal.CommandVerb(autoheal.Resume):
		w.workloadLocked(c.Target.ID, func(v *autoheal.WorkloadView) { v.Paused = nil })
	case autoheal.CmdAlert:
		a := *c.Alert
		a.ID, a.FiredAt, a.Active, a.Source = fmt.Sprintf("alert-%06d", len(w.Raised)+1), Now, true, c.Actor
		w.Raised = append(w.Raised, a)
		r.Alert, r.Message = &a, "alert "+a.ID+" was raised"
	case autoheal.CmdExamine:
		for _, i := range w.History {
			if !i.Phase.Ended() {
				r.Touched = append(r.Touched, i.ID)
			}
		}
	case autoheal.CmdPlan:
		r.Plan = w.Plan
	case autoheal.CmdDismiss, autoheal.CmdRelease:
		if _, err := w.incidentLocked(c.Incident); err != nil {
			r.Err = err
		}
	}
}

func (w *World) nodeLocked(id string, change func(*autoheal.NodeView)) {
	for i := range w.NodeList {
		if string(w.NodeList[i].ID) == id {
			change(&w.NodeList[i])
		}
	}
}

func (w *World) workloadLocked(id string, change func(*autoheal.WorkloadView)) {
	for i := range w.Running {
		if string(w.Running[i].ID) == id {
			change(&w.Running[i])
		}
	}
}

func (w *World) incidentLocked(id autoheal.IncidentID) (autoheal.Incident, *autoheal.Error) {
	for _, i := range w.History {
		if i.ID == id {
			return i, nil
		}
	}
	return autoheal.Incident{}, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: "Incident not found: " + string(id)}
}

// Status returns StatusNow with its counts.
func (w *World) Status(context.Context) (autoheal.HealerStatus, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := w.StatusNow
	st.Incidents = 0
	for _, i := range w.History {
		if !i.Phase.Ended() {
			st.Incidents++
		}
	}
	return st, nil
}

// Nodes returns the nodes.
func (w *World) Nodes(context.Context) ([]autoheal.NodeView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.NodeList), nil
}

// Workloads returns the workloads.
func (w *World) Workloads(context.Context) ([]autoheal.WorkloadView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.Running), nil
}

// Incidents returns those that match, newest first.
func (w *World) Incidents(_ context.Context, f autoheal.IncidentFilter) ([]autoheal.Incident, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []autoheal.Incident
	for _, i := range slices.Backward(w.History) {
		if f.Open && i.Phase.Ended() || f.Kind != "" && i.Kind != f.Kind || f.Node != "" && i.Subject.ID != string(f.Node) || i.OpenedAt.Before(f.Since) {
			continue
		}
		if f.Workload != "" && i.Subject.ID != string(f.Workload) && !slices.ContainsFunc(i.Recoveries, func(r autoheal.Recovery) bool { return r.Workload == f.Workload }) {
			continue
		}
		if f.Brief {
			i.Evidence, i.Actions, i.Timeline = nil, nil, nil
		}
		if out = append(out, i); len(out) == f.Limit {
			break
		}
	}
	return out, nil
}

// Incident returns one.
func (w *World) Incident(_ context.Context, id autoheal.IncidentID) (autoheal.Incident, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, err := w.incidentLocked(id)
	if err != nil {
		return i, err
	}
	return i, nil
}

// Journal returns what Records holds of an incident.
func (w *World) Journal(_ context.Context, id autoheal.IncidentID) ([]json.RawMessage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Records[id], nil
}

// Captures returns what Captured holds of an incident.
func (w *World) Captures(_ context.Context, id autoheal.IncidentID) ([]autoheal.Capture, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Captured[id], nil
}

// PostMortem returns the account of an incident.
func (w *World) PostMortem(_ context.Context, id autoheal.IncidentID) (autoheal.PostMortem, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, err := w.incidentLocked(id)
	if err != nil {
		return autoheal.PostMortem{}, err
	}
	return autoheal.PostMortem{Incident: i, Markdown: w.Accounts[id]}, nil
}

// Alerts returns the alerts, newest first.
func (w *World) Alerts(context.Context) ([]autoheal.Alert, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Clone(w.Raised)
	slices.Reverse(out)
	return out, nil
}

// Why returns the prepared answer for a target.
func (w *World) Why(_ context.Context, target autoheal.Ref) (autoheal.Why, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	y, ok := w.Reasons[target.String()]
	if !ok {
		return y, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: "nothing is known of " + target.String()}
	}
	y.Target = target
	return y, nil
}

// Changes yields the subscription, then what Change and Command tell.
func (w *World) Changes(ctx context.Context) iter.Seq2[autoheal.Change, error] {
	return func(yield func(autoheal.Change, error) bool) {
		ch := make(chan autoheal.Change, 10000)
		w.mu.Lock()
		if w.subs == nil {
			w.subs = map[chan autoheal.Change]bool{}
		}
		w.subs[ch] = true
		first := autoheal.Change{Seq: w.seq, Type: autoheal.ChangeSubscribed}
		w.mu.Unlock()
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.subs, ch)
		}()
		if !yield(first, nil) {
			return
		}
		for {
			select {
			case c := <-ch:
				if !yield(c, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Watch is not what the verbs use.
func (w *World) Watch(context.Context) iter.Seq2[autoheal.Event, error] {
	return func(yield func(autoheal.Event, error) bool) {
		yield(autoheal.Event{}, &autoheal.Error{Kind: autoheal.ErrUnsupported, Op: "watch"})
	}
}

// Logs yields the lines that match: every word of the query, in any case.
func (w *World) Logs(_ context.Context, q autoheal.LogQuery) iter.Seq2[autoheal.LogLine, error] {
	return func(yield func(autoheal.LogLine, error) bool) {
		var out []autoheal.LogLine
		for _, l := range w.Lines {
			if matchLine(l, q) {
				out = append(out, l)
			}
		}
		if q.Limit > 0 && len(out) > q.Limit {
			out = out[len(out)-q.Limit:]
		}
		for _, l := range out {
			if !yield(l, nil) {
				return
			}
		}
	}
}

var severity = map[string]int{"": 0, "debug": 1, "info": 2, "warn": 3, "error": 4}

func matchLine(l autoheal.LogLine, q autoheal.LogQuery) bool {
	switch {
	case q.Workload != "" && l.Workload != q.Workload, q.Node != "" && l.Node != q.Node, severity[l.Level] < severity[q.Level]:
		return false
	case !q.Since.IsZero() && l.At.Before(q.Since), !q.Until.IsZero() && l.At.After(q.Until):
		return false
	}
	for word := range strings.FieldsSeq(q.Query) {
		if !strings.Contains(strings.ToLower(l.Message), strings.ToLower(word)) {
			return false
		}
	}
	return true
}

// Metrics yields the series of that name with those labels.
func (w *World) Metrics(_ context.Context, q autoheal.MetricQuery) iter.Seq2[autoheal.Series, error] {
	return func(yield func(autoheal.Series, error) bool) {
		for _, s := range w.Samples {
			fits := s.Name == q.Metric
			for k, v := range q.Labels {
				fits = fits && s.Labels[k] == v
			}
			if fits && !yield(s, nil) {
				return
			}
		}
	}
}

// Submit adds a pending workload.
func (w *World) Submit(_ context.Context, id autoheal.ActionID, s autoheal.Spec) (autoheal.WorkloadID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wid := autoheal.WorkloadID("wl-" + string(id))
	if old, ok := w.Specs[wid]; ok {
		if !reflect.DeepEqual(old, s) {
			return "", &autoheal.Error{Kind: autoheal.ErrConflict, Detail: "the same ID was submitted with another specification"}
		}
		return wid, nil
	}
	settings, _ := autoheal.ParseLabels(s.Labels)
	v := autoheal.WorkloadView{ObjectiveSeconds: autoheal.Seconds(15 * time.Minute), Workload: autoheal.Workload{
		ID: wid, Name: s.Name, Image: s.Image, State: autoheal.Pending, Desired: autoheal.DesiredRunning, Attempt: 1, SubmittedAt: Now,
		Class: cmp.Or(settings.Class, autoheal.Medium), ClassRule: "default", Kind: cmp.Or(settings.Kind, autoheal.KindJob), AtMostOnce: settings.Kind != autoheal.KindService,
		Request: autoheal.Resources{GPUs: s.GPUs, MemoryMB: s.MemoryMB}, Labels: s.Labels, Replicas: settings.Replicas,
	}}
	if v.Class == autoheal.Critical {
		v.ObjectiveSeconds = autoheal.Seconds(time.Minute)
	}
	w.Running = append(w.Running, v)
	if w.Specs == nil {
		w.Specs = map[autoheal.WorkloadID]autoheal.Spec{}
	}
	w.Specs[wid] = s
	return wid, nil
}

// Spec returns what was submitted, environment included: hiding it is the verbs' duty.
func (w *World) Spec(_ context.Context, id autoheal.WorkloadID) (autoheal.Spec, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.Specs[id]
	if !ok {
		return s, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: "no such workload"}
	}
	s.Env = maps.Clone(s.Env)
	return s, nil
}

// Lineage returns the attempts of a workload.
func (w *World) Lineage(_ context.Context, id autoheal.WorkloadID) ([]autoheal.Workload, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.Attempts[id]), nil
}

// WaitingNodes lists the nodes that wait.
func (w *World) WaitingNodes(context.Context) ([]tool.WaitingNode, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.Waiting), nil
}

// ApproveNode admits a waiting node.
func (w *World) ApproveNode(_ context.Context, id autoheal.NodeID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.Waiting, func(n tool.WaitingNode) bool { return n.ID == id })
	if i < 0 {
		return &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: "no such node waits"}
	}
	w.Waiting = slices.Delete(w.Waiting, i, i+1)
	return nil
}

// ForgetNode removes a node.
func (w *World) ForgetNode(_ context.Context, id autoheal.NodeID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.NodeList = slices.DeleteFunc(w.NodeList, func(n autoheal.NodeView) bool { return n.ID == id })
	return nil
}
