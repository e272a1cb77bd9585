package heal

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// view is the cluster as last observed. It is not journalled: after a start or a lost stream it comes anew from Watch,
// and nothing acts before it is synced. Every index is kept by key, so that a change costs what it touches.
type view struct {
	pol     *policy.Policy
	nodes   map[autoheal.NodeID]*autoheal.Node
	cur     map[autoheal.WorkloadID]*autoheal.Workload         // highest attempt
	old     map[autoheal.WorkloadID]map[int]*autoheal.Workload // lower attempts that may still run
	onNode  map[autoheal.NodeID][]autoheal.WorkloadID          // whose current attempt holds a place there, in order of ID
	oldOn   map[autoheal.NodeID][]autoheal.WorkloadID          // whose lower attempts may still run there, one entry each
	gangs   map[autoheal.GangID][]autoheal.WorkloadID
	silent  map[autoheal.NodeID]int64          // since when the link is, in nanoseconds of the epoch
	since   moments                            // of all that are silent
	heard   map[autoheal.NodeID]bool           // whose silence began or ended since the crowd was counted
	forgot  map[autoheal.NodeID]*autoheal.Node // what was last known of nodes that were forgotten while they were silent
	gpuAt   map[autoheal.GPUID]autoheal.NodeID
	waits   map[autoheal.WorkloadID]waiting               // attempts that wait for a place
	parts   map[autoheal.WorkloadID][]autoheal.WorkloadID // the replicas of a service
	index   *place.Index
	ready   int                          // nodes with the link up
	gpus    int                          // of them, those with GPUs
	unwell  map[autoheal.WorkloadID]bool // current attempts of which something might be claimed when they are listed
	classes map[autoheal.Class]int       // workloads that have not ended
	likeness
	bursts map[autoheal.Domain]burst
	domain map[autoheal.Domain]map[autoheal.NodeID]bool // its nodes; true = silent
	quiet  map[autoheal.Domain]int                      // of them, the silent ones
	dark   map[autoheal.Domain]bool                     // those of which all are

	synced    bool
	syncedAt  time.Time
	simulated bool
	said      spoken
	listed    *listing // under way, nil for a first one, after which nothing is left over
}

// listing is what a full listing has brought so far.
type listing struct {
	nodes map[autoheal.NodeID]bool
	work  map[autoheal.WorkloadID]int // the first attempt that came
	more  map[attemptID]bool          // others of the same workloads
}

func (l *listing) note(id autoheal.WorkloadID, attempt int) {
	if first, known := l.work[id]; !known {
		l.work[id] = attempt
	} else if first != attempt {
		l.more[attemptID{id, attempt}] = true
	}
}

func (l *listing) has(id autoheal.WorkloadID, attempt int) bool {
	first, known := l.work[id]
	return known && first == attempt || l.more[attemptID{id, attempt}]
}

type attemptID struct {
	id autoheal.WorkloadID
	n  int
}

// burst is the latest run of new silences in one domain (behaviour D0).
type burst struct{ first, last time.Time }

func newView(p *policy.Policy) *view {
	return &view{
		pol: p, nodes: map[autoheal.NodeID]*autoheal.Node{}, cur: map[autoheal.WorkloadID]*autoheal.Workload{},
		old: map[autoheal.WorkloadID]map[int]*autoheal.Workload{}, onNode: map[autoheal.NodeID][]autoheal.WorkloadID{},
		oldOn: map[autoheal.NodeID][]autoheal.WorkloadID{}, gangs: map[autoheal.GangID][]autoheal.WorkloadID{},
		silent: map[autoheal.NodeID]int64{}, index: place.New(), bursts: map[autoheal.Domain]burst{},
		forgot: map[autoheal.NodeID]*autoheal.Node{}, domain: map[autoheal.Domain]map[autoheal.NodeID]bool{},
		unwell: map[autoheal.WorkloadID]bool{}, classes: map[autoheal.Class]int{}, likeness: newLikeness(), gpuAt: map[autoheal.GPUID]autoheal.NodeID{}, heard: map[autoheal.NodeID]bool{}, quiet: map[autoheal.Domain]int{}, dark: map[autoheal.Domain]bool{},
		waits: map[autoheal.WorkloadID]waiting{}, parts: map[autoheal.WorkloadID][]autoheal.WorkloadID{},
	}
}

func (v *view) Policy() *policy.Policy                             { return v.pol }
func (v *view) Node(id autoheal.NodeID) *autoheal.Node             { return v.nodes[id] }
func (v *view) Workload(id autoheal.WorkloadID) *autoheal.Workload { return v.cur[id] }

