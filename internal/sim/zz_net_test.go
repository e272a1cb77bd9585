package sim

import "testing"

func TestZZNet(t *testing.T) {
	kinds := []string{"wire_broken", "wire_broken_under_gang", "rank_silent", "rank_lies", "ranks_tie", "rank_crashes", "link_flaps", "adapter_fails"}
	for _, c := range []Config{{Kinds: kinds}, {Kinds: append(kinds, "node_crash", "cut", "healer_crash", "crash", "actuator_late", "two_leaders")}} {
		for seed := range uint64(6) {
			s := newSim(seed, c.withDefaults())
			s.cfg.Record = true
			s.w.noting = true
			s.run(script(seed, c.withDefaults()))
			n := map[string]int{}
			for _, id := range s.book.order {
				i := s.book.incidents[id]
				n[string(i.kind)+" "+string(i.phase)]++
			}
			iso := 0
			for _, in := range s.book.intents {
				if in.Action.Verb == "drain" {
					iso++
				}
			}
			t.Logf("seed %d: %v drains %d", seed, n, iso)
			if s.broken != nil {
				t.Errorf("seed %d: %+v", seed, s.broken)
				ns := s.w.notes
				for _, l := range ns {
					if len(l) > 300 { l = l[:300] }
					t.Log(l)
				}
				return
			}
		}
	}
}
