// Package signal says what a line of a log means: it owns the catalogue of rules (data, in catalogue/), the matcher that
// runs it at line rate, and the one verdict over the lines of an excerpt.
//
// Everything starts from Builtin, which returns the compiled Catalogue; With adds and overrides rules. A Stream is fed
// the lines of one source in order and returns what they mean; Judge draws the verdict from that. A Book keeps what is
// known now: de-duplicated, counted, bounded, with a time to live, and cleared by all-clear lines. Culprit tells the
// member of a gang that failed from those that are its victims.
//
// Lines are hostile input: any bytes may come, nothing in them is believed beyond what a rule takes from its own source.
// A rule for the kernel's lines is evidence in the kernel's log only; the same words in a workload's output are a
// quotation.
//
// Agent, policy, detectors, drivers and verbs may import it. It never reads a clock, a file or the environment, and
// starts no goroutine: readers of real sources are in signal/source.
package signal