func (v *view) Gang(id autoheal.GangID) []*autoheal.Workload {
	out := v.current(v.gangs[id])
	slices.SortFunc(out, func(a, b *autoheal.Workload) int { return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.ID, b.ID)) })
	return out
}

func (v *view) WorkloadsOn(id autoheal.NodeID) []*autoheal.Workload { return v.current(v.onNode[id]) }

// current returns the current attempts of workloads.
func (v *view) current(ids []autoheal.WorkloadID) []*autoheal.Workload {
	out := make([]*autoheal.Workload, 0, len(ids))
	for _, id := range ids {
		if w := v.cur[id]; w != nil {
			out = append(out, w)
		}
	}
	return out
}

// insert and remove keep a sorted list, and drop it with its last entry.
func insert[K comparable](m map[K][]autoheal.WorkloadID, k K, id autoheal.WorkloadID) {
	ids := m[k]
	at, _ := slices.BinarySearch(ids, id)
	m[k] = slices.Insert(ids, at, id)
}

func remove[K comparable](m map[K][]autoheal.WorkloadID, k K, id autoheal.WorkloadID) {
	ids := m[k]
	at, ok := slices.BinarySearch(ids, id)
	switch {
	case !ok:
	case len(ids) == 1:
		delete(m, k)
	default:
		m[k] = slices.Delete(ids, at, at+1)
	}
}

// attempt returns what is known of one attempt, or nil.
func (v *view) attempt(id autoheal.WorkloadID, n int) *autoheal.Workload {
	if w := v.cur[id]; w != nil && w.Attempt == n {
		return w
	}
	return v.old[id][n]
}

// live reports whether an attempt may still run, as far as is known: it holds a place and has not ended.
func live(w *autoheal.Workload) bool {
	return w != nil && (w.State == autoheal.Running || w.State == autoheal.Scheduled)
}

// apply takes one event in and returns what changed, for the detectors. A repeated or older state changes nothing.
func (v *view) apply(e autoheal.Event, now time.Time) (c detect.Change, changed bool) {
	switch e.Kind {
	case autoheal.EventNode:
		return v.setNode(e.Node, now)
	case autoheal.EventWorkload:
		c, changed = v.setWorkload(e.Workload)
		v.wait(e.Workload, now)
		return c, changed
	case autoheal.EventSignal:
		v.note(e.Signal)
		return detect.Change{Signal: e.Signal}, true
	case autoheal.EventGone:
		v.gone(*e.Gone)
	case autoheal.EventSynced:
		if !v.synced {
			v.sweep()
		}
		v.synced, v.syncedAt = true, now
	case autoheal.EventLost:
		v.synced = false
		if len(v.nodes)+len(v.cur) > 0 {
			v.listed = &listing{nodes: map[autoheal.NodeID]bool{}, work: map[autoheal.WorkloadID]int{}, more: map[attemptID]bool{}}
		}
	}
	return detect.Change{}, false
}

func (v *view) setNode(n *autoheal.Node, now time.Time) (detect.Change, bool) {
	before := v.nodes[n.ID]
	if v.listed != nil {
		v.listed.nodes[n.ID] = true
	}
	v.nodes[n.ID] = n
	delete(v.forgot, n.ID)
	if before != nil && onlySeen(before, n) {
		return detect.Change{}, false
	}
	v.count(before, -1)
	v.count(n, +1)
	v.leave(before)
	v.join(n)
	for _, g := range n.GPUs {
		v.simulated = v.simulated || g.Simulated
	}
	v.listGPUs(before, n)
	v.hear(n, now)
	v.index.SetNode(n)
	return detect.Change{NodeBefore: before, Node: n}, true
}

// onlySeen reports whether nothing about a node is new but the time of its last answer: the heartbeat of a quiet cluster,
// which must cost next to nothing.
func onlySeen(before, n *autoheal.Node) bool {
	b := *before
	b.LastSeen = n.LastSeen
	return reflect.DeepEqual(&b, n)
}

func (v *view) count(n *autoheal.Node, d int) {
	if n == nil || n.Link != autoheal.LinkUp {
		return
	}
	v.ready += d
	if len(n.GPUs) > 0 {
		v.gpus += d
	}
}

func (v *view) setWorkload(w *autoheal.Workload) (detect.Change, bool) {
	if v.listed != nil {
		v.listed.note(w.ID, w.Attempt)
	}
	before := v.cur[w.ID]
	if before != nil && w.Attempt < before.Attempt {
		v.setOld(w)
		return detect.Change{}, true
	}
	if before != nil && before.Attempt < w.Attempt {
		if live(before) {
			v.setOld(before)
		} else {
			v.index.RemoveWorkload(before.ID, before.Attempt)
		}
	}
	v.cur[w.ID] = w
	v.notice(w)
	if v.old[w.ID][w.Attempt] != nil {
		v.takeOld(w.ID, w.Attempt)
	}
	v.place(before, w)
	v.countClass(before, -1)
	v.countClass(w, +1)
	v.countAlike(before, w)
	v.index.SetWorkload(w)
	return detect.Change{WorkloadBefore: before, Workload: w}, true
}

