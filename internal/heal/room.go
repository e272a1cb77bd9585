package heal

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// verbMakeRoom names what a plan does as a whole when a person is asked to approve it: all its stops, or none.
const verbMakeRoom autoheal.Verb = "make_room"

const (
	roomRetry    = 5 * time.Second  // before room is looked for again where there was none
	roomSlow     = time.Minute      // even if nothing changes: who was protected is not for ever
	roomPatience = 20 * time.Second // beyond its grace a victim may take so long to end
)

// stepRoom makes room for one workload or gang that waits, in the steps that its ladder allows (behaviour E7).
func (c *Core) stepRoom(lead autoheal.WorkloadID) {
	if !c.v.synced {
		return // a listing looks at everything again
	}
	k := key{w: lead, what: dutyRoom}
	rm := c.d.Rooms[lead]
	i, rec, wait := c.wantsRoom(lead)
	switch {
	case rm != nil && !rm.Begun.IsZero():
		c.followRoom(rm, k)
	case rec == nil && rm != nil:
		c.roomOver(rm, false, "nobody waits for it any more")
	case rec == nil:
	case wait > 0:
		c.after(k, c.now.Add(wait))
	default:
		c.makeRoom(i, rec, k)
	}
}

// makeRoom plans, proposes what was planned, and begins it when nothing holds it. Nobody is touched before the whole of it
// is known to make room.
func (c *Core) makeRoom(i *incident, rec *recovery, k key) {
	need := c.needs(rec, c.avoid(i, rec))
	if len(need) != len(rec.Members) {
		return
	}
	if i.Kind != autoheal.ResourceExhaustion {
		c.alertCapacity(i, rec, fmt.Sprintf("no place for %s: %s", rec.Workload, c.v.index.Shortage(need)))
	}
	rm := c.d.Rooms[rec.Workload]
	if _, no := c.fitAll(need); no == nil {
		if rm != nil {
			c.roomOver(rm, false, "there is room without it")
		}
		c.after(k, c.now.Add(c.pol.Node.ProbeInterval))
		return
	}
	if rm != nil && !c.stillRight(i, rec, rm, need) {
		c.roomOver(rm, false, "what it would stop has changed")
		rm = nil
	}
	if rm == nil {
		if at := c.roomAt[rec.Workload].Add(roomRetry); c.now.Before(at) && c.roomAt[rec.Workload] != (time.Time{}) {
			c.after(k, at)
			return
		}
		plan, no := c.planRoom(i, rec, need)
		if plan == nil {
			c.roomAt[rec.Workload] = c.now
			c.holdRoom(i, k, "capacity", no)
			c.after(k, c.now.Add(roomSlow))
			return
		}
		c.record(i.ID, *plan)
		rm = c.d.Rooms[rec.Workload]
	}
	delete(c.roomAt, rec.Workload)
	c.propose(i, rec, rm, k)
}

// planRoom takes the steps of the ladder in order, and says why none of them makes room.
func (c *Core) planRoom(i *incident, rec *recovery, need []place.Request) (*journal.RoomPlanned, verdict) {
	chain := c.chainOf(rec.Workload)
	if chain >= c.pol.Preemption.Chain {
		return nil, verdict{
			Reason: autoheal.ReasonChainLimit, On: "capacity",
			Detail: fmt.Sprintf("%s was stopped for another itself: it stops nobody", rec.Workload),
		}
	}
	var no verdict
	for _, s := range c.pol.Ladder(autoheal.ResourceExhaustion) {
		var plan *journal.RoomPlanned
		var why verdict
		switch {
		case s == policy.StepPreempt && c.pol.Preemption.Enabled:
			plan, why = c.planVictims(i, rec, need)
		case s == policy.StepScaleDown:
			plan, why = c.planServices(rec, need)
		default:
			continue
		}
		if plan != nil {
			if why = c.inHour(plan.GPUs); why.OK {
				plan.Chain = chain + 1
				return plan, pass
			}
		}
		if no.Reason == "" || why.Reason == autoheal.ReasonBudgetRate {
			no = why
		}
	}
	if no.Reason == "" {
		no = verdict{Reason: autoheal.ReasonDisabled, Detail: "neither preemption nor scaling down is allowed by the configuration", On: "config"}
	}
	return nil, no
}

// chainOf is how many preemptions a workload is away from one that nobody caused: 0 if it did not give way itself.
func (c *Core) chainOf(id autoheal.WorkloadID) int {
	return c.d.Displaced[id].Chain
}

