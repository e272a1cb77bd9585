package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal/internal/nodeproto"
)

// answerBudget leaves room for what surrounds the lists in an answer.
const answerBudget = nodeproto.MaxAnswerBytes - 16<<10

// maxPollWait bounds what a healer may ask for.
const maxPollWait = 5 * time.Minute

// listing is the full listing that is being told: pages of attempts, numbered first, first+1, … in the ring's numbers,
// so that "after page 2" says which page comes next.
type listing struct {
	first int64
	pages [][]key
}

// doPoll acknowledges, and answers when there is something to tell.
func (a *Agent) doPoll(ctx context.Context, req nodeproto.PollRequest) (*nodeproto.PollResponse, error) {
	if err := a.epoch.admit(req.Epoch); err != nil {
		return nil, err
	}
	superseded := a.beginPoll(req)
	a.takeRules(req.RulesHash, req.Rules)
	timer := a.clk.NewTimer(min(max(time.Duration(req.WaitMS)*time.Millisecond, 0), maxPollWait))
	defer timer.Stop()
	for wait := true; ; {
		a.mu.Lock()
		r := a.answerLocked(req)
		if r.Full || len(r.Changes) > 0 || !wait {
			r.N = a.lease.answer(a.boot())
			a.mu.Unlock()
			return r, nil
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C(): // the empty answer is the heartbeat
			wait = false
		case <-superseded: // a newer poll has taken over: it tells
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.emptyLocked(req), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// beginPoll ends the poll before, takes the acknowledgement and renews the shims.
func (a *Agent) beginPoll(req nodeproto.PollRequest) (superseded <-chan struct{}) {
	a.mu.Lock()
	close(a.poll)
	mine := make(chan struct{})
	a.poll = mine
	n := req.Ack
	if req.Life != a.life {
		n = 0 // what another life said acknowledges nothing here
	}
	renewed := a.lease.ack(n, time.Duration(req.SelfStopMS)*time.Millisecond)
	a.mu.Unlock()
	if renewed {
		a.renewAll()
	}
	return mine
}

func (a *Agent) emptyLocked(req nodeproto.PollRequest) *nodeproto.PollResponse {
	return &nodeproto.PollResponse{BootID: a.bootID, Life: a.life, Seq: req.After, N: a.lease.answer(a.boot()), RulesHash: a.hears.hash()}
}

// answerLocked makes the answer to a poll; N is set when it is sent.
func (a *Agent) answerLocked(req nodeproto.PollRequest) *nodeproto.PollResponse {
	r := &nodeproto.PollResponse{BootID: a.bootID, Life: a.life, Seq: req.After, RulesHash: a.hears.hash()}
	if req.Life != a.life || req.After <= 0 {
		return a.newListingLocked(r)
	}
	if page := req.After - a.listing.first + 1; page > 0 && page < int64(len(a.listing.pages)) {
		return a.pageLocked(r, int(page))
	}
	changes, lost := a.ring.after(req.After)
	if lost > 0 {
		r.Dropped = lost
		return a.newListingLocked(r)
	}
	now, used := a.boot(), 0
	for _, c := range changes {
		w := a.renderLocked(c, now)
		size := jsonSize(w)
		if used+size > answerBudget && len(r.Changes) > 0 {
			r.More = true
			break
		}
		used += size
		r.Changes = append(r.Changes, w)
		r.Seq = c.seq
	}
	return r
}

// newListingLocked cuts the attempts into pages and answers with the first.
func (a *Agent) newListingLocked(r *nodeproto.PollResponse) *nodeproto.PollResponse {
	now := a.boot()
	keys := slices.SortedFunc(maps.Keys(a.attempts), func(x, y key) int {
		return cmp.Or(cmp.Compare(x.workload, y.workload), cmp.Compare(x.attempt, y.attempt))
	})
	pages, used := [][]key{nil}, jsonSize(a.nodeLocked(now))
	for _, c := range a.standing {
		used += jsonSize(a.renderLocked(c, now))
	}
	for _, k := range keys {
		size := jsonSize(a.attempts[k].view.render(now, a.bootID, a.clk))
		if used+size > answerBudget && len(pages[len(pages)-1]) > 0 {
			pages, used = append(pages, nil), 0
		}
		pages[len(pages)-1] = append(pages[len(pages)-1], k)
		used += size
	}
	a.listing = listing{first: a.ring.skip(int64(len(pages))), pages: pages}
	return a.pageLocked(r, 0)
}

// pageLocked tells one page as its attempts are now: what changed since is told again by the ring.
func (a *Agent) pageLocked(r *nodeproto.PollResponse, page int) *nodeproto.PollResponse {
	now := a.boot()
	r.Full, r.More = true, page < len(a.listing.pages)-1
	r.Seq = a.listing.first + int64(page)
	if page == 0 {
		r.Node = a.nodeLocked(now)
		for _, c := range a.standing {
			if w := a.renderLocked(c, now); !a.expired(c) {
				w.Seq = 0
				r.Standing = append(r.Standing, w)
			}
		}
	}
	r.Workloads = []nodeproto.AttemptStatus{}
	for _, k := range a.listing.pages[page] {
		if at := a.attempts[k]; at != nil { // forgotten since: the healer asked for it
			r.Workloads = append(r.Workloads, *at.view.render(now, a.bootID, a.clk))
		}
	}
	return r
}

func (a *Agent) renderLocked(c change, now time.Duration) nodeproto.Change {
	w := nodeproto.Change{Seq: c.seq, AgeMS: (now - c.at).Milliseconds(), Signal: c.signal}
	if c.attempt != nil {
		w.Workload = c.attempt.render(now, a.bootID, a.clk)
	}
	if c.node != nil {
		n := *c.node
		n.UptimeMS, n.Jobs = now.Milliseconds(), a.tellJobsLocked(now)
		w.Node = &n
	}
	return w
}

func (a *Agent) nodeLocked(now time.Duration) *nodeproto.NodeStatus {
	n := a.node
	n.UptimeMS, n.Jobs = now.Milliseconds(), a.tellJobsLocked(now)
	return &n
}

// jsonSize is what v takes in an answer.
func jsonSize(v any) int {
	data, err := json.Marshal(v)
	if err != nil {
		return answerBudget // it will not be sent either; a page of its own shows it
	}
	return len(data) + 1
}

// doStatus answers from memory only.
func (a *Agent) doStatus(_ context.Context, req nodeproto.StatusRequest) (*nodeproto.StatusResponse, error) {
	if err := a.epoch.check(req.Epoch); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return &nodeproto.StatusResponse{
		Life: a.life, BootID: a.bootID, Busy: slices.Sorted(maps.Values(a.busy)),
		LeaseLeftMS: a.lease.left(a.boot()).Milliseconds(), N: a.lease.last,
	}, nil
}
