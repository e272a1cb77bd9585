package heal

import (
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// TestHeartbeat: behaviour G2. One alert, renewed each minute, also by the next life; what others alert is not pushed out.
func TestHeartbeat(t *testing.T) {
	w := newWorld(t)
	w.node("n1", nil)
	w.sync()
	beats := func() []autoheal.Alert {
		var out []autoheal.Alert
		for _, a := range w.core.alertViews() {
			if a.Name == "heartbeat" {
				out = append(out, a)
			}
		}
		return out
	}
	w.step(Input{Beat: true})
	first := beats()
	if len(first) != 1 || first[0].Severity != autoheal.SeverityInfo || !strings.Contains(first[0].Message, "alive: 1 nodes, 0 open incidents") {
		t.Fatalf("the first beat: %+v", first)
	}
	w.restart()
	w.now = w.now.Add(time.Minute)
	w.step(Input{Beat: true})
	again := beats()
	if len(again) != 1 || again[0].ID != first[0].ID || again[0].FiredAt.Sub(first[0].FiredAt) != time.Minute {
		t.Fatalf("the second beat: %+v after %+v", again, first)
	}
	w.do("config autoHeal.shadow=true")
	w.step(Input{Beat: true})
	if got := beats(); !strings.Contains(got[0].Message, "in the shadow") {
		t.Errorf("in the shadow it says %q", got[0].Message)
	}
}
