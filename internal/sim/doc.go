// Package sim owns the simulator: a whole cluster in virtual time, driven by one seed, on which the healer's own code is
// attacked with faults and watched by invariant checkers. cmd/autoheal imports it for `autoheal simulate`, and so do the
// tests of internal/heal; it never touches anything real: no clock, no file, no network, no process.
//
// # What is real and what is modelled
//
// Real is everything that decides: heal.Core through NewCore, Restore and Step, the records that it returns (they go
// through the codec of internal/journal), internal/policy, internal/detect and internal/place. Modelled is what surrounds
// it: machines, agents and shims (machine.go, lease.go), the network between them and the healer (machine.go), the fleet's
// registry and its actuators (fleet.go, actuate.go, placement.go), what the driver sees of the nodes (contact.go) and the
// shell around the core (healer.go), which keeps the order of heal.Engine: step, journal, act.
//
// Heartbeats cost nothing: while a node is well its polls are not simulated but known, because they come in a fixed rhythm.
// Anything that disturbs the way to a node makes its polls single messages again (machine.loud), with the lease by echo as
// the agent keeps it: numbered answers, acknowledged by the next poll, a deadline counted on the node's own drifting clock.
//
// # Limits, honestly
//
//   - A request dies with its connection and is delayed within one by at most 20 s; polls and answers may survive a cut.
//   - Clocks drift by at most 1 %. The healer's own clock is steady within one life (clock.Steady); a step of the machine's
//     date is seen by its next life.
//   - A shim that is stopped and a kernel that is frozen defeat the self-stop: the documented holes of behaviour C2. An
//     older copy on such a node is an exception and not a violation, if it counted as gone by the self-stop; so is one that
//     counted as gone by a person's untrue word (proof level 4). Each pair of copies is counted once, by hole (holes.go), and
//     has to end once a healer that works has reached both nodes for a quarter of an hour.
//   - Programs are modelled as running, crashing or running out of memory; what they write is not.
//   - Rules that the core does not have yet cannot be broken here: preemption, hedges, GPU repair.
//
// # How to add a fault
//
// Add a row to faultKinds in faults.go: a name, how often it is drawn, and a function that begins it and says by what it
// ends. Choose targets by the indexes of the Fault, so that a script with fewer faults still means the same ones.
//
// # How to add an invariant
//
// Add a row to checkers in check.go: a name, one sentence, and the hooks that it wants. A checker judges what the world
// really did and the records that became durable, never what the core says of itself. Then plant a bug that it must catch
// in mutants.go: a checker that nothing can trip proves nothing.
package sim
