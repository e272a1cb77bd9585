package detect

import (
	"fmt"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

// networkPartition claims that the ranks of a gang have lost each other, or that a node has lost a link of its own. What
// ranks write says that the gang cannot go on, and who holds it up; it proves nothing about a node. A link that is back takes
// the claim about its node back.
type networkPartition struct{}

func (networkPartition) Kind() autoheal.FailureKind { return autoheal.NetworkPartition }

func (d networkPartition) Detect(v View, c Change, now time.Time) []autoheal.Finding {
	switch {
	case c.Signal != nil && c.Signal.Subject.Kind == autoheal.RefNode:
		return d.link(v, c.Signal)
	case c.Signal != nil && c.Signal.Subject.Kind == autoheal.RefWorkload && !c.Signal.Clears:
		return d.gang(v, v.Workload(autoheal.WorkloadID(c.Signal.Subject.ID)), now)
	case c.Workload != nil && (c.Workload.State == autoheal.Failed || c.WorkloadBefore == nil):
		return d.gang(v, c.Workload, now)
	}
	return nil
}

// gang claims that the network failed a gang.
func (networkPartition) gang(v View, w *autoheal.Workload, now time.Time) []autoheal.Finding {
	if w == nil || w.Gang == "" || !Wanted(w) {
		return nil
	}
	r, ok := ReportGang(v, w.Gang, now)
	if !ok || !r.Broken {
		return nil
	}
	f := autoheal.Finding{
		Kind: autoheal.NetworkPartition, Subject: autoheal.Ref{Kind: autoheal.RefGang, ID: string(w.Gang), Generation: strconv.Itoa(w.Attempt)},
		Confidence: 0.7, Conclusive: r.Ended > 0, Since: r.Since, Because: "network_partition.gang", Cause: r.complaint(w.Gang), Evidence: r.Said,
	}
	for _, m := range v.Gang(w.Gang) {
		f.Affected = append(f.Affected, m.Ref())
	}
	return []autoheal.Finding{f}
}

// complaint says that a gang has failed and accuses nobody: not all of its ranks may have spoken yet.
func (r *GangReport) complaint(g autoheal.GangID) string {
	return fmt.Sprintf("the ranks of gang %s have lost each other", g) + r.quote()
}

// quote is the first line that tells of it.
func (r *GangReport) quote() string {
	if r.First == nil || r.First.Excerpt == "" {
		return ""
	}
	return fmt.Sprintf("; the first line is %q", clip(r.First.Excerpt, 200))
}

// Cause says in a sentence what failed a gang, and who holds it up, with the first line that tells of it.
func (r *GangReport) Cause(g autoheal.GangID) string {
	text := fmt.Sprintf("the ranks of gang %s have lost each other: %s", g, r.Because)
	switch {
	case r.Culprit != nil:
		text = fmt.Sprintf("%s holds up gang %s (%s, confidence %.2g): %s", Describe(r.Culprit), g, r.Role, r.Confidence, r.Because)
	case len(r.Suspects) == 2:
		text = fmt.Sprintf("%s or %s holds up gang %s, which cannot be told: %s", Describe(r.Suspects[0]), Describe(r.Suspects[1]), g, r.Because)
	}
	return text + r.quote()
}

// link claims that a node has lost a link, or that it is back. Only the kernel's own words count.
func (networkPartition) link(v View, s *autoheal.Signal) []autoheal.Finding {
	if !IsLink(v.Catalogue(), s) {
		return nil
	}
	n := v.Node(autoheal.NodeID(s.Subject.ID))
	if n == nil || s.Subject.Generation != "" && s.Subject.Generation != n.BootID {
		return nil
	}
	return []autoheal.Finding{{
		Kind: autoheal.NetworkPartition, Subject: n.Ref(), Confidence: 0.9, Conclusive: !v.Catalogue().Rule(s.Rule).Transient, Withdrawn: s.Clears,
		Since: s.At, Because: "network_partition.link", Evidence: []autoheal.Signal{*s},
		Cause: fmt.Sprintf("node %s: %s: %q", n.ID, v.Catalogue().Rule(s.Rule).Name, clip(s.Excerpt, 200)),
	}}
}

// IsLink reports whether a signal is about a node's own link, and by a source that can know: not by what a workload writes.
func IsLink(c *Catalogue, s *autoheal.Signal) bool {
	return c.Path(s) == signal.PathLink && c.Rule(s.Rule).Kind != signal.KindWorkload
}

// Passes reports whether a lost link may come back by itself; what says that an adapter has failed does not pass.
func Passes(c *Catalogue, s *autoheal.Signal) bool {
	r := c.Rule(s.Rule)
	return r != nil && r.Transient
}
