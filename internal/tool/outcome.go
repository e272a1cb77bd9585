package tool

import (
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
)

// Outcome is what every changing verb adds to its result: whether something waits, and for what.
type Outcome struct {
	Held     *autoheal.Held      `json:"held,omitempty" jsonschema:"why it was not done yet"`
	Approval string              `json:"approval,omitempty" jsonschema:"the approval to give, with incident_approve"`
	Incident autoheal.IncidentID `json:"incident,omitempty"`
	Action   autoheal.ActionID   `json:"action,omitempty"`
}

// NeedsPerson reports whether it waits for a person.
func (o Outcome) NeedsPerson() bool { return needsPerson(o.Held) }

func needsPerson(h *autoheal.Held) bool {
	if h == nil {
		return false
	}
	return h.Reason == autoheal.ReasonApprovalNeeded || h.On == "person" || strings.HasPrefix(h.On, "approval/")
}

func outcomeOf(r autoheal.Reply) Outcome {
	o := Outcome{Held: r.Held, Incident: r.Incident}
	if r.Action != nil {
		o.Action = r.Action.ID
	}
	if r.Held != nil {
		o.Approval = approvalOf(*r.Held)
	}
	return o
}

func approvalOf(h autoheal.Held) string {
	id, ok := strings.CutPrefix(h.On, "approval/")
	if !ok {
		return ""
	}
	return id
}

// messageOf is the sentence of a reply: why it waits and what to type, else what the engine said, else done.
func messageOf(r autoheal.Reply, done string) string {
	switch {
	case r.Held != nil:
		return heldText(*r.Held)
	case r.Message != "":
		return r.Message
	}
	return done
}

func heldText(h autoheal.Held) string {
	s := "Held: " + string(h.Reason)
	if h.Detail != "" {
		s += ": " + h.Detail
	}
	if id := approvalOf(h); id != "" {
		s += fmt.Sprintf("; to approve it: autoheal approve %s", id)
	}
	return s
}

// Changed is the result of a changing verb that has no shape of its own among the Clawbernetes tools.
type Changed struct {
	Success bool   `json:"success"`
	Target  string `json:"target,omitempty"`
	Message string `json:"message"`
	Outcome
}

func changed(r autoheal.Reply, target, done string) Changed {
	return Changed{Success: r.Held == nil, Target: target, Message: messageOf(r, done), Outcome: outcomeOf(r)}
}
