package claw

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/store"
)

// BenchmarkMoveTwenty is the time from asking for twenty next attempts off a node that is gone until the last one is
// seen running, over fake agents and a durable registry, beside the floor of one durable commit for each.
func BenchmarkMoveTwenty(b *testing.B) {
	const count = 20
	gw := newFakeGateway()
	var agents []*fakeAgent
	for i := range 3 {
		agents = append(agents, gw.add(fmt.Sprintf("n%d", i+1), 0))
	}
	d := startDriver(b, driverOptions(gw, openRegistry(b, b.TempDir(), store.Options{}), 1))
	var ids []autoheal.WorkloadID
	for i := range count {
		id, err := d.Submit(b.Context(), autoheal.ActionID(fmt.Sprint("c/", i)), service(fmt.Sprint("w", i)))
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, id)
	}
	attempt := 1
	awaitAll(b, d, ids, attempt, autoheal.Running)
	var took []time.Duration
	for b.Loop() {
		attempt++
		for _, id := range ids { // the copies of the round before are gone
			for _, a := range agents {
				a.end(attemptRef{id, attempt - 1}, &autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed})
			}
		}
		awaitAll(b, d, ids, attempt-1, autoheal.Failed)
		from := time.Now()
		for _, id := range ids {
			r := d.Do(b.Context(), autoheal.Action{
				ID: autoheal.ActionID(fmt.Sprintf("i/%s/%d", id, attempt)), Epoch: 1, Actor: autoheal.ActorEngine, Verb: autoheal.Start,
				Target: autoheal.WorkloadRef(id), Params: autoheal.ActionParams{Attempt: attempt, Proof: autoheal.ProofPowerOff},
			})
			if r.Outcome != autoheal.OutcomeDone {
				b.Fatal(r.Err)
			}
		}
		awaitAll(b, d, ids, attempt, autoheal.Running)
		took = append(took, time.Since(from))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
	floor := time.Now()
	for i := range count {
		d.mu.Lock()
		err := d.saveLocked(b.Context(), putMeta("floor", fmt.Sprint(i)))
		d.mu.Unlock()
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(time.Since(floor).Microseconds())/1000, "floor-ms")
}

// awaitAll waits until every attempt of the given number is in state.
func awaitAll(b *testing.B, d *Driver, ids []autoheal.WorkloadID, attempt int, state autoheal.WorkloadState) {
	timeout := time.After(30 * time.Second)
	for {
		d.mu.Lock()
		left, changed := 0, d.changed
		for _, id := range ids {
			if a := d.workloads[id].attempts[attempt]; a == nil || a.state != state {
				left++
			}
		}
		d.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			b.Fatalf("%d of %d are not %s", left, len(ids), state)
		}
	}
}
