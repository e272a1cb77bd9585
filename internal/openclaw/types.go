package openclaw

import (
	"context"
	"encoding/json"
	"time"
)

// Approval states of NodeInfo.
const (
	ApprovalApproved  = "approved"
	ApprovalPending   = "pending-approval"
	ApprovalRepending = "pending-reapproval"
	ApprovalNone      = "unapproved"
)

// NodeInfo is a node as node.list and node.describe show it. Connected is not health: a stopped node stays connected
// until its pings fail, and LastSeenAtMs is the time of its last connect.
type NodeInfo struct {
	NodeID               string   `json:"nodeId"`
	DisplayName          string   `json:"displayName,omitempty"`
	Platform             string   `json:"platform,omitempty"`
	Version              string   `json:"version,omitempty"`
	ClientID             string   `json:"clientId,omitempty"`
	ClientMode           string   `json:"clientMode,omitempty"`
	DeviceFamily         string   `json:"deviceFamily,omitempty"`
	RemoteIP             string   `json:"remoteIp,omitempty"`
	Caps                 []string `json:"caps"`
	Commands             []string `json:"commands"`
	SessionHost          bool     `json:"sessionHost"`
	NodePluginTools      []string `json:"nodePluginTools"`
	ApprovalState        string   `json:"approvalState,omitempty"`
	PendingRequestID     string   `json:"pendingRequestId,omitempty"`
	ConnectedAtMs        int64    `json:"connectedAtMs,omitempty"`
	LastConnectedAtMs    int64    `json:"lastConnectedAtMs,omitempty"`
	LastDisconnectedAtMs int64    `json:"lastDisconnectedAtMs,omitempty"`
	LastSeenAtMs         int64    `json:"lastSeenAtMs,omitempty"`
	LastSeenReason       string   `json:"lastSeenReason,omitempty"`
	ApprovedAtMs         int64    `json:"approvedAtMs,omitempty"`
	Paired               bool     `json:"paired"`
	Connected            bool     `json:"connected"`
}

