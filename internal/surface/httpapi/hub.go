package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
)

// Limits of the event stream: how many changes are kept for those who come back, how many wait for one slow reader, and
// how many readers there are.
const (
	keptChanges   = 4096
	queuedChanges = 256
	maxReaders    = 64
)

// hub follows the healer's changes once and hands them to every reader. A reader that falls behind gets ChangeLost in
// place of what it missed; it never slows down the others or the engine.
type hub struct {
	base   context.Context
	healer tool.Healer
	log    *slog.Logger
	wg     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	running bool
	ready   chan struct{}     // closed once the subscription stands, or has failed
	kept    []autoheal.Change // oldest first
	latest  uint64            // Seq of the latest change, or of the subscription
	oldest  uint64            // changes with a higher Seq are all in kept
	readers map[*reader]bool
}

// reader is one stream. ch is closed by the hub when the healer's stream ended.
type reader struct {
	ch   chan autoheal.Change
	lost bool
}

func newHub(base context.Context, healer tool.Healer, log *slog.Logger) *hub {
	return &hub{base: base, healer: healer, log: log, readers: map[*reader]bool{}}
}

// ensure starts following unless the hub already does. After the healer ended its stream the next reader starts it anew.
func (h *hub) ensure() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running || h.base.Err() != nil {
		return
	}
	h.running = true
	h.ready = make(chan struct{})
	h.wg.Go(h.follow)
}

func (h *hub) wait() { h.wg.Wait() }

func (h *hub) follow() {
	for c, err := range h.healer.Changes(h.base) {
		if err != nil {
			if h.base.Err() == nil {
				h.log.Warn("follow changes", slog.Any("error", err))
			}
			break
		}
		h.publish(c)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = false
	h.standLocked()
	h.kept, h.oldest = nil, h.latest
	for r := range h.readers {
		close(r.ch)
		delete(h.readers, r)
	}
}

// standLocked lets those go on who wait for the subscription.
func (h *hub) standLocked() {
	select {
	case <-h.ready:
	default:
		close(h.ready)
	}
}

func (h *hub) publish(c autoheal.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.standLocked()
	if c.Type == autoheal.ChangeSubscribed || c.Type == autoheal.ChangeLost { // between the healer and us
		if c.Type == autoheal.ChangeLost || c.Seq != h.latest {
			h.kept, h.oldest = nil, max(c.Seq, h.latest)
		}
		h.latest = max(h.latest, c.Seq)
		if c.Type == autoheal.ChangeSubscribed {
			return
		}
	} else {
		h.latest = c.Seq
		h.kept = append(h.kept, c)
		if len(h.kept) > 2*keptChanges { // in steps, so that each change is not a copy of all
			h.oldest = h.kept[len(h.kept)-keptChanges-1].Seq
			h.kept = slices.Clone(h.kept[len(h.kept)-keptChanges:])
		}
	}
	for r := range h.readers {
		h.offer(r, c)
	}
}

func (h *hub) offer(r *reader, c autoheal.Change) {
	if r.lost && len(r.ch) < cap(r.ch)/2 {
		r.lost = false
		r.ch <- autoheal.Change{Seq: h.latest, At: c.At, Type: autoheal.ChangeLost, Text: "this reader was too slow: look at everything again"}
	}
	select {
	case r.ch <- c:
	default:
		r.lost = true
	}
}

// subscribed waits until the hub follows the healer.
func (h *hub) subscribed(ctx context.Context) {
	h.ensure()
	h.mu.Lock()
	ready := h.ready
	h.mu.Unlock()
	if ready == nil { // stopping before it began
		return
	}
	select {
	case <-ready:
	case <-ctx.Done():
	}
}

// join registers a reader and returns what it gets first: the changes after since as far as they are kept.
func (h *hub) join(ctx context.Context, since uint64) (*reader, []autoheal.Change, error) {
	h.subscribed(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running {
		return nil, nil, &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: "The healer is stopping"}
	}
	if len(h.readers) >= maxReaders {
		return nil, nil, &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: fmt.Sprintf("Too many event streams: at most %d", maxReaders)}
	}
	first := []autoheal.Change{{Seq: h.latest, Type: autoheal.ChangeSubscribed, Text: "from here on nothing is missed"}}
	if since > 0 {
		first[0].Seq = since
		if since < h.oldest || since > h.latest {
			first[0].Seq = h.latest
			first = append(first, autoheal.Change{Seq: h.latest, Type: autoheal.ChangeLost, Text: "older changes are no longer kept: look at everything again"})
		} else {
			for _, c := range h.kept {
				if c.Seq > since {
					first = append(first, c)
				}
			}
		}
	}
	r := &reader{ch: make(chan autoheal.Change, queuedChanges)}
	h.readers[r] = true
	return r, first, nil
}

func (h *hub) leave(r *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.readers, r)
}

// serve answers GET /api/v1/events with server-sent events. Last-Event-ID, or the query parameter since, is the Seq
// after which to go on.
func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	since, err := sinceOf(r)
	if err != nil {
		writeError(w, err)
		return
	}
	me, first, err := h.join(r.Context(), since)
	if err != nil {
		writeError(w, err)
		return
	}
	defer h.leave(me)
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a stream has no end to wait for
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	for _, c := range first {
		if writeEvent(w, c) != nil {
			return
		}
	}
	for flush(w) == nil {
		select {
		case c, ok := <-me.ch:
			if !ok || writeEvent(w, c) != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func sinceOf(r *http.Request) (uint64, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("since")
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, &autoheal.Error{Kind: autoheal.ErrInvalid, Detail: "Wrong Last-Event-ID: expected the id of an earlier event, a whole number"}
	}
	return n, nil
}

// writeEvent writes one event. Encode leaves no line break in its JSON, so that one data line holds it.
func writeEvent(w http.ResponseWriter, c autoheal.Change) error {
	raw, err := tool.Encode(c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "id: %d\nevent: change\ndata: %s\n\n", c.Seq, raw)
	return err
}

func flush(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }
