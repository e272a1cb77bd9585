package heal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/policy"
)

// proposal is an action before the gates have been asked.
type proposal struct {
	i       *incident
	rec     *recovery // nil for a step on the subject
	k       key
	verb    autoheal.Verb
	target  autoheal.Ref
	params  autoheal.ActionParams
	reason  string
	step    policy.Step
	node    *autoheal.Node // the node that it concerns: the subject, or where the target runs
	silence bool           // its only cause is that a node does not answer
	budget  string         // "", disrupt or contain
	need    []place.Request
	actor   string
	role    string // of a command
	command string
	again   autoheal.ActionID // it is sent again under this ID

	kind     autoheal.FailureKind // whose autonomy counts; "" = that of the incident
	approved bool                 // with the whole that it is part of
	inShadow bool                 // asked as if the healer were not in the shadow
}

func (p *proposal) byPerson() bool { return p.actor != "" && p.actor != autoheal.ActorEngine }

// verdict is a gate's answer. A refusal has Until or On, or both: what ends it.
type verdict struct {
	OK     bool
	Reason autoheal.Reason
	Detail string
	Until  time.Time
	On     string
}

var pass = verdict{OK: true}

// gate is one check that may hold an action.
type gate struct {
	name string
	ask  func(c *Core, p *proposal) verdict
}

// gates in the order in which they are asked; the first refusal wins, plans and post-mortems ask all.
var gates = []gate{
	{"enabled", gateEnabled},
	{"kill_switch", gateKillSwitch},
	{"veto", gateVeto},
	{"maintenance", gateMaintenance},
	{"synced", gateSynced},
	{"stale_evidence", gateStale},
	{"observer", gateObserver},
	{"settle", gateSettle},
	{"generation", gateGeneration},
	{"ownership", gateOwnership},
	{"capacity", gateCapacity},
	{"fence", gateFence},
	{"budget", gateBudget},
	{"cooldown", gateCooldown},
	{"shadow", gateShadow},
	{"approval", gateApproval},
}

// ask returns the first refusal.
func (c *Core) ask(p *proposal) (string, verdict) {
	for _, g := range gates {
		if v := g.ask(c, p); !v.OK {
			return g.name, v
		}
	}
	return "", pass
}

// askAll returns every refusal, in order.
func (c *Core) askAll(p *proposal) []autoheal.Held {
	out := []autoheal.Held{}
	c.planning = true
	defer func() { c.planning = false }()
	for _, g := range gates {
		if v := g.ask(c, p); !v.OK {
			out = append(out, autoheal.Held{Reason: v.Reason, Detail: v.Detail, Since: c.now, Until: v.Until, On: v.On})
		}
	}
	return out
}

func gateEnabled(c *Core, p *proposal) verdict {
	switch {
	case p.byPerson():
		return pass
	case !c.pol.Enabled:
		return verdict{Reason: autoheal.ReasonDisabled, Detail: "autoHeal.enabled is false", On: "config"}
	case p.silence && p.rec != nil && !c.pol.Node.AutoMigrate:
		return verdict{Reason: autoheal.ReasonDisabled, Detail: fmt.Sprintf("autoHeal.node.autoMigrate is false: to move it, run autoheal stop %s and submit it again", p.target.ID), On: "config"}
	}
	return pass
}

func gateKillSwitch(c *Core, p *proposal) verdict {
	ps := c.d.Pauses[""]
	if ps == nil || !active(ps.Until, c.now) || p.byPerson() && p.role != autoheal.RoleAgent {
		return pass
	}
	return verdict{Reason: autoheal.ReasonPaused, Detail: "the healer was paused by " + ps.who(), Until: ps.Until, On: "person"}
}

func active(until, now time.Time) bool { return until.IsZero() || now.Before(until) }

func gateVeto(c *Core, p *proposal) verdict {
	refs := []autoheal.Ref{{Kind: p.target.Kind, ID: p.target.ID}}
	if p.rec != nil { // a veto on one rank is a veto on its gang
		for _, m := range p.rec.Members {
			refs = append(refs, autoheal.WorkloadRef(m))
		}
	}
	if p.node != nil {
		refs = append(refs, autoheal.NodeRef(p.node.ID))
		for _, d := range p.node.Domains {
			refs = append(refs, autoheal.Ref{Kind: autoheal.RefDomain, ID: string(d)})
		}
	}
	if w := c.v.cur[autoheal.WorkloadID(p.target.ID)]; p.target.Kind == autoheal.RefWorkload && w != nil && w.Gang != "" {
		refs = append(refs, autoheal.GangRef(w.Gang))
	}
	for _, r := range refs {
		if v := c.d.Vetoes[r.String()]; v != nil && active(v.Until, c.now) {
			return verdict{Reason: autoheal.ReasonVetoed, Detail: fmt.Sprintf("%s is under the veto of %s", r, v.who()), Until: v.Until, On: "person"}
		}
		for _, v := range c.pol.Veto {
			if v.Same(r) {
				return verdict{Reason: autoheal.ReasonVetoed, Detail: r.String() + " is under a veto of the configuration", On: "config"}
			}
		}
	}
	return pass
}

