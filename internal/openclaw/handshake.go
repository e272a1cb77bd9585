package openclaw

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// Roles, client ids and client modes: closed sets of the protocol.
const (
	RoleNode     = "node"
	RoleOperator = "operator"

	ClientNodeHost = "node-host"
	ClientGateway  = "gateway-client"
	ModeNode       = "node"
	ModeBackend    = "backend"
)

// Methods and events used here.
const (
	MethodConnect      = "connect"
	MethodInvokeResult = "node.invoke.result"
	MethodNodeEvent    = "node.event"

	EventChallenge      = "connect.challenge"
	EventInvokeRequest  = "node.invoke.request"
	EventInvokeCancel   = "node.invoke.cancel"
	EventTick           = "tick"
	EventShutdown       = "shutdown"
	EventPresence       = "presence"
	EventNodeRequested  = "node.pair.requested"
	EventNodeResolved   = "node.pair.resolved"
	EventDevRequested   = "device.pair.requested"
	EventDevResolved    = "device.pair.resolved"
	EventDevChanged     = "device.pair.changed"
	EventNodeHostStats  = "node.hostStats"
	EventConnected      = "connected"    // local: the connection is up
	EventDisconnected   = "disconnected" // local: the connection is down
	EventDropped        = "dropped"      // local: the subscriber was too slow, re-read everything
	HelloType           = "hello-ok"
	CloseReasonRestart  = "service restart"
	CloseReasonReplaced = "replaced by a newer connection of this device"
)

// Challenge is the payload of the server's first event.
type Challenge struct {
	Nonce string `json:"nonce"`
	TS    int64  `json:"ts"`
}

// ClientInfo describes the program that connects.
type ClientInfo struct {
	ID           string `json:"id"`
	DisplayName  string `json:"displayName,omitempty"`
	Version      string `json:"version"`
	Platform     string `json:"platform"`
	DeviceFamily string `json:"deviceFamily,omitempty"`
	Mode         string `json:"mode"`
	InstanceID   string `json:"instanceId,omitempty"`
}

// DeviceProof shows possession of the device key for one challenge.
type DeviceProof struct {
	ID        string `json:"id"`
	PublicKey string `json:"publicKey"`
	Signature string `json:"signature"`
	SignedAt  int64  `json:"signedAt"`
	Nonce     string `json:"nonce"`
}

// AuthParams carries the shared gateway token.
type AuthParams struct {
	Token string `json:"token,omitempty"`
}

// ConnectParams are the parameters of connect.
type ConnectParams struct {
	MinProtocol int          `json:"minProtocol"`
	MaxProtocol int          `json:"maxProtocol"`
	Client      ClientInfo   `json:"client"`
	Role        string       `json:"role"`
	Scopes      []string     `json:"scopes"`
	Caps        []string     `json:"caps,omitempty"`
	Commands    []string     `json:"commands,omitempty"`
	Auth        *AuthParams  `json:"auth,omitempty"`
	Device      *DeviceProof `json:"device,omitempty"`
}

// token returns the token, "" if there is none.
func (p *ConnectParams) token() string {
	if p.Auth == nil {
		return ""
	}
	return p.Auth.Token
}

// SignTextV2 is the older signed text of a handshake.
func SignTextV2(p *ConnectParams, deviceID string, signedAt int64, nonce string) string {
	return strings.Join([]string{
		"v2", deviceID, p.Client.ID, p.Client.Mode, p.Role, strings.Join(p.Scopes, ","),
		strconv.FormatInt(signedAt, 10), p.token(), nonce,
	}, "|")
}

// SignTextV3 is the signed text of a handshake; beyond v2 it binds platform and device family.
func SignTextV3(p *ConnectParams, deviceID string, signedAt int64, nonce string) string {
	v2 := strings.TrimPrefix(SignTextV2(p, deviceID, signedAt, nonce), "v2")
	return "v3" + v2 + "|" + strings.ToLower(p.Client.Platform) + "|" + strings.ToLower(p.Client.DeviceFamily)
}

// Prove fills in the device proof for a challenge, with the v3 text.
func (p *ConnectParams) Prove(id Identity, c Challenge) {
	p.Device = &DeviceProof{
		ID: id.ID(), PublicKey: id.PublicKey(), SignedAt: c.TS, Nonce: c.Nonce,
		Signature: id.Sign(SignTextV3(p, id.ID(), c.TS, c.Nonce)),
	}
}

// Failures of VerifyKey and VerifySignature.
var (
	ErrDeviceKey       = errors.New("device public key invalid")
	ErrDeviceID        = errors.New("device identity mismatch")
	ErrDeviceSignature = errors.New("device signature invalid")
)

// VerifyKey decodes the public key and checks that the device id is its hash.
func (d *DeviceProof) VerifyKey() (ed25519.PublicKey, error) {
	key, err := decodeBase64URL(d.PublicKey)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, ErrDeviceKey
	}
	if DeviceID(key) != d.ID {
		return nil, ErrDeviceID
	}
	return key, nil
}

// VerifySignature checks the signature against the v3 text, then the v2 text, and says which one it was.
func (p *ConnectParams) VerifySignature(key ed25519.PublicKey) (version string, err error) {
	sig, err := decodeBase64URL(p.Device.Signature)
	if err != nil || len(sig) != ed25519.SignatureSize {
		return "", ErrDeviceSignature
	}
	d := p.Device
	if ed25519.Verify(key, []byte(SignTextV3(p, d.ID, d.SignedAt, d.Nonce)), sig) {
		return "v3", nil
	}
	if ed25519.Verify(key, []byte(SignTextV2(p, d.ID, d.SignedAt, d.Nonce)), sig) {
		return "v2", nil
	}
	return "", ErrDeviceSignature
}

func decodeBase64URL(s string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
}

// Hello is the answer to connect.
type Hello struct {
	Type     string        `json:"type"`
	Protocol int           `json:"protocol"`
	Server   HelloServer   `json:"server"`
	Features HelloFeatures `json:"features"`
	Snapshot HelloSnapshot `json:"snapshot"`
	Auth     HelloAuth     `json:"auth"`
	Policy   HelloPolicy   `json:"policy"`
}

// HelloServer identifies the gateway and the connection.
type HelloServer struct {
	Version string `json:"version"`
	BuildID string `json:"buildId,omitempty"`
	BootID  string `json:"bootId"`
	ConnID  string `json:"connId"`
}

// HelloFeatures lists what the gateway offers.
type HelloFeatures struct {
	Methods      []string `json:"methods"`
	Events       []string `json:"events"`
	Capabilities []string `json:"capabilities"`
}

// HelloSnapshot is the state at the time of the answer.
type HelloSnapshot struct {
	Presence     json.RawMessage `json:"presence"`
	Health       json.RawMessage `json:"health"`
	StateVersion json.RawMessage `json:"stateVersion"`
	UptimeMs     int64           `json:"uptimeMs"`
}

// HelloAuth says what the connection may do.
type HelloAuth struct {
	Method string   `json:"method"`
	Role   string   `json:"role"`
	Scopes []string `json:"scopes"`
}

// HelloPolicy states the limits of the connection.
type HelloPolicy struct {
	MaxPayload       int64 `json:"maxPayload"`
	MaxBufferedBytes int64 `json:"maxBufferedBytes"`
	TickIntervalMs   int64 `json:"tickIntervalMs"`
}
