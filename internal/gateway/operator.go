package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"autoheal.dev/autoheal/internal/openclaw"
)

// Operator returns the operator side, which exists in this process only.
func (g *Gateway) Operator() openclaw.Operator { return operator{g} }

type operator struct{ g *Gateway }

var _ openclaw.Operator = operator{}

func (o operator) NodeList(context.Context) ([]openclaw.NodeInfo, error) { return o.g.nodeList(), nil }

func (o operator) NodeDescribe(_ context.Context, nodeID string) (openclaw.NodeInfo, error) {
	return o.g.nodeDescribe(nodeID)
}

func (o operator) Invoke(ctx context.Context, p openclaw.InvokeParams) (json.RawMessage, error) {
	return o.g.invoke(ctx, p)
}

func (o operator) PairList(context.Context) ([]openclaw.DevicePairRequest, []openclaw.NodePairRequest, error) {
	g := o.g
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expireRequests()
	devices := make([]openclaw.DevicePairRequest, 0, len(g.devReqs))
	for _, r := range g.devReqs {
		devices = append(devices, *r)
	}
	nodes := make([]openclaw.NodePairRequest, 0, len(g.nodeReqs))
	for _, r := range g.nodeReqs {
		nodes = append(nodes, *r)
	}
	slices.SortFunc(devices, func(a, b openclaw.DevicePairRequest) int {
		return cmp.Or(cmp.Compare(a.TS, b.TS), cmp.Compare(a.RequestID, b.RequestID))
	})
	slices.SortFunc(nodes, func(a, b openclaw.NodePairRequest) int {
		return cmp.Or(cmp.Compare(a.TS, b.TS), cmp.Compare(a.RequestID, b.RequestID))
	})
	return devices, nodes, nil
}

func (o operator) ApproveDevice(_ context.Context, requestID string) error {
	return o.g.approveDevice(requestID)
}

func (o operator) RejectDevice(_ context.Context, requestID string) error {
	return o.g.rejectDevice(requestID)
}

func (o operator) ApproveNode(_ context.Context, requestID string) error {
	return o.g.approveNode(requestID)
}

func (o operator) Events() (<-chan openclaw.Event, func()) { return o.g.hub.Subscribe() }
