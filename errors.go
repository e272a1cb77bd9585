package autoheal

import (
	"errors"
	"strings"
)

// ErrorKind says what the caller can do about an error.
type ErrorKind string

// Error kinds.
const (
	ErrInvalid     ErrorKind = "invalid"     // the request is wrong; say what to change
	ErrNotFound    ErrorKind = "not_found"   // no such subject; for a stop that means success
	ErrConflict    ErrorKind = "conflict"    // it changed meanwhile, or another life or actor owns it
	ErrDenied      ErrorKind = "denied"      // a missing right
	ErrUnsupported ErrorKind = "unsupported" // this driver or node cannot do it
	ErrUnavailable ErrorKind = "unavailable" // not now; may be tried again
	ErrTimeout     ErrorKind = "timeout"     // no answer in time
	ErrInternal    ErrorKind = "internal"    // a fault of ours
)

// Error is the error type of the port and of the verbs. Op is what was tried ("stop workload wl-7"), Detail what went
// wrong and what to do about it.
type Error struct {
	Kind   ErrorKind `json:"kind"`
	Op     string    `json:"op,omitempty"`
	Detail string    `json:"detail"`
	Err    error     `json:"-"`
}

// Error returns "OP: DETAIL: CAUSE", leaving out what is empty.
func (e *Error) Error() string {
	parts := make([]string, 0, 3)
	for _, s := range []string{e.Op, e.Detail} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	if len(parts) == 0 {
		return string(e.Kind)
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err: that of the first *Error in its chain, ErrInternal for any other error, and "" for nil.
func KindOf(err error) ErrorKind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ErrInternal
}