// setOld follows an attempt that is not the current one, for as long as it may run.
func (v *view) setOld(w *autoheal.Workload) {
	if !live(w) {
		v.dropOld(w.ID, w.Attempt)
		return
	}
	v.takeOld(w.ID, w.Attempt)
	if v.old[w.ID] == nil {
		v.old[w.ID] = map[int]*autoheal.Workload{}
	}
	v.old[w.ID][w.Attempt] = w
	insert(v.oldOn, w.Node, w.ID)
	v.index.SetWorkload(w)
}

func (v *view) dropOld(id autoheal.WorkloadID, attempt int) {
	v.index.RemoveWorkload(id, attempt)
	v.takeOld(id, attempt)
}

func (v *view) takeOld(id autoheal.WorkloadID, attempt int) {
	w := v.old[id][attempt]
	if w == nil {
		return
	}
	remove(v.oldOn, w.Node, id)
	if delete(v.old[id], attempt); len(v.old[id]) == 0 {
		delete(v.old, id)
	}
}

// place follows where the current attempt of a workload holds a place, and to what gang it belongs. Either may be nil.
func (v *view) place(before, w *autoheal.Workload) {
	if was, is := placeOf(before), placeOf(w); was != is {
		if was != "" {
			remove(v.onNode, was, before.ID)
		}
		if is != "" {
			insert(v.onNode, is, w.ID)
		}
	}
	if was, is := partOf(before), partOf(w); was != is {
		if was != "" {
			remove(v.parts, was, before.ID)
		}
		if is != "" {
			insert(v.parts, is, w.ID)
		}
	}
	if was, is := gangOf(before), gangOf(w); was != is {
		if was != "" {
			remove(v.gangs, was, before.ID)
		}
		if is != "" {
			insert(v.gangs, is, w.ID)
		}
	}
	v.placeReplica(before, w)
}

func placeOf(w *autoheal.Workload) autoheal.NodeID {
	if w == nil || w.State.Ended() {
		return ""
	}
	return w.Node
}

func gangOf(w *autoheal.Workload) autoheal.GangID {
	if w == nil {
		return ""
	}
	return w.Gang
}

func (v *view) gone(r autoheal.Ref) {
	v.said.forget(r)
	switch r.Kind {
	case autoheal.RefNode:
		id := autoheal.NodeID(r.ID)
		if v.listed != nil {
			delete(v.listed.nodes, id)
		}
		v.count(v.nodes[id], -1)
		v.unsilence(id)
		v.leave(v.nodes[id])
		v.listGPUs(v.nodes[id], nil)
		if n := v.nodes[id]; n != nil && n.Link == autoheal.LinkSilent && len(v.onNode[id]) > 0 {
			v.forgot[id] = n
		}
		delete(v.nodes, id)
		v.index.RemoveNode(id)
	case autoheal.RefWorkload:
		id := autoheal.WorkloadID(r.ID)
		if v.listed != nil {
			delete(v.listed.work, id)
		}
		if w := v.cur[id]; w != nil {
			v.place(w, nil)
			v.countClass(w, -1)
			v.countAlike(w, nil)
			v.index.RemoveWorkload(id, w.Attempt)
			delete(v.cur, id)
			delete(v.unwell, id)
			delete(v.waits, id)
		}
		for n := range v.old[id] {
			v.dropOld(id, n)
		}
	}
}

// sweep drops what a full listing did not contain.
func (v *view) sweep() {
	l := v.listed
	v.listed = nil
	if l == nil {
		return
	}
	if len(l.nodes) < len(v.nodes) { // what is listed is known: as many are the same
		for id := range v.nodes {
			if !l.nodes[id] {
				v.gone(autoheal.NodeRef(id))
			}
		}
	}
	if len(l.work) < len(v.cur) {
		for id := range v.cur {
			if _, listed := l.work[id]; !listed {
				v.gone(autoheal.WorkloadRef(id))
			}
		}
	}
	for id, attempts := range v.old {
		for n := range attempts {
			if !l.has(id, n) {
				v.dropOld(id, n)
			}
		}
	}
}

// whole is the denominator of budgets: the ready GPU nodes, or all ready nodes of a cluster without GPUs.
func (v *view) whole() int {
	if v.gpus > 0 {
		return v.gpus
	}
	return v.ready
}
