package sim

import (
	"slices"

	"autoheal.dev/autoheal/internal/journal"
)

// Sabotage is one bug that can be planted in what surrounds the core: a checker has to catch it. Bugs in the core itself
// are planted by source patches in the tests of this package.
type Sabotage struct {
	Name string
	Says string
}

// Sabotages lists the bugs that Config.Sabotage plants.
func Sabotages() []Sabotage {
	return []Sabotage{
		{"acts-before-journal", "actions leave before their intents are durable"},
		{"lost-intent", "the journal loses intents"},
		{"lost-alerts", "alerts go through a path that loses them"},
		{"journal-drops-writes", "the journal acknowledges writes that it did not keep"},
		{"goes-on-after-failed-append", "the core is not rebuilt after its records were refused"},
		{"results-are-lost", "what an action did not do is never reported"},
		{"alarm-is-deaf", "the loop sleeps through its wake-ups"},
		{"stalls-go-unnoticed", "a loop that woke late counts the silences of that time"},
		{"blindness-is-not-told", "the driver lost its way to the cluster and does not say so"},
		{"no-synced", "a life of the driver never finishes its listing"},
		{"registry-ignores-epoch", "the registry obeys a healer that was replaced"},
		{"agents-ignore-epoch", "agents obey a healer that was replaced"},
		{"generation-ignored", "actions are carried out on a later boot"},
		{"actions-act-twice", "an action that is repeated acts again"},
		{"start-acts-twice", "a start that is repeated begins the program again"},
		{"stop-ends-the-newest", "a stop ends the current attempt whatever it names"},
		{"uncordon-removes-all", "an uncordon of the healer removes everybody's marks"},
		{"no-proof-demanded", "the registry gives up copies that nobody proved gone"},
		{"gangs-start-in-part", "ranks of a gang are placed one by one"},
		{"stale-starts-run", "a start that outlived its connection is obeyed"},
		{"agent-restarts-by-itself", "after a boot the agent starts what ran before"},
		{"no-self-stop", "shims ignore their deadline"},
		{"self-stop-too-long", "shims stop after four times the configured length"},
		{"lease-from-receipt", "the lease counts from the acknowledgement's arrival"},
		{"deadline-from-poll", "the healer counts the last contact from before it was"},
		{"refusal-does-not-renew", "a closed port does not renew the lease"},
		{"silence-is-an-exit", "the driver reports what it cannot see as ended"},
	}
}

// sabotageRecords is the journal's share of the planted bugs: a record is replaced by one that says nothing.
func (s *sim) sabotageRecords(records []journal.Record) []journal.Record {
	var lost journal.Type
	switch s.w.sabotage {
	case "lost-intent":
		lost = journal.TypeIntent
	case "lost-alerts":
		lost = journal.TypeAlertQueued
	default:
		return records
	}
	out := slices.Clone(records)
	for i := range out {
		if out[i].Type == lost {
			out[i].Data = journal.Notice{Detail: "lost"}
			out[i].Type = out[i].Data.Type()
		}
	}
	return out
}