// inHour keeps what changes hands within its share of the GPUs, in any hour. In a small cluster that is what one node has:
// less would be nothing at all.
func (c *Core) inHour(gpus int) verdict {
	all, least := c.v.gpuCount()
	limit := c.pol.Preemption.PerHour
	if limit.Percent <= 0 {
		least = 0
	}
	most, taken, first := limit.Of(all, least), 0, time.Time{}
	for _, p := range c.d.Preempted {
		if c.now.Sub(p.At) < protected {
			taken += p.GPUs
			if first.IsZero() || p.At.Before(first) {
				first = p.At
			}
		}
	}
	if taken+gpus <= most {
		return pass
	}
	v := verdict{Reason: autoheal.ReasonBudgetRate, On: "capacity", Detail: fmt.Sprintf(
		"%d GPUs would change hands; %d have within the last hour, of at most %d (%s of %d)", gpus, taken, most, limit, all)}
	if !first.IsZero() {
		v.Until = first.Add(protected)
	}
	return v
}

// proposal is a plan before the gates: the whole of it is held, approved and begun.
func (c *Core) roomProposal(i *incident, rm *room, k key) *proposal {
	h := fnv.New32a()
	for _, v := range rm.Victims {
		fmt.Fprintf(h, "%s/%d ", v.Workload, v.Attempt)
	}
	for _, s := range rm.Services {
		fmt.Fprintf(h, "%s %d ", s.Workload, s.To)
	}
	return &proposal{
		i: i, k: k, verb: verbMakeRoom, step: policy.Step(rm.Step), kind: autoheal.ResourceExhaustion, reason: rm.Text,
		target: autoheal.Ref{Kind: autoheal.RefWorkload, ID: string(rm.Workload), Generation: fmt.Sprintf("%08x", h.Sum32())},
	}
}

// propose asks the gates for the whole plan and begins it when all of them let it pass.
func (c *Core) propose(i *incident, rec *recovery, rm *room, k key) {
	if v := c.inHour(rm.GPUs); !v.OK {
		c.holdRoom(i, k, "budget", v)
		return
	}
	p := c.roomProposal(i, rm, k)
	name, v := c.ask(p)
	if v.Reason == autoheal.ReasonApprovalNeeded && v.On == "approval" {
		c.askApproval(p, v)
		name, v = c.ask(p)
	}
	if !v.OK {
		c.holdRoom(i, k, name, v)
		return
	}
	c.releaseRoom(i, k)
	c.useApproval(p, c.actionID(p))
	if !c.record(i.ID, journal.RoomBegun{Workload: rm.Workload}) {
		return
	}
	need := c.needs(rec, c.avoid(i, rec))
	c.reserve(need, spotsOf(rm, need))
	c.dirty[key{inc: i.ID, w: rec.Workload}] = true
	c.dirty[key{what: dutyBack}] = len(rm.Services) > 0
	c.followRoom(rm, k)
}

// spotsOf gives the places of a plan in the order of the requests.
func spotsOf(rm *room, need []place.Request) []place.Spot {
	out := make([]place.Spot, len(need))
	for n, r := range need {
		at := slices.IndexFunc(rm.Rooms, func(x autoheal.Room) bool { return x.For == r.Workload })
		if at >= 0 {
			out[n] = place.Spot{Node: rm.Rooms[at].Node, GPUs: rm.Rooms[at].GPUs}
		}
	}
	return out
}

// reserveRooms reserves, after a listing, the places that are being made.
func (c *Core) reserveRooms() {
	for _, lead := range slices.Sorted(maps.Keys(c.d.Rooms)) {
		rm := c.d.Rooms[lead]
		at, open := c.ix.recOf[lead]
		if rm.Begun.IsZero() || !open {
			continue
		}
		i := c.d.Incidents[at.inc]
		if need := c.needs(i.Recoveries[at.lead], nil); len(need) == len(rm.Rooms) && !c.placed(i, i.Recoveries[at.lead]) {
			c.reserve(need, spotsOf(rm, need))
		}
	}
}

// holdRoom and releaseRoom say on the incident what holds a plan; who waits says what it waits for.
func (c *Core) holdRoom(i *incident, k key, gate string, v verdict) {
	c.hold(&proposal{i: i, k: k, verb: verbMakeRoom}, gate, v)
}

func (c *Core) releaseRoom(i *incident, k key) {
	if i.Held != nil {
		c.release(&proposal{i: i, k: k, verb: verbMakeRoom})
	}
}