func gateMaintenance(c *Core, p *proposal) verdict {
	if p.node == nil || p.byPerson() {
		return pass
	}
	if m, ok := c.pol.InMaintenance(p.node, c.now); ok {
		return verdict{Reason: autoheal.ReasonMaintenance, Detail: "maintenance window " + m.Nodes, Until: m.To, On: "config"}
	}
	for _, scope := range slices.Sorted(maps.Keys(c.d.Pauses)) {
		ps := c.d.Pauses[scope]
		if scope != "" && active(ps.Until, c.now) && inScope(scope, p.node) {
			return verdict{Reason: autoheal.ReasonMaintenance, Detail: fmt.Sprintf("maintenance of %s, by %s", scope, ps.who()), Until: ps.Until, On: "person"}
		}
	}
	return pass
}

// inScope reports whether a node is meant by a maintenance scope: node/ID, a name, a domain such as rack/r1, or k=v.
func inScope(scope string, n *autoheal.Node) bool {
	if scope == string(n.ID) || scope == "node/"+string(n.ID) {
		return true
	}
	k, v, isLabel := strings.Cut(scope, "=")
	for _, d := range n.Domains {
		if string(d) == scope || isLabel && string(d) == k+"/"+v {
			return true
		}
	}
	return isLabel && n.Labels[k] == v && v != ""
}

func gateSynced(c *Core, p *proposal) verdict {
	if !c.v.synced {
		return verdict{Reason: autoheal.ReasonNotSynced, Detail: "the cluster's state is not known at present", On: "sync"}
	}
	return pass
}

// gateStale refuses to act on a silence that is over or that nobody has looked at since.
func gateStale(c *Core, p *proposal) verdict {
	if !p.silence || p.node == nil {
		return pass
	}
	if n := c.v.nodes[p.node.ID]; n == nil || n.Link != autoheal.LinkSilent {
		return verdict{Reason: autoheal.ReasonStaleEvidence, Detail: fmt.Sprintf("node %s is not known to be silent now", p.node.ID), On: "node/" + string(p.node.ID)}
	}
	return pass
}

// gateObserver holds what rests on silence while the healer has reason to doubt itself (behaviour D1, D2, D3).
func gateObserver(c *Core, p *proposal) verdict {
	if !p.silence || p.byPerson() || p.confirmedOff(c) {
		return pass
	}
	if until := c.startedAt.Add(4 * c.pol.Node.ProbeInterval); c.now.Before(until) && !begunBefore(p, c.startedAt) {
		return verdict{Reason: autoheal.ReasonSettling, Detail: "the healer started a moment ago and lets nodes answer first", Until: until}
	}
	s := c.d.Storm
	if !c.crowdAt.IsZero() {
		v := verdict{Reason: autoheal.ReasonSettling, Detail: "many nodes went silent at once, and it is not known yet what that means", Until: c.crowdUntil()}
		if !c.v.synced { // it is found out when there is something to see again
			v.Until, v.On = time.Time{}, "sync"
		}
		return v
	}
	if s == nil || s.Released {
		return pass
	}
	detail := fmt.Sprintf("%d of %d nodes went silent at once: the healer suspects itself (%s); confirm with autoheal release %s", s.Silent, s.Of, s.Incident, s.Incident)
	v := verdict{Reason: autoheal.ReasonObserverSuspect, Detail: detail, On: "storm"}
	since := s.Since.Add(stormAutoRelease)
	if c.pol.Storm.AutoRelease != policy.ReleaseCriticalStateless || p.rec == nil || p.rec.AtMostOnce || p.rec.Class != autoheal.Critical {
		return v
	}
	if c.now.Before(since) {
		v.Until = since
		return v
	}
	if c.planning {
		return pass
	}
	if at, ok := c.slow.take(c.now, 0.1, 1); !ok {
		v.Until = at
		return v
	}
	return pass
}

// confirmedOff reports whether a second vantage, a person's word, says that the node is dead: then it is not the observer.
func (p *proposal) confirmedOff(c *Core) bool {
	if p.i == nil {
		return false
	}
	nodes := p.i.nodes()
	if p.rec != nil {
		nodes = []autoheal.NodeID{p.i.nodeOf(p.rec)}
	}
	return len(nodes) > 0 && !slices.ContainsFunc(nodes, func(id autoheal.NodeID) bool {
		n, word := c.v.nodes[id], c.d.FenceWords[id]
		return n == nil || word == nil || !word.holds(n)
	})
}

// stormAutoRelease is how long a storm holds critical stateless workloads before they are moved slowly (behaviour D2).
const stormAutoRelease = 10 * time.Minute

// begunBefore reports whether an incident was being acted upon at t already: stored proof and unfinished actions go on at
// once, whatever has happened since.
func begunBefore(p *proposal, t time.Time) bool {
	begun := begunAt(p)
	return !begun.IsZero() && begun.Before(t)
}

