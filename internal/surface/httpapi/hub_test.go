package httpapi

import (
	"context"
	"log/slog"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool/tooltest"
)

func startedHub(t *testing.T) (*hub, *tooltest.World) {
	t.Helper()
	w := tooltest.Sample()
	ctx, cancel := context.WithCancel(context.Background())
	h := newHub(ctx, w, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { cancel(); h.wait() })
	h.subscribed(ctx)
	return h, w
}

// TestSlowReader: a reader that does not read loses changes and is told so; the others lose none.
func TestSlowReader(t *testing.T) {
	h, _ := startedHub(t)
	slow, _, err := h.join(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	const n = 3 * queuedChanges
	for i := range n {
		h.publish(autoheal.Change{Seq: uint64(i + 1), Type: "result"})
	}
	for want := uint64(1); want <= queuedChanges; want++ {
		if c := <-slow.ch; c.Seq != want {
			t.Fatalf("got %d, want %d", c.Seq, want)
		}
	}
	h.publish(autoheal.Change{Seq: n + 1, Type: "result"})
	if c := <-slow.ch; c.Type != autoheal.ChangeLost {
		t.Errorf("after the gap: %+v", c)
	}
	if c := <-slow.ch; c.Seq != n+1 {
		t.Errorf("then: %+v", c)
	}
}

// TestKeptChanges: the ring is bounded, what is in it can be resumed exactly, and what is not is said to be lost.
func TestKeptChanges(t *testing.T) {
	h, _ := startedHub(t)
	const n = 5 * keptChanges
	for i := range n {
		h.publish(autoheal.Change{Seq: uint64(i + 1), Type: "result"})
		if len(h.kept) > 2*keptChanges {
			t.Fatalf("%d changes are kept", len(h.kept))
		}
	}
	for _, since := range []uint64{n - 1, n - keptChanges + 1, h.oldest} {
		_, first, err := h.join(context.Background(), since)
		if err != nil {
			t.Fatal(err)
		}
		if len(first) != 1+int(n-since) || first[1].Seq != since+1 || first[len(first)-1].Seq != n {
			t.Errorf("since %d: %d changes, from %+v to %+v", since, len(first)-1, first[1], first[len(first)-1])
		}
	}
	_, first, err := h.join(context.Background(), h.oldest-1)
	if err != nil || len(first) != 2 || first[1].Type != autoheal.ChangeLost {
		t.Errorf("too old: %+v, %v", first, err)
	}
}

func TestTooManyReaders(t *testing.T) {
	h, _ := startedHub(t)
	var last *reader
	for range maxReaders {
		r, _, err := h.join(context.Background(), 0)
		if err != nil {
			t.Fatal(err)
		}
		last = r
	}
	if _, _, err := h.join(context.Background(), 0); autoheal.KindOf(err) != autoheal.ErrUnavailable {
		t.Errorf("one too many: %v", err)
	}
	h.leave(last)
	if _, _, err := h.join(context.Background(), 0); err != nil {
		t.Errorf("after one left: %v", err)
	}
}

// TestHealerLost: what the healer itself could not keep is lost for every reader.
func TestHealerLost(t *testing.T) {
	h, _ := startedHub(t)
	h.publish(autoheal.Change{Seq: 1, Type: "result"})
	r, _, err := h.join(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	h.publish(autoheal.Change{Seq: 9, Type: autoheal.ChangeLost})
	if c := <-r.ch; c.Type != autoheal.ChangeLost {
		t.Errorf("%+v", c)
	}
	_, first, err := h.join(context.Background(), 1)
	if err != nil || len(first) != 2 || first[1].Type != autoheal.ChangeLost {
		t.Errorf("resumed before the gap: %+v, %v", first, err)
	}
}
