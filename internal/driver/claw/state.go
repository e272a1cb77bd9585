package claw

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

type sequence struct{ n atomic.Uint64 }

func (s *sequence) next() uint64 { return s.n.Add(1) }

// attemptRef names one attempt.
type attemptRef struct {
	id autoheal.WorkloadID
	n  int
}

func (r attemptRef) compare(o attemptRef) int {
	return cmp.Or(cmp.Compare(r.id, o.id), cmp.Compare(r.n, o.n))
}

func (r attemptRef) String() string { return fmt.Sprintf("%s/%d", r.id, r.n) }

// workload is a row of the registry with what was derived from its spec.
type workload struct {
	id       autoheal.WorkloadID
	submit   autoheal.ActionID
	spec     autoheal.Spec
	desired  autoheal.Desired
	paused   *autoheal.Mark
	parent   autoheal.WorkloadID
	replicas int // of a parent; notScaled = it runs by itself
	created  time.Time
	attempt  int // the current one

	set        autoheal.Settings
	class      autoheal.Class
	classRule  string
	specHash   string
	kind       autoheal.WorkloadKind
	atMostOnce bool

	attempts map[int]*attempt
}

const notScaled = -1

func (w *workload) isParent() bool    { return w.replicas != notScaled }
func (w *workload) current() *attempt { return w.attempts[w.attempt] }

// attempt is one row of attempts with what is known beside it.
type attempt struct {
	ref        attemptRef
	node       autoheal.NodeID
	gpus       []autoheal.GPUID
	memoryMB   int64
	action     autoheal.ActionID
	state      autoheal.WorkloadState
	cause      cause
	hedge      bool
	wishes     wishes
	stop       *stopOrder
	generation string
	created    time.Time
	started    time.Time
	ended      time.Time
	exit       *autoheal.Exit
	detail     string

	checks     *checks   // what its node says of its checks; nil = it has none, or the node makes none
	accepted   bool      // the node took the start, or shows the attempt
	acceptedAt time.Time // when that was learned
	maybe      bool      // a start was sent whose outcome is not known: the attempt is bound to its node
	saved      bool      // the exit is durable: the node may forget it
}

func (a *attempt) clone() *attempt {
	c := *a
	c.gpus = slices.Clone(a.gpus)
	return &c
}

// cause says why an attempt was made.
type cause string

const (
	causeSubmit   cause = "submit"
	causeStart    cause = "start"
	causeDrain    cause = "drain"
	causePreempt  cause = "preempt"
	causeShutdown cause = "shutdown"
)

// wishes are where an attempt may not or should go.
type wishes struct {
	Avoid     []autoheal.NodeID `json:"avoid,omitempty"`
	AvoidGPUs []autoheal.GPUID  `json:"avoidGpus,omitempty"`
}

// stopOrder is a stop that the driver carries out until the end is seen.
type stopOrder struct {
	Action autoheal.ActionID   `json:"action"`
	Reason autoheal.ExitReason `json:"reason"`
	Grace  time.Duration       `json:"grace"`
	Force  bool                `json:"force"`
}

type nomination struct {
	workload autoheal.WorkloadID
	node     autoheal.NodeID
	gpus     []autoheal.GPUID
	action   autoheal.ActionID
	until    time.Time
	n        int // the attempt under whose number the index holds the place; 0 when it holds none
}

// node is one machine of the fleet.
type node struct {
	id       autoheal.NodeID
	device   string
	approved time.Time
	labels   map[string]string
	marks    []autoheal.Mark
	gpuMarks map[autoheal.GPUID]autoheal.Mark
	drain    *drainOrder
	status   *nodeproto.NodeStatus // without its jobs
	jobs     []autoheal.Job        // as told last
	bootID   string

	connected   bool // as the gateway says: a hint
	connectedAt time.Time
	commands    []string

	link      autoheal.LinkState
	linkSince time.Time
	lastSeen  time.Time // receipt of the last poll answer, or when we began to listen
	answered  time.Time // last answer of any kind
	life      string
	rulesHash string // of the site's signal rules that this life knows
	ack       int64  // largest N of life
	after     int64  // largest Seq of life
	listing   map[attemptRef]bool
	listedAt  time.Time // when the poll of the listing's first page left
	listed    bool      // a whole listing of this life was received
	relist    bool      // ask for a listing: what is known may be out of date
	refresh   bool      // as relist, and tell everything anew

	following bool
	unfollow  context.CancelFunc
	pollStop  context.CancelFunc // of the poll under way
	wakePoll  chan struct{}
	wakeProbe chan struct{}
	told      *autoheal.Node // as last emitted
}

