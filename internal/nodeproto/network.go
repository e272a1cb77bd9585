package nodeproto

import (
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
)

// CmdNetwork is NetworkRequest -> NetworkFacts: what a node knows of its network, and how it reaches others.
const CmdNetwork = "autoheal.network"

// NetworkRequest asks for the state of a node's links, and for probes to other nodes (behaviour E9).
type NetworkRequest struct {
	Epoch  uint64            `json:"epoch"`
	Action autoheal.ActionID `json:"action"`
	Peers  []Peer            `json:"peers"`
	Probes int               `json:"probes"` // to each peer
}

// Peer is a node to probe, with the places at which its agent answers probes (NodeStatus.Probe).
type Peer struct {
	Node      autoheal.NodeID `json:"node"`
	Addresses []string        `json:"addresses"` // host:port, tried in order until the right node answers
}

// NetworkFacts is what was found. A source that is not there is named in Missing, with the reason.
type NetworkFacts struct {
	Links   []Link   `json:"links"`
	RDMA    []Port   `json:"rdma"`
	Pairs   []Pair   `json:"pairs"`
	Missing []string `json:"missing"`
}

// Link is one network interface.
type Link struct {
	Name           string `json:"name"`
	State          string `json:"state"`          // up, down, unknown, as the kernel says
	CarrierChanges int64  `json:"carrierChanges"` // since it came to be; -1 = not available
	Errors         int64  `json:"errors"`         // received and sent
	Drops          int64  `json:"drops"`
}

// Port is one port of an RDMA adapter; a counter that the adapter does not have is absent.
type Port struct {
	Name     string           `json:"name"` // mlx5_0/1
	State    string           `json:"state"`
	Counters map[string]int64 `json:"counters"`
}

// Pair is how a node reached another: so many connections were tried over TCP, so many were lost. Nothing was tried where
// Reason says why it could not be.
type Pair struct {
	Node   autoheal.NodeID `json:"node"`
	Sent   int             `json:"sent"`
	Lost   int             `json:"lost"`
	RTTUS  int64           `json:"rttUs"` // mean of those that arrived, in microseconds
	Reason string          `json:"reason,omitempty"`
}

// ProbeGreeting is what an agent says to whoever connects to its probe port, before it hangs up: addresses such as that of
// a container bridge are the same on many nodes, and a probe must know whom it has reached.
func ProbeGreeting(name string) string { return "autoheal-probe " + name + "\n" }

// String says it in the lines that people read.
func (f *NetworkFacts) String() string {
	var b strings.Builder
	for _, l := range f.Links {
		changes := "carrier changes not available"
		if l.CarrierChanges >= 0 {
			changes = fmt.Sprintf("%d carrier changes", l.CarrierChanges)
		}
		fmt.Fprintf(&b, "link %s: %s, %s, %d errors, %d drops\n", l.Name, l.State, changes, l.Errors, l.Drops)
	}
	for _, p := range f.RDMA {
		fmt.Fprintf(&b, "rdma %s: %s", p.Name, p.State)
		for _, name := range RDMACounters() {
			if n, ok := p.Counters[name]; ok {
				fmt.Fprintf(&b, ", %s %d", name, n)
			}
		}
		b.WriteString("\n")
	}
	for _, p := range f.Pairs {
		fmt.Fprintf(&b, "to %s: %s\n", p.Node, p)
	}
	for _, m := range f.Missing {
		fmt.Fprintf(&b, "%s\n", m)
	}
	return b.String()
}

// String says how one pair did.
func (p Pair) String() string {
	switch {
	case p.Sent == 0:
		return "not available: " + p.Reason
	case p.Lost == p.Sent:
		return fmt.Sprintf("%d of %d probes lost", p.Lost, p.Sent)
	}
	return fmt.Sprintf("%d of %d probes lost, mean round trip %.3f ms", p.Lost, p.Sent, float64(p.RTTUS)/1000)
}

// RDMACounters lists the counters of an RDMA port that tell of trouble, in the order in which they are shown.
func RDMACounters() []string {
	return []string{
		"link_downed", "link_error_recovery", "symbol_error", "port_rcv_errors", "port_xmit_discards", "local_link_integrity_errors",
		"out_of_sequence", "packet_seq_err", "local_ack_timeout_err", "rnr_nak_retry_err",
	}
}