// UnmarshalJSON reads a node and ignores what it does not know, also where a known field has grown another shape: one
// odd node must not hide the others of a list.
func (n *NodeInfo) UnmarshalJSON(data []byte) error {
	type plain NodeInfo
	var w struct {
		plain
		NodePluginTools json.RawMessage `json:"nodePluginTools"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*n = NodeInfo(w.plain)
	if json.Unmarshal(w.NodePluginTools, &n.NodePluginTools) != nil {
		n.NodePluginTools = nil // descriptors of plugins, of no use here
	}
	return nil
}

// InvokeParams are one call of a node command. IdempotencyKey is mandatory: the node answers a repeated key with the
// result it remembers. Timeout 0 means the gateway's default of 30 s.
type InvokeParams struct {
	NodeID         string
	Command        string
	Params         json.RawMessage
	Timeout        time.Duration
	IdempotencyKey string
}

// DefaultInvokeTimeout is the gateway's default for node.invoke.
const DefaultInvokeTimeout = 30 * time.Second

// invokeWire is InvokeParams as on the wire.
type invokeWire struct {
	NodeID         string          `json:"nodeId"`
	Command        string          `json:"command"`
	Params         json.RawMessage `json:"params,omitempty"`
	TimeoutMs      int64           `json:"timeoutMs,omitempty"`
	IdempotencyKey string          `json:"idempotencyKey,omitempty"`
}

// InvokeResult is the payload of a successful node.invoke.
type InvokeResult struct {
	OK          bool            `json:"ok"`
	NodeID      string          `json:"nodeId"`
	Command     string          `json:"command"`
	Payload     json.RawMessage `json:"payload"`
	PayloadJSON *string         `json:"payloadJSON"`
}

// InvokeRequestWire is the payload of node.invoke.request.
type InvokeRequestWire struct {
	ID             string  `json:"id"`
	NodeID         string  `json:"nodeId"`
	Command        string  `json:"command"`
	ParamsJSON     *string `json:"paramsJSON"`
	TimeoutMs      *int64  `json:"timeoutMs,omitempty"`
	IdempotencyKey string  `json:"idempotencyKey,omitempty"`
}

// InvokeCancelWire is the payload of node.invoke.cancel.
type InvokeCancelWire struct {
	InvokeID string `json:"invokeId"`
	NodeID   string `json:"nodeId"`
}

// InvokeResultWire are the parameters of node.invoke.result.
type InvokeResultWire struct {
	ID          string          `json:"id"`
	NodeID      string          `json:"nodeId"`
	OK          bool            `json:"ok"`
	Payload     json.RawMessage `json:"payload,omitempty"`
	PayloadJSON *string         `json:"payloadJSON,omitempty"`
	Error       *NodeError      `json:"error,omitempty"`
}

// PresenceEntry is one line of the presence list. The gateway itself is one of them.
type PresenceEntry struct {
	Host         string   `json:"host,omitempty"`
	ClientID     string   `json:"clientId,omitempty"`
	Version      string   `json:"version,omitempty"`
	Platform     string   `json:"platform,omitempty"`
	DeviceFamily string   `json:"deviceFamily,omitempty"`
	Mode         string   `json:"mode,omitempty"`
	DeviceID     string   `json:"deviceId,omitempty"`
	Roles        []string `json:"roles,omitempty"`
	InstanceID   string   `json:"instanceId,omitempty"`
	Reason       string   `json:"reason,omitempty"`
	TS           int64    `json:"ts,omitempty"`
	Text         string   `json:"text,omitempty"`
}

// DevicePairRequest is a device that waits for the first approval.
type DevicePairRequest struct {
	RequestID   string   `json:"requestId"`
	DeviceID    string   `json:"deviceId"`
	PublicKey   string   `json:"publicKey,omitempty"`
	DisplayName string   `json:"displayName,omitempty"`
	Platform    string   `json:"platform,omitempty"`
	ClientID    string   `json:"clientId,omitempty"`
	ClientMode  string   `json:"clientMode,omitempty"`
	Role        string   `json:"role,omitempty"`
	Scopes      []string `json:"scopes"`
	RemoteIP    string   `json:"remoteIp,omitempty"`
	Silent      bool     `json:"silent,omitempty"`
	TS          int64    `json:"ts"`
}

// NodePairRequest is a command surface that waits for the second approval.
type NodePairRequest struct {
	RequestID             string   `json:"requestId"`
	NodeID                string   `json:"nodeId"`
	DisplayName           string   `json:"displayName,omitempty"`
	Platform              string   `json:"platform,omitempty"`
	Version               string   `json:"version,omitempty"`
	Caps                  []string `json:"caps"`
	Commands              []string `json:"commands"`
	RequiredApproveScopes []string `json:"requiredApproveScopes,omitempty"`
	Silent                bool     `json:"silent,omitempty"`
	TS                    int64    `json:"ts"`
}

// PairResolved is the payload of device.pair.resolved and node.pair.resolved.
type PairResolved struct {
	RequestID string `json:"requestId"`
	DeviceID  string `json:"deviceId,omitempty"`
	NodeID    string `json:"nodeId,omitempty"`
	Decision  string `json:"decision"`
	TS        int64  `json:"ts"`
}

// Event is what a subscriber of an Operator receives. Presence is set for "presence"; Err, where known, for
// "disconnected". "dropped" means that events were lost because the subscriber was slow: re-read everything.
type Event struct {
	Name     string
	Payload  json.RawMessage
	Presence []PresenceEntry
	Err      error
}

// ConnState is the state of a client's connection.
type ConnState string

// Connection states. Refused means that nothing listens there (the gateway's process is gone), which is told apart from
// a connection that fails in any other way. Rejected means that the gateway answered and said no.
const (
	StateConnected    ConnState = "connected"
	StateRefused      ConnState = "refused"
	StateDisconnected ConnState = "disconnected"
	StateRejected     ConnState = "rejected"
)

// Operator is the operator side of a gateway: over a socket (OperatorClient) or in process (the embedded gateway). Every
// error of Invoke can be given to ClassifyInvoke.
type Operator interface {
	NodeList(ctx context.Context) ([]NodeInfo, error)
	NodeDescribe(ctx context.Context, nodeID string) (NodeInfo, error)
	Invoke(ctx context.Context, p InvokeParams) (json.RawMessage, error)
	PairList(ctx context.Context) (devices []DevicePairRequest, nodes []NodePairRequest, err error)
	ApproveDevice(ctx context.Context, requestID string) error
	RejectDevice(ctx context.Context, requestID string) error
	ApproveNode(ctx context.Context, requestID string) error
	// Events subscribes. If the connection is up, "connected" comes first. The function ends the subscription and closes
	// the channel; it may be called more than once.
	Events() (<-chan Event, func())
}
