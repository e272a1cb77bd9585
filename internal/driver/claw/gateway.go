package claw

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/openclaw"
)

// gatewayLoop follows the connection, the node list and the requests to join. Events are hints: what counts is read anew.
func (d *Driver) gatewayLoop(events <-chan openclaw.Event) {
	ctx := d.runCtx
	resync := d.clock.NewTimer(d.opts.ProbeInterval)
	defer resync.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				d.gatewayDown()
				return
			}
			hint := d.gatewayEvent(e)
			for more := true; more; { // many nodes that come and go at once cost one reading
				select {
				case next, open := <-events:
					if more = open; open {
						hint = d.gatewayEvent(next) || hint
					}
				default:
					more = false
				}
			}
			if hint && d.isConnected() {
				d.readNodes(ctx)
			}
		case <-resync.C(): // events may be lost on the way, and a list may have failed
			if d.isConnected() {
				d.readNodes(ctx)
			}
			resync.Reset(d.opts.ProbeInterval)
		}
	}
}

func (d *Driver) isConnected() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connected
}

// gatewayEvent takes over what an event says of the connection, and reports whether it is a hint to read the nodes.
func (d *Driver) gatewayEvent(e openclaw.Event) bool {
	switch e.Name {
	case openclaw.EventConnected:
		d.gatewayUp()
		return true
	case openclaw.EventDisconnected:
		d.gatewayDown()
	case openclaw.EventPresence, openclaw.EventDropped, openclaw.EventNodeRequested, openclaw.EventNodeResolved,
		openclaw.EventDevRequested, openclaw.EventDevResolved, openclaw.EventDevChanged:
		return true
	}
	return false
}

func (d *Driver) gatewayUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.connected {
		return
	}
	now := d.clock.Now()
	d.connected, d.connectedAt, d.synced = true, now, false
	d.syncBy = now.Add(2 * d.opts.ProbeTimeout)
	d.wg.Go(func() {
		if d.sleep(d.runCtx, 2*d.opts.ProbeTimeout, nil) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.trySyncLocked()
		}
	})
}

func (d *Driver) gatewayDown() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.connected {
		return
	}
	now := d.clock.Now()
	d.connected, d.connectedAt, d.synced = false, now, false
	for _, n := range d.nodes {
		n.connected = false
		d.setLinkLocked(n, autoheal.LinkUnknown, now)
		n.told = nil
		d.indexNodeLocked(n)
	}
	d.log.LogAttrs(d.runCtx, slog.LevelWarn, "lost the gateway: everything is unknown until it is back")
	d.loseLocked(now)
}

func (d *Driver) setLinkLocked(n *node, l autoheal.LinkState, at time.Time) {
	if n.link != l {
		n.link, n.linkSince = l, at
	}
}

