package agent

import (
	"context"
	"errors"
	"testing"

	"autoheal.dev/autoheal"
)

// TestStartUnderWay: while one request starts an attempt, nothing is said of it that its failure, its success or a
// listing could belie.
func TestStartUnderWay(t *testing.T) {
	n := startNode(t, testOptions(t))
	req := n.request("w1", 1, "sleep")
	k := key{req.Workload, 1}
	if _, repeated, err := n.reserve(&req); err != nil || repeated {
		t.Fatal(repeated, err)
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := n.doStart(late, req); !errors.Is(err, context.Canceled) {
		t.Errorf("a repeated start was answered with %+v, %v before the first one had come to its end", got, err)
	}
	if at, _, err := n.closeDoor(late, k); at != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a stop that met a start under way would answer that nothing is here: %v", err)
	}
	n.release(k)
	if got, err := n.doStart(n.ctx, req); err == nil {
		t.Errorf("it was given up and started all the same: %+v", got)
	}
}

// TestNoAtMostOnceStartBeforeAPoll: a life that was not polled does not know whether there is self-stop, and a shim
// without a deadline would belie what the healer remembers of the life before.
func TestNoAtMostOnceStartBeforeAPoll(t *testing.T) {
	n := startNode(t, testOptions(t))
	req := n.request("w1", 1, "sleep")
	req.AtMostOnce = true
	if got, err := n.doStart(n.ctx, req); err == nil {
		t.Errorf("started before the first poll: %+v", got)
	}
	if n.attempts[key{autoheal.WorkloadID("w1"), 1}] != nil {
		t.Error("it is there")
	}
}
