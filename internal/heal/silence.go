package heal

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// moments is a sorted list of moments, in nanoseconds of the epoch.
type moments []int64

func (ts *moments) add(at int64) {
	i, _ := slices.BinarySearch(*ts, at+1) // behind those of the same moment: most come in order
	*ts = slices.Insert(*ts, i, at)
}

func (ts *moments) remove(at int64) {
	i, _ := slices.BinarySearch(*ts, at+1)
	*ts = slices.Delete(*ts, i-1, i)
}

// from counts those at t or later.
func (ts moments) from(t time.Time) int {
	i, _ := slices.BinarySearch(ts, t.UnixNano())
	return len(ts) - i
}

// join and leave keep the nodes of each domain, and which domains are dark: none of their nodes answers.
func (v *view) join(n *autoheal.Node) {
	for _, d := range n.Domains {
		if v.domain[d] == nil {
			v.domain[d] = map[autoheal.NodeID]bool{}
		}
		if v.domain[d][n.ID] = n.Link == autoheal.LinkSilent; n.Link == autoheal.LinkSilent {
			v.quiet[d]++
		}
		v.darken(d)
	}
}

func (v *view) leave(n *autoheal.Node) {
	if n == nil {
		return
	}
	for _, d := range n.Domains {
		if v.domain[d][n.ID] {
			v.quiet[d]--
		}
		if delete(v.domain[d], n.ID); len(v.domain[d]) == 0 {
			delete(v.domain, d)
			delete(v.quiet, d)
		}
		v.darken(d)
	}
}

func (v *view) darken(d autoheal.Domain) {
	if n := len(v.domain[d]); n > 0 && n == v.quiet[d] {
		v.dark[d] = true
		return
	}
	delete(v.dark, d)
}

// hear keeps count of the silent nodes.
func (v *view) hear(n *autoheal.Node, now time.Time) {
	since, was := v.silent[n.ID]
	is, at := n.Link == autoheal.LinkSilent, n.LinkSince.UnixNano()
	if was && is && since == at {
		return
	}
	v.unsilence(n.ID)
	if !is {
		return
	}
	v.silent[n.ID], v.heard[n.ID] = at, true
	v.since.add(at)
	if !was {
		v.newSilence(n, now)
	}
}

func (v *view) unsilence(id autoheal.NodeID) {
	since, was := v.silent[id]
	if !was {
		return
	}
	delete(v.silent, id)
	v.heard[id] = true
	v.since.remove(since)
}

// silentSince counts the nodes that fell silent at t or later and still are.
func (v *view) silentSince(t time.Time) int { return v.since.from(t) }

// newSilence notes a new silence in each domain of the node, and in the cluster ("").
func (v *view) newSilence(n *autoheal.Node, now time.Time) {
	for _, dom := range append([]autoheal.Domain{""}, n.Domains...) {
		b := v.bursts[dom]
		if b.last.IsZero() || now.Sub(b.last) > 5*v.pol.Node.Settle {
			b.first = now
		}
		b.last = now
		v.bursts[dom] = b
	}
}

// settleUntil returns when the latest burst of silences in the node's domains has settled (behaviour D0).
func (v *view) settleUntil(n *autoheal.Node) time.Time {
	var until time.Time
	domains := n.Domains
	if len(domains) == 0 {
		domains = []autoheal.Domain{""}
	}
	for _, dom := range domains {
		if t := v.settled(dom); t.After(until) {
			until = t
		}
	}
	return until
}

// settled returns when the latest burst of silences in a domain, or in the cluster (""), has settled; zero = there was none.
func (v *view) settled(dom autoheal.Domain) time.Time {
	b, ok := v.bursts[dom]
	if !ok {
		return time.Time{}
	}
	t := b.last.Add(v.pol.Node.Settle)
	if latest := b.first.Add(5 * v.pol.Node.Settle); t.After(latest) {
		t = latest
	}
	return t
}
