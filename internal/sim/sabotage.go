package sim

import (
	"slices"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// Sabotage is one bug that can be planted in what surrounds the core: a checker has to catch it. Bugs in the core itself
// are planted by source patches in the tests of this package.
type Sabotage struct {
	Name  string
	Says  string
	Kinds []string // faults that bring it to light; empty = any
	Seed  uint64   // that brought it to light last: tried first
}

// Sabotages lists the bugs that Config.Sabotage plants.
func Sabotages() []Sabotage {
	return []Sabotage{
		{"acts-before-journal", "actions leave before their intents are durable", []string{"crash", "node_crash"}, 0},
		{"lost-intent", "the journal loses intents", []string{"crash", "node_crash"}, 0},
		{"lost-alerts", "alerts go through a path that loses them", []string{"capacity_loss", "node_crash", "zone_loss", "crash_loop"}, 0},
		{"journal-drops-writes", "the journal acknowledges writes that it did not keep", []string{"crash", "healer_crash"}, 0},
		{"goes-on-after-failed-append", "the core is not rebuilt after its records were refused", []string{"disk_full", "crash", "node_crash", "journal_ack_lost"}, 0},
		{"results-are-lost", "what an action did not do is never reported", []string{"actuator_fails", "actuator_hangs", "crash", "node_crash"}, 4},
		{"alarm-is-deaf", "the loop sleeps through its wake-ups", []string{"cut", "crash", "node_crash"}, 3},
		{"stalls-go-unnoticed", "a loop that woke late counts the silences of that time", []string{"healer_stall", "healer_freeze", "cut", "node_crash"}, 10},
		{"blindness-is-not-told", "the driver lost its way to the cluster and does not say so", []string{"observer_blind", "cut", "node_crash"}, 0},
		{"no-synced", "a listing that is late is never finished", []string{"observer_blind", "crash", "cut"}, 0},
		{"registry-ignores-epoch", "the registry obeys a healer that was replaced", []string{"two_leaders", "crash", "node_crash", "actuator_late"}, 8},
		{"generation-ignored", "actions are carried out on a later boot", []string{"node_crash", "node_reboot", "actuator_late"}, 3},
		{"start-acts-twice", "a start that is repeated begins the program again", []string{"rough_link", "cut", "crash"}, 0},
		{"stop-ends-the-newest", "a stop ends the current attempt whatever it names", []string{"cut", "partition", "half_open_out", "node_freeze"}, 0},
		{"uncordon-removes-all", "an uncordon of the healer removes everybody's marks", []string{"operator_cordons", "node_crash", "cut"}, 8},
		{"gangs-start-in-part", "ranks of a gang are placed one by one", []string{"capacity_loss", "node_crash", "crash"}, 0},
		{"agent-restarts-by-itself", "after a boot the agent starts what ran before", []string{"node_reboot", "node_crash"}, 0},
		{"no-self-stop", "shims ignore their deadline", []string{"cut", "partition", "agent_hang"}, 0},
		{"self-stop-too-long", "shims stop after four times the configured length", []string{"cut", "partition", "agent_hang"}, 0},
		{"lease-from-receipt", "the lease counts from the arrival of each poll, whatever it acknowledges", []string{"half_open_out", "cut"}, 1},
		{"last-contact-too-early", "the driver reports the last contact as earlier than it was", []string{"cut", "agent_hang", "flap"}, 0},
		{"refusal-does-not-renew", "a closed port does not renew the lease", []string{"healer_away", "healer_crash"}, 0},
		{"target-is-lost", "an action leaves without saying for what", []string{"crash", "cut"}, 0},
		{"preempts-at-will", "whatever is stopped is stopped for somebody else", []string{"cut", "partition", "operator_stops"}, 0},
		{"rooms-are-not-kept", "a place that was made for one workload goes to whoever comes first", []string{"exhaustion"}, 0},
		{"faults-take-work", "work is placed on a node that reports a fault", []string{"node_disk_full", "machine_check", "crash"}, 19},
		{"silence-is-an-exit", "the driver reports what it cannot see as ended", []string{"cut", "partition", "node_crash"}, 0},
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

// sabotageAction is the share of the planted bugs on the way out.
func (s *sim) sabotageAction(a autoheal.Action) autoheal.Action {
	switch {
	case s.w.sabotaged("target-is-lost") && engines(a):
		a.Target.ID = ""
	case s.w.sabotaged("preempts-at-will") && a.Verb == autoheal.Stop && engines(a):
		a.Params.For = "wl-000"
	}
	return a
}
