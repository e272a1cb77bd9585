package claw

import (
	"context"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// keepRoomsLocked reserves the places that an action makes for those that it makes them for, before anything ends: else
// what waits beside them could take a place the moment it is free.
func (d *Driver) keepRoomsLocked(ctx context.Context, a autoheal.Action, victim *attempt) *autoheal.Error {
	rows := d.nominationsLocked(a, victim)
	if len(rows) == 0 {
		return nil
	}
	if err := d.saveLocked(ctx, rows...); err != nil { // what is reserved in memory ends by itself
		return problem(autoheal.ErrUnavailable, "the registry does not take the reservation: %v", err)
	}
	return nil
}

func (d *Driver) nominationsLocked(a autoheal.Action, victim *attempt) []row {
	rooms := a.Params.Rooms
	if len(rooms) == 0 && victim != nil && a.Params.For != "" && d.nominations[a.Params.For] == nil { // where the victim is
		rooms = []autoheal.Room{{For: a.Params.For, Node: victim.node, GPUs: victim.gpus}}
	}
	var rows []row
	for _, r := range rooms {
		w := d.workloads[r.For]
		if w == nil || w.desired != autoheal.DesiredRunning || w.current() == nil || w.current().state == autoheal.Running {
			continue
		}
		nom := &nomination{
			workload: w.id, node: r.Node, gpus: slices.Clone(r.GPUs), action: a.ID,
			until: d.clock.Now().Add(max(a.Params.Grace, 0) + d.opts.NominationTTL),
		}
		if old := d.nominations[w.id]; old != nil && old.node == nom.node { // made by several victims
			for _, g := range old.gpus {
				if !slices.Contains(nom.gpus, g) {
					nom.gpus = append(nom.gpus, g)
				}
			}
		}
		nom.gpus = nom.gpus[:min(len(nom.gpus), w.spec.GPUs)]
		rows = append(rows, d.nominateLocked(nom))
	}
	return rows
}

// nominateLocked reserves a place for the next attempt of a workload.
func (d *Driver) nominateLocked(nom *nomination) row {
	old := d.nominations[nom.workload]
	d.nominations[nom.workload] = nom
	w := d.workloads[nom.workload]
	a := w.current()
	if a == nil || a.state != autoheal.Pending {
		// The attempt does not exist yet; the index holds its place under the number it will get.
		a = d.nextAttempt(w, a, causeStart)
	}
	nom.n = a.ref.n
	if old != nil && old.n != nom.n {
		d.index.RemoveWorkload(nom.workload, old.n)
	}
	v := d.workloadViewLocked(w, a)
	v.State, v.Node, v.GPUs = autoheal.Pending, nom.node, nom.gpus
	d.index.SetWorkload(v)
	return putNomination(nom)
}

// overLocked reports whether a reservation has had its time, or is for somebody who does not want it any more.
func (d *Driver) overLocked(nom *nomination, now time.Time) bool {
	w := d.workloads[nom.workload]
	return !nom.until.After(now) || w == nil || w.desired != autoheal.DesiredRunning
}
