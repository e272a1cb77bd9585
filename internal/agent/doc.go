// Package agent is the node agent: it joins a gateway as a node, starts and stops workload attempts through shims, and
// tells the healer what changes on its machine.
//
// It owns the folder DATA/agents/NAME. internal/app wires it and tests drive it through Run. It decides nothing: it
// starts what it is told under the number it is told, refuses requests of an older healer life, and lets go of nothing
// that it cannot prove gone. It never reads the healer's state, never compares its clock with another machine's, and
// holds no lock while it touches a disk or a socket.
//
// # Life of an attempt here
//
//	start ──> spec.json ──> shim ──> running ──> exit.json ──> told ──> forgotten
//
// Each attempt is followed by one goroutine that reads its shim's socket. After a restart of the agent the same
// goroutine dials the socket instead (behaviour C2); after a reboot there is no shim and the attempt has ended.
package agent
