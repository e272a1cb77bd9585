// Package heal is the engine: it observes a cluster, decides, journals what it decided, and acts.
//
// It owns incidents and recoveries. Core is pure: Core.Step turns an Input (time, events, results, commands) into a Ready
// (records, actions, replies, the time to wake) and the same input on the same state gives the same output. Engine is the
// shell around it: one goroutine that feeds the core, persists its records BEFORE its actions leave, and hands actions to
// workers. Reading Engine.tick and Core.Step is reading the product.
//
// Only internal/app and internal/sim import it. It never does I/O of its own (the journal and the cluster are handed to
// it), never reads the machine's clock or a random source in the core, and never acts without a journalled intent.
//
// An incident goes
//
//	suspected -> cleared                    the evidence was withdrawn
//	suspected -> recovering                 the grace is over, or the evidence is conclusive
//	recovering -> recovered | escalated     every recovery and every step on the subject has ended
//	recovered -> recovering                 a relapse within verify.relapse
//	suspected | recovering -> dismissed     by a person
//
// and a recovery of one workload or gang
//
//	waiting -> stopping -> starting -> verifying -> done
//	verifying -> waiting, starting -> waiting     it died again: next try or next rung
//
// Anything else is an illegal transition: an error that writes nothing.
package heal
