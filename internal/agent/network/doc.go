// Package network owns what a node knows of its network: the state of its links, the counters of its RDMA adapters, and how
// it reaches other nodes.
//
// Only internal/agent imports it. It reads below /sys, answers probes on one port and makes some. It changes nothing of the
// network, needs no right beyond that of opening connections, and never judges what it finds.
package network
