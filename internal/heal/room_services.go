package heal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// shrinking is a service while it is simulated with fewer replicas.
type shrinking struct {
	service *autoheal.Workload
	floor   int
	gone    []*autoheal.Workload // replicas, in the order in which they go: the last one first
}

func (s *shrinking) to() int { return s.service.Replicas - len(s.gone) }

// planServices finds services that are not critical which would make room with fewer replicas: the least important first,
// none below what its owner wants at least.
func (c *Core) planServices(rec *recovery, need []place.Request) (*journal.RoomPlanned, verdict) {
	var taken []*shrinking
	defer func() {
		for _, s := range taken {
			for _, w := range s.gone {
				c.v.index.SetWorkload(w)
			}
		}
	}()
	var spots []place.Spot
	found := false
	for _, s := range c.shrinkable(rec) {
		taken = append(taken, s)
		if spots, found = c.takeUntil(s, need); found {
			break
		}
	}
	if !found {
		return nil, verdict{
			Reason: autoheal.ReasonNoCapacity, On: "capacity",
			Detail: "fewer replicas of services that are not critical would not make room: " + c.v.index.Shortage(need),
		}
	}
	for _, s := range taken { // the least important was taken first: it keeps what is not needed last
		if s != taken[len(taken)-1] {
			spots = c.giveBackReplicas(s, need, spots)
		}
	}
	plan := &journal.RoomPlanned{Workload: rec.Workload, Step: string(policy.StepScaleDown), Rooms: roomsOf(need, spots)}
	for _, s := range taken {
		if len(s.gone) == 0 {
			continue
		}
		r := journal.RoomService{Workload: s.service.ID, From: s.service.Replicas, To: s.to()}
		for _, w := range s.gone {
			r.Replicas, r.GPUs = append(r.Replicas, w.ID), r.GPUs+w.Request.GPUs
		}
		plan.Services = append(plan.Services, r)
		plan.GPUs += r.GPUs
	}
	plan.Text = "scale " + joinServices(plan.Services) + " for " + string(rec.Workload) + " on " + nodeNames(spots)
	return plan, pass
}

func joinServices(ss []journal.RoomService) string {
	var out []string
	for _, s := range ss {
		out = append(out, fmt.Sprintf("%s from %d to %d", s.Workload, s.From, s.To))
	}
	return strings.Join(out, ", ")
}

// takeUntil takes replicas off a service until need fits.
func (c *Core) takeUntil(s *shrinking, need []place.Request) ([]place.Spot, bool) {
	replicas := c.replicas(s.service.ID)
	for _, w := range slices.Backward(replicas) {
		if s.to() <= s.floor {
			return nil, false
		}
		c.v.index.RemoveWorkload(w.ID, w.Attempt)
		s.gone = append(s.gone, w)
		if spots, no := c.fitAll(need); no == nil {
			return spots, true
		}
	}
	return nil, false
}

// giveBackReplicas leaves a service what need fits without.
func (c *Core) giveBackReplicas(s *shrinking, need []place.Request, spots []place.Spot) []place.Spot {
	for len(s.gone) > 0 {
		last := s.gone[len(s.gone)-1]
		c.v.index.SetWorkload(last)
		again, no := c.fitAll(need)
		if no != nil {
			c.v.index.RemoveWorkload(last.ID, last.Attempt)
			return spots
		}
		s.gone, spots = s.gone[:len(s.gone)-1], again
	}
	return spots
}

// replicas returns the replicas of a service that are wanted, in order of their numbers.
func (c *Core) replicas(id autoheal.WorkloadID) []*autoheal.Workload {
	out := slices.DeleteFunc(c.v.current(c.v.parts[id]), func(w *autoheal.Workload) bool { return w.Desired == autoheal.DesiredCancelled })
	slices.SortFunc(out, func(a, b *autoheal.Workload) int {
		return cmp.Or(cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID)) // they differ in the number only
	})
	return out
}

