package heal

import (
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
)

// index finds by key what durable holds. It is derived: rebuild makes it from the state, follow keeps it.
type index struct {
	open    map[string]autoheal.IncidentID // by subject
	openIDs map[autoheal.IncidentID]bool
	last    map[string]autoheal.IncidentID              // newest incident of a subject, open or not
	recOf   map[autoheal.WorkloadID]recAt               // the open recovery of a workload, under every member
	starts  map[autoheal.WorkloadID]*action             // the newest start of a workload, of whatever incident
	rooms   map[autoheal.WorkloadID]autoheal.WorkloadID // who stops or waits for a room that is planned: for whom it is
	lastOf  map[autoheal.WorkloadID]recAt               // the newest recovery of a workload, open or not, under every member
	hedges  map[autoheal.Class]map[recAt]bool
	resting map[autoheal.NodeID]map[recAt]bool // open recoveries of a domain, by the node on whose silence they rest
	newest  map[autoheal.IncidentID]*newest
	opened  map[sort][]time.Time // see repeats
}

// recAt names a recovery.
type recAt struct {
	inc  autoheal.IncidentID
	lead autoheal.WorkloadID
}

func newIndex() *index {
	return &index{
		open: map[string]autoheal.IncidentID{}, openIDs: map[autoheal.IncidentID]bool{}, last: map[string]autoheal.IncidentID{},
		recOf: map[autoheal.WorkloadID]recAt{}, starts: map[autoheal.WorkloadID]*action{}, lastOf: map[autoheal.WorkloadID]recAt{},
		rooms:  map[autoheal.WorkloadID]autoheal.WorkloadID{},
		hedges: map[autoheal.Class]map[recAt]bool{}, resting: map[autoheal.NodeID]map[recAt]bool{}, newest: map[autoheal.IncidentID]*newest{},
		opened: map[sort][]time.Time{},
	}
}

func (x *index) rebuild(d *durable) {
	*x = *newIndex()
	newest := map[autoheal.WorkloadID]time.Time{}
	for _, id := range d.incidentIDs() {
		i := d.Incidents[id]
		x.setIncident(i)
		x.setOpened(i)
		for _, w := range i.Order {
			x.setRecovery(i, i.Recoveries[w])
			if rec := i.Recoveries[w]; !rec.Opened.Before(newest[w]) {
				newest[w] = rec.Opened
				x.setLast(i, rec)
			}
		}
		for _, a := range i.Actions {
			x.setStart(a)
		}
	}
	x.setRooms(d)
}

// follow keeps the index in step with one applied record.
func (x *index) follow(d *durable, r journal.Record) {
	switch r.Data.(type) {
	case journal.RoomPlanned, journal.RoomBegun, journal.RoomOver:
		x.setRooms(d)
	}
	i := d.Incidents[r.Incident]
	if i == nil {
		return
	}
	switch p := r.Data.(type) {
	case journal.IncidentOpened:
		x.setIncident(i)
		x.setOpened(i)
	case journal.IncidentPhase:
		if !p.To.Ended() {
			x.setIncident(i)
			break
		}
		delete(x.openIDs, i.ID)
		delete(x.newest, i.ID)
		for _, s := range i.subjects() {
			if x.open[s] == i.ID {
				delete(x.open, s)
			}
		}
	case journal.RecoveryOpened:
		x.setRecovery(i, i.Recoveries[p.Workload])
		x.setLast(i, i.Recoveries[p.Workload])
	case journal.RecoveryStep:
		x.setRecovery(i, i.Recoveries[p.Workload])
	case journal.Intent:
		x.setStart(d.action(p.Action.ID, i.ID))
	}
}

// setIncident notes an incident under its subject; that of a domain under each of its nodes too.
func (x *index) setIncident(i *incident) {
	for _, s := range i.subjects() {
		x.last[s] = i.ID
		if !i.Phase.Ended() {
			x.open[s] = i.ID
			x.openIDs[i.ID] = true
		}
	}
}

