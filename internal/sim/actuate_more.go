package sim

import (
	"autoheal.dev/autoheal"
)

// pause wants no new attempt, or attempts again, of a gang as a whole; it kills nothing.
func (f *fleet) pause(a autoheal.Action) *autoheal.Error {
	w, err := f.target(a)
	if err != nil {
		return err
	}
	if w.desired == autoheal.DesiredCancelled || w.desired == autoheal.DesiredStopped {
		return problem(autoheal.ErrConflict, "it is wanted %s", w.desired)
	}
	all := append([]*workload{w}, w.children...)
	for _, o := range f.order {
		if o != w && w.Gang != "" && o.Gang == w.Gang && o.desired != autoheal.DesiredCancelled && o.desired != autoheal.DesiredStopped {
			all = append(all, o)
		}
	}
	for _, x := range all {
		if a.Verb == autoheal.Pause {
			m := f.markOf(a)
			x.paused, x.desired = &m, autoheal.DesiredPaused
		} else {
			x.paused, x.desired = nil, autoheal.DesiredRunning
		}
		if c := x.current(); c != nil {
			f.told(x, c, "registry")
		}
	}
	return nil
}

// refresh tells what is known and asks the nodes for the rest.
func (f *fleet) refresh(a autoheal.Action) *autoheal.Error {
	switch a.Target.Kind {
	case autoheal.RefCluster:
		for _, m := range f.w.machines {
			f.relist(m)
		}
	case autoheal.RefNode:
		m := f.w.byID[autoheal.NodeID(a.Target.ID)]
		if m == nil {
			return problem(autoheal.ErrNotFound, "no such node")
		}
		f.w.drv.tellNode(m)
		for _, w := range f.order {
			for _, at := range w.listed() {
				if at.node == m.id {
					f.w.drv.emitWorkload(w, at, "refresh")
				}
			}
		}
		f.relist(m)
	case autoheal.RefWorkload:
		w := f.workloads[autoheal.WorkloadID(a.Target.ID)]
		if w == nil {
			return problem(autoheal.ErrNotFound, "no such workload")
		}
		for _, at := range w.listed() {
			f.w.drv.emitWorkload(w, at, "refresh")
			if m := f.w.byID[at.node]; m != nil && !at.state.Ended() {
				f.relist(m)
			}
		}
	default:
		return problem(autoheal.ErrInvalid, "refresh needs a node, a workload or the cluster, not a %s", a.Target.Kind)
	}
	return nil
}

// scale changes the number of replicas of a service: the last ones go first.
func (f *fleet) scale(a autoheal.Action) *autoheal.Error {
	w, err := f.target(a)
	if err != nil {
		return err
	}
	n := a.Params.Replicas
	switch {
	case w.parent != nil:
		return problem(autoheal.ErrInvalid, "it is a replica; scale %s", w.parent.ID)
	case w.Kind != autoheal.KindService || w.AtMostOnce:
		return problem(autoheal.ErrInvalid, "only a service that may run twice is scaled")
	case n < 0:
		return problem(autoheal.ErrInvalid, "%d replicas", n)
	case a.Actor == autoheal.ActorEngine && n < w.MinReplicas:
		return problem(autoheal.ErrConflict, "it keeps at least %d replicas", w.MinReplicas)
	}
	f.keepRooms(a)
	f.setReplicas(w, n, a)
	return nil
}

func (f *fleet) setReplicas(w *workload, n int, a autoheal.Action) {
	w.replicas = n
	for i := len(w.children); i < n; i++ {
		c := &workload{Workload: w.Workload, spec: w.spec, parent: w, slow: w.slow, replicas: 1}
		c.ID, c.Name, c.Parent, c.MinReplicas = w.ID+autoheal.WorkloadID("-"+itoa(i)), w.Name+"-"+itoa(i), w.ID, 0
		f.add(c)
		w.children = append(w.children, c)
		f.begin(c, &attempt{ref: ref{c.ID, 1}, memory: c.Request.MemoryMB})
	}
	for i, c := range w.children {
		cur := c.current()
		switch {
		case i < n && c.desired == autoheal.DesiredCancelled:
			c.desired = autoheal.DesiredRunning
			if cur == nil || cur.state.Ended() {
				f.begin(c, &attempt{ref: ref{c.ID, c.attempt + 1}, memory: c.Request.MemoryMB})
			}
		case i >= n && c.desired != autoheal.DesiredCancelled:
			f.stopForGood(a, c)
		}
	}
	if c := w.current(); c != nil {
		f.told(w, c, "registry")
	}
}
