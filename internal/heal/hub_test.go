package heal

import (
	"context"
	"testing"
	"testing/synctest"

	"autoheal.dev/autoheal"
)

// read collects what a subscriber gets; with a gate it waits there after each change.
func read(h *hub, ctx context.Context, gate <-chan struct{}) <-chan autoheal.Change {
	out := make(chan autoheal.Change, 10*hubBuffer)
	go func() {
		defer close(out)
		for c := range h.subscribe(ctx) {
			out <- c
			if gate != nil {
				<-gate
			}
		}
	}()
	synctest.Wait()
	return out
}

func publishUpTo(h *hub, from, to uint64) {
	for n := from; n <= to; n++ {
		h.publish(autoheal.Change{Seq: n, Type: "notice"})
	}
}

func TestHubOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		publishUpTo(h, 1, 5)
		a, b := read(h, t.Context(), nil), read(h, t.Context(), nil)
		publishUpTo(h, 6, 8)
		synctest.Wait()
		h.close()
		synctest.Wait()
		for _, ch := range []<-chan autoheal.Change{a, b} {
			if c := <-ch; c.Type != autoheal.ChangeSubscribed || c.Seq != 5 {
				t.Errorf("the first change is %+v", c)
			}
			for want := uint64(6); want <= 8; want++ {
				if c := <-ch; c.Seq != want || c.Type != "notice" {
					t.Errorf("got %+v, want %d", c, want)
				}
			}
			if c, ok := <-ch; ok {
				t.Errorf("after the end: %+v", c)
			}
		}
	})
}

// TestHubSlowReader publishes far more than a reader's buffer holds while it stands still: the publisher is not delayed,
// and the reader learns of the loss as soon as it has read what there was, although nothing more happens.
func TestHubSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		gate := make(chan struct{})
		slow, quick := read(h, t.Context(), gate), read(h, t.Context(), nil)
		const all = 5 * hubBuffer
		for n := uint64(1); n <= all; n += 100 {
			publishUpTo(h, n, min(n+99, all)) // would hang the test if it waited for the slow reader
			synctest.Wait()
		}
		if len(quick) != all+1 {
			t.Errorf("a reader that kept up got %d of %d", len(quick), all+1)
		}
		for range 10 { // it reads some, but has not caught up when more happens
			gate <- struct{}{}
		}
		publishUpTo(h, all+1, all+5)
		close(gate)
		synctest.Wait()
		var last autoheal.Change
		n, lost := 0, 0
		for len(slow) > 0 {
			c := <-slow
			if c.Type == autoheal.ChangeLost {
				lost++
				if c.Seq != all+5 {
					t.Errorf("the loss is told at %d, want %d", c.Seq, all+5)
				}
			} else if c.Type != autoheal.ChangeSubscribed && (lost > 0 || c.Seq != last.Seq+1) {
				t.Errorf("%d follows %d without a word of loss", c.Seq, last.Seq)
			}
			last, n = c, n+1
		}
		if lost != 1 || last.Type != autoheal.ChangeLost {
			t.Errorf("%d changes, told of a loss %d times, last %+v", n, lost, last)
		}
		publishUpTo(h, all+6, all+7)
		synctest.Wait()
		if c := <-slow; c.Seq != all+6 {
			t.Errorf("after the loss it goes on with %+v", c)
		}
		h.close()
	})
}

func TestHubLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		ctx, cancel := context.WithCancel(t.Context())
		ch := read(h, ctx, nil)
		for c := range h.subscribe(t.Context()) { // leaves after the first
			if c.Type != autoheal.ChangeSubscribed {
				t.Errorf("first %+v", c)
			}
			break
		}
		_ = h.subscribe(t.Context()) // never read
		if len(h.subs) != 1 {
			t.Errorf("%d subscribers, want the one that reads", len(h.subs))
		}
		cancel()
		for range ch {
		}
		if len(h.subs) != 0 {
			t.Errorf("%d subscribers are left", len(h.subs))
		}
		h.close()
		for c := range h.subscribe(t.Context()) {
			if c.Type != autoheal.ChangeSubscribed {
				t.Errorf("after the end: %+v", c)
			}
		}
	})
}
