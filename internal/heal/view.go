package heal

import (
	"cmp"
	"fmt"
	"maps"
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
	pol    *policy.Policy
	nodes  map[autoheal.NodeID]*autoheal.Node
	cur    map[autoheal.WorkloadID]*autoheal.Workload         // highest attempt
	old    map[autoheal.WorkloadID]map[int]*autoheal.Workload // lower attempts that may still run
	onNode map[autoheal.NodeID]map[autoheal.WorkloadID]bool   // an attempt holds a place there
	gangs  map[autoheal.GangID]map[autoheal.WorkloadID]bool
	silent map[autoheal.NodeID]time.Time // since the last contact
	index  *place.Index
	ready  int // nodes with the link up
	gpus   int // of them, those with GPUs
	bursts map[autoheal.Domain]burst

	synced    bool
	syncedAt  time.Time
	simulated bool
	seen      map[string]bool // of the listing under way
}

// burst is the latest run of new silences in one domain (behaviour D0).
type burst struct{ first, last time.Time }

var _ detect.View = (*view)(nil)

func newView(p *policy.Policy) *view {
	return &view{
		pol: p, nodes: map[autoheal.NodeID]*autoheal.Node{}, cur: map[autoheal.WorkloadID]*autoheal.Workload{},
		old: map[autoheal.WorkloadID]map[int]*autoheal.Workload{}, onNode: map[autoheal.NodeID]map[autoheal.WorkloadID]bool{},
		gangs: map[autoheal.GangID]map[autoheal.WorkloadID]bool{}, silent: map[autoheal.NodeID]time.Time{},
		index: place.New(), bursts: map[autoheal.Domain]burst{}, seen: map[string]bool{},
	}
}

func (v *view) Policy() *policy.Policy                             { return v.pol }
func (v *view) Node(id autoheal.NodeID) *autoheal.Node             { return v.nodes[id] }
func (v *view) Workload(id autoheal.WorkloadID) *autoheal.Workload { return v.cur[id] }
func (v *view) Gang(id autoheal.GangID) []*autoheal.Workload       { return v.sorted(v.gangs[id], byRank) }

func (v *view) WorkloadsOn(id autoheal.NodeID) []*autoheal.Workload {
	return v.sorted(v.onNode[id], byID)
}
func byID(a, b *autoheal.Workload) int   { return cmp.Compare(a.ID, b.ID) }
func byRank(a, b *autoheal.Workload) int { return cmp.Or(cmp.Compare(a.Rank, b.Rank), byID(a, b)) }

// sorted returns the current attempts of a set.
func (v *view) sorted(set map[autoheal.WorkloadID]bool, by func(a, b *autoheal.Workload) int) []*autoheal.Workload {
	out := make([]*autoheal.Workload, 0, len(set))
	for id := range set {
		if w := v.cur[id]; w != nil {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, by)
	return out
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
		return v.setWorkload(e.Workload)
	case autoheal.EventSignal:
		return detect.Change{Signal: e.Signal}, true
	case autoheal.EventGone:
		v.gone(*e.Gone)
	case autoheal.EventSynced:
		if !v.synced {
			v.sweep()
		}
		v.synced, v.syncedAt = true, now
	case autoheal.EventLost:
		v.synced, v.seen = false, map[string]bool{}
	}
	return detect.Change{}, false
}

