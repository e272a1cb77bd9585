package heal

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
)

// crew is a pool of workers over a function, with what came back.
type crew struct {
	*pool
	results chan autoheal.Result
	cancel  context.CancelFunc
	ctx     context.Context

	mu    sync.Mutex // guards what follows
	order []string   // "begin wl-1/3"
}

func newCrew(t *testing.T, do func(ctx context.Context, a autoheal.Action) autoheal.Outcome) *crew {
	c := &crew{results: make(chan autoheal.Result, 10000)}
	c.ctx, c.cancel = context.WithCancel(t.Context())
	f := newFakeCluster()
	f.doFn = func(ctx context.Context, a autoheal.Action) autoheal.Result {
		c.note("begin " + string(a.ID))
		defer c.note("end " + string(a.ID))
		return autoheal.Result{Outcome: do(ctx, a), At: now()}
	}
	c.pool = newPool(f, clock.Real{}, c.results)
	return c
}

func (c *crew) note(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order = append(c.order, s)
}

func (c *crew) begun() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.order {
		if s[:5] == "begin" {
			n++
		}
	}
	return n
}

// stop ends the workers, as the engine does.
func (c *crew) stop() {
	c.cancel()
	c.wg.Wait()
}

func (c *crew) give(verb autoheal.Verb, target, id string) {
	c.submit(c.ctx, autoheal.Action{
		ID: autoheal.ActionID(id), Verb: verb, Target: autoheal.Ref{Kind: autoheal.RefNode, ID: target, Generation: id}, Deadline: now().Add(30 * time.Second),
	})
}

func after(d time.Duration) func(context.Context, autoheal.Action) autoheal.Outcome {
	return func(ctx context.Context, _ autoheal.Action) autoheal.Outcome {
		select {
		case <-time.After(d):
			return autoheal.OutcomeDone
		case <-ctx.Done():
			return autoheal.OutcomeUnknown
		}
	}
}

// TestWorkersOrder gives three actions for each of two targets: in order on each, both targets at once.
func TestWorkersOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, after(time.Second))
		defer c.stop()
		for n := range 3 {
			c.give(autoheal.Reboot, "n1", fmt.Sprintf("n1/%d", n))
			c.give(autoheal.Reboot, "n2", fmt.Sprintf("n2/%d", n))
		}
		elapse(time.Second + time.Millisecond)
		if n := c.begun(); n != 4 {
			t.Errorf("%d actions have begun after the first second, want the second one of both targets", n)
		}
		elapse(2 * time.Second)
		for _, node := range []string{"n1", "n2"} {
			var got []string
			for _, s := range c.order {
				if _, id, _ := cutSpace(s); id[:2] == node {
					got = append(got, s)
				}
			}
			want := []string{}
			for n := range 3 {
				want = append(want, fmt.Sprintf("begin %s/%d", node, n), fmt.Sprintf("end %s/%d", node, n))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", node, got, want)
			}
		}
		if len(c.results) != 6 || len(c.queues) != 0 {
			t.Errorf("%d results, %d queues are left", len(c.results), len(c.queues))
		}
	})
}

func cutSpace(s string) (before, after string, found bool) {
	for n := range s {
		if s[n] == ' ' {
			return s[:n], s[n+1:], true
		}
	}
	return s, "", false
}

// TestWorkersSafeEffects hangs as many disruptions as there are workers: what is safe goes on.
func TestWorkersSafeEffects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := after(time.Hour)
		c := newCrew(t, func(ctx context.Context, a autoheal.Action) autoheal.Outcome {
			if a.Verb.Effect() == autoheal.EffectSafe {
				return autoheal.OutcomeDone
			}
			return slow(ctx, a)
		})
		defer c.stop()
		for n := range workersAny + 5 {
			c.give(autoheal.Reboot, fmt.Sprintf("n%d", n), fmt.Sprintf("reboot/%d", n))
		}
		synctest.Wait()
		if n := c.begun(); n != workersAny {
			t.Errorf("%d disruptions are under way, want %d", n, workersAny)
		}
		for n := range 10 {
			c.give(autoheal.Uncordon, fmt.Sprintf("s%d", n), fmt.Sprintf("uncordon/%d", n))
		}
		synctest.Wait() // no time passes
		if len(c.results) != 10 {
			t.Errorf("%d of 10 safe actions were done beside hanging disruptions", len(c.results))
		}
	})
}

// TestWorkersDeadline gives each action its time, and no more to one that spent it in the queue.
func TestWorkersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, after(time.Hour))
		defer c.stop()
		began := now()
		c.give(autoheal.Reboot, "n1", "first")
		c.give(autoheal.Reboot, "n1", "second")
		first := <-c.results
		if took := now().Sub(began); took != 30*time.Second || first.Action != "first" || first.Outcome != autoheal.OutcomeUnknown {
			t.Errorf("after %s: %+v", took, first)
		}
		second := <-c.results
		if took := now().Sub(began); took != 30*time.Second || second.Outcome != autoheal.OutcomeNotSent || second.Err == nil || second.Err.Kind != autoheal.ErrTimeout {
			t.Errorf("after %s: %+v", took, second)
		}
		if c.begun() != 1 {
			t.Error("an action was sent after its deadline")
		}
	})
}

// TestWorkersQueueBound offers more than a queue takes: the surplus comes back as not sent, and nothing blocks.
func TestWorkersQueueBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, after(time.Hour))
		defer c.stop()
		c.give(autoheal.Reboot, "n1", "first")
		synctest.Wait() // it left the queue
		for n := range queueMost + 3 {
			c.give(autoheal.Reboot, "n1", fmt.Sprint(n))
		}
		synctest.Wait()
		if len(c.results) != 3 {
			t.Fatalf("%d actions came back, want the 3 that the queue has no room for", len(c.results))
		}
		for range 3 {
			if r := <-c.results; r.Outcome != autoheal.OutcomeNotSent || r.Err == nil || r.Err.Kind != autoheal.ErrUnavailable {
				t.Errorf("%+v", r)
			}
		}
	})
}

// TestWorkersStop ends workers with actions under way and waiting: their outcome is for the next life to find out.
func TestWorkersStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, after(time.Hour))
		for n := range workersAny + 10 {
			c.give(autoheal.Reboot, fmt.Sprintf("n%d", n), fmt.Sprint(n))
		}
		synctest.Wait()
		c.stop()
		if n := c.begun(); n > workersAny {
			t.Errorf("%d actions had begun: stopping began some", n)
		}
	})
}
