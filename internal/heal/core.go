package heal

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// Input is all that the core may know of the world in one Step.
type Input struct {
	Now time.Time
	// Late is how much later than asked for the loop woke: the healer was not looking for so long.
	Late     time.Duration
	Events   []autoheal.Event
	Results  []autoheal.Result
	Commands []autoheal.Command
	Policy   *PolicyChange // nil = unchanged
	Beat     bool          // it is time to say that the healer is alive
}

// PolicyChange puts another configuration in force.
type PolicyChange struct {
	Policy *policy.Policy
	Hash   string
	By     string
}

// Ready is what one Step decided. Records are persisted BEFORE Actions and Replies leave; when persisting fails, they are
// dropped and the core is rebuilt from the journal.
type Ready struct {
	Records []journal.Record
	Actions []autoheal.Action
	Replies []autoheal.Reply
	// Seen are the signals, and the nodes and workloads whose observed state changed, for those who watch; nothing depends
	// on it.
	Seen []Sighting
	// WakeAt is when the next Step is due without any input; zero = when something happens.
	WakeAt time.Time
	// Errors are transitions that were refused as illegal: faults of ours, nothing was written for them.
	Errors []error
}

// Sighting is one observed change: of a node, which has that status now, or of a workload; or a signal.
type Sighting struct {
	Node     *autoheal.Node
	Status   autoheal.NodeStatus
	Workload *autoheal.Workload
	Signal   *autoheal.Signal
}

// Change says a sighting in the words that people know. A burst of changes that nobody watches costs no words.
func (s Sighting) Change(at time.Time) autoheal.Change {
	if n := s.Node; n != nil {
		text := fmt.Sprintf("node %s is %s", n.ID, strings.ReplaceAll(string(s.Status), "_", " "))
		return autoheal.Change{At: at, Type: autoheal.ChangeNode, Subject: n.Ref(), Text: text}
	}
	if s.Signal != nil {
		return autoheal.Change{At: at, Type: autoheal.ChangeSignal, Subject: s.Signal.Subject, Text: describeSignal(s.Signal)}
	}
	w := s.Workload
	text := fmt.Sprintf("%s attempt %d is %s", w.ID, w.Attempt, w.State)
	if w.Node != "" {
		text += " on " + string(w.Node)
	}
	return autoheal.Change{At: at, Type: autoheal.ChangeWorkload, Subject: w.Ref(), Text: text}
}

// Life is what the core is told about the healer's own life.
type Life struct {
	Epoch      uint64
	Version    string
	ConfigHash string
	BootID     string
	Cluster    string
}

// Core decides. It is deterministic and does nothing else: no clock, no I/O, no goroutine.
type Core struct {
	life Life
	pol  *policy.Policy
	d    *durable
	v    *view
	ix   *index

	detectors []detect.Detector

	timers     timers
	waiting    map[string]*queue // held on what: who
	dirty      map[key]bool      // to be stepped now
	backlog    []key             // put off until there is room in a Step
	woken      []*queue          // and then these
	turns      turns
	uncordoned map[autoheal.IncidentID][]autoheal.NodeID // of a domain: the nodes with which cordonMembers is not through
	silences   silences
	all        bool // examine everything once

	now         time.Time
	startedAt   time.Time
	crowdAt     time.Time // since when so many nodes are silent that it needs an explanation (behaviour D1)
	voidBase    time.Time // silences that began or grew before this do not count (behaviour D0)
	stalls      int
	pace        bucket
	slow        bucket // of storm.autoRelease
	started     bool
	stepNo      uint64
	nextCommand int                                                // last command ID handed out in this life
	accounts    map[autoheal.IncidentID]bool                       // ended incidents whose account has to be written (again)
	loops       map[autoheal.Ref]map[autoheal.WorkloadID]time.Time // who crashes again and again, by what it shares with others
	reserved    map[autoheal.WorkloadID]bool                       // who has a place reserved in the index (see roomFirst)
	roomAt      map[autoheal.WorkloadID]time.Time                  // when room was last looked for, in vain
	freeSince   time.Time                                          // there has been room for what was scaled down
	clearSince  map[autoheal.NodeID]time.Time                      // nodes that answer and report no fault, since when
	askedToLook bool                                               // a person asked, in this Step, to look at everything again: so does what expired
	planning    bool                                               // gates are asked for a plan: they take nothing
	out         *Ready
}

