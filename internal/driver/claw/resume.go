package claw

import "autoheal.dev/autoheal"

// afterPause makes the attempts of workloads that are wanted again and were ended in order while they were paused: by a
// shutdown of the cluster, a drain or a preemption. Nobody else would: no failure ended them. The ranks of a gang get one
// number.
func (d *Driver) afterPause(resumed []workload) []*attempt {
	next, number := make([]*attempt, len(resumed)), map[autoheal.GangID]int{}
	for i := range resumed {
		w := &resumed[i]
		a := w.current()
		if a == nil || !a.state.Ended() || a.exit == nil {
			continue
		}
		if next[i] = d.nextAfterLocked(w, a, a.exit); next[i] != nil && w.set.Gang != "" {
			number[w.set.Gang] = max(number[w.set.Gang], next[i].ref.n)
		}
	}
	for i, a := range next {
		if a != nil && resumed[i].set.Gang != "" {
			a.ref.n = number[resumed[i].set.Gang]
		}
	}
	return next
}
