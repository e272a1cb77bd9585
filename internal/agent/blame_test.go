package agent

import (
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// What the kernel calls broken counts as failed until it is taken back or has had its time; then the driver's word holds.
func TestBrokenGPUCountsAsFailed(t *testing.T) {
	a := bareAgent(t)
	a.node.Conditions = map[string]string{}
	a.node.GPUs = []autoheal.GPU{{UUID: "GPU-a", Health: autoheal.HealthOK}, {UUID: "GPU-b", Health: autoheal.HealthDegraded, Action: autoheal.AdviceResetGPU}}
	say := func(gpu string, age, ttl time.Duration, clears bool) {
		a.mu.Lock()
		a.emitLocked(autoheal.Signal{
			Rule: "nvidia/xid/79", Failure: autoheal.FailureGPU, Subject: autoheal.Ref{Kind: autoheal.RefGPU, ID: gpu}, TTL: ttl,
			Conclusive: true, Clears: clears, Excerpt: "fallen off", Action: autoheal.AdviceRebootNode,
		}, a.boot()-age)
		a.mu.Unlock()
		a.judgeGPUs()
	}
	want := func(when string, first, second autoheal.Health, conditions int) {
		t.Helper()
		got := a.node.GPUs
		if got[0].Health != first || got[1].Health != second || len(a.node.Conditions) != conditions {
			t.Errorf("%s: %s and %s, conditions %v", when, got[0].Health, got[1].Health, a.node.Conditions)
		}
	}
	say("GPU-b", 0, time.Hour, false)
	want("one is broken", autoheal.HealthOK, autoheal.HealthFailed, 1)
	a.judgeGPUs()
	want("looked at again", autoheal.HealthOK, autoheal.HealthFailed, 1)
	if got := a.node.GPUs[1].Action; got != autoheal.AdviceRebootNode {
		t.Errorf("it asks for %q", got)
	}
	say("GPU-b", 0, time.Hour, true)
	if got := a.node.GPUs[1].Action; got != autoheal.AdviceResetGPU {
		t.Errorf("taken back, it asks for %q", got)
	}
	want("taken back", autoheal.HealthOK, autoheal.HealthDegraded, 0)
	say("GPU-a", 2*time.Hour, time.Hour, false)
	want("long ago", autoheal.HealthOK, autoheal.HealthDegraded, 0)
	say("GPU-elsewhere", 0, time.Hour, false)
	want("another node's", autoheal.HealthOK, autoheal.HealthDegraded, 0)
}
