package heal

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"autoheal.dev/autoheal"
)

// This file is what the verbs of internal/tool use: its Healer interface. Every method is safe for concurrent use.

// Command asks the core for something and waits until it is journalled, and, for verbs of the Actuator, until its action
// was accepted, refused or held.
func (e *Engine) Command(ctx context.Context, cmd autoheal.Command) (autoheal.Reply, error) {
	if cmd.ID == "" {
		id, err := query(ctx, e, func(c *Core) (string, error) {
			c.nextCommand = max(c.nextCommand, c.d.Counters.Command) + 1
			return fmt.Sprintf("cmd-%06d", c.nextCommand), nil
		})
		if err != nil {
			return autoheal.Reply{}, err
		}
		cmd.ID = id
	}
	ch := make(chan autoheal.Reply, 1)
	select {
	case e.commands <- request{cmd, ch}:
	case <-e.done:
		return autoheal.Reply{}, &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: errStopped.Error()}
	case <-ctx.Done():
		return autoheal.Reply{}, ctx.Err()
	}
	select {
	case r := <-ch:
		return r, nil
	case <-e.done:
		return autoheal.Reply{}, &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: errStopped.Error()}
	case <-ctx.Done():
		return autoheal.Reply{}, fmt.Errorf("wait for %s: %w", cmd.Verb, ctx.Err())
	}
}

// SetPolicy puts another configuration in force.
func (e *Engine) SetPolicy(ctx context.Context, p PolicyChange) error {
	select {
	case e.policies <- p:
		return nil
	case <-e.done:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Status returns the healer's view of itself.
func (e *Engine) Status(ctx context.Context) (autoheal.HealerStatus, error) {
	return query(ctx, e, func(c *Core) (autoheal.HealerStatus, error) {
		s := c.status()
		if e.blocked != nil {
			h := *e.blocked
			s.Blocked = &h
		}
		return s, nil
	})
}

// Nodes returns every node, by ID.
func (e *Engine) Nodes(ctx context.Context) ([]autoheal.NodeView, error) {
	nodes, err := query(ctx, e, func(c *Core) ([]autoheal.NodeView, error) { return c.nodeViews(), nil })
	if contacts, ok := e.opt.Cluster.(autoheal.Contacts); ok {
		for i := range nodes {
			if at, known := contacts.LastSeen(nodes[i].ID); known {
				nodes[i].LastSeen = at
			}
		}
	}
	return nodes, err
}

// Workloads returns the current attempt of every workload, by ID.
func (e *Engine) Workloads(ctx context.Context) ([]autoheal.WorkloadView, error) {
	return query(ctx, e, func(c *Core) ([]autoheal.WorkloadView, error) { return c.workloadViews(), nil })
}

// incidentsAtOnce is how many incidents are rendered in one turn of the loop: whoever asks for a year of them must not keep
// the healer from healing.
const incidentsAtOnce = 100

// Incidents returns the incidents that match, newest first. Between the parts of a long list the loop does its work.
func (e *Engine) Incidents(ctx context.Context, f autoheal.IncidentFilter) ([]autoheal.Incident, error) {
	ids, err := query(ctx, e, func(c *Core) ([]autoheal.IncidentID, error) { return c.incidentsOf(f), nil })
	out := make([]autoheal.Incident, 0, len(ids))
	for part := range slices.Chunk(ids, incidentsAtOnce) {
		var views []autoheal.Incident
		if views, err = query(ctx, e, func(c *Core) ([]autoheal.Incident, error) { return c.incidentViews(part, f.Brief), nil }); err != nil {
			break
		}
		out = append(out, views...)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Incident returns one incident.
func (e *Engine) Incident(ctx context.Context, id autoheal.IncidentID) (autoheal.Incident, error) {
	return query(ctx, e, func(c *Core) (autoheal.Incident, error) {
		i := c.d.Incidents[id]
		if i == nil {
			return autoheal.Incident{}, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: "Incident not found: " + string(id)}
		}
		return i.view(), nil
	})
}

// PostMortem returns the account of an incident; of one that goes on, what is known so far.
func (e *Engine) PostMortem(ctx context.Context, id autoheal.IncidentID) (autoheal.PostMortem, error) {
	return query(ctx, e, func(c *Core) (autoheal.PostMortem, error) {
		i := c.d.Incidents[id]
		if i == nil {
			return autoheal.PostMortem{}, &autoheal.Error{Kind: autoheal.ErrNotFound, Detail: "Incident not found: " + string(id)}
		}
		return autoheal.PostMortem{Incident: i.view(), Account: account(i), Markdown: postMortem(i), SHA256: i.SHA256}, nil
	})
}

// Journal returns the records of an incident as JSON, oldest first, as far as they are kept. It reads the store and keeps
// nobody from healing.
func (e *Engine) Journal(ctx context.Context, id autoheal.IncidentID) ([]json.RawMessage, error) {
	var out []json.RawMessage
	for r, err := range e.opt.Store.History(ctx, id) {
		if err != nil {
			return nil, fmt.Errorf("read the journal of %s: %w", id, err)
		}
		raw, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("write record %d: %w", r.Seq, err)
		}
		out = append(out, raw)
	}
	return out, nil
}

// Alerts returns the alerts, newest first.
func (e *Engine) Alerts(ctx context.Context) ([]autoheal.Alert, error) {
	return query(ctx, e, func(c *Core) ([]autoheal.Alert, error) { return c.alertViews(), nil })
}

// Why says what would happen if the target died now.
func (e *Engine) Why(ctx context.Context, target autoheal.Ref) (autoheal.Why, error) {
	return query(ctx, e, func(c *Core) (autoheal.Why, error) { return c.why(target) })
}

// Changes yields what is decided from now on, in the words of the journal, until ctx ends or the engine stops.
func (e *Engine) Changes(ctx context.Context) iter.Seq2[autoheal.Change, error] {
	return e.changes.subscribe(ctx)
}
