package heal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// A random world is a cluster with a truth of its own (machines, networks, processes), a driver that knows of it only
// what reaches it, and a healer that knows only what the driver says. The three disagree most of the time, as they do in
// a real cluster; the checks compare what the healer does with the truth.

// dice decides everything that is left to chance: a seeded generator, or rapid, which shrinks.
type dice interface {
	pick(n int) int // 0 … n-1
}

// fault ends a world with what is wrong; the caller turns it into a test failure.
type fault struct{ text string }

// selfStopAfter is what the agents do; the healer waits for the default fence.wait of 90 s.
const selfStopAfter = 60 * time.Second

type rNode struct {
	said    autoheal.Node // what the driver says of it
	power   bool
	net     bool
	contact time.Time // the last one, while it is away
	away    int       // counts the times it went away and came back: guards what is due later
	boot    int
	copies  map[copyKey]*rCopy
	orders  []copyKey // starts that did not reach it
}

type copyKey struct {
	id autoheal.WorkloadID
	n  int
}

// rCopy is one process.
type rCopy struct {
	key     copyKey
	running bool
	started time.Time
	ended   time.Time
	exit    *autoheal.Exit
}

// temper is what a workload is like.
type temper int

const (
	steady temper = iota
	crasher
	hungry // killed at its own limit until it has enough
	tempers
)

type rWork struct {
	id     autoheal.WorkloadID
	temper temper
	enough int64
	wishes map[int][]autoheal.NodeID // avoided, by attempt
	said   map[int]*autoheal.Workload
	top    int
}

func (w *rWork) cur() *autoheal.Workload { return w.said[w.top] }

// happening is something that is due.
type happening struct {
	at  time.Time
	seq int
	fn  func()
}

type rWorld struct {
	d     dice
	trace func(format string, args ...any)

	now     time.Time
	due     []happening
	seq     int
	nodes   map[autoheal.NodeID]*rNode
	works   map[autoheal.WorkloadID]*rWork
	lastOut map[string]time.Time // when the newest event of a subject arrives
	blind   bool                 // the stream is lost
	stream  int                  // counts the streams: what is on its way in a lost one never arrives
	life    int
	born    time.Time // of this life
	calm    bool      // no more bad luck

	core    *Core
	pol     *policy.Policy
	flags   map[string]string
	log     []journal.Record
	shadow  *durable // the fold of the log
	wake    time.Time
	inbox   Input
	idle    int
	idleAt  time.Time
	steps   int
	lives   []rLife
	sentAll int // actions that left
}

// rLife is what one life of the healer was fed, to be fed again.
type rLife struct {
	from   int // records restored
	pol    *policy.Policy
	inputs []Input
	digest []string
}

func newRandomWorld(d dice, trace func(string, ...any)) *rWorld {
	w := &rWorld{
		d: d, trace: trace, now: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), flags: map[string]string{}, shadow: newDurable(),
		nodes: map[autoheal.NodeID]*rNode{}, works: map[autoheal.WorkloadID]*rWork{}, lastOut: map[string]time.Time{},
	}
	w.configure()
	w.populate()
	w.begin()
	return w
}

func (w *rWorld) chance(percent int) bool { return w.d.pick(100) < percent }
func (w *rWorld) upTo(d time.Duration) time.Duration {
	return time.Duration(w.d.pick(int(d/(10*time.Millisecond))+1)) * 10 * time.Millisecond
}

func (w *rWorld) fail(format string, args ...any) {
	panic(fault{fmt.Sprintf(format, args...)})
}

func (w *rWorld) configure() {
	l, err := policy.Load(policy.Source{Flags: w.flags})
	if err != nil {
		w.fail("load policy: %v", err)
	}
	w.pol = l.Policy.WithProfile(policy.ProfileAct)
}

