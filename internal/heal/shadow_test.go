package heal

import (
	"testing"

	"autoheal.dev/autoheal"
)

// TestShadowInBrief: what would have been done is in the brief form of an incident, from which the report is made.
func TestShadowInBrief(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{"config autoHeal.shadow=true", "nodes n1 n2", "run wl-a on=n1 class=high for=1h", "sync", "exit wl-a code=1", "advance 10s"} {
		w.do(line)
	}
	for _, brief := range []bool{true, false} {
		all := w.core.incidentViews([]autoheal.IncidentID{"inc-000001"}, brief)
		if len(all) != 1 || len(all[0].Shadow) != 1 {
			t.Fatalf("brief %t: %+v", brief, all)
		}
		if s := all[0].Shadow[0]; s.Verb != autoheal.Start || s.Target.ID != "wl-a" || s.Params.Nominated == "" || s.Mode != autoheal.HealAct || s.Reason == "" {
			t.Errorf("brief %t: %+v", brief, s)
		}
	}
	if len(w.core.incidentViews([]autoheal.IncidentID{"inc-000001"}, true)[0].Timeline) != 0 {
		t.Error("the brief form has a timeline")
	}
}
