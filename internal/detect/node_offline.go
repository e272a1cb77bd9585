package detect

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
)

// nodeOffline claims that a silent node may be gone. Silence proves nothing (behaviour A6): the claim is never
// conclusive, and it is withdrawn when the node answers again. An unknown link is neither.
type nodeOffline struct{}

func (nodeOffline) Kind() autoheal.FailureKind { return autoheal.NodeOffline }

func (nodeOffline) Detect(v View, c Change, now time.Time) []autoheal.Finding {
	n := c.Node
	if n == nil || (c.NodeBefore != nil && c.NodeBefore.Link == n.Link) {
		return nil
	}
	f := autoheal.Finding{Kind: autoheal.NodeOffline, Subject: n.Ref(), Because: "node_offline.silence"}
	switch n.Link {
	case autoheal.LinkUp:
		f.Withdrawn = true
		f.Since = n.LinkSince
		f.Cause = "the node answers again"
	case autoheal.LinkSilent:
		f.Since = n.LastSeen
		f.Confidence = 0.6
		f.Cause = fmt.Sprintf("no answer from node %s since %s", n.ID, n.LastSeen.UTC().Format(time.TimeOnly))
		f.Evidence = []autoheal.Signal{silence(v, n, now)}
		for _, w := range v.WorkloadsOn(n.ID) {
			f.Affected = append(f.Affected, w.Ref())
		}
	default:
		return nil
	}
	return []autoheal.Finding{f}
}

func silence(v View, n *autoheal.Node, now time.Time) autoheal.Signal {
	return autoheal.Signal{
		Rule: "probe.silent", Source: "probe", Failure: autoheal.FailureNone, Subject: n.Ref(),
		At: n.LinkSince, SeenAt: now, TTL: 3 * v.Policy().Node.ProbeInterval, Count: 1,
		Excerpt: fmt.Sprintf("last answer of node %s: %s", n.ID, n.LastSeen.UTC().Format(time.RFC3339)),
	}
}