func (w *rWorld) populate() {
	for n := range 3 + w.d.pick(4) {
		id := autoheal.NodeID(fmt.Sprintf("n%d", n+1))
		x := &rNode{power: true, net: true, copies: map[copyKey]*rCopy{}}
		x.said = autoheal.Node{
			ID: id, BootID: fmt.Sprintf("%s-boot0", id), Source: "sim", Link: autoheal.LinkUp, LinkSince: w.now, LastSeen: w.now, Ready: true, Schedulable: true,
			Labels: map[string]string{autoheal.LabelRack: fmt.Sprintf("r%d", n%2)}, SelfStop: !w.chance(25), Caps: autoheal.Verbs(),
		}
		x.said.Domains = autoheal.NodeDomains(x.said.Labels)
		x.said.Allocatable = autoheal.Resources{CPUMilli: 64000, MemoryMB: 16000, Pids: 10000}
		x.said.Capacity = x.said.Allocatable
		w.nodes[id] = x
	}
	for n := range 2 + w.d.pick(5) {
		w.submit(fmt.Sprintf("wl-%d", n+1), "", 0, 0)
	}
	if w.chance(60) {
		size := 2 + w.d.pick(2)
		for r := range size {
			w.submit(fmt.Sprintf("wl-g%d", r), "g", size, r)
		}
	}
}

func (w *rWorld) submit(name string, gang autoheal.GangID, size, rank int) {
	classes := autoheal.Classes()
	a := &autoheal.Workload{
		ID: autoheal.WorkloadID(name), Name: name, Image: "host", Desired: autoheal.DesiredRunning, Attempt: 1, Class: classes[w.d.pick(len(classes))],
		AtMostOnce: w.chance(60), Kind: autoheal.KindJob, Gang: gang, GangSize: size, Rank: rank, SubmittedAt: w.now,
		Request: autoheal.Resources{MemoryMB: int64(1000 * (1 + w.d.pick(5))), CPUMilli: 1000},
	}
	x := &rWork{id: a.ID, said: map[int]*autoheal.Workload{1: a}, top: 1, wishes: map[int][]autoheal.NodeID{}}
	if gang == "" {
		x.temper = temper(max(0, w.d.pick(int(tempers)+3)-3))
	} else {
		a.Class, a.AtMostOnce = autoheal.High, true
	}
	if !a.AtMostOnce {
		a.Kind = autoheal.KindService
	}
	a.OriginalMemoryMB, x.enough = a.Request.MemoryMB, a.Request.MemoryMB*int64(1+w.d.pick(3))
	w.works[a.ID] = x
	w.pending(x)
	w.place()
}

// at arranges for fn to be called at t.
func (w *rWorld) at(t time.Time, fn func()) {
	if t.Before(w.now) {
		t = w.now
	}
	w.seq++
	h := happening{t, w.seq, fn}
	n, _ := slices.BinarySearchFunc(w.due, h, func(a, b happening) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.seq, b.seq)) })
	w.due = slices.Insert(w.due, n, h)
}

func (w *rWorld) after(d time.Duration, fn func()) { w.at(w.now.Add(d), fn) }

// connected reports whether the driver reaches the node.
func (n *rNode) connected() bool { return n.power && n.net }

// --- the truth

// leave is called when a node is no longer reached.
func (w *rWorld) leave(n *rNode) {
	n.contact = w.now
	n.away++
	gen, contact := n.away, w.now
	w.after(5*time.Second+w.upTo(3*time.Second), func() {
		if n.away == gen {
			w.silent(n)
		}
	})
	if n.said.SelfStop {
		w.at(contact.Add(selfStopAfter), func() {
			for _, k := range sortedCopies(n.copies) {
				if n.away == gen && w.works[k.id].cur().AtMostOnce {
					w.end(n, n.copies[k], &autoheal.Exit{Code: -1, Signal: "SIGKILL", Reason: autoheal.ExitSelfStop})
				}
			}
		})
	}
}

func sortedCopies(m map[copyKey]*rCopy) []copyKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b copyKey) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.n, b.n)) })
}

func (w *rWorld) silent(n *rNode) {
	n.said.Link, n.said.LinkSince, n.said.Ready = autoheal.LinkSilent, w.now, false
	n.said.LastSeen = n.contact
	if n.said.LastSeen.Before(w.born) {
		n.said.LastSeen = w.born // this life has not heard from it: it counts from its own beginning
	}
	w.sayNode(n)
}

