package claw

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// scaleGrace is the time for SIGTERM of a replica that is taken away, unless the action says one.
const scaleGrace = 30 * time.Second

// childIDs returns the IDs in the order of their numbers.
func childIDs(m map[autoheal.WorkloadID]*workload) []autoheal.WorkloadID {
	return slices.SortedFunc(maps.Keys(m), func(a, b autoheal.WorkloadID) int {
		if len(a) != len(b) {
			return len(a) - len(b) // they differ in the number only
		}
		return strings.Compare(string(a), string(b))
	})
}

func childID(w *workload, i int) autoheal.WorkloadID {
	return autoheal.WorkloadID(fmt.Sprintf("%s-%d", w.id, i))
}

// planScale changes the number of replicas: the children are ID-0 to ID-(n-1), and the last one goes first.
func (d *Driver) planScale(a autoheal.Action) (effect, *autoheal.Error) {
	w, err := d.targetWorkload(a)
	if err != nil {
		return effect{}, err
	}
	n := a.Params.Replicas
	switch {
	case n < 0 || n > 10000:
		return effect{}, problem(autoheal.ErrInvalid, "replicas %d: use 0 to 10000", n)
	case w.parent != "":
		return effect{}, problem(autoheal.ErrInvalid, "it is a replica: scale %s", w.parent)
	case w.atMostOnce:
		return effect{}, problem(autoheal.ErrInvalid, "an at-most-once workload has one replica; see the label %s", autoheal.LabelAtMostOnce)
	case w.set.Gang != "":
		return effect{}, problem(autoheal.ErrInvalid, "a member of a gang has one replica")
	case w.desired == autoheal.DesiredCancelled:
		return effect{}, problem(autoheal.ErrConflict, "it is wanted %s", w.desired)
	case n < w.set.MinReplicas && a.Actor == autoheal.ActorEngine:
		return effect{}, problem(autoheal.ErrConflict, "%s is %d", autoheal.LabelMinReplicas, w.set.MinReplicas)
	case w.isParent() && w.replicas == n:
		return effect{}, nil
	}
	order := &stopOrder{Action: a.ID, Reason: autoheal.ExitStopped, Grace: a.Params.Grace, Force: a.Params.Force}
	if order.Grace <= 0 {
		order.Grace = scaleGrace
	}
	cw := *w
	cw.replicas = n
	e := d.childrenEffect(&cw, n, order)
	e.rows = append([]row{putWorkload(&cw)}, e.rows...)
	apply := e.apply
	e.apply = func(now time.Time) {
		w.replicas = n
		if own := w.current(); own != nil && !own.state.Ended() {
			d.replaced[w.id] = true
		}
		apply(now)
		d.retellLocked(w, now)
	}
	e.rows = append(e.rows, d.nominationsLocked(a, nil)...)
	return e, nil
}

// childrenEffect makes n children exist and be wanted, and no more.
func (d *Driver) childrenEffect(w *workload, n int, order *stopOrder) effect {
	var e effect
	var apply []func(time.Time)
	add := func(s effect) {
		e.rows = append(e.rows, s.rows...)
		apply = append(apply, s.apply)
	}
	for i := range n {
		c := d.children[w.id][childID(w, i)]
		switch {
		case c == nil:
			add(d.newChildEffect(w, i))
		case c.desired == autoheal.DesiredCancelled:
			add(d.againEffect(c, w.desired))
		}
	}
	ids := childIDs(d.children[w.id])
	slices.Reverse(ids)
	for _, id := range ids {
		c := d.children[w.id][id]
		if numberOf(w, id) >= n && c.desired != autoheal.DesiredCancelled {
			add(d.downEffect(c, autoheal.DesiredCancelled, order))
		}
	}
	e.apply = func(now time.Time) {
		for _, f := range apply {
			f(now)
		}
	}
	return e
}

func numberOf(w *workload, id autoheal.WorkloadID) int {
	var n int
	if _, err := fmt.Sscanf(strings.TrimPrefix(string(id), string(w.id)+"-"), "%d", &n); err != nil {
		return -1
	}
	return n
}

// newChildEffect makes one replica: the parent's spec without what it says of replicas.
func (d *Driver) newChildEffect(w *workload, i int) effect {
	spec := cloneSpec(w.spec)
	delete(spec.Labels, autoheal.LabelReplicas)
	delete(spec.Labels, autoheal.LabelMinReplicas)
	suffix := fmt.Sprintf("-%d", i)
	spec.Name = strings.TrimRight(spec.Name[:min(len(spec.Name), 63-len(suffix))], "-") + suffix
	c := &workload{
		id: childID(w, i), submit: autoheal.ActionID(fmt.Sprintf("%s#%d", w.submit, i)), spec: spec, desired: w.desired,
		parent: w.id, replicas: notScaled, created: d.clock.Now(), attempt: 1, attempts: map[int]*attempt{},
	}
	first := d.nextAttempt(c, nil, causeSubmit)
	return effect{rows: []row{putWorkload(c), putAttempt(first)}, apply: func(time.Time) {
		d.adoptLocked(c)
		d.beginLocked(c, first)
	}}
}

// againEffect wants a replica again that was taken away. Its older attempt may still be on its way out: replicas may run
// twice.
func (d *Driver) againEffect(c *workload, desired autoheal.Desired) effect {
	next := d.nextAttempt(c, c.current(), causeSubmit)
	cc := *c
	cc.desired, cc.attempt, cc.paused = desired, next.ref.n, nil
	return effect{rows: []row{putWorkload(&cc), putAttempt(next), dropAttempts(&cc)}, apply: func(time.Time) {
		c.desired, c.paused = cc.desired, nil
		d.beginLocked(c, next)
	}}
}

// replaceLocked stops the own attempt of a service that was scaled after it had started alone, once a child runs.
func (d *Driver) replaceLocked() []effect {
	var out []effect
	for _, id := range slices.Sorted(maps.Keys(d.replaced)) {
		w := d.workloads[id]
		own := w.current()
		if own == nil || own.state.Ended() || own.stop != nil {
			delete(d.replaced, id)
			continue
		}
		ready := w.replicas == 0 || own.node == ""
		for _, c := range d.children[id] {
			ready = ready || (c.current() != nil && c.current().state == autoheal.Running)
		}
		if !ready {
			continue
		}
		if own.node == "" {
			out = append(out, d.cancelEffect(w, own, autoheal.ExitStopped))
			continue
		}
		c := own.clone()
		c.stop = &stopOrder{Reason: autoheal.ExitStopped, Grace: scaleGrace}
		out = append(out, effect{rows: []row{putAttempt(c)}, apply: func(now time.Time) { d.touchLocked(w, c, now, "registry") }})
	}
	return out
}
