package place

import (
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// Request is what one attempt needs and where it may go. Avoid, AvoidGPUs and Selector are conditions; Nominated and
// SpreadFrom are preferences.
type Request struct {
	Workload   autoheal.WorkloadID
	Need       autoheal.Resources
	Selector   map[string]string
	Avoid      []autoheal.NodeID
	AvoidGPUs  []autoheal.GPUID
	Nominated  autoheal.NodeID   // tried first; a reservation held there by the same workload counts as free
	SpreadFrom []autoheal.NodeID // nodes of the other replicas of the same service, one entry per replica

	Priority int       // Victims: of the workload that waits
	Now      time.Time // Victims: GPU-seconds count until then; zero = the latest start that the index knows
}

// RequestOf returns the request of w's attempt: what it needs, without wishes about nodes.
func RequestOf(w *autoheal.Workload) Request {
	return Request{Workload: w.ID, Need: w.Request, Selector: w.Selector, Priority: w.Priority}
}

// Spot is a place: a node and, in index order, the GPUs on it.
type Spot struct {
	Node autoheal.NodeID
	GPUs []autoheal.GPUID
}

// Refusal says why there is no place. Detail is at most maxDetail bytes and names the nearest misses.
type Refusal struct {
	Reason autoheal.Reason
	Detail string
}

// attemptKey names one attempt.
type attemptKey struct {
	id      autoheal.WorkloadID
	attempt int
}

// holding is what one attempt takes of a node.
type holding struct {
	key         attemptKey
	node        autoheal.NodeID
	need        autoheal.Resources
	gpus        []autoheal.GPUID
	reservation bool // a pending attempt's nomination: free for the workload itself
	workload    *autoheal.Workload
}

// Index knows what is free. The zero value is not ready: use New.
type Index struct {
	nodes    map[autoheal.NodeID]*nodeState
	attempts map[attemptKey]*holding
	onNode   map[autoheal.NodeID]map[attemptKey]*holding // also for nodes that are not known (yet)
	byID     map[autoheal.WorkloadID]map[attemptKey]*holding
	byGang   map[autoheal.GangID]map[attemptKey]*holding
	groups   map[string]*group // nodes with GPUs, by the models they have
	order    []string          // the keys of groups, sorted
	plain    nodeSet           // usable nodes without GPUs, most room first
	fitted   nodeSet           // usable nodes with GPUs, most room first
	byAlloc  nodeSet           // usable nodes, largest allocatable memory first
	barred   nodeSet           // nodes where nothing may be placed now, by ID
	latest   time.Time         // latest StartedAt seen
}

// New returns an empty index.
func New() *Index {
	return &Index{
		nodes:    map[autoheal.NodeID]*nodeState{},
		attempts: map[attemptKey]*holding{},
		onNode:   map[autoheal.NodeID]map[attemptKey]*holding{},
		byID:     map[autoheal.WorkloadID]map[attemptKey]*holding{},
		byGang:   map[autoheal.GangID]map[attemptKey]*holding{},
		groups:   map[string]*group{},
		plain:    nodeSet{less: moreRoom},
		fitted:   nodeSet{less: moreRoom},
		byAlloc:  nodeSet{less: moreAllocatable},
		barred:   nodeSet{less: byNodeID},
	}
}

// SetNode tells the index the whole present state of a node. What does not concern placement costs next to nothing.
func (x *Index) SetNode(n *autoheal.Node) {
	s := x.nodes[n.ID]
	if s == nil {
		s = &nodeState{id: n.ID, suspects: map[autoheal.GPUID]bool{}}
		s.describe(n)
		x.nodes[n.ID] = s
	} else {
		next := nodeState{id: s.id, bootID: s.bootID, suspects: s.suspects}
		next.describe(n)
		s.bootID = next.bootID
		if s.describedAs(&next) {
			return
		}
		x.unlink(s)
		*s = next
	}
	s.recount(x.onNode[n.ID])
	x.link(s)
}

// RemoveNode forgets a node. What attempts hold there is kept and counts again if the node comes back.
func (x *Index) RemoveNode(id autoheal.NodeID) {
	if s := x.nodes[id]; s != nil {
		x.unlink(s)
		delete(x.nodes, id)
	}
}

// SetWorkload tells the index the whole present state of one attempt. Scheduled and running attempts hold what they
// request on their node; a pending one holds it as a reservation if it names a node; an ended one holds nothing.
func (x *Index) SetWorkload(w *autoheal.Workload) {
	key := attemptKey{w.ID, w.Attempt}
	if w.StartedAt.After(x.latest) {
		x.latest = w.StartedAt
	}
	old := x.attempts[key]
	if w.State.Ended() || w.Node == "" {
		x.drop(old)
		return
	}
	if old != nil && old.sameAs(w) {
		old.workload = shallow(w)
		return
	}
	x.drop(old)
	x.hold(&holding{
		key: key, node: w.Node, need: w.Request, gpus: slices.Clone(w.GPUs),
		reservation: w.State == autoheal.Pending, workload: shallow(w),
	})
}

// RemoveWorkload forgets one attempt.
func (x *Index) RemoveWorkload(id autoheal.WorkloadID, attempt int) {
	x.drop(x.attempts[attemptKey{id, attempt}])
}

// Free returns what is free on a node for anybody: negative where more is held than there is. GPUs counts the usable
// free ones. It is zero for a node that is not known.
func (x *Index) Free(id autoheal.NodeID) autoheal.Resources {
	s := x.nodes[id]
	if s == nil {
		return autoheal.Resources{}
	}
	free := s.free
	free.GPUs = s.freeGPUs[tierUnknown]
	return free
}

// LargestMemory returns the largest allocatable memory of any node that r may use once that node is empty: it bounds the
// growth of a workload (behaviour E5). 0 means that no node qualifies.
func (x *Index) LargestMemory(r Request) int64 {
	r.Need.MemoryMB = 0
	for s := range x.byAlloc.all() {
		if s.couldHost(&r) {
			return s.allocatable.MemoryMB
		}
	}
	return 0
}

func (h *holding) sameAs(w *autoheal.Workload) bool {
	return h.node == w.Node && h.need == w.Request && h.reservation == (w.State == autoheal.Pending) &&
		h.workload.Gang == w.Gang && slices.Equal(h.gpus, w.GPUs)
}

// shallow keeps the index apart from a caller that fills the same struct again.
func shallow(w *autoheal.Workload) *autoheal.Workload {
	c := *w
	c.GPUs = slices.Clone(w.GPUs)
	c.Labels = maps.Clone(w.Labels)
	return &c
}

func (x *Index) hold(h *holding) {
	x.attempts[h.key] = h
	put(x.onNode, h.node, h)
	put(x.byID, h.key.id, h)
	if g := h.workload.Gang; g != "" {
		put(x.byGang, g, h)
	}
	if s := x.nodes[h.node]; s != nil {
		x.unlink(s)
		s.take(h, 1)
		x.link(s)
	}
}

func (x *Index) drop(h *holding) {
	if h == nil {
		return
	}
	delete(x.attempts, h.key)
	del(x.onNode, h.node, h.key)
	del(x.byID, h.key.id, h.key)
	if g := h.workload.Gang; g != "" {
		del(x.byGang, g, h.key)
	}
	if s := x.nodes[h.node]; s != nil {
		x.unlink(s)
		s.take(h, -1)
		x.link(s)
	}
}

func put[K comparable](m map[K]map[attemptKey]*holding, k K, h *holding) {
	if m[k] == nil {
		m[k] = map[attemptKey]*holding{}
	}
	m[k][h.key] = h
}

func del[K comparable](m map[K]map[attemptKey]*holding, k K, key attemptKey) {
	delete(m[k], key)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}
