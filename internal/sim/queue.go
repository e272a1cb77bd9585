package sim

import (
	"container/heap"
	"time"
)

// epochTime is when every simulation begins.
var epochTime = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// queue is virtual time: what is to happen, in order of time and then of being asked for.
type queue struct {
	now    time.Time
	n      uint64
	events eventHeap
	passed uint64 // events that have happened
}

type event struct {
	at time.Time
	n  uint64
	fn func()
}

func newQueue() *queue { return &queue{now: epochTime} }

// after does fn once d has passed.
func (q *queue) after(d time.Duration, fn func()) { q.at(q.now.Add(d), fn) }

// at does fn at t, now if t has passed.
func (q *queue) at(t time.Time, fn func()) {
	if t.Before(q.now) {
		t = q.now
	}
	q.n++
	heap.Push(&q.events, event{t, q.n, fn})
}

// next lets the next event happen if it is due by the end; false = there is none.
func (q *queue) next(end time.Time) bool {
	if len(q.events) == 0 || q.events[0].at.After(end) {
		return false
	}
	e := heap.Pop(&q.events).(event)
	q.now = e.at
	q.passed++
	e.fn()
	return true
}

// due returns when the next event happens.
func (q *queue) due() (time.Time, bool) {
	if len(q.events) == 0 {
		return time.Time{}, false
	}
	return q.events[0].at, true
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(a, b int) bool {
	if !h[a].at.Equal(h[b].at) {
		return h[a].at.Before(h[b].at)
	}
	return h[a].n < h[b].n
}
func (h eventHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return x
}
