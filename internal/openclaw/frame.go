package openclaw

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Limits and numbers of the protocol, as the gateway announces them.
const (
	// ProtocolVersion is the protocol spoken here and by the current gateway.
	ProtocolVersion = 4
	// MinNodeProtocol is the oldest protocol that a node (never an operator) may offer.
	MinNodeProtocol = 3
	// MaxPayload is the largest message in bytes.
	MaxPayload = 25 << 20
	// MaxBuffered is the most that a gateway queues for one connection in bytes.
	MaxBuffered = 50 << 20
	// TickIntervalMs is the period of the tick event in milliseconds.
	TickIntervalMs = 30000
)

// FrameType says what a frame is.
type FrameType string

// The three kinds of frame.
const (
	FrameRequest  FrameType = "req"
	FrameResponse FrameType = "res"
	FrameEvent    FrameType = "event"
)

// Frame is one message in either direction. Which fields are set follows from Type: a request has ID, Method and Params;
// a response has ID, OK and either Payload or Error; an event has Event and Payload.
type Frame struct {
	Type    FrameType       `json:"type"`
	ID      string          `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	OK      *bool           `json:"ok,omitempty"`
	Payload json.RawMessage `json:"payload,omitempty"`
	Error   *Error          `json:"error,omitempty"`
	Event   string          `json:"event,omitempty"`
	Seq     *uint64         `json:"seq,omitempty"`
}

// errNotAFrame is what DecodeFrame wraps for a message that is JSON but no frame.
var errNotAFrame = errors.New("not a gateway frame")

// DecodeFrame parses one message. Unknown fields are ignored, as the protocol demands; a message that is not a request,
// a response or an event with the fields its kind needs is an error.
func DecodeFrame(data []byte) (Frame, error) {
	if len(data) > MaxPayload {
		return Frame{}, fmt.Errorf("decode frame: %d bytes exceed the limit of %d", len(data), MaxPayload)
	}
	var f Frame
	if err := json.Unmarshal(data, &f); err != nil {
		return Frame{}, fmt.Errorf("decode frame: %w", err)
	}
	switch f.Type {
	case FrameRequest:
		if f.ID == "" || f.Method == "" {
			return Frame{}, fmt.Errorf("decode frame: %w: a request needs id and method", errNotAFrame)
		}
	case FrameResponse:
		if f.ID == "" || f.OK == nil {
			return Frame{}, fmt.Errorf("decode frame: %w: a response needs id and ok", errNotAFrame)
		}
	case FrameEvent:
		if f.Event == "" {
			return Frame{}, fmt.Errorf("decode frame: %w: an event needs its name", errNotAFrame)
		}
	default:
		return Frame{}, fmt.Errorf("decode frame: %w: unknown type %.20q", errNotAFrame, string(f.Type))
	}
	return f, nil
}

// Encode renders the frame as one message.
func (f Frame) Encode() ([]byte, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	return data, nil
}

// NewRequest builds a request frame.
func NewRequest(id, method string, params any) (Frame, error) {
	raw, err := marshalField(params)
	if err != nil {
		return Frame{}, fmt.Errorf("encode params of %s: %w", method, err)
	}
	return Frame{Type: FrameRequest, ID: id, Method: method, Params: raw}, nil
}

// NewEvent builds an event frame.
func NewEvent(name string, payload any) (Frame, error) {
	raw, err := marshalField(payload)
	if err != nil {
		return Frame{}, fmt.Errorf("encode payload of %s: %w", name, err)
	}
	return Frame{Type: FrameEvent, Event: name, Payload: raw}, nil
}

// NewResult builds the positive response to a request.
func NewResult(id string, payload any) (Frame, error) {
	raw, err := marshalField(payload)
	if err != nil {
		return Frame{}, fmt.Errorf("encode result: %w", err)
	}
	ok := true
	return Frame{Type: FrameResponse, ID: id, OK: &ok, Payload: raw}, nil
}

// NewRefusal builds the negative response to a request.
func NewRefusal(id string, e *Error) Frame {
	ok := false
	return Frame{Type: FrameResponse, ID: id, OK: &ok, Error: e}
}

// marshalField renders v, passing JSON that is already rendered through; nil becomes {} as the gateway expects an object.
func marshalField(v any) (json.RawMessage, error) {
	switch v := v.(type) {
	case nil:
		return json.RawMessage("{}"), nil
	case json.RawMessage:
		if len(bytes.TrimSpace(v)) == 0 {
			return json.RawMessage("{}"), nil
		}
		return v, nil
	default:
		return json.Marshal(v)
	}
}
