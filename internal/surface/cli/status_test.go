package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool/tooltest"
)

// TestStatusNamesMaintenance: who looks at why nothing is done finds the window that keeps the healer away, and its end.
func TestStatusNamesMaintenance(t *testing.T) {
	raw, err := json.Marshal(statusParts{Healer: autoheal.HealerStatus{
		Enabled: true, Synced: true, Maintenance: []autoheal.Held{
			{Reason: autoheal.ReasonMaintenance, Detail: "node/n2, by root", Since: tooltest.Now, Until: tooltest.Now.Add(3 * time.Hour)},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := &page{now: tooltest.Now}
	if err := renderStatus(p, raw); err != nil {
		t.Fatal(err)
	}
	if want := "Maintenance:  node/n2, by root, ends in 3h"; !strings.Contains(p.buf.String(), want) {
		t.Errorf("got %q, want %q in it", p.buf.String(), want)
	}
}
