package gateway

import (
	"maps"
	"slices"

	"autoheal.dev/autoheal/internal/openclaw"
)

// surfaceApproved reports whether the second approval covers what a connection declared; g.mu is held.
func (g *Gateway) surfaceApproved(c *conn) bool {
	dev, ok := g.devices[c.deviceID]
	return ok && dev.SurfaceApprovedAtMs > 0 && covers(dev.Commands, g.offered(c.params)) && covers(dev.Caps, c.params.Caps)
}

// nodeInfo describes one device; g.mu is held.
func (g *Gateway) nodeInfo(dev Device) openclaw.NodeInfo {
	times := g.seen[dev.ID]
	n := openclaw.NodeInfo{
		NodeID: dev.ID, DisplayName: dev.Name, Platform: dev.Platform, Version: dev.Version,
		ClientID: dev.ClientID, ClientMode: dev.ClientMode,
		Caps: []string{}, Commands: []string{}, NodePluginTools: []string{},
		ApprovalState: openclaw.ApprovalPending, ApprovedAtMs: dev.SurfaceApprovedAtMs, Paired: true,
		LastConnectedAtMs: times.connected, LastDisconnectedAtMs: times.disconnected, LastSeenAtMs: times.connected,
	}
	if times.connected > 0 {
		n.LastSeenReason = "connect"
	}
	for _, r := range g.nodeReqs {
		if r.NodeID == dev.ID {
			n.PendingRequestID = r.RequestID
		}
	}
	c := g.online[dev.ID]
	switch {
	case c != nil:
		n.Connected, n.ConnectedAtMs, n.RemoteIP = true, c.connectedAt.UnixMilli(), c.remoteIP
		if g.surfaceApproved(c) {
			n.ApprovalState = openclaw.ApprovalApproved
			n.Caps = list(c.params.Caps)
			n.Commands = g.effective(c.params.Commands, dev.Commands, c.params.Client.Platform)
		} else if dev.SurfaceApprovedAtMs > 0 {
			n.ApprovalState = openclaw.ApprovalRepending
		}
	case dev.SurfaceApprovedAtMs > 0 && n.PendingRequestID == "":
		n.ApprovalState = openclaw.ApprovalApproved
		n.Caps = list(dev.Caps)
		n.Commands = g.effective(dev.Commands, dev.Commands, dev.Platform)
	}
	return n
}

// nodeList is node.list, in order of node id.
func (g *Gateway) nodeList() []openclaw.NodeInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]openclaw.NodeInfo, 0, len(g.devices))
	for _, id := range slices.Sorted(maps.Keys(g.devices)) {
		out = append(out, g.nodeInfo(g.devices[id]))
	}
	return out
}

// nodeDescribe is node.describe.
func (g *Gateway) nodeDescribe(id string) (openclaw.NodeInfo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	dev, ok := g.devices[id]
	if !ok {
		return openclaw.NodeInfo{}, &openclaw.Error{Code: openclaw.CodeInvalidRequest, Message: "unknown nodeId"}
	}
	return g.nodeInfo(dev), nil
}

// setPresence changes a node's line and publishes the whole list; g.mu is held.
func (g *Gateway) setPresence(c *conn, reason string) {
	name := c.params.Client.DisplayName
	g.presence[c.deviceID] = openclaw.PresenceEntry{
		Host: name, ClientID: c.params.Client.ID, Version: c.params.Client.Version, Platform: c.params.Client.Platform,
		DeviceFamily: c.params.Client.DeviceFamily, Mode: openclaw.ModeNode, DeviceID: c.deviceID,
		Roles: []string{openclaw.RoleNode}, InstanceID: c.deviceID, Reason: reason, TS: g.nowMs(),
		Text: "Node: " + name + " · mode node",
	}
	if _, known := g.devices[c.deviceID]; !known { // forgotten: shown once as gone, then no more
		defer delete(g.presence, c.deviceID)
	}
	entries := []openclaw.PresenceEntry{{
		Host: "embedded", Mode: "gateway", Reason: "self", Version: g.opts.Version,
		TS: g.nowMs(), Text: "Gateway: embedded · mode gateway · reason self",
	}}
	for _, id := range slices.Sorted(maps.Keys(g.presence)) {
		entries = append(entries, g.presence[id])
	}
	f := mustEvent(openclaw.EventPresence, map[string]any{"presence": entries})
	g.hub.Publish(openclaw.Event{Name: f.Event, Payload: f.Payload, Presence: entries})
}
