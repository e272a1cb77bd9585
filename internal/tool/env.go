package tool

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// Healer is what the verbs need of the engine.
type Healer interface {
	// Command asks the engine for something; it answers once the command is journalled and its action was accepted,
	// refused or held. What cannot be done comes back as Reply.Err or as the error.
	Command(ctx context.Context, c autoheal.Command) (autoheal.Reply, error)
	Status(ctx context.Context) (autoheal.HealerStatus, error)
	Nodes(ctx context.Context) ([]autoheal.NodeView, error)
	Workloads(ctx context.Context) ([]autoheal.WorkloadView, error)
	// Incidents returns those that match, newest first.
	Incidents(ctx context.Context, f autoheal.IncidentFilter) ([]autoheal.Incident, error)
	Incident(ctx context.Context, id autoheal.IncidentID) (autoheal.Incident, error)
	PostMortem(ctx context.Context, id autoheal.IncidentID) (autoheal.PostMortem, error)
	// Journal returns the records of an incident as JSON, oldest first, as far as they are kept.
	Journal(ctx context.Context, id autoheal.IncidentID) ([]json.RawMessage, error)
	Alerts(ctx context.Context) ([]autoheal.Alert, error)
	Why(ctx context.Context, target autoheal.Ref) (autoheal.Why, error)
	// Changes yields a ChangeSubscribed, then every change, until ctx ends. A reader that is too slow gets a ChangeLost
	// in place of what it missed.
	Changes(ctx context.Context) iter.Seq2[autoheal.Change, error]
}

// Nodes is the optional role of drivers whose nodes ask to join: admitting and forgetting them is a user's verb.
type Nodes interface {
	// WaitingNodes lists the nodes that asked to join and wait for a person, in order of name.
	WaitingNodes(ctx context.Context) ([]WaitingNode, error)
	// ApproveNode admits a waiting node and binds its name to its key.
	ApproveNode(ctx context.Context, id autoheal.NodeID) error
	// ForgetNode removes a node from the registry; it is refused while the node is connected or holds workloads.
	ForgetNode(ctx context.Context, id autoheal.NodeID) error
}

// WaitingNode is a node that asked to join and waits for a person.
type WaitingNode struct {
	ID          autoheal.NodeID `json:"id"`
	Platform    string          `json:"platform"`
	Fingerprint string          `json:"fingerprint" jsonschema:"of the key that the name will be bound to"`
	Known       bool            `json:"known" jsonschema:"the name is already bound to another key"`
	Since       time.Time       `json:"since"`
}

// Role is a set of rights; each includes those before it.
type Role string

// Roles. An AI agent is at most an operator, so that it cannot approve what it asked for.
const (
	RoleViewer   Role = "viewer"
	RoleOperator Role = "operator"
	RoleApprover Role = "approver"
	RoleAdmin    Role = "admin"
)

var roleRank = map[Role]int{RoleViewer: 1, RoleOperator: 2, RoleApprover: 3, RoleAdmin: 4}

// Caller is who calls a verb. For an AI agent a pause of the healer holds too, and the approval of a person where the healer
// itself would need it.
type Caller struct {
	Name  string
	Role  Role
	Agent bool
}

// ForAgent returns the caller as an AI agent that acts for it: at most an operator, so that it cannot approve what it asked
// for.
func (c Caller) ForAgent(name string) Caller {
	c.Agent, c.Name = true, name+" for "+c.Name
	if roleRank[c.Role] > roleRank[RoleOperator] {
		c.Role = RoleOperator
	}
	return c
}

// Env is what verbs work with. It holds no state of its own and is copied freely.
type Env struct {
	Cluster   autoheal.Observer
	Workloads autoheal.Workloads // nil where the driver keeps no specs
	Nodes     Nodes              // nil where nodes do not ask to join
	Captures  autoheal.Captures  // nil where nothing is collected
	Healer    Healer
	Policy    func() *policy.Policy
	Config    func() *policy.Loaded // what is in force, with its origins; nil where that is not known
	Now       func() time.Time
	Caller    Caller
	// NewID makes the identifier of a submission that names none; nil means a random one.
	NewID func() string
}

// As returns the environment for another caller.
func (e *Env) As(c Caller) *Env {
	out := *e
	out.Caller = c
	return &out
}

func (e *Env) newID() autoheal.ActionID {
	if e.NewID != nil {
		return autoheal.ActionID(e.NewID())
	}
	return autoheal.ActionID("submit-" + strings.ToLower(rand.Text()))
}

// command asks the engine in the caller's name and turns a refusal into an error.
func (e *Env) command(ctx context.Context, c autoheal.Command) (autoheal.Reply, error) {
	c.Actor, c.Role = e.Caller.Name, string(e.Caller.Role)
	if e.Caller.Agent {
		c.Role = autoheal.RoleAgent
	}
	r, err := e.Healer.Command(ctx, c)
	switch {
	case err != nil:
		return r, fmt.Errorf("%s: %w", c.Verb, err)
	case r.Err != nil && r.Err.Op == "" && r.Err.Kind != autoheal.ErrNotFound && !c.Target.IsZero():
		return r, fmt.Errorf("%s %s: %w", c.Verb, c.Target.ID, r.Err)
	case r.Err != nil: // it says itself what was tried
		return r, r.Err
	}
	return r, nil
}
