// Package gateway is an embedded OpenClaw gateway for the nodes of one machine.
//
// It owns the node socket on loopback, the two approvals of a node, the list of nodes with its presence, and the
// forwarding of commands with an honest statement of their outcome. It accepts and refuses what a real OpenClaw gateway
// accepts and refuses, with the same codes and texts, so that agents and drivers are the same for both; what it does
// better (de-duplication by idempotency key, names bound to keys, explicit outcomes) is additive.
//
// It may be imported by the wiring and by tests. Its operator side exists only in process: the socket opens role=node
// and nothing else. It never decides what a node should do, and never runs a command itself.
package gateway
