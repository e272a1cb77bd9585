package place

import (
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

	Priority int       // MakeRoom: of the workload that waits
	Now      time.Time // MakeRoom: GPU-seconds count until then; zero = the latest start that the index knows
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

// holding is what one attempt takes of a node.
type holding struct {
	id      autoheal.WorkloadID
	attempt int
	node    *nodeState
	at      int      // its position among what the node's attempts hold
	next    *holding // of another attempt of the same workload
	need    autoheal.Resources
	gpus    []autoheal.GPUID

	gang        autoheal.GangID
	priority    int
	started     time.Time
	preemptible bool
	reservation bool // a pending attempt's nomination: free for the workload itself
}

// Index knows what is free. The zero value is not ready: use New.
type Index struct {
	nodes   map[autoheal.NodeID]*nodeState   // the known ones, and others that attempts hold something of
	byID    map[autoheal.WorkloadID]*holding // of one attempt; its others follow by next
	slots   []*nodeState                     // the known nodes, under the number that entries have of them
	vacant  []uint32                         // slots to be used again
	names   nodeSet                          // the known nodes by ID
	groups  map[string]*group                // nodes with GPUs, by the models they have
	order   []string                         // the keys of groups, sorted
	plain   nodeSet                          // usable nodes without GPUs, most room first
	fitted  nodeSet                          // usable nodes with GPUs, most room first
	byAlloc nodeSet                          // usable nodes, largest allocatable memory first
	barred  nodeSet                          // nodes where nothing may be placed now, by ID
	lifted  *nodeState                       // not in the sets at present, see take
	latest  time.Time                        // latest StartedAt seen
}

// New returns an empty index.
func New() *Index {
	return &Index{nodes: map[autoheal.NodeID]*nodeState{}, byID: map[autoheal.WorkloadID]*holding{}, groups: map[string]*group{}}
}

// state returns the state of a node, which need not be known.
func (x *Index) state(id autoheal.NodeID) *nodeState {
	s := x.nodes[id]
	if s == nil {
		s = &nodeState{id: id}
		x.nodes[id] = s
	}
	return s
}

// node returns the state of a known node, or nil.
func (x *Index) node(id autoheal.NodeID) *nodeState {
	if s := x.nodes[id]; s != nil && s.known {
		return s
	}
	return nil
}

// SetNode tells the index the whole present state of a node. What does not concern placement costs next to nothing.
func (x *Index) SetNode(n *autoheal.Node) {
	s := x.state(n.ID)
	next := *s
	next.describe(n)
	s.bootID, s.suspects = next.bootID, next.suspects
	switch {
	case !s.known:
		x.enter(s)
		next.known, next.number, next.slot = true, s.number, s.slot
	case s.describedAs(&next):
		return
	default:
		x.unlink(s)
	}
	*s = next
	s.recount()
	x.link(s)
}

// RemoveNode forgets a node. What attempts hold there is kept and counts again if the node comes back.
func (x *Index) RemoveNode(id autoheal.NodeID) {
	s := x.node(id)
	if s == nil {
		return
	}
	x.unlink(s)
	x.leave(s)
	*s = nodeState{id: id, held: s.held}
	x.tidy(s)
}

// tidy drops a node of which nothing is known and nothing held.
func (x *Index) tidy(s *nodeState) {
	if !s.known && len(s.held) == 0 {
		delete(x.nodes, s.id)
	}
}

// SetWorkload tells the index the whole present state of one attempt. Scheduled and running attempts hold what they
// request on their node; a pending one holds it as a reservation if it names a node; an ended one holds nothing.
func (x *Index) SetWorkload(w *autoheal.Workload) {
	if w.StartedAt.After(x.latest) {
		x.latest = w.StartedAt
	}
	old := x.attempt(w.ID, w.Attempt)
	if w.State.Ended() || w.Node == "" {
		x.drop(old)
		return
	}
	if old == nil || !old.sameAs(w) {
		x.drop(old)
		old = &holding{
			id: w.ID, attempt: w.Attempt, node: x.state(w.Node), need: w.Request, gpus: slices.Clone(w.GPUs),
			reservation: w.State == autoheal.Pending,
		}
		x.hold(old)
	}
	old.gang, old.priority, old.preemptible, old.started = w.Gang, w.Priority, w.Preemptible, w.StartedAt
}

// RemoveWorkload forgets one attempt.
func (x *Index) RemoveWorkload(id autoheal.WorkloadID, attempt int) { x.drop(x.attempt(id, attempt)) }

func (x *Index) attempt(id autoheal.WorkloadID, attempt int) *holding {
	h := x.byID[id]
	for h != nil && h.attempt != attempt {
		h = h.next
	}
	return h
}

// Free returns what is free on a node for anybody: negative where more is held than there is. GPUs counts the usable
// free ones. It is zero for a node that is not known.
func (x *Index) Free(id autoheal.NodeID) autoheal.Resources {
	s := x.node(id)
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
	for s := range x.all(&x.byAlloc) {
		if s.couldHost(&r) {
			return s.allocatable.MemoryMB
		}
	}
	return 0
}

func (h *holding) sameAs(w *autoheal.Workload) bool {
	return h.node.id == w.Node && h.need == w.Request && h.reservation == (w.State == autoheal.Pending) && slices.Equal(h.gpus, w.GPUs)
}

// hold takes what h holds of its node, drop gives it back.
func (x *Index) hold(h *holding) {
	h.next = x.byID[h.id]
	x.byID[h.id] = h
	s := h.node
	if !s.known {
		x.nodes[s.id] = s // a search may have dropped the last that was held of it
	}
	h.at = len(s.held)
	s.held = append(s.held, h)
	x.take(h, 1)
}

func (x *Index) drop(h *holding) {
	if h == nil {
		return
	}
	x.unchain(h)
	s, last := h.node, len(h.node.held)-1
	s.held[h.at] = s.held[last]
	s.held[h.at].at = h.at
	s.held[last] = nil
	s.held, h.at = s.held[:last], notHeld
	x.take(h, -1)
	x.tidy(s)
}

// notHeld is the position of what was dropped.
const notHeld = -1

func (x *Index) unchain(h *holding) {
	first := x.byID[h.id]
	switch {
	case first == h && h.next == nil:
		delete(x.byID, h.id)
	case first == h:
		x.byID[h.id] = h.next
	default:
		for first.next != h {
			first = first.next
		}
		first.next = h.next
	}
}

// take takes what h holds from its node, or gives it back. The node stays out of the sets until another changes or somebody
// searches: what happens to one node often comes together.
func (x *Index) take(h *holding, sign int) {
	s := h.node
	if s.known && s.refusal == "" && x.lifted != s {
		x.put()
		x.lift(s)
		x.lifted = s
	}
	s.take(h, sign)
}

// put puts the node that take took out of the sets back into them.
func (x *Index) put() {
	if s := x.lifted; s != nil {
		x.lifted = nil
		x.settle(s)
	}
}
