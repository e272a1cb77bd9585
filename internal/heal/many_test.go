package heal

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
)

// TestLongListsLetTheLoopRun: 10,000 kept incidents are read in parts, and between them the healer does its work.
func TestLongListsLetTheLoopRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		defer s.stop()
		const n = 10000
		_, err := query(context.Background(), s.engine, func(c *Core) (bool, error) {
			for k := range n {
				id := autoheal.IncidentID(fmt.Sprintf("inc-%06d", k+1000))
				c.d.Incidents[id] = &incident{
					ID: id, Kind: autoheal.CrashLoop, Phase: autoheal.Recovered, Subject: autoheal.WorkloadRef("wl-x"), Opened: c.now.Add(-time.Duration(k) * time.Minute),
					Evidence: make([]autoheal.Signal, 64), Timeline: make([]autoheal.Moment, 100), Recoveries: map[autoheal.WorkloadID]*recovery{},
				}
			}
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		before := s.engine.beats.Load()
		all, err := s.engine.Incidents(context.Background(), autoheal.IncidentFilter{Brief: true})
		if err != nil || len(all) != n {
			t.Fatalf("%d incidents, %v", len(all), err)
		}
		if turns := s.engine.beats.Load() - before; turns < n/incidentsAtOnce {
			t.Errorf("the loop came round %d times", turns)
		}
		for k := 1; k < n; k++ {
			if all[k].ID >= all[k-1].ID || all[k].Evidence != nil {
				t.Fatalf("%s after %s, with %d pieces of evidence", all[k].ID, all[k-1].ID, len(all[k].Evidence))
			}
		}
		some, err := s.engine.Incidents(context.Background(), autoheal.IncidentFilter{Limit: 3})
		if err != nil || len(some) != 3 || some[0].ID != all[0].ID || len(some[0].Evidence) != 64 {
			t.Errorf("the newest three: %v, %v", some, err)
		}
	})
}

// TestQueriesSeeWhatCameBefore: who submits a workload and asks for it at once is told of it, however busy the loop is.
func TestQueriesSeeWhatCameBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		defer s.stop()
		elapse(time.Second)
		for k := range 30 {
			release, answer := make(chan bool), make(chan bool, 1)
			go func() {
				_, _ = query(context.Background(), s.engine, func(*Core) (bool, error) { return <-release, nil })
			}()
			synctest.Wait() // the loop is busy
			id := fmt.Sprintf("wl-new%d", k)
			s.cluster.change(func(f *fakeCluster) { f.addWorkload(id, "n1", autoheal.Low) }, "workload/"+id)
			synctest.Wait()
			go func() {
				known, err := query(context.Background(), s.engine, func(c *Core) (bool, error) { return c.v.cur[autoheal.WorkloadID(id)] != nil, nil })
				answer <- known && err == nil
			}()
			synctest.Wait()
			release <- true
			if !<-answer {
				t.Fatalf("asked for %s after it was reported, the healer does not know it", id)
			}
		}
	})
}

// TestQueryAtTheEnd: a query that was taken and not answered when the engine stops gets an error, and nobody hangs.
func TestQueryAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t).start()
		release, answer := make(chan bool), make(chan error, 1)
		go func() {
			_, _ = query(context.Background(), s.engine, func(*Core) (bool, error) { return <-release, nil })
		}()
		synctest.Wait()
		go func() {
			_, err := s.engine.Status(context.Background())
			answer <- err
		}()
		synctest.Wait()
		s.cancel()
		release <- true
		s.stop()
		if err := <-answer; err != nil && autoheal.KindOf(err) != autoheal.ErrUnavailable {
			t.Errorf("got %v", err)
		}
	})
}

// TestTooLarge: what no node could run, were it empty, is said when it is submitted; what has to wait for room is not.
func TestTooLarge(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{"nodes n1 n2 gpus=8 mem=4000", "run wl-full on=n1 gpus=8 mem=4000", "sync"} {
		w.do(line)
	}
	for name, tc := range map[string]struct {
		need autoheal.Resources
		want string
	}{
		"fits":           {autoheal.Resources{GPUs: 8}, ""},
		"too many GPUs":  {autoheal.Resources{GPUs: 9}, "it needs 9 such GPUs, and no node has more than 8"},
		"other model":    {autoheal.Resources{GPUs: 1, GPUModel: "b200"}, "it needs 1 such GPUs, and no node has more than 0"},
		"too much":       {autoheal.Resources{MemoryMB: 5000}, "it needs 5000 MiB of memory, and no node has more than 4000 MiB"},
		"small GPUs":     {autoheal.Resources{GPUs: 1, GPUMemoryMB: 90000}, "no node has more than 0"},
		"too many cores": {autoheal.Resources{CPUMilli: 65000}, "it needs 65 CPUs, and no node has more than 64"},
	} {
		if got := w.core.tooLarge(&autoheal.Workload{Request: tc.need}); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	if got := NewCore(Life{}, w.pol).tooLarge(&autoheal.Workload{Request: autoheal.Resources{GPUs: 9}}); got != "" {
		t.Errorf("without any node: %q", got)
	}
}
