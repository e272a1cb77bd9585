package agent

import (
	"context"

	"autoheal.dev/autoheal/internal/nodeproto"
)

func (a *Agent) doLogs(_ context.Context, req nodeproto.LogsRequest) (*nodeproto.LogsResponse, error) {
	return nil, refuse(nodeproto.CodeUnsupported, "logs of %s", req.Workload)
}

func (a *Agent) doCollect(_ context.Context, req nodeproto.CollectRequest) (*nodeproto.CollectResponse, error) {
	return nil, refuse(nodeproto.CodeUnsupported, "collect of %s", req.Workload)
}