// followRoom has the victims stop, until who waits has its place, does not want it any more, or it takes too long. A gang of
// which a part has been asked to stop gives way as a whole, whatever becomes of who waited.
func (c *Core) followRoom(rm *room, k key) {
	i := c.d.Incidents[rm.Incident]
	class, made, why := c.roomWanted(rm)
	grace, asked := preemptGrace(class), func(journal.RoomVictim) bool { return true }
	if why != "" {
		asked = c.begunGangs(i, rm)
		for _, r := range rm.Rooms {
			c.unreserve(r.For)
		}
	}
	left := c.stopVictims(i, rm, k, grace, asked)
	if why == "" {
		if shrinks := c.shrink(i, rm, k, grace); left == "" {
			left = shrinks
		}
	}
	by := rm.endBy(grace)
	switch until := c.roomKept(rm, class); {
	case why != "" && left == "":
		c.roomOver(rm, made, why)
	case left == "" && c.now.Before(until):
		c.after(k, until)
	case left == "":
		c.roomOver(rm, false, "the place was not taken in time")
	case c.now.Before(by):
		c.after(k, by)
	default:
		c.alertHangs(i, rm, left)
		c.roomOver(rm, made, left+" does not stop")
	}
}

// roomWanted returns the class of who waits and, when it does not wait any more, why.
func (c *Core) roomWanted(rm *room) (class autoheal.Class, made bool, why string) {
	at, open := c.ix.recOf[rm.Workload]
	if !open || at.lead != rm.Workload {
		return autoheal.Critical, false, "nobody waits for it any more"
	}
	i := c.d.Incidents[at.inc]
	rec := i.Recoveries[at.lead]
	switch {
	case c.unwanted(rec) != "":
		return rec.Class, false, "nobody waits for it any more"
	case c.placed(i, rec):
		return rec.Class, true, "who waited has its place"
	}
	return rec.Class, false, ""
}

func (c *Core) alertHangs(i *incident, rm *room, left string) {
	c.alert(i, alertSpec{
		name: "stop-hangs", severity: autoheal.SeverityWarning, dedup: fmt.Sprintf("%s hangs %s", i.ID, left),
		text: fmt.Sprintf("%s was asked to give way to %s and has not ended %s after it was to be killed: another way is looked for. Look at its node: autoheal workloads",
			left, rm.Workload, policy.FormatDuration(roomPatience)),
	})
}

// roomKept is until when the driver keeps the place at least.
func (c *Core) roomKept(rm *room, class autoheal.Class) time.Time {
	return rm.Begun.Add(preemptGrace(class) + c.pol.Preemption.NominationTTL)
}

// preemptGrace is how long a victim has between SIGTERM and SIGKILL (behaviour E7).
func preemptGrace(class autoheal.Class) time.Duration {
	if class == autoheal.Critical {
		return 20 * time.Second
	}
	return 30 * time.Second
}

// roomOver ends a plan. Of what was not touched nothing is counted.
func (c *Core) roomOver(rm *room, made bool, why string) {
	p := journal.RoomOver{Workload: rm.Workload, Made: made, Reason: why}
	i := c.d.Incidents[rm.Incident]
	for _, v := range rm.Victims {
		a := c.newestAction(i, autoheal.Stop, victimRef(v))
		if a == nil || a.Outcome == autoheal.OutcomeNotSent && live(c.v.attempt(v.Workload, v.Attempt)) {
			p.Spared = append(p.Spared, v.Workload)
		}
	}
	for _, s := range rm.Services {
		if a := c.scaling(i, s.Workload, s.To, rm.Begun); a == nil || a.Outcome == autoheal.OutcomeNotSent {
			p.Spared = append(p.Spared, s.Workload)
		}
	}
	k := key{w: rm.Workload, what: dutyRoom}
	if rm.Begun.IsZero() {
		c.voidProposal(i, rm, k, why)
	}
	members := rm.Rooms
	c.record(rm.Incident, p)
	c.releaseRoom(i, k)
	for _, r := range members {
		c.unreserve(r.For)
	}
	c.restartTorn(rm)
	c.dirty[k] = true
	c.dirty[key{inc: rm.Incident}] = true
	if at, open := c.ix.recOf[rm.Workload]; open {
		c.dirty[key{inc: at.inc, w: at.lead}] = true
	}
}

// voidProposal ends what was asked for a plan that is not carried out.
func (c *Core) voidProposal(i *incident, rm *room, k key, why string) {
	for _, a := range c.approvals(c.roomProposal(i, rm, k)) {
		if a.State == approvalAsked || a.State == approvalGiven {
			c.record(i.ID, journal.ApprovalExpired{ID: a.ID, Reason: why})
		}
	}
}

// named lists what a plan stops, in words.
func named(ids []autoheal.WorkloadID) string {
	const most = 5
	var out []string
	for n, id := range ids {
		if n == most {
			out = append(out, fmt.Sprintf("%d more", len(ids)-most))
			break
		}
		out = append(out, string(id))
	}
	return strings.Join(out, ", ")
}
