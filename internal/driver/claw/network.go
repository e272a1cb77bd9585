package claw

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// probesPerPair is how often each peer is tried (behaviour E9).
const probesPerPair = 20

// Rules of the signals that tell what was found about a network.
const (
	ruleNetworkFacts = "network/facts"
	ruleNetworkPair  = "network/pair"
)

// doNetwork asks a node for the state of its network and how it reaches its peers, keeps the answer as evidence, and tells
// it as signals of that node. It is called with d.mu held and releases it.
func (d *Driver) doNetwork(ctx context.Context, a autoheal.Action) autoheal.Result {
	n, _, err := d.planCollect(a)
	if err != nil {
		d.mu.Unlock()
		return d.refused(a, err)
	}
	req := nodeproto.NetworkRequest{Epoch: d.epoch, Action: a.ID, Probes: probesPerPair}
	for _, id := range a.Params.Peers {
		p := nodeproto.Peer{Node: id}
		if peer := d.nodes[id]; peer != nil && peer.status != nil {
			p.Addresses = peer.status.Probe
		}
		req.Peers = append(req.Peers, p)
	}
	d.mu.Unlock()
	var facts nodeproto.NetworkFacts
	cerr := d.call(ctx, n.device, nodeproto.CmdNetwork, d.key("network/"+string(a.ID)), req, &facts, d.budget(a, collectTime))
	d.mu.Lock()
	defer d.mu.Unlock()
	if cerr != nil {
		return d.failed(a, cerr)
	}
	now := d.clock.Now()
	res := d.acceptLocked(ctx, a, effect{rows: keepCapture(a, n.id, map[string]string{"network": facts.String()}, now)})
	if res.Outcome == autoheal.OutcomeDone {
		d.tellNetworkLocked(a, n, &facts, now)
	}
	return res
}

// tellNetworkLocked tells what a node found: its own state, and each pair that was tried or could not be.
func (d *Driver) tellNetworkLocked(a autoheal.Action, n *node, f *nodeproto.NetworkFacts, now time.Time) {
	self := autoheal.Ref{Kind: autoheal.RefNode, ID: string(n.id), Generation: n.bootID}
	tell := func(s autoheal.Signal) {
		s.Source, s.Subject, s.At, s.SeenAt, s.TTL, s.Count, s.Action = "collect", self, now, now, time.Hour, 1, autoheal.AdviceNone
		s.Fields["incident"], s.Fields["action"] = string(a.Incident), string(a.ID)
		d.emitLocked(autoheal.Event{Kind: autoheal.EventSignal, Signal: &s, At: now, Source: string(n.id)})
	}
	text := strings.TrimSpace(f.String())
	tell(autoheal.Signal{Rule: ruleNetworkFacts, Failure: autoheal.FailureNone, Fields: map[string]string{}, Excerpt: strings.ToValidUTF8(text[:min(len(text), 2<<10)], "")})
	for _, p := range f.Pairs {
		s := autoheal.Signal{
			Rule: ruleNetworkPair, Failure: autoheal.FailureNone, Also: []autoheal.Ref{autoheal.NodeRef(p.Node)}, Excerpt: fmt.Sprintf("%s to %s: %s", n.id, p.Node, p),
			Fields: map[string]string{
				"peer": string(p.Node), "sent": strconv.Itoa(p.Sent), "lost": strconv.Itoa(p.Lost), "rtt_us": strconv.FormatInt(p.RTTUS, 10),
			},
		}
		if p.Lost > 0 && 2*p.Lost >= p.Sent {
			s.Failure = autoheal.FailureNetwork
		}
		tell(s)
	}
}
