package heal

import (
	"slices"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
)

// TestWhyHedge: what would have an extra copy is told so, and nothing else is.
func TestWhyHedge(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{
		"nodes n1 n2", "run wl-web on=n1 class=critical kind=service twice=1", "run wl-once on=n1 class=critical", "run wl-batch on=n1 class=low twice=1", "sync",
	} {
		w.do(line)
	}
	for id, want := range map[string]bool{"wl-web": true, "wl-once": false, "wl-batch": false} {
		why, err := w.core.why(autoheal.WorkloadRef(autoheal.WorkloadID(id)))
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(why.Text, func(s string) bool { return strings.Contains(s, "extra copy") }); got != want {
			t.Errorf("%s: %q", id, why.Text)
		}
	}
	w.do("config autoHeal.node.hedge.enabled=false")
	if why, _ := w.core.why(autoheal.WorkloadRef("wl-web")); strings.Contains(strings.Join(why.Text, " "), "extra copy") {
		t.Error("it is told of an extra copy that is switched off")
	}
}
