package agent

import (
	"log/slog"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

// TestSearchFindsWhatIsMeant: the queries of the product description find every sample of their failure, by the words of
// what is recognised; look-alikes get no such words (behaviour H2).
func TestSearchFindsWhatIsMeant(t *testing.T) {
	c, err := signal.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	xid, nccl := parseQuery("Xid error OR GPU has fallen off"), parseQuery("NCCL timeout OR connection refused")
	asked := map[string]int{}
	for _, r := range c.Rules() {
		for _, s := range r.Samples {
			m, ok := c.Match([]byte(s.Text), r.Kind)
			if !ok || m.Benign || r.Context {
				continue
			}
			found := findable([]byte(s.Text), m.SearchWords())
			switch {
			case strings.HasPrefix(m.Code, "nvidia/xid"):
				asked["xid"]++
				if !xid(found) {
					t.Errorf("%s: Xid query misses %q", r.ID, found)
				}
			case m.Failure == autoheal.FailureNetwork && (strings.HasPrefix(m.Code, "nccl/") || strings.HasPrefix(m.Code, "pytorch/")):
				asked["nccl"]++
				if !nccl(found) {
					t.Errorf("%s: NCCL query misses %q", r.ID, found)
				}
			}
		}
	}
	if asked["xid"] < 10 || asked["nccl"] < 10 {
		t.Errorf("too few samples: %v", asked)
	}
	var known recogniser
	log := slog.New(slog.DiscardHandler)
	for _, line := range []string{"step 7 loss 0.25", "NVRM: Xid (PCI:0000:05:00): 79, quoted by a workload", "init: NCCL version 2.21.5"} {
		if words := known.words([]byte(line), log); len(words) > 0 {
			t.Errorf("%q is taken for %q", line, words)
		}
	}
	watchdog := "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1580, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600060 milliseconds before timing out."
	if words := known.words([]byte(watchdog), log); !nccl(findable([]byte(watchdog), words)) || len(words) == 0 {
		t.Errorf("the torch watchdog is not found: %q", words)
	}
}
