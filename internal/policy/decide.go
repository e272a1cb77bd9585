package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// ClassInput is what a workload's class depends on.
type ClassInput struct {
	Labels          map[string]string
	Namespace, Name string
	Priority        *int // nil = not said
	GangSize        int
}

// Rules that give a class, beside "classes.CLASS[N]" for the N-th match of a class.
const (
	RuleLabel    = "label"
	RulePriority = "priority"
	RuleGang     = "gang"
	RuleDefault  = "default"
)

// Classify returns a workload's class and the rule that gave it (behaviour A1): its label, else the first match of the
// configuration, else its priority. What a label or a match says holds for a gang too; otherwise a gang of two or more
// is at least high.
func (p *Policy) Classify(w ClassInput) (autoheal.Class, string) {
	if c := autoheal.Class(w.Labels[autoheal.LabelClass]); slices.Contains(autoheal.Classes(), c) {
		return c, RuleLabel
	}
	for _, c := range autoheal.Classes() {
		for i, m := range p.Classes[c].Match {
			if m.Matches(w.Labels, w.Namespace, w.Name) {
				return c, fmt.Sprintf("classes.%s[%d]", c, i)
			}
		}
	}
	class, rule := autoheal.Medium, RuleDefault
	if w.Priority != nil {
		class, rule = p.classOfPriority(*w.Priority), RulePriority
	}
	if w.GangSize >= 2 && (class == autoheal.Medium || class == autoheal.Low) {
		return autoheal.High, RuleGang
	}
	return class, rule
}

func (p *Policy) classOfPriority(priority int) autoheal.Class {
	for _, c := range autoheal.Classes() {
		if priority >= p.Classes[c].MinPriority {
			return c
		}
	}
	return autoheal.Low
}

// Matches reports whether all that m says holds; an m that says nothing matches nothing.
func (m Match) Matches(labels map[string]string, namespace, name string) bool {
	for k, v := range m.Labels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return (len(m.Labels) > 0 || m.Namespace != "" || m.Name != "") && globMatches(m.Namespace, namespace) && globMatches(m.Name, name)
}

func globMatches(glob, s string) bool {
	if glob == "" {
		return true
	}
	ok, err := path.Match(glob, s)
	return err == nil && ok
}

// Kind returns a workload's kind: what its labels say, else a critical one is a service and any other a job.
func (p *Policy) Kind(c autoheal.Class, s autoheal.Settings) autoheal.WorkloadKind {
	if s.Kind != "" {
		return s.Kind
	}
	if c == autoheal.Critical {
		return autoheal.KindService
	}
	return autoheal.KindJob
}

// AtMostOnce reports whether two copies must never run at once (behaviour A2): the label decides, else a service may
// run twice and anything else, unknown kinds included, may not.
func AtMostOnce(kind autoheal.WorkloadKind, s autoheal.Settings) bool {
	if s.AtMostOnce != nil {
		return *s.AtMostOnce
	}
	return kind != autoheal.KindService
}

// Objective returns how long a recovery of w may take: its label, else its class; an unknown class counts as medium.
func (p *Policy) Objective(w *autoheal.Workload) time.Duration {
	if w.Options.Objective > 0 {
		return w.Options.Objective
	}
	if c, ok := p.Classes[w.Class]; ok {
		return c.Objective
	}
	return p.Classes[autoheal.Medium].Objective
}

// Grace returns how long the node of w may be silent before w is moved (behaviour A4, B2). It is the node's grace; a
// critical workload that may run twice moves at half its objective if that is sooner. The workload's own label decides
// instead, kept between three probe intervals and what leaves time to start within the objective.
func (p *Policy) Grace(w *autoheal.Workload) time.Duration {
	grace, objective := p.Node.OfflineGracePeriod, p.Objective(w)
	if own := w.Options.Grace; own > 0 {
		least, most := p.graceBounds(w)
		return max(least, min(own, most))
	}
	if p.Node.EarlyMove && w.Class == autoheal.Critical && !w.AtMostOnce {
		return min(grace, max(objective/2, 3*p.Node.ProbeInterval))
	}
	return grace
}

// graceBounds returns what a label may set the grace to. An objective that is too short for the node's own grace
// refuses nothing up to that grace: it is warned about at submit instead.
func (p *Policy) graceBounds(w *autoheal.Workload) (least, most time.Duration) {
	least = 3 * p.Node.ProbeInterval
	most = p.Objective(w) - startAllowance
	if w.AtMostOnce || w.Class != autoheal.Critical {
		most = max(most, p.Node.OfflineGracePeriod)
	}
	return least, max(least, most)
}

// FenceWait returns how long after the last contact a silent node's at-most-once workloads count as stopped by
// themselves, and whether that is accepted as a proof at all.
func (p *Policy) FenceWait() (wait time.Duration, trusted bool) {
	return p.Fence.Wait, p.Fence.TrustSelfStop
}

// PollWait returns how long a standing poll may wait for something to report.
func (p *Policy) PollWait() time.Duration { return p.Node.ProbeInterval }