// key names what is to be looked at again: an incident (w and what empty), one of its recoveries, or a standing duty.
type key struct {
	inc  autoheal.IncidentID
	w    autoheal.WorkloadID
	what string
}

// NewCore makes the core of a life that begins with an empty journal; Restore follows for any other.
func NewCore(life Life, pol *policy.Policy) *Core {
	return &Core{
		life: life, pol: pol, d: newDurable(), v: newView(pol), ix: newIndex(), detectors: detect.All(), waiting: map[string]*queue{}, dirty: map[key]bool{},
		turns: turns{in: map[key]bool{}, granted: map[key]bool{}}, silences: silences{of: map[autoheal.NodeID]silence{}}, uncordoned: map[autoheal.IncidentID][]autoheal.NodeID{}, accounts: map[autoheal.IncidentID]bool{},
		reserved: map[autoheal.WorkloadID]bool{}, loops: map[autoheal.Ref]map[autoheal.WorkloadID]time.Time{}, roomAt: map[autoheal.WorkloadID]time.Time{},
		clearSince: map[autoheal.NodeID]time.Time{},
	}
}

// Restore folds one journalled record. All records of the journal are given in order before the first Step.
func (c *Core) Restore(r journal.Record) error {
	return c.d.apply(r)
}

// Step decides on one input. See Ready for the order that its caller keeps.
func (c *Core) Step(in Input) Ready {
	c.begin(in)
	if in.Policy != nil {
		c.setPolicy(*in.Policy)
	}
	c.stalled(in.Late)
	for _, e := range in.Events {
		c.observe(e)
	}
	for _, r := range in.Results {
		c.result(r)
	}
	for _, cmd := range in.Commands {
		c.command(cmd)
	}
	if in.Beat {
		c.beat()
	}
	c.fire()
	c.run()
	return c.finish()
}

func (c *Core) begin(in Input) {
	now := in.Now.Round(0).UTC()
	if now.After(c.now) {
		c.now = now
	}
	c.out, c.askedToLook = &Ready{}, false
	c.stepNo = c.d.Step + 1
	if !c.started {
		c.start()
	}
}

