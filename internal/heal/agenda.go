package heal

import (
	"cmp"
	"container/heap"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// stepMost is how many keys are looked at in one Step; what is left is for the next, which is due at once. So a Step stays
// short when a zone is lost or a person releases what a hundred thousand workloads wait for.
const stepMost = 1000

// recordsMost is after how many records a Step leaves the rest to the next one: they are made durable together.
const recordsMost = 4000

// queue is a set of keys in the order in which they came. A key that was taken back leaves a gap behind.
type queue struct {
	order []key
	in    map[key]bool
}

func (q *queue) add(k key) {
	if q.in[k] {
		return
	}
	if len(q.order) > 2*len(q.in)+16 {
		q.order = slices.DeleteFunc(q.order, func(k key) bool { return !q.in[k] })
	}
	q.in[k] = true
	q.order = append(q.order, k)
}

// take moves up to n keys to the end of a list, and returns the list.
func (q *queue) take(to []key, n int) []key {
	for ; n > 0 && len(q.order) > 0; q.order = q.order[1:] {
		if k := q.order[0]; q.in[k] {
			delete(q.in, k)
			to = append(to, k)
			n--
		}
	}
	return to
}

// await arranges for k to be stepped at a time, or when somebody wakes a key.
func (c *Core) await(k key, until time.Time, on string) {
	if !until.IsZero() {
		c.after(k, until)
	}
	if on == "" {
		return
	}
	if c.waiting[on] == nil {
		c.waiting[on] = &queue{in: map[key]bool{}}
	}
	c.waiting[on].add(k)
}

// unawait takes back what await arranged with somebody.
func (c *Core) unawait(k key, on string) {
	if q := c.waiting[on]; q != nil {
		delete(q.in, k)
	}
}

// wake marks who is held on something; many of them little by little.
func (c *Core) wake(on string) {
	q := c.waiting[on]
	if q == nil {
		return
	}
	delete(c.waiting, on)
	c.woken = append(c.woken, q)
}

// run steps what is marked until nothing is, in order of deadline and ID, so that scarce things go to the most urgent.
func (c *Core) run() {
	if c.all {
		c.all = false
		c.markAll()
	}
	left := stepMost
	for round := 0; left > 0 && round < 100; round++ {
		keys := c.draw(left)
		if len(keys) == 0 {
			return
		}
		for n, k := range keys[:min(left, len(keys))] {
			if len(c.out.Records) >= recordsMost {
				c.backlog = append(c.backlog, keys[n:]...)
				return
			}
			c.step(k)
		}
		if left -= len(keys); left < 0 {
			c.backlog = append(c.backlog, keys[len(keys)+left:]...)
		}
	}
}

// draw returns what is marked and, up to n keys, what was put off: incidents before their recoveries, then by deadline,
// then by ID.
func (c *Core) draw(n int) []key {
	keys := slices.AppendSeq(make([]key, 0, len(c.dirty)), maps.Keys(c.dirty))
	if len(c.dirty) > 0 {
		c.dirty = map[key]bool{} // a map that was once large takes long to visit for ever
	}
	if more := min(n-len(keys), len(c.backlog)); more > 0 {
		keys, c.backlog = append(keys, c.backlog[:more]...), c.backlog[more:]
	}
	for len(keys) < n && len(c.woken) > 0 {
		if keys = c.woken[0].take(keys, n-len(keys)); len(c.woken[0].order) == 0 {
			c.woken = c.woken[1:]
		}
	}
	return c.order(keys)
}

// order sorts keys, and leaves each once.
func (c *Core) order(keys []key) []key {
	type due struct {
		k        key
		rank     int
		deadline int64
	}
	all := make([]due, len(keys))
	for n, k := range keys {
		d := due{k: k, rank: min(len(k.w), 1), deadline: math.MinInt64}
		if k.what != "" {
			d.rank = 2
		}
		if i := c.d.Incidents[k.inc]; i != nil && i.Recoveries[k.w] != nil {
			d.deadline = i.Recoveries[k.w].Deadline.UnixNano()
		}
		all[n] = d
	}
	slices.SortFunc(all, func(a, b due) int {
		switch {
		case a.rank != b.rank:
			return a.rank - b.rank
		case a.deadline != b.deadline:
			return cmp.Compare(a.deadline, b.deadline)
		}
		return a.k.compare(b.k)
	})
	keys = keys[:0]
	for n := range all {
		if n == 0 || all[n].k != all[n-1].k {
			keys = append(keys, all[n].k)
		}
	}
	return keys
}

// busy reports whether something is left to be looked at.
func (c *Core) busy() bool { return len(c.dirty)+len(c.backlog)+len(c.woken) > 0 }

func (k key) compare(o key) int {
	if c := strings.Compare(string(k.inc), string(o.inc)); c != 0 {
		return c
	}
	if c := strings.Compare(string(k.w), string(o.w)); c != 0 {
		return c
	}
	return strings.Compare(k.what, o.what)
}

// markAll marks everything that is under way.
func (c *Core) markAll() {
	c.markOpen()
	for n, w := range slices.Sorted(maps.Keys(c.v.old)) {
		c.mark(n, key{w: w, what: dutyOld})
	}
	for n, r := range slices.Sorted(maps.Keys(c.d.Marks)) {
		c.mark(n, key{what: dutyMark, w: autoheal.WorkloadID(r)})
	}
	for n, w := range slices.Sorted(maps.Keys(c.d.Restarts)) {
		c.mark(n, key{w: w, what: dutyReset})
	}
	for n, w := range slices.Sorted(maps.Keys(c.d.Rooms)) {
		c.mark(n, key{w: w, what: dutyRoom})
	}
	c.dirty[key{what: dutyBack}] = true
	c.dirty[key{what: dutyStorm}] = true
	c.dirty[key{what: dutyCrowd}] = true
	for n, a := range c.d.find.asked {
		if a.State == approvalAsked || a.State == approvalGiven {
			c.mark(n, key{what: dutyApproval, w: autoheal.WorkloadID(a.ID)})
		}
	}
}

// markOpen marks all open incidents with all that belongs to them.
func (c *Core) markOpen() {
	for n, id := range slices.Sorted(maps.Keys(c.ix.openIDs)) {
		if n < markMost {
			c.markIncident(c.d.Incidents[id])
			continue
		}
		c.mark(n, key{inc: id, what: dutyOpen})
	}
}

func (c *Core) markIncident(i *incident) {
	c.dirty[key{inc: i.ID}] = true
	for n, w := range i.Order {
		if i.Recoveries[w].Step != autoheal.StepDone {
			c.mark(n, key{inc: i.ID, w: w})
		}
		c.mark(n, key{inc: i.ID, w: w, what: dutyPage})
		c.mark(n, key{inc: i.ID, w: w, what: dutyWarn})
	}
}

// markMost is how many of one sort are marked at once.
const markMost = 64

// mark marks the n-th key of its sort: at once, or little by little when there are many.
func (c *Core) mark(n int, k key) {
	if n < markMost {
		c.dirty[k] = true
		return
	}
	c.backlog = append(c.backlog, k)
}

// turns are the moves off silent nodes that wait for the pace (behaviour D4), in order of deadline.
type turns struct {
	queue   []turn // a heap
	in      map[key]bool
	granted map[key]bool
}

type turn struct {
	deadline time.Time
	k        key
}

func (t *turns) Len() int { return len(t.queue) }
func (t *turns) Less(a, b int) bool {
	x, y := &t.queue[a], &t.queue[b]
	if c := x.deadline.Compare(y.deadline); c != 0 {
		return c < 0
	}
	return x.k.compare(y.k) < 0
}
func (t *turns) Swap(a, b int) { t.queue[a], t.queue[b] = t.queue[b], t.queue[a] }
func (t *turns) Push(x any)    { t.queue = append(t.queue, x.(turn)) }
func (t *turns) Pop() any {
	last := len(t.queue) - 1
	x := t.queue[last]
	t.queue = t.queue[:last]
	return x
}

// paced lets moves off what is proven dead go at the configured pace, with a burst of two seconds' worth, the most urgent
// first (behaviour D4).
func (c *Core) paced(p *proposal) bool {
	if c.turns.granted[p.k] {
		delete(c.turns.granted, p.k)
		return true
	}
	if !c.turns.in[p.k] {
		c.turns.in[p.k] = true
		heap.Push(&c.turns, turn{p.rec.Deadline, p.k})
	}
	c.dirty[key{what: dutyPace}] = true
	return false
}

// stepPace gives as many their turn as the pace allows; who does not want it any more is passed over.
func (c *Core) stepPace() {
	for len(c.turns.queue) > 0 {
		k := c.turns.queue[0].k
		if i := c.d.Incidents[k.inc]; i == nil || i.Recoveries[k.w] == nil || i.Recoveries[k.w].Step != autoheal.StepStarting {
			heap.Pop(&c.turns)
			delete(c.turns.in, k)
			continue
		}
		at, ok := c.pace.take(c.now, c.pol.Budgets.Pace, 2*c.pol.Budgets.Pace)
		if !ok {
			c.after(key{what: dutyPace}, at)
			return
		}
		heap.Pop(&c.turns)
		delete(c.turns.in, k)
		c.turns.granted[k], c.dirty[k] = true, true
	}
}
