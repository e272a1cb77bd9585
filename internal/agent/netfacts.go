package agent

import (
	"context"

	"autoheal.dev/autoheal/internal/agent/network"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// answerProbes opens the port at which other nodes find out whether they reach this one (behaviour E9).
func (a *Agent) answerProbes() {
	a.node.Addresses = network.Names()
	if a.opts.ProbeListen == "off" {
		return
	}
	port, err := network.Listen(a.ctx, a.clk, a.opts.ProbeListen, a.opts.Name)
	if err != nil {
		a.warn("other nodes cannot find out whether they reach this one: %v", err)
		return
	}
	a.node.Probe = port.Addresses()
	a.wg.Go(func() {
		<-a.ctx.Done()
		_ = port.Close() // nothing is kept in it
	})
}

// doNetwork tells what this machine knows of its network, and how it reaches the nodes that it is asked about.
func (a *Agent) doNetwork(ctx context.Context, req nodeproto.NetworkRequest) (*nodeproto.NetworkFacts, error) {
	if err := a.epoch.admit(req.Epoch); err != nil {
		return nil, err
	}
	facts := network.Facts("/sys")
	facts.Pairs = network.Prober{Clock: a.clk}.Probe(ctx, req.Peers, req.Probes)
	return &facts, nil
}
