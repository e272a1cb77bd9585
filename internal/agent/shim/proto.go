package shim

import "autoheal.dev/autoheal/internal/nodeproto"

// Op is a request to a shim. Requests and answers are lines of JSON; every request is answered by one Status line, and
// a connection that subscribed gets one more after every change.
type Op string

// Requests.
const (
	OpStatus    Op = "status"
	OpSubscribe Op = "subscribe"
	OpRenew     Op = "renew"
	OpStop      Op = "stop"
)

// Request is one line to a shim.
type Request struct {
	Op    Op    `json:"op"`
	Lease Lease `json:"lease,omitzero"` // renew
	// GraceMS, Force and Reason are for stop.
	GraceMS int64  `json:"graceMs,omitempty"`
	Force   bool   `json:"force,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Status is one line from a shim.
type Status struct {
	State      nodeproto.AttemptState `json:"state"`
	Pid        int                    `json:"pid,omitempty"`
	ShimPid    int                    `json:"shimPid"`
	StartTicks uint64                 `json:"startTicks,omitempty"` // with the pid and the boot it names a process for good
	Started    int64                  `json:"started,omitempty"`    // CLOCK_BOOTTIME, nanoseconds
	Lease      Lease                  `json:"lease"`
	PeakMB     int64                  `json:"peakMb,omitempty"`
	Detail     string                 `json:"detail,omitempty"`
	Exited     *Exited                `json:"exited,omitempty"`
}
