// Package openclaw speaks the OpenClaw gateway protocol: frames, the signed handshake, the device identity, a client for
// nodes and a client for operators.
//
// It owns what travels on the wire and nothing else: which commands a node answers and what an operator does with a node
// list are decided by its importers (the agent, the embedded gateway, the Clawbernetes driver and the wiring). It imports
// the clock and no other package of this program. It never retries a call by itself, because only the caller knows
// whether an outcome it could not see may be repeated; see Outcome.
package openclaw