// back is called when a node is reached again.
func (w *rWorld) back(n *rNode) {
	n.away++
	if n.said.Link != autoheal.LinkUp || n.said.BootID != bootName(n) {
		n.said.Link, n.said.LinkSince, n.said.Ready, n.said.BootID = autoheal.LinkUp, w.now, true, bootName(n)
	}
	n.said.LastSeen = w.now
	w.sayNode(n)
	for _, k := range sortedCopies(n.copies) {
		w.report(n, n.copies[k])
	}
	for _, id := range sortedKeys(w.works) {
		x := w.works[id]
		for _, num := range sortedKeys(x.said) {
			a := x.said[num]
			k := copyKey{id, num}
			switch {
			case a.Node != n.said.ID || n.copies[k] != nil || slices.Contains(n.orders, k):
			case a.State == autoheal.Running || a.State == autoheal.Scheduled && num != x.top:
				w.ended(x, num, &autoheal.Exit{Code: -1, Reason: autoheal.ExitRebooted}, w.now)
			case a.State == autoheal.Scheduled:
				n.orders = append(n.orders, k)
			}
		}
	}
	orders := n.orders
	n.orders = nil
	for _, k := range orders {
		w.order(n, k)
	}
}

func bootName(n *rNode) string { return fmt.Sprintf("%s-boot%d", n.said.ID, n.boot) }

// cut, mend, off and on are what can happen to a machine.
func (w *rWorld) cut(n *rNode) {
	if was := n.connected(); was {
		n.net = false
		w.leave(n)
	}
	n.net = false
}

func (w *rWorld) mend(n *rNode) {
	if n.net {
		return
	}
	n.net = true
	if n.power {
		w.back(n)
	}
}

func (w *rWorld) off(n *rNode) {
	if !n.power {
		return
	}
	was := n.connected()
	n.power = false
	clear(n.copies)
	n.boot++
	if was {
		w.leave(n)
	}
}

func (w *rWorld) on(n *rNode) {
	if n.power {
		return
	}
	n.power = true
	if n.net {
		w.back(n)
	}
}

// begin starts a process: here two copies of an at-most-once workload would be seen.
func (w *rWorld) beginCopy(n *rNode, k copyKey) {
	x := w.works[k.id]
	if n.copies[k] != nil {
		return
	}
	for _, id := range sortedKeys(w.nodes) {
		for _, o := range sortedCopies(w.nodes[id].copies) {
			if c := w.nodes[id].copies[o]; o.id == k.id && c.running && x.cur().AtMostOnce {
				w.fail("two copies of %s: attempt %d runs on %s, attempt %d starts on %s", k.id, o.n, id, k.n, n.said.ID)
			}
		}
	}
	c := &rCopy{key: k, running: true, started: w.now}
	n.copies[k] = c
	w.trace("truth: %s/%d runs on %s", k.id, k.n, n.said.ID)
	w.after(w.upTo(time.Second), func() {
		if n.copies[k] == c && n.connected() {
			w.report(n, c)
		}
	})
	mem := x.said[k.n].Request.MemoryMB
	switch {
	case x.temper == crasher:
		w.after(time.Second+w.upTo(20*time.Second), func() { w.end(n, c, &autoheal.Exit{Code: 3, Reason: autoheal.ExitCrashed}) })
	case x.temper == hungry && mem < x.enough:
		w.after(time.Second+w.upTo(10*time.Second), func() {
			w.end(n, c, &autoheal.Exit{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostCgroup, Reason: autoheal.ExitCrashed})
		})
	}
}

func (w *rWorld) end(n *rNode, c *rCopy, e *autoheal.Exit) {
	if c == nil || !c.running || n.copies[c.key] != c {
		return
	}
	c.running, c.ended, c.exit = false, w.now, e
	w.trace("truth: %s/%d on %s ends: %s", c.key.id, c.key.n, n.said.ID, e.Reason)
	if n.connected() {
		w.report(n, c)
	}
}
