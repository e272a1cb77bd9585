package gateway

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"autoheal.dev/autoheal/internal/openclaw"
)

// pendingFor is how long a pairing request of a device that is not connected lives.
const pendingForMs = 5 * 60 * 1000

// pairDevice gives or refuses the first approval at connect: a known device with its own name passes, an unknown one is
// approved silently or has to wait for an operator.
func (g *Gateway) pairDevice(p *openclaw.ConnectParams, remoteIP string) *refusal {
	g.mu.Lock()
	dev, known := g.devices[p.Device.ID]
	r := nameConflict(g.devices, p)
	g.mu.Unlock()
	switch {
	case r != nil:
		return r
	case known && len(p.Scopes) > 0:
		return g.askDevice(p, remoteIP, "scope-upgrade", "device is asking for more scopes than currently approved")
	case known && dev.Name == p.Client.DisplayName && dev.Platform == p.Client.Platform && dev.Version == p.Client.Version:
		return nil
	case known:
		return g.saveDevice(p, dev, "")
	case len(p.Scopes) > 0 || g.opts.ManualDevices:
		return g.askDevice(p, remoteIP, "not-paired", "device is not approved yet")
	}
	if r := g.saveDevice(p, Device{ApprovedAtMs: g.nowMs(), ApprovedVia: "silent"}, newID()); r != nil {
		return r
	}
	g.log.Info("device approved silently", slog.String("device", p.Device.ID), slog.String("name", p.Client.DisplayName))
	return nil
}

// saveDevice writes key, name and description of a device. A request id announces the approval.
func (g *Gateway) saveDevice(p *openclaw.ConnectParams, dev Device, requestID string) *refusal {
	var conflict *refusal
	err := g.update(func(devices map[string]Device) error {
		if conflict = nameConflict(devices, p); conflict != nil { // again: another may have been faster
			return conflict.err
		}
		dev.ID, dev.PublicKey = p.Device.ID, p.Device.PublicKey
		dev.Name, dev.Platform, dev.Version = p.Client.DisplayName, p.Client.Platform, p.Client.Version
		dev.ClientID, dev.ClientMode = p.Client.ID, p.Client.Mode
		devices[dev.ID] = dev
		return nil
	})
	switch {
	case conflict != nil:
		return conflict
	case err != nil:
		g.log.Error("approval could not be saved", slog.String("device", p.Device.ID), slog.Any("error", err))
		r := refuse(openclaw.CodeUnavailable, "approvals cannot be saved: "+err.Error(), map[string]any{"code": "STORE_FAILED"})
		r.err.Retryable, r.code = true, 1013
		return r
	}
	if requestID != "" {
		g.publish(openclaw.EventDevResolved, openclaw.PairResolved{
			RequestID: requestID, DeviceID: dev.ID, Decision: "approved", TS: g.nowMs(),
		})
	}
	return nil
}

// nameConflict refuses a display name that is bound to another key, and another name for a key that has one: whoever
// holds the token could otherwise take the place of an existing node, or give itself the name of one to come.
func nameConflict(devices map[string]Device, p *openclaw.ConnectParams) *refusal {
	name := p.Client.DisplayName
	if dev, ok := devices[p.Device.ID]; ok && dev.Name != "" && dev.Name != name {
		return nameBound(p, dev, fmt.Sprintf("this device key is bound to the display name %q, not %q", dev.Name, name), dev.Name)
	}
	if name == "" {
		return nil
	}
	for _, dev := range devices {
		if dev.Name == name && dev.ID != p.Device.ID {
			return nameBound(p, dev, fmt.Sprintf("the display name %q is bound to another device key", name), name)
		}
	}
	return nil
}

func nameBound(p *openclaw.ConnectParams, owner Device, message, name string) *refusal {
	return refuse(openclaw.CodeNotPaired, message, map[string]any{
		"code": openclaw.DetailNameBound, "reason": "name-bound", "displayName": name,
		"deviceId": p.Device.ID, "boundDeviceId": owner.ID,
		"remediationHint": "If the node has a new key on purpose, forget the old one: autoheal nodes forget " + name,
	})
}

