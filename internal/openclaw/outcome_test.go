package openclaw_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"autoheal.dev/autoheal/internal/openclaw"
)

// TestClassifyInvoke holds the table of the protocol notes, with errors as they come over the wire.
func TestClassifyInvoke(t *testing.T) {
	tests := []struct {
		name, raw string
		want      openclaw.Outcome
	}{
		{"node returned an error", `{"code":"UNAVAILABLE","message":"COMMAND_ERROR: unknown command: workload.run","details":{"nodeError":{"code":"COMMAND_ERROR","message":"unknown command: workload.run"},"nodeCommandDispatched":true}}`, openclaw.OutcomeDone},
		{"node returned an error, 2026.2.19", `{"code":"UNAVAILABLE","message":"unknown command: workload.run","details":{"nodeError":{"code":"COMMAND_ERROR","message":"unknown command: workload.run"}}}`, openclaw.OutcomeDone},
		{"node returned UNAVAILABLE itself", `{"code":"UNAVAILABLE","message":"UNAVAILABLE: x","details":{"nodeError":{"code":"UNAVAILABLE","message":"x"},"nodeCommandDispatched":true}}`, openclaw.OutcomeDone},
		{"node too slow", `{"code":"UNAVAILABLE","message":"TIMEOUT: node invoke timed out","details":{"nodeError":{"code":"TIMEOUT","message":"node invoke timed out"},"nodeCommandDispatched":true}}`, openclaw.OutcomeUnknown},
		{"node too slow, 2026.2.19", `{"code":"UNAVAILABLE","message":"node invoke timed out","details":{"nodeError":{"code":"TIMEOUT","message":"node invoke timed out"}}}`, openclaw.OutcomeUnknown},
		{"node died", `{"code":"UNAVAILABLE","message":"DISCONNECTED: node disconnected (node.health)","details":{"nodeError":{"code":"DISCONNECTED","message":"node disconnected (node.health)"},"nodeCommandDispatched":true}}`, openclaw.OutcomeUnknown},
		{"aborted", `{"code":"UNAVAILABLE","message":"ABORTED: x","details":{"nodeError":{"code":"ABORTED","message":"x"},"nodeCommandDispatched":true}}`, openclaw.OutcomeUnknown},
		{"node offline", `{"code":"UNAVAILABLE","message":"node not connected","details":{"code":"NOT_CONNECTED"}}`, openclaw.OutcomeNotSent},
		{"node offline, with provenance", `{"code":"UNAVAILABLE","message":"node not connected","details":{"code":"NOT_CONNECTED","nodeError":{"code":"NOT_CONNECTED","message":"node not connected"},"nodeCommandDispatched":false}}`, openclaw.OutcomeNotSent},
		{"a node that answers NOT_CONNECTED was reached", `{"code":"UNAVAILABLE","message":"NOT_CONNECTED: x","details":{"nodeError":{"code":"NOT_CONNECTED","message":"x"},"nodeCommandDispatched":true}}`, openclaw.OutcomeDone},
		{"not allowed", `{"code":"INVALID_REQUEST","message":"node command not allowed: \"alerts.create\" is not in the allowlist for platform \"linux x86_64\"","details":{"reason":"command not allowlisted","command":"alerts.create"}}`, openclaw.OutcomeNotSent},
		{"pairing changed", `{"code":"UNAVAILABLE","message":"node pairing changed while invocation was active","retryable":true,"details":{"code":"PAIRING_CHANGED"}}`, openclaw.OutcomeNotSent},
		{"key missing", `{"code":"INVALID_REQUEST","message":"invalid node.invoke params: must have required property 'idempotencyKey'"}`, openclaw.OutcomeNotSent},
		{"scope missing", `{"code":"FORBIDDEN","message":"missing scope: operator.write","details":{"code":"MISSING_SCOPE"}}`, openclaw.OutcomeNotSent},
		{"gateway starting", `{"code":"UNAVAILABLE","message":"gateway starting; retry shortly","retryable":true,"details":{"reason":"startup-sidecars"}}`, openclaw.OutcomeNotSent},
		{"send failed, older gateway", `{"code":"UNAVAILABLE","message":"failed to send invoke to node","details":{"nodeError":{"code":"UNAVAILABLE","message":"failed to send invoke to node"}}}`, openclaw.OutcomeUnknown},
		{"unexplained", `{"code":"UNAVAILABLE","message":"x"}`, openclaw.OutcomeUnknown},
		{"internal", `{"code":"INTERNAL","message":"x"}`, openclaw.OutcomeUnknown},
		{"details of another shape", `{"code":"UNAVAILABLE","message":"x","details":["NOT_CONNECTED"]}`, openclaw.OutcomeUnknown},
		{"dispatched but unexplained", `{"code":"INVALID_REQUEST","message":"x","details":{"nodeCommandDispatched":true}}`, openclaw.OutcomeUnknown},
		{"explicit mark", `{"code":"INVALID_REQUEST","message":"x","details":{"outcome":"unknown"}}`, openclaw.OutcomeUnknown},
		{"explicit mark of another kind is ignored", `{"code":"INVALID_REQUEST","message":"x","details":{"outcome":"great"}}`, openclaw.OutcomeNotSent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e openclaw.Error
			if err := json.Unmarshal([]byte(tt.raw), &e); err != nil {
				t.Fatal(err)
			}
			if got := openclaw.ClassifyInvoke(fmt.Errorf("node.invoke: %w", &e)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestClassifyLocalErrors(t *testing.T) {
	tests := []struct {
		err  error
		want openclaw.Outcome
	}{
		{nil, openclaw.OutcomeDone},
		{openclaw.ErrNotConnected, openclaw.OutcomeNotSent},
		{fmt.Errorf("x: %w: %w", openclaw.ErrNotSent, context.Canceled), openclaw.OutcomeNotSent},
		{openclaw.ErrConnectionLost, openclaw.OutcomeUnknown},
		{openclaw.ErrNoAnswer, openclaw.OutcomeUnknown},
		{context.DeadlineExceeded, openclaw.OutcomeUnknown},
		{errors.New("anything"), openclaw.OutcomeUnknown},
	}
	for _, tt := range tests {
		if got := openclaw.ClassifyInvoke(tt.err); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
}
