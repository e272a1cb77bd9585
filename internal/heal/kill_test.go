package heal

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestKilledAfterEachRecord ends the engine without any farewell after each record of a node's loss and return, and
// starts the next life at once or a minute later. However it is cut, the cluster ends in the same state, and no attempt comes to life twice.
func TestKilledAfterEachRecord(t *testing.T) {
	var want string
	var records uint64
	synctest.Test(t, func(t *testing.T) { want, records = lossAndReturn(t, 0, 0) })
	if !strings.Contains(want, "wl-1/2 on n2") || records < 20 {
		t.Fatalf("the undisturbed run: %d records, ends with\n%s", records, want)
	}
	for _, down := range []time.Duration{0, time.Minute} {
		for at := uint64(1); at <= records; at++ {
			synctest.Test(t, func(t *testing.T) {
				if got, _ := lossAndReturn(t, at, down); got != want {
					t.Errorf("killed after record %d of %d, down for %s, it ends with\n%swant\n%s", at, records, down, got, want)
				}
			})
		}
	}
}

// lossAndReturn plays the script and describes how it ends; kill is the record after which the engine is killed, 0 none, down
// how long it stays so.
func lossAndReturn(t *testing.T, kill uint64, down time.Duration) (end string, records uint64) {
	s := newShell(t)
	began := now()
	s.store.AfterAppend(func(_, last uint64) {
		if kill > 0 && last >= kill {
			runtime.Goexit() // the loop's goroutine ends where it stands
		}
	})
	s.start()
	script := []struct {
		at time.Duration
		do func()
	}{
		{30 * time.Second, func() { s.cluster.silence("n1") }},
		{5 * time.Minute, func() { s.cluster.answer("n1") }},
		{20 * time.Minute, func() {}},
	}
	for _, step := range script {
		for left := step.at - now().Sub(began); left > 0; left = step.at - now().Sub(began) {
			select {
			case _, alive := <-s.ended:
				if alive {
					t.Fatal("run returned although it was killed")
				}
				time.Sleep(down)
				s.nextLife()
			case <-time.After(left):
			}
		}
		step.do()
		synctest.Wait()
	}
	records = s.store.Head().Seq
	end = s.describeEnd()
	s.checkFold()
	s.stop()
	return end, records
}

// nextLife starts an engine on what the killed one left on the disk.
func (s *shell) nextLife() {
	s.store = s.store.Reopen()
	s.opt.Store = s.store
	s.opt.Life.Epoch++
	s.start()
}

func (s *shell) describeEnd() string {
	var b strings.Builder
	for _, i := range slices.Backward(s.incidents()) {
		fmt.Fprintf(&b, "%s %s %s", i.ID, i.Kind, i.Phase)
		for _, r := range i.Recoveries {
			fmt.Fprintf(&b, ", %s %s/%s attempt %d proof %s", r.Workload, r.Step, r.End, r.Attempt, r.Proof)
		}
		b.WriteString("\n")
	}
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.cluster.nodes)) {
		fmt.Fprintf(&b, "%s schedulable %t, %d marks\n", id, s.cluster.nodes[id].Schedulable, len(s.cluster.nodes[id].Marks))
	}
	for _, id := range slices.Sorted(maps.Keys(s.cluster.work)) {
		w := s.cluster.work[id]
		fmt.Fprintf(&b, "%s attempt %d %s on %s\n", id, w.Attempt, w.State, w.Node)
	}
	fmt.Fprintf(&b, "started: %s\n", strings.Join(slices.Sorted(slices.Values(s.cluster.starts)), ", "))
	return b.String()
}