// askDevice files a pairing request, or finds the one that is there, and refuses with its id.
func (g *Gateway) askDevice(p *openclaw.ConnectParams, remoteIP, reason, text string) *refusal {
	g.mu.Lock()
	g.expireRequests()
	var req *openclaw.DevicePairRequest
	for _, r := range g.devReqs {
		if r.DeviceID == p.Device.ID && slices.Equal(r.Scopes, p.Scopes) && r.DisplayName == p.Client.DisplayName {
			req = r
		}
	}
	created := req == nil
	if created && len(g.devReqs) >= maxDeclared {
		g.mu.Unlock()
		return refuse(openclaw.CodeUnavailable, "too many pairing requests are waiting", map[string]any{"code": "PAIRING_QUEUE_FULL"})
	}
	if created {
		req = &openclaw.DevicePairRequest{
			RequestID: newID(), DeviceID: p.Device.ID, PublicKey: p.Device.PublicKey, DisplayName: p.Client.DisplayName,
			Platform: p.Client.Platform, ClientID: p.Client.ID, ClientMode: p.Client.Mode, Role: p.Role,
			Scopes: append([]string{}, p.Scopes...), RemoteIP: remoteIP,
		}
		g.devReqs[req.RequestID] = req
	}
	req.TS = g.nowMs()
	copied := *req
	g.mu.Unlock()
	if created {
		g.publish(openclaw.EventDevRequested, copied)
	}
	message := "pairing required: " + text
	r := refuse(openclaw.CodeNotPaired, message, map[string]any{
		"code": openclaw.DetailPairingRequired, "reason": reason, "requestId": copied.RequestID,
		"remediationHint": "Approve this device from the pending pairing requests.",
		"deviceId":        copied.DeviceID, "requestedRole": p.Role, "requestedScopes": copied.Scopes,
	})
	r.reason = fmt.Sprintf("%s (requestId: %s)", message, copied.RequestID)
	return r
}

// expireRequests drops old requests; g.mu is held. The surface request of a connected node stays.
func (g *Gateway) expireRequests() {
	limit := g.nowMs() - pendingForMs
	maps.DeleteFunc(g.devReqs, func(_ string, r *openclaw.DevicePairRequest) bool { return r.TS < limit })
	maps.DeleteFunc(g.nodeReqs, func(_ string, r *openclaw.NodePairRequest) bool {
		return r.TS < limit && g.online[r.NodeID] == nil
	})
}

// approveDevice is device.pair.approve.
func (g *Gateway) approveDevice(requestID string) error {
	g.mu.Lock()
	g.expireRequests()
	req := g.devReqs[requestID]
	g.mu.Unlock()
	if req == nil {
		return unknownRequest()
	}
	if len(req.Scopes) > 0 { // a node has no scopes: such a request can only be rejected
		return &openclaw.Error{Code: openclaw.CodeInvalidRequest, Message: "invalid scope for requested roles: " + req.Scopes[0]}
	}
	p := &openclaw.ConnectParams{
		Role: req.Role, Client: openclaw.ClientInfo{ID: req.ClientID, Mode: req.ClientMode, DisplayName: req.DisplayName, Platform: req.Platform},
		Device: &openclaw.DeviceProof{ID: req.DeviceID, PublicKey: req.PublicKey},
	}
	if r := g.saveDevice(p, Device{ApprovedAtMs: g.nowMs(), ApprovedVia: "operator"}, requestID); r != nil {
		return r.err
	}
	g.mu.Lock()
	delete(g.devReqs, requestID)
	g.mu.Unlock()
	return nil
}

// rejectDevice is device.pair.reject.
func (g *Gateway) rejectDevice(requestID string) error {
	g.mu.Lock()
	req := g.devReqs[requestID]
	delete(g.devReqs, requestID)
	g.mu.Unlock()
	if req == nil {
		return unknownRequest()
	}
	g.publish(openclaw.EventDevResolved, openclaw.PairResolved{
		RequestID: requestID, DeviceID: req.DeviceID, Decision: "rejected", TS: g.nowMs(),
	})
	return nil
}

