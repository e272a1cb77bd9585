package sim

import (
	"cmp"
	"maps"
	"slices"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/heal"
	"autoheal.dev/autoheal/internal/journal"
)

// checker watches over one invariant. It has the hooks that it wants and leaves the others out.
type checker struct {
	name string
	says string

	saw         func(s *sim, h *healer, e autoheal.Event)                                  // the healer is told
	stepped     func(s *sim, h *healer, in heal.Input, ready heal.Ready)                   // it has decided
	durable     func(s *sim, r journal.Record, step []journal.Record)                      // r of that step is written; the book is as before it
	leaves      func(s *sim, h *healer, a autoheal.Action)                                 // an action goes out
	acted       func(s *sim, a autoheal.Action)                                            // the cluster has carried it out
	begun       func(s *sim, m *machine, p *proc)                                          // a copy begins for real
	copies      func(s *sim, w *workload)                                                  // copies of w came or went
	selfStopped func(s *sim, m *machine, p *proc)                                          // a shim's deadline passed
	unmarked    func(s *sim, a autoheal.Action, m *machine, before, after []autoheal.Mark) // marks were removed
	patrol      func(s *sim)                                                               // every ten minutes
	end         func(s *sim)                                                               // the cluster has come to rest
}

// allCheckers lists the invariants. Each run gets its own, because they remember.
func allCheckers() []checker {
	return []checker{
		oneCopy(), proofHolds(), startsOnce(), oneGeneration(), gangWhole(),
		selectionNamed(), preemptsWhole(), roomJust(), roomKept(), givenBack(), intentFirst(), epochRises(), rightGeneration(), freshEvidence(), graceKept(), syncedOnly(), stormHolds(), settles(),
		budgetKept(), ownMarksOnly(), handsOff(), restartsBounded(), hedgesKept(), causesShared(), approvalsKept(),
		isolationJustified(), isolationRare(), toldFirst(), crashIsNoPartition(),
		endedForReason(), hangsSeenTo(), faultsKept(),
		recordsInOrder(), legalOnly(), accountWritten(), pagedInTime(),
		repairsIdle(), repairsBounded(), evidenceFirst(), testedReturn(), gpusReturn(),
		incidentsMove(), sleepsWell(), workEnds(), marksReturn(), nothingLost(), comesToRest(), bookIsTrue(), awayIsHarmless(),
	}
}

// Invariants names the checkers and says what each holds the healer to, in order.
func Invariants() [][2]string {
	var out [][2]string
	for _, c := range allCheckers() {
		out = append(out, [2]string{c.name, c.says})
	}
	return append(out, [2]string{"fold", "Folding the journal gives the state of the core, at any time and after any crash."},
		[2]string{"right-target", "What ends is the attempt that the action named."}, [2]string{"rest", "A run comes to rest."})
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// live returns the copies of a workload that really run, frozen ones left out.
func (w *workload) live() []place {
	var out []place
	for _, p := range w.places {
		if p.p.live() && p.m.on && !p.m.frozen && p.m.procs[p.p.ref] == p.p {
			out = append(out, p)
		}
	}
	return out
}
