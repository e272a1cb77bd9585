package heal

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// What was scaled down comes back when there has been room for so long, and one replica in so long (behaviour B5).
const (
	backAfter = 5 * time.Minute
	backEvery = time.Minute
	backLook  = 30 * time.Second
)

// stepScaleUp is the step's name for autonomy: to give back what was taken needs nobody's word, unless the configuration
// says so of the whole kind.
const stepScaleUp policy.Step = "scale_up"

// stepBack gives back what was taken from services: what was scaled down last comes first.
func (c *Core) stepBack() {
	if len(c.d.Scaled) == 0 || !c.v.synced {
		c.freeSince = time.Time{}
		return
	}
	k := key{what: dutyBack}
	s := c.d.Scaled[len(c.d.Scaled)-1]
	p, i := c.v.cur[s.Workload], c.d.Incidents[s.Incident]
	over := func(replicas int, why string) {
		c.record(s.Incident, journal.ScaledBack{Workload: s.Workload, Replicas: replicas, Over: true, Reason: why})
		c.dirty[k] = true
	}
	switch {
	case p == nil || p.Desired == autoheal.DesiredCancelled:
		over(s.Now, "the service is not wanted any more")
		return
	case c.roomBegunFor(s.Workload):
		c.after(k, c.now.Add(backLook))
		return
	case p.Replicas == s.Now+1 && c.scaling(i, s.Workload, s.Now+1, s.At) != nil:
		done := s.Now+1 >= s.From
		c.record(s.Incident, journal.ScaledBack{Workload: s.Workload, Replicas: s.Now + 1, Over: done})
		c.dirty[k] = true
		return
	case p.Replicas == s.From && c.mayStillShrink(i, s):
		c.freeSince = time.Time{}
		c.after(k, c.now.Add(backLook))
		return
	case p.Replicas == s.From:
		over(s.From, "it has what it had")
		return
	case p.Replicas != s.Now:
		over(p.Replicas, fmt.Sprintf("somebody else scaled it to %d", p.Replicas))
		return
	}
	if !c.roomForOneMore(p) {
		c.freeSince = time.Time{}
		c.await(k, c.now.Add(backLook), "capacity")
		return
	}
	if c.freeSince.IsZero() {
		c.freeSince = c.now
	}
	at := c.freeSince.Add(backAfter)
	if next := c.d.ScaledBackAt.Add(backEvery); next.After(at) {
		at = next
	}
	if c.now.Before(at) {
		c.after(k, minTime(at, c.now.Add(backLook)))
		return
	}
	c.scaleTo(i, k, s.Workload, c.backSince(i, s), stepScaleUp, "there has been room for "+policy.FormatDuration(backAfter), autoheal.ActionParams{Replicas: s.Now + 1})
	c.after(k, c.now.Add(c.pol.Node.ProbeInterval))
}

// backSince is how young a request for one more replica has to be to count. One whose outcome stayed unknown twice is not
// sent again; nobody else asks for what was taken, and what was scaled down before it waits behind it, so a new one follows
// backAfter later.
func (c *Core) backSince(i *incident, s scaledDown) time.Time {
	a := c.scaling(i, s.Workload, s.Now+1, s.At)
	if a != nil && a.Outcome == autoheal.OutcomeUnknown && a.Unknowns >= 2 && !c.now.Before(a.ResultAt.Add(backAfter)) {
		return c.now
	}
	return s.At
}

// mayStillShrink reports whether a service that is seen with all of its replicas may be so only because what it was asked to
// give has not been taken in yet: an answer that was lost, or a request that is on its way.
func (c *Core) mayStillShrink(i *incident, s scaledDown) bool {
	a := c.scaling(i, s.Workload, s.Now, s.At)
	return a != nil && c.now.Before(a.Deadline.Add(backLook))
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// roomBegunFor reports whether a service is being scaled down at present.
func (c *Core) roomBegunFor(service autoheal.WorkloadID) bool {
	for _, rm := range c.d.Rooms {
		for _, s := range rm.Services {
			if s.Workload == service && !rm.Begun.IsZero() {
				return true
			}
		}
	}
	return false
}

// roomForOneMore reports whether one more replica has a place, and nobody more important waits for it.
func (c *Core) roomForOneMore(p *autoheal.Workload) bool {
	if len(c.d.Rooms) > 0 {
		return false
	}
	for _, rec := range c.ix.recOf {
		r := c.d.Incidents[rec.inc].Recoveries[rec.lead]
		if r.Held != nil && r.Held.Reason == autoheal.ReasonNoCapacity && slices.Contains(c.pol.Preemption.ForClasses, r.Class) {
			return false // it would be taken again
		}
	}
	r := place.RequestOf(p)
	r.Workload += "-again"
	_, no := c.v.index.Fit(r)
	return no == nil
}
