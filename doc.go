// Package autoheal owns the nouns of the product and the port through which a cluster is reached.
//
// A Cluster is observed and acted upon through Observer and Actuator; every driver implements them, the engine in
// internal/heal uses them, and nothing else stands between the two. The words are those of docs/design.md: a Workload
// has Attempts, a Signal is an observation, a Finding a claim, an Incident one cause, a Recovery one affected workload or
// gang, an Action one verb with an epoch.
//
// Every package of this module may import it. It imports the standard library only and never starts a goroutine, reads
// a clock or does I/O.
package autoheal
