package detect

import (
	"fmt"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
)

// healthCheck claims that a workload which runs does not do its work: its own health check fails, or it has stopped to
// get on (behaviour E6). Its node has looked often enough, so that the claim needs no grace; it is withdrawn when the
// check passes again.
type healthCheck struct{}

func (healthCheck) Kind() autoheal.FailureKind { return autoheal.HealthCheck }

func (healthCheck) Detect(v View, c Change, now time.Time) []autoheal.Finding {
	w, b := c.Workload, c.WorkloadBefore
	if w == nil {
		return nil
	}
	same := b != nil && b.Attempt == w.Attempt && Ailing(b)
	if !Ailing(w) {
		if same && w.State == autoheal.Running {
			return []autoheal.Finding{{Kind: autoheal.HealthCheck, Subject: subjectOf(w), Withdrawn: true, Since: now, Because: "health_check.passes"}}
		}
		return nil
	}
	if same && b.Failing.What == w.Failing.What {
		return nil
	}
	f := autoheal.Finding{
		Kind: autoheal.HealthCheck, Subject: subjectOf(w), Affected: []autoheal.Ref{w.Ref()}, Confidence: 0.9, Conclusive: true,
		Since: w.Failing.Since, Cause: DescribeFailing(w), Because: "health_check." + string(w.Failing.What),
		Evidence: []autoheal.Signal{checkSignal(w, now)},
	}
	if w.Gang != "" {
		f.Affected = nil
		for _, m := range v.Gang(w.Gang) {
			f.Affected = append(f.Affected, m.Ref())
		}
	}
	return []autoheal.Finding{f}
}

// Ailing reports whether a workload runs, is wanted, and its own checks say that it does not do its work.
func Ailing(w *autoheal.Workload) bool {
	return w != nil && w.State == autoheal.Running && w.Failing != nil && Wanted(w)
}

// subjectOf is what fails with a workload: itself, or its whole gang.
func subjectOf(w *autoheal.Workload) autoheal.Ref {
	if w.Gang == "" {
		return w.Ref()
	}
	return autoheal.Ref{Kind: autoheal.RefGang, ID: string(w.Gang), Generation: strconv.Itoa(w.Attempt)}
}

// DescribeFailing says in one sentence what the checks of a workload found.
func DescribeFailing(w *autoheal.Workload) string {
	text := w.Failing.Reason
	if w.Gang != "" {
		text = fmt.Sprintf("rank %d: %s", w.Rank, text)
	}
	if out := lastLine(w.Failing.Output); out != "" {
		text += fmt.Sprintf("; it said %q", out)
	}
	return fmt.Sprintf("%s: %s", w.Failing.What, text)
}

func checkSignal(w *autoheal.Workload, now time.Time) autoheal.Signal {
	return autoheal.Signal{
		Rule: "check/" + string(w.Failing.What), Source: "check", Failure: autoheal.FailureApp, Subject: w.Ref(), At: w.Failing.Since, SeenAt: now,
		Count: max(w.Failing.Failures, 1), Conclusive: true, Action: autoheal.AdviceRestartApp,
		Fields:  map[string]string{"attempt": strconv.Itoa(w.Attempt), "node": string(w.Node)},
		Excerpt: w.Failing.Reason,
	}
}
