package journal

import "autoheal.dev/autoheal"

// Types of the records about room that is made for what waits (behaviour E7, B5).
const (
	TypeRoomPlanned   Type = "room_planned"
	TypeRoomBegun     Type = "room_begun"
	TypeRoomOver      Type = "room_over"
	TypeDisplacedOver Type = "displaced_over"
	TypeScaledBack    Type = "scaled_back"
)

// RoomPlanned is a way to make room for a workload or gang: what would stop, and the places that there are then. Nothing
// has been done for it yet.
type RoomPlanned struct {
	Workload autoheal.WorkloadID `json:"workload"` // that waits; of a gang the first rank
	Step     string              `json:"step"`     // preempt or scale_down
	Victims  []RoomVictim        `json:"victims,omitempty"`
	Services []RoomService       `json:"services,omitempty"`
	Rooms    []autoheal.Room     `json:"rooms"`
	GPUs     int                 `json:"gpus"`  // that change hands
	Chain    int                 `json:"chain"` // how many preemptions the victims are away from one that nobody caused
	Text     string              `json:"text"`
}

// RoomVictim is one attempt that is to stop.
type RoomVictim struct {
	Workload autoheal.WorkloadID `json:"workload"`
	Attempt  int                 `json:"attempt"`
	GPUs     int                 `json:"gpus"`
}

// RoomService is a service that is to have fewer replicas, and those that it loses.
type RoomService struct {
	Workload autoheal.WorkloadID   `json:"workload"`
	From     int                   `json:"from"`
	To       int                   `json:"to"`
	Replicas []autoheal.WorkloadID `json:"replicas"`
	GPUs     int                   `json:"gpus"`
}

// RoomBegun says that every gate let the plan pass: its victims are being stopped, and count as displaced from here on.
type RoomBegun struct {
	Workload autoheal.WorkloadID `json:"workload"`
}

// RoomOver ends a plan. Spared are the victims and services of which nothing was taken.
type RoomOver struct {
	Workload autoheal.WorkloadID   `json:"workload"`
	Made     bool                  `json:"made"` // who waited has its place
	Reason   string                `json:"reason"`
	Spared   []autoheal.WorkloadID `json:"spared,omitempty"`
}

// DisplacedOver says that a victim of preemption runs again, or is not wanted any more.
type DisplacedOver struct {
	Workload autoheal.WorkloadID `json:"workload"`
	Reason   string              `json:"reason"`
}

// ScaledBack says that a service that was scaled down for room has one replica more again. Over: nothing is left to be
// given back.
type ScaledBack struct {
	Workload autoheal.WorkloadID `json:"workload"`
	Replicas int                 `json:"replicas"`
	Over     bool                `json:"over,omitempty"`
	Reason   string              `json:"reason,omitempty"`
}

// Type returns TypeRoomPlanned.
func (RoomPlanned) Type() Type { return TypeRoomPlanned }

// Type returns TypeRoomBegun.
func (RoomBegun) Type() Type { return TypeRoomBegun }

// Type returns TypeRoomOver.
func (RoomOver) Type() Type { return TypeRoomOver }

// Type returns TypeDisplacedOver.
func (DisplacedOver) Type() Type { return TypeDisplacedOver }

// Type returns TypeScaledBack.
func (ScaledBack) Type() Type { return TypeScaledBack }