// start opens this life: what was under way when the last one ended has an unknown outcome.
func (c *Core) start() {
	c.started, c.startedAt = true, c.now
	orderly := c.d.Orderly
	c.ix.rebuild(c.d)
	c.record("", journal.EngineStarted{Epoch: c.life.Epoch, Version: c.life.Version, ConfigHash: c.life.ConfigHash, BootID: c.life.BootID, Orderly: orderly})
	for _, id := range c.d.incidentIDs() {
		for _, a := range c.d.Incidents[id].Actions {
			if a.pending() {
				c.record(id, journal.Result{Action: a.ID, Outcome: autoheal.OutcomeUnknown, Detail: "the healer was restarted before the answer came"})
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.d.CmdActions)) {
		if c.d.CmdActions[id].pending() {
			c.record("", journal.Result{Action: id, Outcome: autoheal.OutcomeUnknown, Detail: "the healer was restarted before the answer came"})
		}
	}
}

// setPolicy puts another configuration in force and looks at everything again.
func (c *Core) setPolicy(p PolicyChange) {
	c.pol, c.v.pol, c.v.said.catalogue, c.life.ConfigHash = p.Policy, p.Policy, nil, p.Hash
	c.record("", journal.ConfigChanged{ConfigHash: p.Hash, By: p.By})
	c.all = true
}

// stalled voids the silences of a time in which the healer was not looking (behaviour D0).
func (c *Core) stalled(late time.Duration) {
	if late <= c.pol.Node.ProbeTimeout {
		return
	}
	c.stalls++
	c.voidBase = c.now
	c.record("", journal.Notice{
		Reason: autoheal.ReasonObserverStalled, For: late,
		Detail: "the healer's loop woke late: silences of that time do not count",
	})
	c.all = true
}

// observe takes in one event and lets the detectors look at the change.
func (c *Core) observe(e autoheal.Event) {
	normalise(&e)
	wasSynced := c.v.synced
	change, changed := c.v.apply(e, c.now)
	switch {
	case e.Kind == autoheal.EventSynced:
		c.synced()
	case e.Kind == autoheal.EventGone:
		c.all = true
	case changed && change.Signal != nil:
		c.hear(change.Signal)
		if wasSynced {
			c.detect(change)
		}
	case changed && e.Kind == autoheal.EventWorkload && change.Workload == nil:
		c.oldChanged(e.Workload)
	case changed:
		c.saw(change)
		c.touch(change)
		if wasSynced {
			c.detect(change)
			c.wantedAgain(change)
		}
	}
}

// saw tells of a change to those who watch.
func (c *Core) saw(ch detect.Change) {
	switch {
	case ch.Node != nil:
		c.out.Seen = append(c.out.Seen, Sighting{Node: ch.Node, Status: c.nodeStatus(ch.Node)})
	case ch.Workload != nil:
		c.out.Seen = append(c.out.Seen, Sighting{Workload: ch.Workload})
	}
}

// synced looks at everything that the full listing brought: what failed while nobody looked, and what was under way. Most
// of a cluster is well, and is only passed by.
func (c *Core) synced() {
	var nodes []autoheal.NodeID
	for id, n := range c.v.nodes {
		if c.notable(n) {
			nodes = append(nodes, id)
		}
	}
	slices.Sort(nodes)
	for _, id := range nodes {
		c.crowd(c.v.nodes[id])
		c.back(c.v.nodes[id])
		c.detect(detect.Change{Node: c.v.nodes[id]})
		c.marks(c.v.nodes[id])
	}
	var failed []autoheal.WorkloadID
	for id := range c.v.unwell {
		for range c.findings(detect.Change{Workload: c.v.cur[id]}) {
			failed = append(failed, id)
			break
		}
	}
	slices.Sort(failed)
	for _, id := range failed {
		c.detect(detect.Change{Workload: c.v.cur[id]})
	}
	c.lookAtWords()
	c.reserveAgain()
	c.rememberLoops()
	c.all = true
}

// notable reports whether a listed node is to be looked at: it is not simply well.
func (c *Core) notable(n *autoheal.Node) bool {
	_, gone := c.d.Gone[n.ID]
	if gone || n.Link != autoheal.LinkUp || len(n.Marks) > 0 || c.d.Marks[autoheal.NodeRef(n.ID).String()] != nil {
		return true
	}
	for f := range c.findings(detect.Change{Node: n}) {
		if _, open := c.ix.open[f.Subject.String()]; open || !f.Withdrawn {
			return true
		}
	}
	return false
}

// findings yields what the detectors claim of a change.
func (c *Core) findings(change detect.Change) iter.Seq[autoheal.Finding] {
	return func(yield func(autoheal.Finding) bool) {
		for _, det := range c.detectors {
			for _, f := range det.Detect(sight{c.v, c.d}, change, c.now) {
				if !yield(f) {
					return
				}
			}
		}
	}
}

func (c *Core) detect(change detect.Change) {
	for f := range c.findings(change) {
		c.find(f)
	}
}

// touch marks everything to be stepped again that depends on what changed.
func (c *Core) touch(ch detect.Change) {
	if n := ch.Node; n != nil {
		if n.Link == autoheal.LinkUp {
			c.wordUsed(n.ID)
		}
		c.touchSubject(n.Ref())
		for _, w := range c.v.WorkloadsOn(n.ID) {
			c.touchWorkload(w.ID)
		}
		for _, w := range c.v.oldOn[n.ID] {
			c.dirty[key{w: w, what: dutyOld}] = true
		}
		c.wake("node/" + string(n.ID))
		if n.Ready && n.Schedulable {
			c.wake("capacity")
		}
		c.crowd(n)
		c.back(n)
		c.marks(n)
		c.drained(n)
		c.touchGPUs(ch.NodeBefore, n)
		c.lookOn(ch)
		c.followFaults(n)
	}
	if w := ch.Workload; w != nil {
		c.touchWorkload(w.ID)
		c.touchParts(w.Node, w.GPUs)
		c.forgive(w)
		c.waits(w)
		if b := ch.WorkloadBefore; b == nil || b.Attempt != w.Attempt || b.Node != w.Node || !detect.Wanted(b) {
			c.strand(w)
		}
		if b := ch.WorkloadBefore; b != nil && live(b) && !live(w) {
			c.wake("capacity")
		}
	}
}

// touchSubject marks the open incident on a subject and all its open recoveries.
func (c *Core) touchSubject(r autoheal.Ref) {
	id, ok := c.ix.open[r.String()]
	if !ok {
		return
	}
	c.dirty[key{inc: id}] = true
	i := c.d.Incidents[id]
	if i.Subject.Kind == autoheal.RefDomain && r.Kind == autoheal.RefNode {
		c.touchMember(i, autoheal.NodeID(r.ID))
		return
	}
	for _, w := range i.Order {
		if i.Recoveries[w].Step != autoheal.StepDone {
			c.dirty[key{inc: id, w: w}] = true
		}
	}
}

func (c *Core) touchWorkload(w autoheal.WorkloadID) {
	if at, ok := c.ix.recOf[w]; ok {
		c.dirty[key{inc: at.inc, w: at.lead}] = true
	}
	if len(c.v.old[w]) > 0 {
		c.dirty[key{w: w, what: dutyOld}] = true
	}
	if lead, ok := c.ix.rooms[w]; ok {
		c.dirty[key{w: lead, what: dutyRoom}] = true
	}
}

// record makes a fact: it is applied at once and leaves with Ready. A refused one leaves an error and changes nothing.
func (c *Core) record(inc autoheal.IncidentID, p journal.Payload) bool {
	r := journal.Record{
		V: journal.Version, Seq: c.d.Seq + 1, Step: c.stepNo, Epoch: c.life.Epoch, At: c.now, Type: p.Type(), Incident: inc, Data: p,
	}
	if err := c.d.apply(r); err != nil {
		c.out.Errors = append(c.out.Errors, err)
		return false
	}
	c.ix.follow(c.d, r)
	c.recountSilences(c.d.Incidents[inc], r)
	c.out.Records = append(c.out.Records, r)
	if i := c.d.Incidents[inc]; i != nil && i.Phase.Ended() && r.Type != journal.TypePostMortem {
		c.accounts[inc] = true
	}
	return true
}

func (c *Core) finish() Ready {
	for _, id := range slices.Sorted(maps.Keys(c.accounts)) {
		c.writePostMortem(c.d.Incidents[id])
	}
	clear(c.accounts)
	c.out.WakeAt = c.timers.next()
	if late := !c.out.WakeAt.IsZero() && c.out.WakeAt.Before(c.now); late || c.busy() {
		c.out.WakeAt = c.now
	}
	return *c.out
}

// after asks for k to be stepped at t.
func (c *Core) after(k key, t time.Time) {
	if !t.After(c.now) {
		t = c.now.Add(time.Millisecond)
	}
	c.timers.set(k, t)
}

// fire marks what is due.
func (c *Core) fire() {
	for range stepMost {
		k, ok := c.timers.pop(c.now)
		if !ok {
			return
		}
		c.dirty[k] = true
	}
}

// normalise strips monotonic readings and zones, so that what is journalled reads back as the same.
func normalise(e *autoheal.Event) {
	utc := func(t *time.Time) {
		if !t.IsZero() {
			*t = t.Round(0).UTC()
		}
	}
	utc(&e.At)
	utc(&e.SeenAt)
	if n := e.Node; n != nil {
		utc(&n.LinkSince)
		utc(&n.LastSeen)
	}
	if w := e.Workload; w != nil {
		utc(&w.SubmittedAt)
		utc(&w.StartedAt)
		utc(&w.EndedAt)
	}
	if s := e.Signal; s != nil {
		utc(&s.At)
		utc(&s.SeenAt)
	}
}
