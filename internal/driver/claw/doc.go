// Package claw is the driver of a Clawbernetes fleet behind an OpenClaw gateway, embedded or real: it implements
// autoheal.Cluster and autoheal.Workloads.
//
// It owns the registry (nodes, workloads, attempts, nominations), placement through internal/place, the standing poll and
// the probe of every node, and the sending of starts and stops. Only the wiring in internal/app imports it. It never
// restarts anything by itself: an attempt after a failure is made only when the engine asks; what the driver makes alone
// are first attempts, children of a scaled service, the next attempt of a drain, and those after an orderly shutdown. It
// never stops an attempt that comes back from a node thought dead, and never decides what an observation means.
//
// # What is durable when
//
// The row of an attempt is written before the start leaves, and an exit is written before the node is told to forget it.
// A start whose outcome is not known stays bound to its node: the same start to the same node is repeated, which an agent
// accepts once, and it is never sent to another node under the same attempt number.
package claw
