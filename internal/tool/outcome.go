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
func (o Outcome) NeedsPerson() bool { return o.Held != nil && NeedsPerson(*o.Held) }

// NeedsPerson reports whether a hold ends by what a person does, and not by time or by the healer.
func NeedsPerson(h autoheal.Held) bool { return needsPerson(&h) }

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

// accepted reports whether what was asked for is on its way: it neither waits nor is its fate unknown.
func accepted(r autoheal.Reply) bool { return r.Held == nil && !unsure(r) }

// unsure reports whether an action may or may not have happened.
func unsure(r autoheal.Reply) bool {
	return r.Action != nil && r.Action.Outcome != nil && *r.Action.Outcome != autoheal.OutcomeDone
}

// messageOf is the sentence of a reply: why it waits and what to type, else done for an action that was accepted, else
// what the engine said.
func messageOf(r autoheal.Reply, done string) string {
	switch {
	case r.Held != nil:
		return heldText(*r.Held)
	case unsure(r):
		return fmt.Sprintf("%s: %s: whether it happened will be seen; look again before asking again", r.Action.ID, *r.Action.Outcome)
	case r.Action != nil || r.Message == "":
		return done
	}
	return r.Message
}

func heldText(h autoheal.Held) string {
	s := "Held: " + string(h.Reason)
	if h.Detail != "" {
		s += ": " + h.Detail
	}
	if id := approvalOf(h); id != "" && !strings.Contains(h.Detail, id) {
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
	return Changed{Success: accepted(r), Target: target, Message: messageOf(r, done), Outcome: outcomeOf(r)}
}
