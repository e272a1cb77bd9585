package agent

import (
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

func TestMemoryStall(t *testing.T) {
	text := "some avg10=0.00 avg60=55.10 avg300=3.00 total=1\nfull avg10=1.00 avg60=41.25 avg300=2.00 total=2\n"
	if got := memoryStall(text); got != 41.25 {
		t.Errorf("read %v", got)
	}
	if got := memoryStall(""); got != 0 {
		t.Errorf("without the file: %v", got)
	}
}

// TestFaultsOfTheKernel: what its kernel calls critical keeps a node out of use for as long as it counts, and nothing else
// does.
func TestFaultsOfTheKernel(t *testing.T) {
	now := time.Hour
	a := &Agent{boot: func() time.Duration { return now }, faults: map[string]machineFault{}, changed: make(chan struct{})}
	a.node.Conditions = map[string]string{}
	node := autoheal.Ref{Kind: autoheal.RefNode, ID: "n1"}
	say := func(rule string, failure autoheal.Failure, conclusive, clears bool, text string) {
		a.noteFaultLocked(autoheal.Signal{Rule: rule, Failure: failure, Subject: node, Conclusive: conclusive, Clears: clears, TTL: time.Hour, Excerpt: text}, now)
	}
	faults := func() int { return len((&autoheal.Node{Conditions: a.node.Conditions}).Faults()) }
	say("host/soft", autoheal.FailureHostSW, false, false, "a warning")
	say("net/down", autoheal.FailureNetwork, true, false, "a link")
	if faults() != 0 {
		t.Fatalf("no fault of the machine: %v", a.node.Conditions)
	}
	say("host/edac_ue", autoheal.FailureHostHW, true, false, "first line")
	say("host/edac_ue", autoheal.FailureHostHW, true, false, "second line")
	say("host/hard_lockup", autoheal.FailureHostSW, true, false, "locked up")
	if faults() != 2 || a.node.Conditions[autoheal.CondFault+"host/edac_ue"] != "first line" {
		t.Fatalf("two faults: %v", a.node.Conditions)
	}
	now += 2 * time.Hour
	n := a.copyNodeLocked()
	a.putFaultsLocked(n)
	a.setNodeLocked(n)
	if faults() != 1 {
		t.Errorf("a lock-up of two hours ago counts: %v", a.node.Conditions)
	}
	say("host/edac_ue", autoheal.FailureHostHW, true, true, "")
	if faults() != 0 {
		t.Errorf("after the all-clear: %v", a.node.Conditions)
	}
}