// SubmitWarnings says, with the numbers, what of a workload's wishes this policy cannot fulfil.
func (p *Policy) SubmitWarnings(w *autoheal.Workload) []string {
	var out []string
	objective, grace := p.Objective(w), p.Grace(w)
	what := fmt.Sprintf("its objective of %s (class %s)", FormatDuration(objective), w.Class)
	switch need := max(grace, p.Fence.Wait) + startAllowance; {
	case w.AtMostOnce && !p.Fence.TrustSelfStop && len(p.Fence.Command) == 0:
		out = append(out, what+" cannot be met when its node falls silent: it is at-most-once, self-stop is not trusted and no fence.command is set, so it is held until a person confirms the node off; set autoHeal.fence.command, or "+autoheal.LabelAtMostOnce+": \"false\" if two copies may run")
	case w.AtMostOnce && need > objective:
		out = append(out, fmt.Sprintf("%s cannot be met on silence alone: it is at-most-once, so the old copy counts as gone after max(grace %s, fence wait %s), and %s more to start make %s; set autoHeal.fence.command for a proof that is sooner, or %s: \"false\" if two copies may run",
			what, FormatDuration(grace), FormatDuration(p.Fence.Wait), FormatDuration(startAllowance), FormatDuration(need), autoheal.LabelAtMostOnce))
	case !w.AtMostOnce && grace+startAllowance > objective:
		out = append(out, fmt.Sprintf("%s cannot be met when its node falls silent: grace %s and %s to start make %s; set %s to at least %s", what, FormatDuration(grace), FormatDuration(startAllowance), FormatDuration(grace+startAllowance), autoheal.LabelObjective, FormatDuration(grace+startAllowance)))
	}
	if own := w.Options.Grace; own > 0 && own != grace {
		least, most := p.graceBounds(w)
		out = append(out, fmt.Sprintf("%s %s is not kept: it is used as %s, because it must be from %s (three probe intervals) to %s", autoheal.LabelGrace, FormatDuration(own), FormatDuration(grace), FormatDuration(least), FormatDuration(most)))
	}
	return out
}

// StartWarnings says where the usual time that w takes to start does not leave room for its grace (behaviour F1).
func (p *Policy) StartWarnings(w *autoheal.Workload, usual time.Duration) []string {
	objective, grace := p.Objective(w), p.Grace(w)
	if usual+grace <= objective {
		return nil
	}
	return []string{fmt.Sprintf("its objective of %s (class %s) cannot be met when its node falls silent: the median of the last 5 starts of its like is %s, and with its grace of %s that makes %s",
		FormatDuration(objective), w.Class, FormatDuration(usual.Round(time.Second)), FormatDuration(grace), FormatDuration((usual + grace).Round(time.Second)))}
}

// Dwell returns how long a recovered workload must stay up to count as recovered (behaviour F1).
func (p *Policy) Dwell(c autoheal.Class) time.Duration {
	if c == autoheal.Critical {
		return p.Verify.Critical
	}
	return p.Verify.Default
}

// RungDeadline returns how long one rung of a ladder may take (behaviour F2).
func (p *Policy) RungDeadline(objective time.Duration) time.Duration {
	return max(10*time.Second, objective/3)
}

// MaxRestarts returns how often w may be restarted after crashes of its own: its label, else the configuration.
func (p *Policy) MaxRestarts(w *autoheal.Workload) int {
	if n := w.Options.MaxRestarts; n != nil {
		return *n
	}
	return p.Workload.MaxRestarts
}

// RestartWait returns the wait before restart n of w, counted from 1, without the spread: a critical workload's first
// restart comes after a second (behaviour E3).
func (p *Policy) RestartWait(w *autoheal.Workload, n int) time.Duration {
	wait := p.Workload.RestartBackoff.Wait(n)
	if n <= 1 && w.Class == autoheal.Critical {
		return min(wait, time.Second)
	}
	return wait
}

// LongestRestartWait returns the longest backoff, at which what cannot be mended from here is tried again.
func (p *Policy) LongestRestartWait() time.Duration {
	if most := p.Workload.RestartBackoff.Max; most > 0 {
		return most
	}
	return 5 * time.Minute
}

// InMaintenance returns the planned window that n is in, if any. The start belongs to a window, the end does not.
func (p *Policy) InMaintenance(n *autoheal.Node, now time.Time) (Maintenance, bool) {
	for _, m := range p.Maintenance {
		if !now.Before(m.From) && now.Before(m.To) && m.Covers(n) {
			return m, true
		}
	}
	return Maintenance{}, false
}

// Covers reports whether the window is for n: by name, by glob, or by k=v on its labels or domains.
func (m Maintenance) Covers(n *autoheal.Node) bool {
	if k, v, ok := strings.Cut(m.Nodes, "="); ok {
		if got, has := n.Labels[k]; has && got == v {
			return true
		}
		return slices.Contains(n.Domains, autoheal.Domain(k+"/"+v))
	}
	return m.Nodes != "" && globMatches(m.Nodes, string(n.ID))
}