// begunAt is when a recovery or its incident was first acted upon, zero for never.
func begunAt(p *proposal) time.Time {
	var at time.Time
	if p.rec != nil && !p.rec.SafeAt.IsZero() {
		at = p.rec.StepAt
	}
	if p.i != nil && len(p.i.Actions) > 0 {
		if first := p.i.Actions[0].IntentAt; at.IsZero() || first.Before(at) {
			at = first
		}
	}
	return at
}

func gateSettle(c *Core, p *proposal) verdict {
	if !p.silence || p.node == nil || p.byPerson() {
		return pass
	}
	if until := c.v.settleUntil(p.node); c.now.Before(until) {
		return verdict{Reason: autoheal.ReasonSettling, Detail: "another node of the same domain went silent a moment ago", Until: until}
	}
	return pass
}

// gateGeneration refuses an action on a successor of what it was meant for.
func gateGeneration(c *Core, p *proposal) verdict {
	if p.target.Kind != autoheal.RefWorkload || p.target.Generation == "" {
		return pass
	}
	w := c.v.cur[autoheal.WorkloadID(p.target.ID)]
	if w == nil {
		return verdict{Reason: autoheal.ReasonSuperseded, Detail: p.target.ID + " is no longer known", On: "workload/" + p.target.ID}
	}
	if p.verb == autoheal.Start && w.Attempt >= p.params.Attempt && !p.params.Hedge {
		return verdict{Reason: autoheal.ReasonSuperseded, Detail: fmt.Sprintf("attempt %d exists already", w.Attempt), On: "workload/" + p.target.ID}
	}
	return pass
}

func gateOwnership(c *Core, p *proposal) verdict {
	if p.target.Kind == autoheal.RefWorkload && !p.byPerson() {
		if w := c.v.cur[autoheal.WorkloadID(p.target.ID)]; w != nil && w.Owner != nil {
			return verdict{Reason: autoheal.ReasonForeignOwner, Detail: fmt.Sprintf("%s manages it", w.Owner), On: "workload/" + p.target.ID}
		}
	}
	return pass
}

// gateCapacity asks for a whole placement before anything is started (behaviour D7).
func gateCapacity(c *Core, p *proposal) verdict {
	if len(p.need) == 0 {
		return pass
	}
	if _, no := c.fitAll(p.need); no != nil {
		return verdict{Reason: no.Reason, Detail: no.Detail, On: "capacity"}
	}
	return pass
}

// gateFence lets no new attempt of an at-most-once workload start without proof that the old one is gone (behaviour C).
func gateFence(c *Core, p *proposal) verdict {
	if p.verb != autoheal.Start || p.rec == nil || !p.rec.AtMostOnce || !p.rec.SafeAt.IsZero() && p.rec.Proof != autoheal.ProofNone {
		return pass
	}
	return verdict{Reason: autoheal.ReasonFenceUnproven, Detail: "nothing proves yet that the old copy is gone", On: "node/" + string(p.rec.From)}
}

// gateCooldown spares stragglers after three nodes were recovered within five minutes (behaviour D5), and after a storm that
// ended because contact was back (D2).
func gateCooldown(c *Core, p *proposal) verdict {
	if !p.silence || p.byPerson() || p.confirmedOff(c) {
		return pass
	}
	v, begun := pass, begunAt(p)
	spare := func(since time.Time, why string) {
		if until := since.Add(c.pol.Budgets.Cooldown); c.now.Before(until) && until.After(v.Until) && (begun.IsZero() || !begun.Before(since)) {
			v = verdict{Reason: autoheal.ReasonCooldown, Detail: why + "; stragglers get time to answer", Until: until}
		}
	}
	f := c.d.CooldownFrom
	for n := len(f) - 1; n >= 2 && v.OK && c.now.Before(f[n].Add(c.pol.Budgets.Cooldown)); n-- {
		if f[n].Sub(f[n-2]) <= 5*time.Minute { // behaviour D5; a recovery later on does not end the cool-down of a burst
			spare(f[n], "several nodes were recovered within 5 minutes")
		}
	}
	if over := c.d.StormOver; !over.IsZero() { // behaviour D2
		spare(over, "contact with many nodes came back a moment ago")
	}
	return v
}

// gateApproval asks how far the healer may go by itself (behaviour D6).
func gateApproval(c *Core, p *proposal) verdict {
	if p.byPerson() && p.role != autoheal.RoleAgent || p.approved {
		return pass
	}
	switch c.modeOf(p) {
	case autoheal.HealAct:
		return pass
	case autoheal.HealApprove:
		return c.approvalFor(p)
	case autoheal.HealSuggest:
		return verdict{Reason: autoheal.ReasonAutonomySuggest, Detail: fmt.Sprintf("suggested: %s %s", p.verb, p.target), On: "config"}
	default:
		return verdict{Reason: autoheal.ReasonAutonomyObserve, Detail: fmt.Sprintf("only observed: would %s %s", p.verb, p.target), On: "config"}
	}
}
