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
	"autoheal.dev/autoheal/internal/place"
)

// drainLocked goes on with a drain: it stops what has a place elsewhere, whose next attempt is made when the exit was
// seen, and names what has none. It ends when nothing runs on the node any more.
func (d *Driver) drainLocked(ctx context.Context, n *node, now time.Time) {
	active := d.activeLocked(n.id)
	if len(active) == 0 {
		d.endDrainLocked(ctx, n, now)
		return
	}
	var stays []string
	gangs := map[autoheal.GangID]bool{}
	for _, ref := range active {
		w, a := d.workloads[ref.id], d.attemptLocked(ref)
		if a.stop != nil || (w.set.Gang != "" && gangs[w.set.Gang]) {
			continue
		}
		gangs[w.set.Gang] = true
		if why := d.moveLocked(ctx, n, w, a, now); why != "" {
			stays = append(stays, fmt.Sprintf("%s stays: %s", ref.id, why))
		}
	}
	text := strings.Join(stays, "; ")
	if len(text) > 1000 {
		text = strings.ToValidUTF8(text[:1000], "") + "…"
	}
	if text != n.drain.Stays {
		n.drain.Stays = text
		d.tellNodeLocked(n, now, "registry", false)
	}
}

func (d *Driver) endDrainLocked(ctx context.Context, n *node, now time.Time) {
	order := n.drain
	n.drain = nil
	if err := d.saveLocked(ctx, putNode(n)); err != nil {
		n.drain = order
		d.log.LogAttrs(ctx, slog.LevelError, "cannot end a drain", slog.String("node", string(n.id)), slog.String("error", err.Error()))
		return
	}
	d.tellNodeLocked(n, now, "registry", false)
}

// moveLocked stops one attempt of a draining node, with its whole gang, if there is a place for all of them, and reserves
// that place. It returns why not.
func (d *Driver) moveLocked(ctx context.Context, n *node, w *workload, a *attempt, now time.Time) string {
	members := []*workload{w}
	if w.set.Gang != "" {
		members = d.gangMembersLocked(w.set.Gang)
	}
	wanted := a.ref.n == w.attempt && w.desired == autoheal.DesiredRunning && !w.isParent()
	var rows []row
	if lost := d.outOfReachLocked(members); wanted && lost != "" && !n.drain.Force {
		return lost
	}
	if wanted {
		spots, refusal := d.trialLocked(n, members)
		if refusal != nil && !n.drain.Force {
			return refusal.Detail
		}
		for i := range spots {
			rows = append(rows, d.nominateLocked(&nomination{
				workload: members[i].id, node: spots[i].Node, gpus: spots[i].GPUs, action: n.drain.Action,
				until: now.Add(n.drain.Grace + d.opts.NominationTTL),
			}))
		}
	}
	var stopping []*attempt
	for _, m := range members {
		c := m.current().clone()
		if m == w {
			c = a.clone()
		}
		if c.state.Ended() || c.node == "" || c.stop != nil {
			continue
		}
		c.stop = &stopOrder{Action: n.drain.Action, Reason: autoheal.ExitDrained, Grace: n.drain.Grace}
		stopping = append(stopping, c)
		rows = append(rows, putAttempt(c))
	}
	if err := d.saveLocked(ctx, rows...); err != nil {
		return "the registry does not take it: " + err.Error()
	}
	for _, c := range stopping {
		d.touchLocked(d.workloads[c.ref.id], c, now, "registry")
	}
	return ""
}

// outOfReachLocked names a rank that runs, or may run, where nobody answers: its gang cannot start anew before that one is
// proven gone, and what runs of it goes on until then (behaviour E8).
func (d *Driver) outOfReachLocked(members []*workload) string {
	for _, m := range members {
		a := m.current()
		if n := d.nodes[a.node]; a.node != "" && (n == nil || n.link != autoheal.LinkUp) {
			return fmt.Sprintf("%s of its gang is on %s, which does not answer", m.id, a.node)
		}
	}
	return ""
}

func (d *Driver) gangMembersLocked(g autoheal.GangID) []*workload {
	var out []*workload
	for _, id := range slices.Sorted(maps.Keys(d.gangs[g])) {
		if w := d.gangs[g][id]; w.current() != nil && !w.current().state.Ended() && w.desired == autoheal.DesiredRunning {
			out = append(out, w)
		}
	}
	return out
}

// trialLocked looks for places away from n as if the members' attempts were gone.
func (d *Driver) trialLocked(n *node, members []*workload) ([]place.Spot, *place.Refusal) {
	reqs := make([]place.Request, len(members))
	for i, m := range members {
		a := m.current()
		d.index.RemoveWorkload(m.id, a.ref.n)
		reqs[i] = d.requestLocked(m, a)
		reqs[i].Avoid = append(reqs[i].Avoid, n.id)
	}
	spots, refusal := d.index.FitAll(reqs)
	for _, m := range members {
		d.index.SetWorkload(d.workloadViewLocked(m, m.current()))
	}
	return spots, refusal
}
