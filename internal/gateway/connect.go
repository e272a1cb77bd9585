package gateway

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/openclaw"
)

// Close codes of the protocol.
const (
	closeProtocol = 1002
	closePolicy   = 1008
	closeRestart  = 1012
)

// refusal is a no to connect: the answer and the close that follows it.
type refusal struct {
	err    *openclaw.Error
	code   int
	reason string
}

func refuse(code, message string, details any) *refusal {
	e := &openclaw.Error{Code: code, Message: message}
	if details != nil {
		e.Details = openclaw.NewDetails(details)
	}
	return &refusal{err: e, code: closePolicy, reason: message}
}

func invalid(message string, details any) *refusal {
	return refuse(openclaw.CodeInvalidRequest, message, details)
}

// signatureSkew is how far signedAt may lie from our time.
const signatureSkew = 2 * time.Minute

// Bounds on what a node declares.
const (
	maxDeclared   = 512
	maxNameLength = 128
)

// admit decides a connect request up to the pairing: protocol, role, token, device proof. The order is the real
// gateway's, so that a client with two faults hears of the same one first.
func (g *Gateway) admit(frame openclaw.Frame, nonce string) (*openclaw.ConnectParams, *refusal) {
	if frame.Type != openclaw.FrameRequest || frame.Method != openclaw.MethodConnect {
		return nil, invalid("invalid handshake: first request must be connect", nil)
	}
	var p openclaw.ConnectParams
	if err := json.Unmarshal(frame.Params, &p); err != nil {
		return nil, invalid("invalid connect params: "+err.Error(), nil)
	}
	if r := checkParams(&p); r != nil {
		return nil, r
	}
	if r := checkProtocol(&p); r != nil {
		return nil, r
	}
	if r := g.checkRole(&p); r != nil {
		return nil, r
	}
	if r := g.checkToken(&p); r != nil {
		return nil, r
	}
	if r := g.checkProof(&p, nonce); r != nil {
		return nil, r
	}
	return &p, nil
}

func checkParams(p *openclaw.ConnectParams) *refusal {
	const prefix = "invalid connect params: "
	switch {
	case p.MinProtocol < 1 || p.MaxProtocol < p.MinProtocol:
		return invalid(prefix+"minProtocol and maxProtocol must be positive and in order", nil)
	case p.Client.ID == "" || p.Client.Mode == "" || p.Client.Version == "" || p.Client.Platform == "":
		return invalid(prefix+"client must have id, mode, version and platform", nil)
	case len(p.Caps) > maxDeclared || len(p.Commands) > maxDeclared || len(p.Scopes) > maxDeclared:
		return invalid(fmt.Sprintf("%sat most %d caps, commands and scopes", prefix, maxDeclared), nil)
	}
	c := p.Client
	for _, s := range append([]string{c.ID, c.Mode, c.Version, c.Platform, c.DisplayName, c.DeviceFamily, c.InstanceID},
		append(append([]string{}, p.Caps...), append(p.Commands, p.Scopes...)...)...) {
		if len(s) > maxNameLength {
			return invalid(fmt.Sprintf("%s%.20q… is longer than %d bytes", prefix, s, maxNameLength), nil)
		}
	}
	return nil
}

// checkProtocol takes the current protocol from anyone and the one before it from nodes.
func checkProtocol(p *openclaw.ConnectParams) *refusal {
	current := p.MinProtocol <= openclaw.ProtocolVersion && p.MaxProtocol >= openclaw.ProtocolVersion
	node := p.Role == openclaw.RoleNode && p.Client.Mode == openclaw.ModeNode
	previous := p.MinProtocol <= openclaw.MinNodeProtocol && p.MaxProtocol >= openclaw.MinNodeProtocol
	if current || node && previous {
		return nil
	}
	r := invalid("protocol mismatch", map[string]any{
		"code": openclaw.DetailProtocolMismatch, "clientMinProtocol": p.MinProtocol, "clientMaxProtocol": p.MaxProtocol,
		"expectedProtocol": openclaw.ProtocolVersion, "minimumProbeProtocol": openclaw.MinNodeProtocol,
	})
	r.code = closeProtocol
	return r
}

func (g *Gateway) checkRole(p *openclaw.ConnectParams) *refusal {
	switch p.Role {
	case openclaw.RoleNode:
	case openclaw.RoleOperator, "": // a missing role means operator
		return refuse(openclaw.CodeForbidden, "operator connections are not served on this socket: the token of the embedded "+
			"gateway opens role=node only; operate it through the autoheal command or its API",
			map[string]any{"code": openclaw.DetailOperatorNotServed})
	default:
		return invalid("invalid role", nil)
	}
	if p.Client.ID != openclaw.ClientNodeHost || p.Client.Mode != openclaw.ModeNode {
		return invalid(fmt.Sprintf("invalid connect params: role node needs client id %s and mode %s", openclaw.ClientNodeHost, openclaw.ModeNode), nil)
	}
	return nil
}

func (g *Gateway) checkToken(p *openclaw.ConnectParams) *refusal {
	if p.Auth == nil || p.Auth.Token == "" {
		return invalid("unauthorized: gateway token missing (provide gateway auth token)",
			map[string]any{"code": openclaw.DetailTokenMissing})
	}
	got, want := sha256.Sum256([]byte(p.Auth.Token)), sha256.Sum256([]byte(g.opts.Token))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return invalid("unauthorized: gateway token mismatch (provide gateway auth token)",
			map[string]any{"code": openclaw.DetailTokenMismatch})
	}
	return nil
}

// checkProof verifies the device: id against key, freshness, nonce, signature (v3 or v2).
func (g *Gateway) checkProof(p *openclaw.ConnectParams, nonce string) *refusal {
	d := p.Device
	if d == nil {
		return refuse(openclaw.CodeNotPaired, "device identity required",
			map[string]any{"code": "DEVICE_IDENTITY_REQUIRED", "reason": "device-required"})
	}
	key, err := d.VerifyKey()
	if err != nil {
		return badDevice("DEVICE_ID_MISMATCH", "device-id-mismatch", "device identity mismatch")
	}
	if age := g.nowMs() - d.SignedAt; age > signatureSkew.Milliseconds() || -age > signatureSkew.Milliseconds() {
		return badDevice("SIGNATURE_EXPIRED", "device-signature-stale", "device signature expired")
	}
	switch strings.TrimSpace(d.Nonce) {
	case "":
		return badDevice("NONCE_REQUIRED", "device-nonce-missing", "device nonce required")
	case nonce:
	default:
		return badDevice("NONCE_MISMATCH", "device-nonce-mismatch", "device nonce mismatch")
	}
	return checkSignature(p, key)
}

func checkSignature(p *openclaw.ConnectParams, key ed25519.PublicKey) *refusal {
	if _, err := p.VerifySignature(key); err != nil {
		return badDevice("SIGNATURE_INVALID", "device-signature", "device signature invalid")
	}
	return nil
}

func badDevice(code, reason, message string) *refusal {
	return invalid(message, map[string]any{"code": "DEVICE_AUTH_" + code, "reason": reason})
}