func newNode(id autoheal.NodeID, device string) *node {
	return &node{
		id: id, device: device, labels: map[string]string{}, gpuMarks: map[autoheal.GPUID]autoheal.Mark{},
		link: autoheal.LinkUnknown, wakePoll: make(chan struct{}, 1), wakeProbe: make(chan struct{}, 1),
	}
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// drainOrder is a drain that has not ended.
type drainOrder struct {
	Action autoheal.ActionID `json:"action"`
	Actor  string            `json:"actor"`
	Grace  time.Duration     `json:"grace"`
	Force  bool              `json:"force"`
	At     time.Time         `json:"at"`
	Stays  string            `json:"-"` // what cannot be moved and why
}

// labelRuntime is set by the driver on nodes that can run container images, and selected by workloads that need one.
const labelRuntime = autoheal.LabelPrefix + "runtime"

// viewLocked is the node as the port shows it.
func (d *Driver) viewLocked(n *node) *autoheal.Node {
	v := &autoheal.Node{
		ID: n.id, BootID: n.bootID, Source: "agent", Link: n.link, LinkSince: n.linkSince, LastSeen: d.countFromLocked(n),
		Ready:       n.link == autoheal.LinkUp && n.status != nil && n.listed,
		Schedulable: len(n.marks) == 0 && n.drain == nil,
		Marks:       slices.Clone(n.marks), Draining: n.drain != nil,
		Labels: map[string]string{}, Conditions: map[string]string{}, AgentLife: n.life, ConnectedAt: n.connectedAt,
	}
	if s := n.status; s != nil {
		maps.Copy(v.Labels, s.Labels)
		maps.Copy(v.Conditions, s.Conditions)
		if len(s.Warnings) > 0 {
			v.Conditions["warning"] = strings.Join(s.Warnings, "; ")
		}
		v.Capacity, v.Allocatable, v.Platform, v.Addresses = s.Capacity, s.Allocatable, s.Platform, s.Addresses
		v.SelfStop = s.SelfStop && d.opts.SelfStop > 0
		v.GPUs = slices.Clone(s.GPUs)
		if len(s.Runtimes) > 0 {
			v.Labels[labelRuntime] = "container"
		}
	}
	v.Ready = v.Ready && len(v.Faults()) == 0 // nothing new is placed there, without a mark (behaviour B7)
	maps.Copy(v.Labels, n.labels)
	v.Domains = autoheal.NodeDomains(v.Labels)
	if n.drain != nil && n.drain.Stays != "" {
		v.Conditions["drain"] = n.drain.Stays
	}
	v.Caps, v.Jobs = d.capsLocked(n), slices.Clone(n.jobs)
	if !n.speaksPoll() {
		v.Source, v.Ready = "clawnode", false
		v.Conditions["agent"] = "the agent does not offer " + nodeproto.CmdPoll
	}
	users := d.gpuUsersLocked(n.id)
	for i := range v.GPUs {
		g := &v.GPUs[i]
		g.UsedBy = users[g.UUID]
		if m, ok := n.gpuMarks[g.UUID]; ok {
			g.Quarantined = &m
		}
	}
	return v
}

// countFromLocked is when a node counts as last seen: its last answer. Where an earlier life gave longer leases than this
// one, those run on, so that what waits for them to pass has to count from later.
func (d *Driver) countFromLocked(n *node) time.Time {
	if at := d.startedAt.Add(d.longest - d.opts.SelfStop); d.longest > d.opts.SelfStop && at.After(n.lastSeen) {
		return at
	}
	return n.lastSeen
}

// speaksPoll reports whether the agent is one of ours. Before the gateway told, it is taken for one.
func (n *node) speaksPoll() bool {
	return len(n.commands) == 0 || slices.Contains(n.commands, nodeproto.CmdPoll)
}

// capsLocked are the verbs that work on this node: those that need only the registry, those that its agent declares, and
// the repairs that the site has programs for.
func (d *Driver) capsLocked(n *node) []autoheal.Verb {
	programs := d.opts.Programs()
	repairs := programs.repairVerbs()
	declares := func(v autoheal.Verb) bool { return n.status != nil && slices.Contains(n.status.Caps, v) }
	var out []autoheal.Verb
	for _, v := range d.verbsWith(programs) {
		ok := true
		switch {
		case v == autoheal.Start, v == autoheal.Stop, v == autoheal.Collect:
			ok = declares(v)
		case v == autoheal.Drain:
			ok = declares(autoheal.Stop)
		case slices.Contains(repairs, v):
			ok = n.offers(v, programs)
		}
		if ok {
			out = append(out, v)
		}
	}
	return out
}

func (d *Driver) gpuUsersLocked(id autoheal.NodeID) map[autoheal.GPUID]autoheal.WorkloadID {
	out := map[autoheal.GPUID]autoheal.WorkloadID{}
	for _, ref := range d.activeLocked(id) {
		for _, g := range d.attemptLocked(ref).gpus {
			out[g] = ref.id
		}
	}
	return out
}

// activeLocked lists the attempts on a node that are not known to have ended, in order.
func (d *Driver) activeLocked(id autoheal.NodeID) []attemptRef {
	return slices.SortedFunc(maps.Keys(d.active[id]), attemptRef.compare)
}

func (d *Driver) attemptLocked(ref attemptRef) *attempt {
	if w := d.workloads[ref.id]; w != nil {
		return w.attempts[ref.n]
	}
	return nil
}

// workloadViewLocked is one attempt as the port shows it.
func (d *Driver) workloadViewLocked(w *workload, a *attempt) *autoheal.Workload {
	v := &autoheal.Workload{
		ID: w.id, Name: w.spec.Name, Image: w.spec.Image, State: a.state, Desired: w.desired, Attempt: a.ref.n,
		Node: a.node, GPUs: slices.Clone(a.gpus), Ready: a.state == autoheal.Running && a.checks.ready(),
		Class: w.class, ClassRule: w.classRule, Priority: priorityOf(w.spec), AtMostOnce: w.atMostOnce, Kind: w.kind,
		Preemptible: w.spec.Preemptible != nil && *w.spec.Preemptible,
		Gang:        w.set.Gang, Rank: w.set.Rank, GangSize: w.set.GangSize,
		Parent: w.parent, Replicas: 1, MinReplicas: w.set.MinReplicas,
		Request: request(w.spec, a.memoryMB), OriginalMemoryMB: w.spec.MemoryMB,
		Selector: w.selector(), Labels: maps.Clone(w.spec.Labels), Options: w.set.Options,
		Paused: w.paused, Hedge: a.hedge, SubmittedAt: w.created, StartedAt: a.started, EndedAt: a.ended, Exit: a.exit,
		Detail: a.detail, Restarts: w.restarts(), SpecHash: w.specHash,
	}
	if c := a.checks; c != nil && !a.state.Ended() {
		v.ReadyAt, v.Failing = c.readyAt, c.failing
	}
	return v
}

// unsetPriority is what counts for a workload that says nothing: the middle of the medium class.
const unsetPriority = 50

func priorityOf(s autoheal.Spec) int {
	if s.Priority == nil {
		return unsetPriority
	}
	return *s.Priority
}

func request(s autoheal.Spec, memoryMB int64) autoheal.Resources {
	return autoheal.Resources{
		CPUMilli: int64(s.CPUCores*1000 + 0.5), MemoryMB: memoryMB, GPUs: s.GPUs, GPUMemoryMB: s.GPUMemoryMB,
	}
}

// selector is what the node's labels must say: the workload's own wish, and a container runtime where its image needs one.
func (w *workload) selector() map[string]string {
	out := maps.Clone(w.set.Selector)
	if w.spec.Image != autoheal.ImageHost {
		if out == nil {
			out = map[string]string{}
		}
		out[labelRuntime] = "container"
	}
	return out
}

// restarts counts the attempts in the kept lineage that ended by the workload's own fault.
func (w *workload) restarts() int {
	n := 0
	for _, a := range w.attempts {
		if a.exit.OwnFault() {
			n++
		}
	}
	return n
}

// parentViewLocked is a scaled service as the port shows it: it has no attempt of its own, so it is never pending or
// failed.
func (d *Driver) parentViewLocked(w *workload) *autoheal.Workload {
	state := autoheal.Running
	ready := true
	for _, c := range d.children[w.id] {
		if a := c.current(); c.desired == autoheal.DesiredRunning && a != nil && a.state != autoheal.Running {
			ready = false
		}
	}
	switch {
	case w.desired == autoheal.DesiredCancelled:
		state, ready = autoheal.Cancelled, false
	case !ready:
		state = autoheal.Scheduled
	}
	a := &attempt{ref: attemptRef{w.id, w.attempt}, state: state, memoryMB: w.spec.MemoryMB}
	v := d.workloadViewLocked(w, a)
	v.Ready, v.Replicas = ready, w.replicas
	return v
}

// touchLocked tells the index, the watcher and waiters about an attempt's new state, and keeps the sets that depend on it.
func (d *Driver) touchLocked(w *workload, a *attempt, at time.Time, source string) {
	d.trackLocked(w, a)
	if w.isParent() && a.state.Ended() { // its replicas have taken its place: that its own copy was stopped is no failure
		d.emitWorkloadLocked(d.parentViewLocked(w), at, source)
	} else {
		d.emitWorkloadLocked(d.workloadViewLocked(w, a), at, source)
	}
	if p := d.workloads[w.parent]; p != nil {
		d.emitWorkloadLocked(d.parentViewLocked(p), at, source)
	}
	d.announceLocked()
	d.kick()
}

func (d *Driver) trackLocked(w *workload, a *attempt) {
	old := w.attempts[a.ref.n]
	if old != nil && old.node != a.node {
		delete(d.active[old.node], a.ref)
	}
	if a.stop != nil && (old == nil || old.stop == nil || *old.stop != *a.stop) {
		delete(d.retryAt, "stop/"+a.ref.String()) // a new order, such as a forced one, does not wait for the old one's grace
	}
	w.attempts[a.ref.n] = a
	switch {
	case a.node == "":
	case a.state.Ended():
		delete(d.active[a.node], a.ref)
	default:
		if d.active[a.node] == nil {
			d.active[a.node] = map[attemptRef]bool{}
		}
		d.active[a.node][a.ref] = true
	}
	if !a.state.Ended() && a.node != "" && (a.stop != nil || (a.state == autoheal.Scheduled && !a.accepted)) {
		d.work[a.ref] = true
	} else {
		delete(d.work, a.ref)
	}
	if a.ref.n == w.attempt {
		if a.state == autoheal.Pending && w.desired == autoheal.DesiredRunning {
			d.pending[w.id] = true
		} else {
			delete(d.pending, w.id)
		}
	}
	v := d.workloadViewLocked(w, a)
	if nom := d.nominations[w.id]; nom != nil && a.state == autoheal.Pending && a.ref.n == w.attempt {
		v.Node, v.GPUs = nom.node, nom.gpus
	}
	d.index.SetWorkload(v)
}

// announceLocked wakes whoever waits for a change of an attempt.
func (d *Driver) announceLocked() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// indexNodeLocked brings placement up to date about a node and returns it as the port shows it.
func (d *Driver) indexNodeLocked(n *node) *autoheal.Node {
	if n.drain != nil {
		d.draining[n.id] = true
	} else {
		delete(d.draining, n.id)
	}
	v := d.viewLocked(n)
	d.index.SetNode(v)
	return v
}

// tellNodeLocked brings index and watcher up to date about a node, if anything that the port shows has changed.
func (d *Driver) tellNodeLocked(n *node, at time.Time, source string, force bool) {
	if n.told != nil && !force {
		v := d.viewLocked(n)
		if n.link == autoheal.LinkUp { // a heartbeat alone is no change; an answer of a silent node moves its deadlines
			v.LastSeen = n.told.LastSeen
		}
		if reflect.DeepEqual(n.told, v) {
			return
		}
	}
	v := d.indexNodeLocked(n)
	n.told = v
	d.emitLocked(autoheal.Event{Kind: autoheal.EventNode, Node: v, At: at, Source: source})
	d.kick()
}

// spread returns a part of dur that depends on id alone, so that what many nodes do is spread in time, always the same way.
func spread(id autoheal.NodeID, dur time.Duration) time.Duration {
	if dur <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(id))
	return time.Duration(h.Sum64() % uint64(dur))
}
