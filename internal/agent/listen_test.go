package agent

import (
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/sense"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/signal"
)

// listening is an agent with one GPU whose kernel's log is said by the test.
func listening(t *testing.T) *Agent {
	a := bareAgent(t)
	a.hears.ear = sense.NewEar(a.hears.catalogue.Load(), signal.KindKernel, a.kernelSays)
	a.node.GPUs = []autoheal.GPU{{UUID: "GPU-1", PCI: "00000000:05:00.0"}}
	a.node.Conditions = map[string]string{}
	return a
}

// The same line is said of every attempt in whose time it is written, and of no other.
func TestKernelIsHeardOfEachAttempt(t *testing.T) {
	a := listening(t)
	at := a.newAttempt(key{"wl-1", 2}, t.TempDir(), &shim.Spec{Start: nodeproto.StartRequest{GPUs: []autoheal.GPUID{"GPU-1"}}})
	fall := func(since time.Duration) {
		a.hears.ear.Hear([]byte("NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."), since)
	}
	fall(10 * time.Second)
	if n := len(a.kernelFound(at, 50*time.Second)); n != 0 {
		t.Errorf("%d findings of before the attempt", n)
	}
	fall(60 * time.Second)
	if n := len(a.kernelFound(at, 50*time.Second)); n != 1 {
		t.Errorf("%d findings of the time of the attempt, want 1", n)
	}
}

// What is bad can be good again: the condition goes with the attempt whose lines were lost.
func TestLostLinesAreForgottenWithTheirAttempt(t *testing.T) {
	a := listening(t)
	at := a.newAttempt(key{"wl-1", 1}, t.TempDir(), &shim.Spec{})
	at.unheard = 34_567
	a.attempts[at.key] = at
	if a.tellLost(); a.node.Conditions[condLogLost] == "" {
		t.Fatal("lost lines are not told")
	}
	delete(a.attempts, at.key)
	if a.tellLost(); a.node.Conditions[condLogLost] != "" {
		t.Errorf("still told: %s", a.node.Conditions[condLogLost])
	}
}

// A kernel that floods its log delays no answer: a node that answers late is a silent one.
func TestPollDoesNotWaitForTheKernelsLog(t *testing.T) {
	a := bareAgent(t)
	a.hears.mu.Lock()
	answered := make(chan error, 1)
	go func() {
		_, err := a.doPoll(t.Context(), nodeproto.PollRequest{Epoch: 1})
		answered <- err
	}()
	select {
	case err := <-answered:
		a.hears.mu.Unlock()
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience / 6):
		a.hears.mu.Unlock()
		t.Error("the poll waits while the kernel's log is read")
		<-answered
	}
}
