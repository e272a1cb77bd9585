package heal

import (
	"context"
	"errors"
	"iter"
	"sync"

	"autoheal.dev/autoheal"
)

// watcher feeds the loop with what the cluster's Watch yields.
type watcher struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func startWatch(ctx context.Context, o autoheal.Observer, events chan<- autoheal.Event, failed chan<- error) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel: cancel}
	w.wg.Go(func() {
		for ev, err := range o.Watch(ctx) {
			if err != nil {
				if ctx.Err() == nil {
					failed <- err
				}
				return
			}
			select {
			case events <- ev:
			case <-ctx.Done():
				return
			}
		}
		if ctx.Err() == nil {
			failed <- errors.New("the watch ended by itself")
		}
	})
	return w
}

func (w *watcher) stop() {
	w.cancel()
	w.wg.Wait()
}

// hub hands changes to subscribers. A subscriber that does not keep up loses changes and is told so, by a change of type
// "lost" in their place; it never delays the engine.
type hub struct {
	mu     sync.Mutex // guards what follows
	subs   map[*subscriber]bool
	closed bool
	seq    uint64
}

type subscriber struct {
	ch   chan autoheal.Change
	lost bool // the channel was full: nothing more is put into it until the subscriber was told
}

const hubBuffer = 1024

func newHub() *hub { return &hub{subs: map[*subscriber]bool{}} }

func (h *hub) publish(c autoheal.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq = max(h.seq+1, c.Seq)
	c.Seq = h.seq
	for s := range h.subs {
		if s.lost {
			continue
		}
		select {
		case s.ch <- c:
		default:
			s.lost = true
		}
	}
}

// watched reports whether anybody subscribes.
func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs) > 0
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subs {
		close(s.ch)
		delete(h.subs, s)
	}
}

// subscribe yields what is published from the moment that the range begins.
func (h *hub) subscribe(ctx context.Context) iter.Seq2[autoheal.Change, error] {
	return func(yield func(autoheal.Change, error) bool) {
		s := h.join()
		defer h.leave(s)
		for {
			if lost, ok := h.caughtUp(s); ok && !yield(lost, nil) {
				return
			}
			select {
			case c, ok := <-s.ch:
				if !ok || !yield(c, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func (h *hub) join() *subscriber {
	s := &subscriber{ch: make(chan autoheal.Change, hubBuffer)}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.ch <- autoheal.Change{Seq: h.seq, Type: autoheal.ChangeSubscribed, Text: "from here on nothing is missed"}
	if h.closed {
		close(s.ch)
	} else {
		h.subs[s] = true
	}
	return s
}

// caughtUp returns what to tell a subscriber that lost changes and has now read all that came before them.
func (h *hub) caughtUp(s *subscriber) (autoheal.Change, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.lost || len(s.ch) > 0 {
		return autoheal.Change{}, false
	}
	s.lost = false
	return autoheal.Change{Seq: h.seq, Type: autoheal.ChangeLost, Text: "changes were dropped because they were not read in time: list again"}, true
}

func (h *hub) leave(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
}
