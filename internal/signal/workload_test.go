package signal

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"autoheal.dev/autoheal"
)

// recorded is an excerpt of a real log, cut from a public report, with the verdict that it must get.
type recorded struct {
	ID, Kind, Source, Text string
	Want                   struct {
		Failure autoheal.Failure
		Action  autoheal.Advice
	}
}

func readRecorded(t testing.TB, name string) []recorded {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var all []recorded
	for line := range bytes.Lines(data) {
		var r recorded
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("excerpt %d of %s: %v", len(all)+1, name, err)
		}
		all = append(all, r)
	}
	return all
}

// TestWorkloadExcerpts holds the verdicts over whole excerpts of workload logs.
func TestWorkloadExcerpts(t *testing.T) {
	c := builtin(t)
	right, benign := 0, 0
	all := readRecorded(t, "testdata/workload.jsonl")
	for _, r := range all {
		t.Run(r.ID, func(t *testing.T) {
			kind := KindWorkload
			if r.Kind == "mixed" {
				kind = KindAny
			}
			v := Judge(c.Excerpt([]byte(r.Text), kind, nil))
			if v.Failure != r.Want.Failure || v.Action != r.Want.Action {
				t.Errorf("verdict %s, %s; want %s, %s\n%q", v.Failure, v.Action, r.Want.Failure, r.Want.Action, v.Because)
				return
			}
			right++
		})
		if r.Want.Failure == autoheal.FailureNone {
			benign++
		}
	}
	t.Logf("%d of %d verdicts right; %d of the excerpts are benign", right, len(all), benign)
	if len(all) < 100 || benign < 20 {
		t.Errorf("only %d excerpts, %d benign: too few to say anything", len(all), benign)
	}
}

// TestWorkloadLookalikes holds the whole catalogue to the look-alikes of the rules for workloads: what looks like one
// failure may be another, but never a cause of the same kind.
func TestWorkloadLookalikes(t *testing.T) {
	c := builtin(t)
	silent, all := 0, 0
	for _, r := range c.Rules() {
		if r.Kind == KindKernel {
			continue
		}
		for i, line := range r.Lookalikes {
			all++
			v := Judge(c.Excerpt([]byte(line), r.Kind, nil))
			if v.Failure == autoheal.FailureNone {
				silent++
			} else if v.Code == r.ID {
				t.Errorf("%s: lookalikes[%d] is taken for it", r.ID, i)
			}
		}
	}
	t.Logf("%d of %d look-alikes mean nothing at all", silent, all)
	if silent < 80 {
		t.Errorf("only %d of %d look-alikes mean nothing at all", silent, all)
	}
}
