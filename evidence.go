package autoheal

import (
	"context"
	"time"
)

// Capture is what one collect action captured before a repair (behaviour F4).
type Capture struct {
	Action   ActionID   `json:"action"`
	Incident IncidentID `json:"incident"`
	Node     NodeID     `json:"node"`
	Target   Ref        `json:"target"`
	At       time.Time  `json:"at"`
	Parts    []Part     `json:"parts"`
}

// Part is one text of a capture: kernel, gpu, processes, stacks, log, network. The text is untrusted; what could not be had says so.
type Part struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Captures is the optional role of drivers that keep what was collected. It is bounded: the oldest goes first.
type Captures interface {
	// Captures returns what was collected for an incident, oldest first, its parts in order of name.
	Captures(ctx context.Context, id IncidentID) ([]Capture, error)
}