func unknownRequest() *openclaw.Error {
	return &openclaw.Error{Code: openclaw.CodeInvalidRequest, Message: "unknown requestId"}
}

// requestSurface files the second request for a node that just connected, unless its surface is covered; g.mu is held.
func (g *Gateway) requestSurface(c *conn) *openclaw.NodePairRequest {
	commands := g.offered(c.params)
	if g.surfaceApproved(c) {
		return nil
	}
	g.expireRequests()
	maps.DeleteFunc(g.nodeReqs, func(_ string, r *openclaw.NodePairRequest) bool { return r.NodeID == c.deviceID })
	req := &openclaw.NodePairRequest{
		RequestID: newID(), NodeID: c.deviceID, DisplayName: c.params.Client.DisplayName, Platform: c.params.Client.Platform,
		Version: c.params.Client.Version, Caps: list(c.params.Caps), Commands: commands,
		RequiredApproveScopes: approveScopes(commands), Silent: true, TS: g.nowMs(),
	}
	g.nodeReqs[req.RequestID] = req
	return req
}

// list returns a copy that is never nil: lists are never null on the wire.
func list(s []string) []string { return append([]string{}, s...) }

// approveNode is node.pair.approve. It works on the live connection.
func (g *Gateway) approveNode(requestID string) error {
	g.mu.Lock()
	g.expireRequests()
	req := g.nodeReqs[requestID]
	g.mu.Unlock()
	if req == nil {
		return unknownRequest()
	}
	now := g.nowMs()
	err := g.update(func(devices map[string]Device) error {
		dev, ok := devices[req.NodeID]
		if !ok {
			return unknownRequest()
		}
		dev.Caps, dev.Commands, dev.SurfaceApprovedAtMs = req.Caps, req.Commands, now
		devices[dev.ID] = dev
		return nil
	})
	if err != nil {
		return fmt.Errorf("approve node: %w", err)
	}
	g.mu.Lock()
	delete(g.nodeReqs, requestID)
	c := g.online[req.NodeID]
	g.mu.Unlock()
	if c != nil {
		g.logWithheld(c)
	}
	g.publish(openclaw.EventNodeResolved, openclaw.PairResolved{
		RequestID: requestID, NodeID: req.NodeID, Decision: "approved", TS: now,
	})
	return nil
}

func (g *Gateway) logWithheld(c *conn) {
	var withheld []string
	for _, cmd := range c.params.Commands {
		if !g.allowed(c.params.Client.Platform, cmd) {
			withheld = append(withheld, cmd)
		}
	}
	if len(withheld) > 0 {
		g.log.Warn("node command surface withheld", slog.String("node", c.deviceID), slog.String("platform", c.params.Client.Platform), slog.Any("commands", withheld))
	}
}

// Forget removes the node of a display name: both approvals, the binding of the name, and its connection. Another key
// may then take the name.
func (g *Gateway) Forget(name string) error {
	if name == "" {
		return &openclaw.Error{Code: openclaw.CodeInvalidRequest, Message: "forget needs a display name"}
	}
	var id string
	err := g.update(func(devices map[string]Device) error {
		for _, d := range devices {
			if d.Name == name {
				id = d.ID
			}
		}
		if id == "" {
			return &openclaw.Error{Code: openclaw.CodeInvalidRequest, Message: fmt.Sprintf("no node is called %q", name)}
		}
		delete(devices, id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget node: %w", err)
	}
	g.mu.Lock()
	c := g.online[id]
	delete(g.seen, id)
	maps.DeleteFunc(g.nodeReqs, func(_ string, r *openclaw.NodePairRequest) bool { return r.NodeID == id })
	g.mu.Unlock()
	if c != nil {
		c.link.CloseSoon(closePolicy, "device removed")
	}
	g.publish(openclaw.EventDevChanged, map[string]any{"deviceId": id, "change": "removed", "ts": g.nowMs()})
	return nil
}