// shrinkable lists the services that may have fewer replicas, the least important first.
func (c *Core) shrinkable(rec *recovery) []*shrinking {
	at := c.ix.recOf[rec.Workload]
	i := c.d.Incidents[at.inc]
	var out []*shrinking
	for id := range c.v.parts {
		if p := c.v.cur[id]; p != nil && c.mayShrink(i, rec, p) {
			out = append(out, &shrinking{service: p, floor: floorOf(p)})
		}
	}
	classes := autoheal.Classes()
	slices.SortFunc(out, func(a, b *shrinking) int {
		x, y := a.service, b.service
		return cmp.Or(slices.Index(classes, y.Class)-slices.Index(classes, x.Class), cmp.Compare(x.Priority, y.Priority), cmp.Compare(x.ID, y.ID))
	})
	return out
}

// floorOf is how many replicas a service keeps: what its owner says, or else one.
func floorOf(p *autoheal.Workload) int {
	if _, said := p.Labels[autoheal.LabelMinReplicas]; said {
		return p.MinReplicas
	}
	return max(p.MinReplicas, 1)
}

// mayShrink reports whether a service may have fewer replicas for somebody else's sake.
func (c *Core) mayShrink(i *incident, rec *recovery, p *autoheal.Workload) bool {
	lead := c.v.cur[rec.Workload]
	switch {
	case lead == nil || p.Kind != autoheal.KindService || p.Class == autoheal.Critical || p.Class == rec.Class:
		return false
	case p.Priority > lead.Priority-c.pol.Preemption.MinPriorityGap || p.Replicas <= floorOf(p):
		return false
	case !detect.Wanted(p) || c.protected(p.ID):
		return false
	}
	for _, rm := range c.d.Rooms {
		if !rm.Begun.IsZero() && slices.ContainsFunc(rm.Services, func(s journal.RoomService) bool { return s.Workload == p.ID }) {
			return false
		}
	}
	return c.letGo(i, p)
}

// shrink asks for fewer replicas and names a service of which one is still there.
func (c *Core) shrink(i *incident, rm *room, k key, grace time.Duration) (left string) {
	for n, s := range rm.Services {
		gone := !slices.ContainsFunc(s.Replicas, func(id autoheal.WorkloadID) bool {
			w := c.v.cur[id]
			return live(w) || w != nil && w.State == autoheal.Pending
		})
		if gone {
			continue
		}
		left = string(s.Workload)
		if !c.now.Before(rm.endBy(grace)) {
			continue // what is given up is not asked for any more
		}
		params := autoheal.ActionParams{Replicas: s.To, Grace: grace, For: rm.Workload}
		if n == 0 {
			params.Rooms = rm.Rooms
		}
		c.scaleTo(i, k, s.Workload, rm.Begun, policy.StepScaleDown, "it gives way to "+string(rm.Workload), params)
	}
	return left
}

// scaleTo asks for a number of replicas until it was accepted. The same number may be asked for again later, so an action
// counts only if it is younger than since.
func (c *Core) scaleTo(i *incident, k key, id autoheal.WorkloadID, since time.Time, step policy.Step, why string, params autoheal.ActionParams) {
	w := c.v.cur[id]
	if w == nil {
		return
	}
	p := &proposal{
		i: i, k: k, verb: autoheal.Scale, target: w.Ref(), step: step, kind: autoheal.ResourceExhaustion, approved: true, reason: why, params: params,
	}
	a := c.scaling(i, id, params.Replicas, since)
	switch {
	case a == nil:
		c.send(p, nil)
	case a.Outcome == autoheal.OutcomeNotSent:
		c.notSent(p, a)
	case a.Outcome == autoheal.OutcomeUnknown:
		c.unknown(p, a)
	}
}

// scaling finds the newest action that gives a service so many replicas.
func (c *Core) scaling(i *incident, id autoheal.WorkloadID, replicas int, since time.Time) *action {
	for _, a := range slices.Backward(i.Actions) {
		if a.Verb == autoheal.Scale && a.Target.ID == string(id) && a.Params.Replicas == replicas && !a.IntentAt.Before(since) {
			return a
		}
	}
	return nil
}
