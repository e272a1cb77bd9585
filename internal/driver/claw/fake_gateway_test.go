package claw

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

// fakeGateway is an openclaw.Operator over fake agents in memory, for tests in virtual time.
type fakeGateway struct {
	hub openclaw.Hub

	mu      sync.Mutex // mu guards what follows
	down    bool
	agents  map[string]*fakeAgent // by device
	pending []openclaw.NodePairRequest
	faults  []*fault
	calls   map[string]int // by command
}

// fault changes the fate of the next matching invokes.
type fault struct {
	device, command string
	times           int
	delay           time.Duration // before the node gets it
	late            time.Duration // the node gets it, but only long after the caller was told of a timeout
	drop            bool          // never reaches the node; the caller learns nothing
	loseAnswer      bool          // reaches the node; the caller learns nothing
	twice           bool          // the node gets it twice
	refuse          *openclaw.NodeError
	notSent         bool
}

var _ openclaw.Operator = (*fakeGateway)(nil)

func newFakeGateway() *fakeGateway {
	g := &fakeGateway{agents: map[string]*fakeAgent{}, calls: map[string]int{}}
	g.hub.Publish(openclaw.Event{Name: openclaw.EventConnected})
	return g
}

func (g *fakeGateway) add(name string, gpus int) *fakeAgent {
	a := newFakeAgent(name, gpus)
	g.mu.Lock()
	g.agents[a.device] = a
	g.mu.Unlock()
	g.presence()
	return a
}

func (g *fakeGateway) presence() { g.hub.Publish(openclaw.Event{Name: openclaw.EventPresence}) }

func (g *fakeGateway) inject(f *fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.times = max(f.times, 1)
	g.faults = append(g.faults, f)
}

// cut ends or restores the driver's own connection to the gateway.
func (g *fakeGateway) cut(down bool) {
	g.mu.Lock()
	g.down = down
	for _, a := range g.agents {
		a.mu.Lock()
		if down {
			a.disturbLocked()
		}
		a.mu.Unlock()
	}
	g.mu.Unlock()
	if down {
		g.hub.Publish(openclaw.Event{Name: openclaw.EventDisconnected})
	} else {
		g.hub.Publish(openclaw.Event{Name: openclaw.EventConnected})
	}
}

func (g *fakeGateway) NodeList(context.Context) ([]openclaw.NodeInfo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down {
		return nil, openclaw.ErrNotConnected
	}
	var out []openclaw.NodeInfo
	for _, dev := range slices.Sorted(maps.Keys(g.agents)) {
		a := g.agents[dev]
		a.mu.Lock()
		out = append(out, openclaw.NodeInfo{
			NodeID: dev, DisplayName: a.name, Commands: nodeproto.Commands(), Paired: true, ApprovalState: openclaw.ApprovalApproved,
			Connected: a.online, ConnectedAtMs: 1,
		})
		a.mu.Unlock()
	}
	return out, nil
}

func (g *fakeGateway) NodeDescribe(_ context.Context, id string) (openclaw.NodeInfo, error) {
	all, err := g.NodeList(context.Background())
	for _, n := range all {
		if n.NodeID == id {
			return n, nil
		}
	}
	return openclaw.NodeInfo{}, fmt.Errorf("no node %s: %w", id, err)
}

func (g *fakeGateway) PairList(context.Context) ([]openclaw.DevicePairRequest, []openclaw.NodePairRequest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return nil, slices.Clone(g.pending), nil
}
func (g *fakeGateway) ApproveDevice(context.Context, string) error { return nil }
func (g *fakeGateway) RejectDevice(context.Context, string) error  { return nil }

// ApproveNode lets the waiting node in.
func (g *fakeGateway) ApproveNode(_ context.Context, request string) error {
	g.mu.Lock()
	at := slices.IndexFunc(g.pending, func(r openclaw.NodePairRequest) bool { return r.RequestID == request })
	if at < 0 {
		g.mu.Unlock()
		return fmt.Errorf("no request %s", request)
	}
	a := newFakeAgent(g.pending[at].DisplayName, 0)
	a.device = g.pending[at].NodeID
	g.agents[a.device] = a
	g.pending = slices.Delete(g.pending, at, at+1)
	g.mu.Unlock()
	g.presence()
	return nil
}

func (g *fakeGateway) Events() (<-chan openclaw.Event, func()) { return g.hub.Subscribe() }

func errNotConnected() error {
	return &openclaw.Error{Code: openclaw.CodeUnavailable, Message: "node not connected", Details: openclaw.NewDetails(map[string]any{"code": openclaw.DetailNotConnected})}
}

func errNode(code, message string) error {
	return &openclaw.Error{Code: openclaw.CodeUnavailable, Message: code + ": " + message, Details: openclaw.NewDetails(map[string]any{
		"nodeError": openclaw.NodeError{Code: code, Message: message}, "nodeCommandDispatched": true,
	})}
}

// Invoke runs a command with the faults that were injected and the gateway's own timeout.
func (g *fakeGateway) Invoke(ctx context.Context, p openclaw.InvokeParams) (json.RawMessage, error) {
	a, f, err := g.route(p)
	if err != nil {
		return nil, err
	}
	timeout := time.NewTimer(p.Timeout)
	defer timeout.Stop()
	gave := func() (json.RawMessage, error) {
		select {
		case <-timeout.C:
			return nil, errNode("TIMEOUT", "node invoke timed out")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if f != nil {
		switch {
		case f.notSent:
			return nil, errNotConnected()
		case f.refuse != nil:
			return nil, errNode(f.refuse.Code, f.refuse.Message)
		case f.drop:
			return gave()
		case f.loseAnswer:
			_, _, _ = a.handle(ctx, p)
			return gave()
		case f.late > 0:
			go func() {
				<-time.After(p.Timeout + f.late)
				_, _, _ = a.handle(context.Background(), p)
			}()
			return gave()
		case f.twice:
			_, _, _ = a.handle(ctx, p)
		case f.delay > 0:
			late := time.NewTimer(f.delay)
			defer late.Stop()
			select {
			case <-late.C:
			case <-timeout.C:
				return nil, errNode("TIMEOUT", "node invoke timed out")
			}
		}
	}
	type answer struct {
		payload any
		lost    bool
		err     error
	}
	done := make(chan answer, 1)
	hctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	go func() {
		payload, lost, err := a.handle(hctx, p)
		done <- answer{payload, lost, err}
	}()
	select {
	case r := <-done:
		switch {
		case r.lost:
			return nil, errNode("DISCONNECTED", "node disconnected ("+p.Command+")")
		case r.err != nil:
			return nil, r.err
		}
		return json.Marshal(r.payload)
	case <-timeout.C:
		return nil, errNode("TIMEOUT", "node invoke timed out")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (g *fakeGateway) route(p openclaw.InvokeParams) (*fakeAgent, *fault, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls[p.Command]++
	a := g.agents[p.NodeID]
	if g.down {
		return nil, nil, openclaw.ErrNotConnected
	}
	if a == nil || !a.isOnline() {
		return nil, nil, errNotConnected()
	}
	for i, f := range g.faults {
		if (f.device == "" || f.device == p.NodeID) && f.command == p.Command {
			if f.times--; f.times == 0 {
				g.faults = slices.Delete(g.faults, i, i+1)
			}
			return a, f, nil
		}
	}
	return a, nil, nil
}