// readNodes reads what the gateway knows of nodes and of requests to join.
func (d *Driver) readNodes(ctx context.Context) {
	d.approve(ctx)
	lctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	infos, err := d.op.NodeList(lctx)
	if err != nil {
		if ctx.Err() == nil {
			d.log.LogAttrs(ctx, slog.LevelWarn, "cannot list nodes", slog.String("error", err.Error()))
		}
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.connected {
		return
	}
	for _, info := range infos {
		d.seeNodeLocked(ctx, info)
	}
	d.trySyncLocked()
}

// seeNodeLocked takes over one line of the node list.
func (d *Driver) seeNodeLocked(ctx context.Context, info openclaw.NodeInfo) {
	n := d.byDevice[info.NodeID]
	if n == nil {
		if !info.Paired || info.ApprovalState != openclaw.ApprovalApproved {
			return
		}
		if n = d.bindLocked(ctx, info); n == nil {
			return
		}
	}
	was := n.connected
	n.connected, n.commands = info.Connected, slices.Clone(info.Commands)
	if info.ConnectedAtMs > 0 {
		n.connectedAt = time.UnixMilli(info.ConnectedAtMs).UTC()
	}
	switch {
	case n.connected && !was:
		wake(n.wakePoll)
	case !n.connected && was:
		wake(n.wakeProbe)
	}
	d.followLocked(n)
	d.tellNodeLocked(n, d.clock.Now(), "gateway", false)
}

// bindLocked enters a node that is new to the registry and binds its name to its key.
func (d *Driver) bindLocked(ctx context.Context, info openclaw.NodeInfo) *node {
	id := nodeName(info.DisplayName, info.NodeID)
	if old := d.nodes[id]; old != nil {
		d.log.LogAttrs(ctx, slog.LevelError, "a node uses a name that is bound to another key: not taken in",
			slog.String("node", string(id)), slog.String("key", info.NodeID), slog.String("bound", old.device))
		return nil
	}
	n := newNode(id, info.NodeID)
	n.approved, n.linkSince, n.lastSeen = d.clock.Now(), d.clock.Now(), d.startedAt
	if err := d.saveLocked(ctx, putNode(n)); err != nil {
		d.log.LogAttrs(ctx, slog.LevelError, "cannot enter a node", slog.String("node", string(id)), slog.String("error", err.Error()))
		return nil
	}
	d.nodes[id], d.byDevice[info.NodeID] = n, n
	return n
}

// nodeName is the display name, or, where that cannot be a name, one made of the key.
func nodeName(display, device string) autoheal.NodeID {
	if autoheal.CheckName(display) == nil {
		return autoheal.NodeID(display)
	}
	return autoheal.NodeID("node-" + strings.ToLower(device[:min(12, len(device))]))
}

// approve answers the requests to join for which the configured decision says yes.
func (d *Driver) approve(ctx context.Context) {
	pending, err := d.Joining(ctx)
	if err != nil {
		return // the list of the next event or timer comes soon
	}
	for _, j := range pending {
		if j.Refused != "" || !d.opts.Approve(string(j.Name), j.Commands) {
			continue
		}
		if err := d.admit(ctx, j); err != nil && ctx.Err() == nil {
			d.log.LogAttrs(ctx, slog.LevelWarn, "cannot approve a node", slog.String("node", string(j.Name)), slog.String("error", err.Error()))
		}
	}
}

// Joining is a node that waits for an approval: of its key (Commands is empty) or of what it wants to offer.
type Joining struct {
	Name     autoheal.NodeID `json:"name"`
	Device   string          `json:"device"`
	Request  string          `json:"request"`
	Commands []string        `json:"commands"`
	Refused  string          `json:"refused"` // why it cannot be approved, "" if it can
	surface  bool
}

// Joining lists the nodes that wait for an approval.
func (d *Driver) Joining(ctx context.Context) ([]Joining, error) {
	lctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	devices, surfaces, err := d.op.PairList(lctx)
	if err != nil {
		return nil, fmt.Errorf("list pairing requests: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Joining
	add := func(j Joining) {
		j.Name = nodeName(string(j.Name), j.Device)
		if old := d.nodes[j.Name]; old != nil && old.device != j.Device {
			j.Refused = fmt.Sprintf("the name %s is bound to another key; forget that node first or choose another name", j.Name)
		}
		out = append(out, j)
	}
	for _, r := range devices {
		if r.Role == "" || r.Role == openclaw.RoleNode {
			add(Joining{Name: autoheal.NodeID(r.DisplayName), Device: r.DeviceID, Request: r.RequestID})
		}
	}
	for _, r := range surfaces {
		add(Joining{Name: autoheal.NodeID(r.DisplayName), Device: r.NodeID, Request: r.RequestID, Commands: r.Commands, surface: true})
	}
	return out, nil
}

// ApproveNode gives a waiting node the approval it waits for.
func (d *Driver) ApproveNode(ctx context.Context, name autoheal.NodeID) error {
	pending, err := d.Joining(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, j := range pending {
		if j.Name != name {
			continue
		}
		if j.Refused != "" {
			return &autoheal.Error{Kind: autoheal.ErrConflict, Op: "approve node " + string(name), Detail: j.Refused}
		}
		if err := d.admit(ctx, j); err != nil {
			return fmt.Errorf("approve node %s: %w", name, err)
		}
		found = true
	}
	if !found {
		return &autoheal.Error{Kind: autoheal.ErrNotFound, Op: "approve node " + string(name), Detail: "no such node waits for an approval"}
	}
	d.readNodes(ctx)
	return nil
}

func (d *Driver) admit(ctx context.Context, j Joining) error {
	actx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if j.surface {
		return d.op.ApproveNode(actx, j.Request)
	}
	return d.op.ApproveDevice(actx, j.Request)
}

// ForgetNode removes a node that is not reachable and holds nothing from the registry, and frees its name.
func (d *Driver) ForgetNode(ctx context.Context, id autoheal.NodeID) error {
	op := "forget node " + string(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nodes[id]
	switch {
	case n == nil:
		return &autoheal.Error{Kind: autoheal.ErrNotFound, Op: op, Detail: "no such node"}
	case n.link == autoheal.LinkUp || n.connected:
		return &autoheal.Error{Kind: autoheal.ErrConflict, Op: op, Detail: "it answers; stop its agent first"}
	case len(d.active[id]) > 0:
		return &autoheal.Error{Kind: autoheal.ErrConflict, Op: op, Detail: fmt.Sprintf("%d workloads may still run there", len(d.active[id]))}
	}
	if err := d.saveLocked(ctx, exec(`DELETE FROM nodes WHERE id = ?`, string(id))); err != nil {
		return &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: op, Err: err}
	}
	if n.unfollow != nil {
		n.unfollow()
	}
	delete(d.nodes, id)
	delete(d.byDevice, n.device)
	delete(d.draining, id)
	d.index.RemoveNode(id)
	ref := autoheal.NodeRef(id)
	d.emitLocked(autoheal.Event{Kind: autoheal.EventGone, Gone: &ref, At: d.clock.Now(), Source: "registry"})
	return nil
}

// trySyncLocked lists everything once the connected nodes have told what they hold, or the wait for them is over.
func (d *Driver) trySyncLocked() {
	if d.synced || !d.connected || !d.started {
		return
	}
	now := d.clock.Now()
	if now.Before(d.syncBy) {
		for _, n := range d.nodes {
			if n.connected && n.speaksPoll() && (!n.listed || n.link != autoheal.LinkUp) {
				return
			}
		}
		if len(d.nodes) == 0 && d.connectedAt.Equal(now) {
			return // the node list was not read yet
		}
	}
	d.synced = true
	d.listLocked()
	d.kick()
}

// followLocked starts the poll and the probe of a node.
func (d *Driver) followLocked(n *node) {
	if n.following || !n.speaksPoll() {
		return
	}
	n.following = true
	ctx, cancel := context.WithCancel(d.runCtx)
	n.unfollow = cancel
	d.wg.Go(func() { d.pollLoop(ctx, n) })
	d.wg.Go(func() { d.probeLoop(ctx, n) })
}

func (d *Driver) nodeIDsLocked() []autoheal.NodeID { return slices.Sorted(maps.Keys(d.nodes)) }
