package heal

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// Budget keys.
const (
	budgetDisrupt = "disrupt"
	budgetContain = "contain"
)

// gateBudget keeps disruption and containment within their shares of the pool, counted in nodes (behaviour D4). The
// denominator is the pool's ready GPU nodes when the incident began, so that a shrinking pool does not shrink its limit.
func gateBudget(c *Core, p *proposal) verdict {
	if p.budget == "" || p.node == nil {
		return pass
	}
	b, limits := c.d.Budgets[p.budget], c.limits(p.budget)
	if b == nil {
		return pass
	}
	whole := c.v.whole()
	if p.i != nil && p.i.Whole > 0 {
		whole = p.i.Whole
	}
	domain := firstDomain(p.node)
	open, inDomain := map[string]bool{}, map[string]bool{}
	for _, s := range b.Open {
		open[s.Target.ID] = true
		if s.Domain == domain {
			inDomain[s.Target.ID] = true
		}
	}
	node := string(p.node.ID)
	if most := limits.Concurrent.Of(whole, limits.Min); !open[node] && len(open) >= most {
		return verdict{Reason: autoheal.ReasonBudgetConcurrent, On: "budget/" + p.budget, Detail: fmt.Sprintf("%d of at most %d nodes (of %d) are under %s already", len(open), most, whole, p.budget)}
	}
	if most := limits.PerDomain.Of(c.inDomain(domain), limits.Min); domain != "" && !inDomain[node] && len(inDomain) >= most {
		return verdict{Reason: autoheal.ReasonBudgetDomain, On: "budget/" + p.budget, Detail: fmt.Sprintf("%d of at most %d nodes of %s are under %s already", len(inDomain), most, domain, p.budget)}
	}
	return c.hourly(p, b, limits, whole)
}

func (c *Core) hourly(p *proposal, b *budget, limits policy.Budget, whole int) verdict {
	least := limits.Min
	if p.budget == budgetDisrupt {
		least = max(least, 2)
	}
	most, in, first := limits.PerHour.Of(whole, least), map[string]bool{}, time.Time{}
	for _, s := range b.Window {
		if c.now.Sub(s.At) > time.Hour {
			continue
		}
		if first.IsZero() || s.At.Before(first) {
			first = s.At
		}
		in[s.Target.ID] = true
	}
	if in[string(p.node.ID)] || len(in) < most {
		return pass
	}
	return verdict{
		Reason: autoheal.ReasonBudgetRate, Until: first.Add(time.Hour), On: "budget/" + p.budget,
		Detail: fmt.Sprintf("%d nodes (at most %d of %d an hour) came under %s within the hour", len(in), most, whole, p.budget),
	}
}

func (c *Core) limits(key string) policy.Budget {
	if key == budgetContain {
		return c.pol.Budgets.Contain
	}
	return c.pol.Budgets.Disrupt
}

func firstDomain(n *autoheal.Node) autoheal.Domain {
	if len(n.Domains) == 0 {
		return ""
	}
	return n.Domains[0]
}

// inDomain counts the nodes of a domain.
func (c *Core) inDomain(d autoheal.Domain) int {
	return len(c.v.domain[d])
}

// spend takes from a proposal's budget.
func (c *Core) spend(p *proposal, id autoheal.ActionID) {
	if p.budget == "" || p.node == nil {
		return
	}
	c.record(incidentID(p.i), journal.BudgetSpent{Key: p.budget, Action: id, Target: autoheal.NodeRef(p.node.ID), Domain: firstDomain(p.node)})
}

// giveBack returns what was taken for an action that was never sent, or whose effect is over.
func (c *Core) giveBack(inc autoheal.IncidentID, key string, id autoheal.ActionID, unsent bool) {
	b := c.d.Budgets[key]
	if b == nil {
		return
	}
	if _, ok := b.Open[id]; !ok {
		return
	}
	c.record(inc, journal.BudgetBack{Key: key, Action: id, Unsent: unsent})
	c.wake("budget/" + key)
}

func incidentID(i *incident) autoheal.IncidentID {
	if i == nil {
		return ""
	}
	return i.ID
}

// drained gives back what a drain took, once the node has none under way any more.
func (c *Core) drained(n *autoheal.Node) {
	b := c.d.Budgets[budgetDisrupt]
	if b == nil || n.Draining {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(b.Open)) {
		inc, a := c.findAction(id)
		if b.Open[id].Target.ID != string(n.ID) || a == nil || a.Verb != autoheal.Drain || a.pending() {
			continue
		}
		if at := a.ResultAt.Add(c.pol.Node.ProbeTimeout); !c.now.After(at) { // what is seen of the node may be older than the drain
			c.after(key{what: dutyMark, w: autoheal.WorkloadID(autoheal.NodeRef(n.ID).String())}, at.Add(time.Millisecond))
			continue
		}
		c.giveBack(inc, budgetDisrupt, id, false)
	}
}
