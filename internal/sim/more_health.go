package sim

import (
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// failing is what the checks of a process find, as its agent sees it.
type failing struct {
	what  autoheal.CheckOutcome
	since time.Time
}

// hang lets what runs of a workload go on without doing its work: unhealthy, or without getting on. Some recover by
// themselves; the others do so when they are started anew.
func (s *sim) hang(x *workload, f Fault) {
	p, ok := x.running()
	if !ok {
		return
	}
	what := autoheal.Unhealthy
	if f.Count%2 == 1 {
		what = autoheal.Stalled
	}
	p.m.ails(p.p, failing{what, s.q.now})
	if f.Count%3 == 0 {
		s.later(f.For/4, func() { p.m.ails(p.p, failing{}) })
	}
}

// wobble lets the health of a workload come and go.
func (s *sim) wobble(x *workload, f Fault) {
	p, ok := x.running()
	if !ok {
		return
	}
	for n := range f.Count + 2 {
		s.q.after(time.Duration(n)*(20*time.Second+f.For/20), func() {
			if n%2 == 0 && !s.quieting {
				p.m.ails(p.p, failing{autoheal.Unhealthy, s.q.now})
			} else {
				p.m.ails(p.p, failing{})
			}
		})
	}
	s.later(f.For, func() { p.m.ails(p.p, failing{}) })
}

// ails changes what the checks of a process find; the agent tells of it when it can.
func (m *machine) ails(p *proc, f failing) {
	if !p.live() || m.procs[p.ref] != p || p.failing == f || f.what == p.failing.what {
		return
	}
	p.failing = f
	m.w.note("%s: %s is %q", m.id, p.ref, f.what)
	m.tell(p.ref)
}

// ails is what the checks of a process find now.
func (p *proc) ails() autoheal.CheckOutcome {
	if !p.live() {
		return ""
	}
	return p.failing.what
}

// says is a process's checks in a status: ages, not times.
func (p *proc) says(now time.Time) (what autoheal.CheckOutcome, ago time.Duration) {
	if p.ails() == "" {
		return "", 0
	}
	return p.failing.what, now.Sub(p.failing.since)
}

// checked takes over what a node says of the checks of an attempt, and reports whether it is news.
func (a *attempt) checked(s status, now time.Time) bool {
	if (a.failing == nil) == (s.failing == "") && (a.failing == nil || a.failing.What == s.failing) {
		return false
	}
	a.failing = nil
	if s.failing != "" {
		a.failing = &autoheal.CheckFailure{What: s.failing, Since: now.Add(-s.failingAgo), Failures: 3, Reason: "its check fails"}
	}
	return true
}

// ail gives a node a fault for a time.
func (s *sim) ail(m *machine, fault string, d time.Duration) {
	m.reportFault(fault, true)
	s.later(d, func() { m.reportFault(fault, false) })
}

// reportFault begins or ends a fault that a node reports of itself. Faults of the same name may overlap.
func (m *machine) reportFault(fault string, on bool) {
	if on {
		m.faults[fault]++
	} else if m.faults[fault] > 0 {
		m.faults[fault]--
	}
	m.w.note("%s: reports %v", m.id, m.reports())
	if m.healthy() {
		m.loud()
		m.answer()
	}
}

// reports are the faults that a node reports now, in order.
func (m *machine) reports() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m.faults)) {
		if m.faults[name] > 0 {
			out = append(out, name)
		}
	}
	return out
}

// conditions are the faults of a node as the port shows them.
func (c *contact) conditions() map[string]string {
	out := map[string]string{}
	for _, name := range c.faults {
		out[name] = "as the script says"
	}
	return out
}

// faulty takes over the faults that a node reports, and tells of them if they are news.
func (d *driver) faulty(m *machine, c *contact, faults []string) {
	if slices.Equal(c.faults, faults) {
		return
	}
	c.faults = faults
	switch {
	case len(faults) == 0:
		c.faultSince, c.hard = time.Time{}, false
	case c.faultSince.IsZero():
		c.faultSince = d.w.q.now
	}
	c.hard = c.hard || slices.ContainsFunc(faults, func(f string) bool { return !autoheal.IsPressure(f) })
	d.tellNode(m)
	d.w.fleet.kick()
}