func (x *index) setRecovery(i *incident, rec *recovery) {
	at := recAt{i.ID, rec.Workload}
	x.setHedge(at, rec)
	x.setResting(i, rec)
	for _, w := range rec.Members {
		switch {
		case rec.Step != autoheal.StepDone:
			x.recOf[w] = at
		case x.recOf[w] == at:
			delete(x.recOf, w)
		}
	}
}

// setLast notes the newest recovery of its members.
func (x *index) setLast(i *incident, rec *recovery) {
	for _, w := range rec.Members {
		x.lastOf[w] = recAt{i.ID, rec.Workload}
	}
}

// setStart notes the newest start of a workload.
func (x *index) setStart(a *action) {
	if a == nil || a.Verb != autoheal.Start {
		return
	}
	w := autoheal.WorkloadID(a.Target.ID)
	if old := x.starts[w]; old == nil || a.Params.Attempt >= old.Params.Attempt {
		x.starts[w] = a
	}
}

// unsettled reports whether a replaced copy may still come back: a new attempt was asked for without the old one's exit
// having been seen.
func (rec *recovery) unsettled() bool {
	return !rec.OldGone && rec.Proof != autoheal.ProofExitObserved && !rec.SafeAt.IsZero() && len(rec.NewAttempts) > 0
}

// timers are wake-ups, at most one a key.
type timers struct {
	at   map[key]due
	heap []due // the earliest first; what is not in at any more is passed over
	keys map[uint64]key
	seq  uint64
}

// due is one wake-up: at the same time, the one that was asked for first comes first.
type due struct {
	nanos int64
	seq   uint64
}

func (d due) before(o due) bool { return d.nanos < o.nanos || d.nanos == o.nanos && d.seq < o.seq }

func (t *timers) set(k key, at time.Time) {
	d := due{nanos: at.UnixNano()}
	if old, ok := t.at[k]; ok {
		if d.nanos >= old.nanos {
			return
		}
		delete(t.keys, old.seq)
	}
	if t.at == nil {
		t.at, t.keys = map[key]due{}, map[uint64]key{}
	}
	t.seq++
	d.seq = t.seq
	t.at[k], t.keys[d.seq] = d, k
	t.push(d)
}

func (t *timers) pop(now time.Time) (key, bool) {
	for len(t.heap) > 0 && t.heap[0].nanos <= now.UnixNano() {
		d := t.heap[0]
		t.drop()
		if k, ok := t.keys[d.seq]; ok {
			delete(t.keys, d.seq)
			delete(t.at, k)
			return k, true
		}
	}
	return key{}, false
}

// next returns when the earliest wake-up is due, zero for none.
func (t *timers) next() time.Time {
	for len(t.heap) > 0 {
		if _, ok := t.keys[t.heap[0].seq]; ok {
			return time.Unix(0, t.heap[0].nanos).UTC()
		}
		t.drop()
	}
	return time.Time{}
}

func (t *timers) push(d due) {
	t.heap = append(t.heap, d)
	n := len(t.heap) - 1
	for n > 0 {
		up := (n - 1) / 2
		if !d.before(t.heap[up]) {
			break
		}
		t.heap[n] = t.heap[up]
		n = up
	}
	t.heap[n] = d
}

// drop takes the first off the heap.
func (t *timers) drop() {
	last := len(t.heap) - 1
	d := t.heap[last]
	t.heap = t.heap[:last]
	n := 0
	for {
		down := 2*n + 1
		if down >= last {
			break
		}
		if down+1 < last && t.heap[down+1].before(t.heap[down]) {
			down++
		}
		if !t.heap[down].before(d) {
			break
		}
		t.heap[n] = t.heap[down]
		n = down
	}
	if last > 0 {
		t.heap[n] = d
	}
}

// bucket is a token bucket: rate a second, at most burst at once.
type bucket struct {
	tokens float64
	at     time.Time
}

// take takes a token, or says when there is one.
func (b *bucket) take(now time.Time, rate, burst float64) (time.Time, bool) {
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		return time.Time{}, true
	}
	return now.Add(time.Duration((1 - b.tokens) / rate * float64(time.Second))), false
}
