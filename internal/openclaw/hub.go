package openclaw

import (
	"encoding/json"
	"sync"
)

// subscriberQueue bounds what is kept for one slow subscriber.
const subscriberQueue = 64

// Hub hands events to subscribers without ever waiting for one. The zero value is ready.
type Hub struct {
	mu sync.Mutex
	// mu guards what follows.
	subs   map[chan Event]struct{}
	up     bool // the connection is up: new subscribers are told first
	closed bool
}

// Subscribe returns a channel of events and the function that ends it.
func (h *Hub) Subscribe() (<-chan Event, func()) {
	ch := make(chan Event, subscriberQueue)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(ch)
		return ch, func() {}
	}
	if h.subs == nil {
		h.subs = make(map[chan Event]struct{})
	}
	if h.up {
		ch <- Event{Name: EventConnected}
	}
	h.subs[ch] = struct{}{}
	return ch, func() { h.remove(ch) }
}

func (h *Hub) remove(ch chan Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.subs[ch]; ok {
		delete(h.subs, ch)
		close(ch)
	}
}

// Publish hands e to every subscriber. The last place of a full queue is kept for the mark "dropped": whoever falls
// behind finds it after the events that still fitted, and no event is lost without a mark behind or in its place.
func (h *Hub) Publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e.Name {
	case EventConnected:
		h.up = true
	case EventDisconnected:
		h.up = false
	}
	for ch := range h.subs {
		switch n := len(ch); {
		case n < cap(ch)-1:
			ch <- e
		case n == cap(ch)-1:
			ch <- Event{Name: EventDropped}
		default: // full: the mark is already the last entry
		}
	}
}

// Close ends every subscription; later ones are closed from the start.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for ch := range h.subs {
		delete(h.subs, ch)
		close(ch)
	}
}

// eventFromFrame turns an event frame into what subscribers see.
func eventFromFrame(f Frame) Event {
	e := Event{Name: f.Event, Payload: f.Payload}
	if f.Event == EventPresence {
		var p struct {
			Presence []PresenceEntry `json:"presence"`
		}
		if json.Unmarshal(f.Payload, &p) == nil {
			e.Presence = p.Presence
		}
	}
	return e
}