func (v *view) setNode(n *autoheal.Node, now time.Time) (detect.Change, bool) {
	before := v.nodes[n.ID]
	if !v.synced {
		v.seen["node/"+string(n.ID)] = true
	}
	v.nodes[n.ID] = n
	if before != nil && onlySeen(before, n) {
		return detect.Change{}, false
	}
	v.count(before, -1)
	v.count(n, +1)
	for _, g := range n.GPUs {
		v.simulated = v.simulated || g.Simulated
	}
	if n.Link == autoheal.LinkSilent {
		if _, was := v.silent[n.ID]; !was {
			v.silent[n.ID] = n.LastSeen
			v.newSilence(n, now)
		}
	} else {
		delete(v.silent, n.ID)
	}
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

// newSilence notes a new silence in each domain of the node, and in the cluster ("").
func (v *view) newSilence(n *autoheal.Node, now time.Time) {
	for _, dom := range append([]autoheal.Domain{""}, n.Domains...) {
		b := v.bursts[dom]
		if b.last.IsZero() || now.Sub(b.last) > 5*v.pol.Node.Settle {
			b.first = now
		}
		b.last = now
		v.bursts[dom] = b
	}
}

func (v *view) setWorkload(w *autoheal.Workload) (detect.Change, bool) {
	if !v.synced {
		v.seen["workload/"+string(w.ID)] = true
		v.seen[attemptName(w.ID, w.Attempt)] = true
	}
	before := v.cur[w.ID]
	if before != nil && w.Attempt < before.Attempt {
		v.setOld(w)
		return detect.Change{}, true
	}
	if before != nil && before.Attempt < w.Attempt {
		v.unplace(before)
		if live(before) {
			v.setOld(before)
		} else {
			v.index.RemoveWorkload(before.ID, before.Attempt)
		}
	} else if before != nil {
		v.unplace(before)
	}
	v.cur[w.ID] = w
	if old := v.old[w.ID]; old != nil {
		if delete(old, w.Attempt); len(old) == 0 {
			delete(v.old, w.ID)
		}
	}
	v.place(w)
	v.index.SetWorkload(w)
	if w.Gang != "" {
		if v.gangs[w.Gang] == nil {
			v.gangs[w.Gang] = map[autoheal.WorkloadID]bool{}
		}
		v.gangs[w.Gang][w.ID] = true
	}
	return detect.Change{WorkloadBefore: before, Workload: w}, true
}

// setOld follows an attempt that is not the current one, for as long as it may run.
func (v *view) setOld(w *autoheal.Workload) {
	if !live(w) {
		v.dropOld(w.ID, w.Attempt)
		return
	}
	if v.old[w.ID] == nil {
		v.old[w.ID] = map[int]*autoheal.Workload{}
	}
	v.old[w.ID][w.Attempt] = w
	v.index.SetWorkload(w)
}

func (v *view) dropOld(id autoheal.WorkloadID, attempt int) {
	v.index.RemoveWorkload(id, attempt)
	if delete(v.old[id], attempt); len(v.old[id]) == 0 {
		delete(v.old, id)
	}
}

// oldOn returns the workloads that an older attempt of runs on a node. Its cost follows the copies that were replaced and
// are not gone yet.
func (v *view) oldOn(id autoheal.NodeID) []autoheal.WorkloadID {
	var out []autoheal.WorkloadID
	for _, w := range slices.Sorted(maps.Keys(v.old)) {
		for _, a := range v.old[w] {
			if a.Node == id {
				out = append(out, w)
				break
			}
		}
	}
	return out
}

func (v *view) place(w *autoheal.Workload) {
	if w.Node == "" || w.State.Ended() {
		return
	}
	if v.onNode[w.Node] == nil {
		v.onNode[w.Node] = map[autoheal.WorkloadID]bool{}
	}
	v.onNode[w.Node][w.ID] = true
}

func (v *view) unplace(w *autoheal.Workload) {
	delete(v.onNode[w.Node], w.ID)
}

func (v *view) gone(r autoheal.Ref) {
	switch r.Kind {
	case autoheal.RefNode:
		id := autoheal.NodeID(r.ID)
		v.count(v.nodes[id], -1)
		delete(v.nodes, id)
		delete(v.silent, id)
		v.index.RemoveNode(id)
	case autoheal.RefWorkload:
		id := autoheal.WorkloadID(r.ID)
		if w := v.cur[id]; w != nil {
			v.unplace(w)
			v.index.RemoveWorkload(id, w.Attempt)
			delete(v.gangs[w.Gang], id)
		}
		for n := range v.old[id] {
			v.index.RemoveWorkload(id, n)
		}
		delete(v.cur, id)
		delete(v.old, id)
	}
}

func attemptName(id autoheal.WorkloadID, n int) string {
	return fmt.Sprintf("attempt/%s/%d", id, n)
}

// sweep drops what a full listing did not contain.
func (v *view) sweep() {
	for _, id := range slices.Sorted(maps.Keys(v.nodes)) {
		if !v.seen["node/"+string(id)] {
			v.gone(autoheal.NodeRef(id))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.cur)) {
		if !v.seen["workload/"+string(id)] {
			v.gone(autoheal.WorkloadRef(id))
		}
	}
	for id, attempts := range v.old {
		for n := range attempts {
			if !v.seen[attemptName(id, n)] {
				v.dropOld(id, n)
			}
		}
	}
	v.seen = map[string]bool{}
}

// whole is the denominator of budgets: the ready GPU nodes, or all ready nodes of a cluster without GPUs.
func (v *view) whole() int {
	if v.gpus > 0 {
		return v.gpus
	}
	return v.ready
}

// settleUntil returns when the latest burst of silences in the node's domains has settled (behaviour D0).
func (v *view) settleUntil(n *autoheal.Node) time.Time {
	var until time.Time
	domains := n.Domains
	if len(domains) == 0 {
		domains = []autoheal.Domain{""}
	}
	for _, dom := range domains {
		b, ok := v.bursts[dom]
		if !ok {
			continue
		}
		t := b.last.Add(v.pol.Node.Settle)
		if latest := b.first.Add(5 * v.pol.Node.Settle); t.After(latest) {
			t = latest
		}
		if t.After(until) {
			until = t
		}
	}
	return until
}
