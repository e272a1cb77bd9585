package heal

import (
	"context"
	"fmt"
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
