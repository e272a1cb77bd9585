package detect

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
)

// resourceExhaustion claims that a workload which others may be stopped for, or its whole gang, has waited for a place for
// preemption.pendingFor and there is none: no free GPU at all is the plainest case, a cluster in which only pieces are free
// another (behaviour E7). Whether there is a place is asked of the cluster as it is now, so the claim is conclusive.
type resourceExhaustion struct{}

func (resourceExhaustion) Kind() autoheal.FailureKind { return autoheal.ResourceExhaustion }

func (resourceExhaustion) Detect(v View, c Change, now time.Time) []autoheal.Finding {
	ws, since, waits := Starved(v, c.Workload)
	if !waits || now.Sub(since) < v.Policy().Preemption.PendingFor {
		return nil
	}
	missing := v.Missing(ws)
	if missing == "" {
		return nil // it has not been placed yet, that is all
	}
	lead := ws[0]
	f := autoheal.Finding{
		Kind: autoheal.ResourceExhaustion, Subject: lead.Ref(), Confidence: 1, Conclusive: true, Since: since,
		Cause: fmt.Sprintf("no place for %s: %s", lead.ID, missing), Because: "resource_exhaustion.no_room",
	}
	if lead.Gang != "" {
		f.Subject = autoheal.Ref{Kind: autoheal.RefGang, ID: string(lead.Gang), Generation: strconv.Itoa(lead.Attempt)}
		f.Cause = fmt.Sprintf("no place for the %d ranks of gang %s: %s", len(ws), lead.Gang, missing)
	}
	for _, w := range ws {
		f.Affected = append(f.Affected, w.Ref())
	}
	f.Evidence = []autoheal.Signal{{
		Rule: "no_room", Source: "placement", Failure: autoheal.FailureNone, Subject: lead.Ref(), At: since, SeenAt: now, Count: 1, Conclusive: true,
		Excerpt: missing,
	}}
	return []autoheal.Finding{f}
}

// Starved returns the workload or gang that w stands for, and since when all of it waits for a place; false if it does not,
// or if others are not to be stopped for it whatever happens.
func Starved(v View, w *autoheal.Workload) (ws []*autoheal.Workload, since time.Time, waits bool) {
	if w == nil || w.State != autoheal.Pending || !slices.Contains(v.Policy().Preemption.ForClasses, w.Class) {
		return nil, time.Time{}, false
	}
	ws = []*autoheal.Workload{w}
	if w.Gang != "" {
		if ws = v.Gang(w.Gang); len(ws) < w.GangSize { // it starts whole or not at all: the rest is still to come
			return nil, time.Time{}, false
		}
	}
	for _, m := range ws {
		if m.State != autoheal.Pending || !Wanted(m) {
			return nil, time.Time{}, false
		}
		if at := v.PendingSince(m.ID); at.After(since) {
			since = at
		}
	}
	return ws, since, true
}
