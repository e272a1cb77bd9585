package openclaw

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Codes of Error.Code.
const (
	CodeInvalidRequest = "INVALID_REQUEST"
	CodeUnavailable    = "UNAVAILABLE"
	CodeNotPaired      = "NOT_PAIRED"
	CodeForbidden      = "FORBIDDEN"
)

// Codes found in the details of an error.
const (
	DetailTokenMismatch    = "AUTH_TOKEN_MISMATCH"
	DetailTokenMissing     = "AUTH_TOKEN_MISSING"
	DetailProtocolMismatch = "PROTOCOL_MISMATCH"
	DetailPairingRequired  = "PAIRING_REQUIRED"
	DetailPairingChanged   = "PAIRING_CHANGED"
	DetailNotConnected     = "NOT_CONNECTED"
	DetailMissingScope     = "MISSING_SCOPE"
	// DetailNameBound is an addition of the embedded gateway: the display name belongs to another device key.
	DetailNameBound = "NAME_BOUND"
	// DetailOperatorNotServed is an addition of the embedded gateway: its socket is for nodes only.
	DetailOperatorNotServed = "OPERATOR_NOT_SERVED"
)

// Error is a refusal as the gateway sends it.
type Error struct {
	Code       string
	Message    string
	Details    ErrorDetails
	Retryable  bool
	RetryAfter time.Duration
}

// Error returns code and message.
func (e *Error) Error() string {
	if e.Code == "" {
		return e.Message
	}
	return e.Code + ": " + e.Message
}

type wireError struct {
	Code         string          `json:"code"`
	Message      string          `json:"message"`
	Details      json.RawMessage `json:"details,omitempty"`
	Retryable    bool            `json:"retryable,omitempty"`
	RetryAfterMs int64           `json:"retryAfterMs,omitempty"`
}

// MarshalJSON renders the error as on the wire.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireError{
		Code: e.Code, Message: e.Message, Details: json.RawMessage(e.Details),
		Retryable: e.Retryable, RetryAfterMs: e.RetryAfter.Milliseconds(),
	})
}

// UnmarshalJSON reads the error as on the wire.
func (e *Error) UnmarshalJSON(data []byte) error {
	var w wireError
	if err := json.Unmarshal(data, &w); err != nil {
		return fmt.Errorf("decode error: %w", err)
	}
	*e = Error{
		Code: w.Code, Message: w.Message, Details: ErrorDetails(w.Details),
		Retryable: w.Retryable, RetryAfter: milliseconds(w.RetryAfterMs),
	}
	return nil
}

// milliseconds turns a count from the wire into a duration: negative is nothing, and what would overflow is capped.
func milliseconds(n int64) time.Duration {
	const limit = int64(24 * time.Hour / time.Millisecond)
	return time.Duration(min(max(n, 0), limit)) * time.Millisecond
}

// ErrorDetails is the raw details object of an Error; the getters answer with zero values where a field is absent.
type ErrorDetails json.RawMessage

// NewDetails renders v as details. It panics where v cannot be rendered, which only a programming error can cause.
func NewDetails(v any) ErrorDetails {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("openclaw: details that cannot be rendered: %v", err))
	}
	return ErrorDetails(raw)
}

// NodeError is the error that a node answered, or that the gateway made up in the node's place (TIMEOUT, DISCONNECTED).
type NodeError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type detailFields struct {
	Code       string          `json:"code"`
	Reason     string          `json:"reason"`
	RequestID  string          `json:"requestId"`
	Outcome    Outcome         `json:"outcome"`
	NodeError  json.RawMessage `json:"nodeError"`
	Dispatched *bool           `json:"nodeCommandDispatched"`
}

func (d ErrorDetails) fields() detailFields {
	var f detailFields
	if len(d) > 0 && json.Unmarshal(d, &f) != nil {
		return detailFields{} // a foreign gateway may put anything here; what cannot be read is not there
	}
	return f
}

// Code returns details.code.
func (d ErrorDetails) Code() string { return d.fields().Code }

// Reason returns details.reason.
func (d ErrorDetails) Reason() string { return d.fields().Reason }

// RequestID returns details.requestId, the pending pairing request that an operator has to approve.
func (d ErrorDetails) RequestID() string { return d.fields().RequestID }

// NodeError returns details.nodeError and whether there is one.
func (d ErrorDetails) NodeError() (NodeError, bool) {
	raw := d.fields().NodeError
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return NodeError{}, false
	}
	var e NodeError
	if json.Unmarshal(raw, &e) != nil {
		return NodeError{}, false
	}
	return e, true
}

// Dispatched returns details.nodeCommandDispatched and whether the gateway stated it.
func (d ErrorDetails) Dispatched() (dispatched, stated bool) {
	if p := d.fields().Dispatched; p != nil {
		return *p, true
	}
	return false, false
}

// Outcome returns the explicit mark of the embedded gateway, or "".
func (d ErrorDetails) Outcome() Outcome {
	switch o := d.fields().Outcome; o {
	case OutcomeDone, OutcomeNotSent, OutcomeUnknown:
		return o
	default:
		return ""
	}
}

// Local failures of a client, before or instead of an answer of the gateway.
var (
	// ErrNotConnected is returned when there was no connection to send a call on: nothing was sent.
	ErrNotConnected = errors.New("not connected to the gateway")
	// ErrConnectionLost is returned when the connection ended while a call waited for its answer: it may have run.
	ErrConnectionLost = errors.New("connection to the gateway lost while waiting")
	// ErrNoAnswer is returned when neither the gateway nor the node answered in time: the call may have run.
	ErrNoAnswer = errors.New("no answer from the gateway in time")
	// ErrNotSent wraps the reason why a call was given up before its first byte was written.
	ErrNotSent = errors.New("call not sent")
)
