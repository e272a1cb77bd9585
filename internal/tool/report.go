package tool

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// ReportIn are the parameters of report_get.
type ReportIn struct {
	Since    string `json:"since,omitempty" check:"default=30d" jsonschema:"an age such as 30d, or an ISO 8601 time"`
	Baseline string `json:"baseline,omitempty" check:"default=30m" jsonschema:"how long a person would take to bring a workload back by hand: what was saved is counted against it"`
}

// ReportOut is the result of report_get.
type ReportOut struct {
	Since      time.Time       `json:"since"`
	Until      time.Time       `json:"until"`
	Simulated  bool            `json:"simulated"`
	Incidents  int             `json:"incidents"`
	Outcomes   []OutcomeCount  `json:"outcomes"`
	Recoveries []RecoveryStats `json:"recoveries" jsonschema:"by kind and class, in order of precedence and urgency"`
	Held       []HeldStats     `json:"held" jsonschema:"what held actions back, the longest first"`
	Offenders  []Offender      `json:"offenders" jsonschema:"subjects with the most incidents"`
	GPUHours   GPUHours        `json:"gpuHours"`
}

// OutcomeCount is how many incidents of a kind ended so.
type OutcomeCount struct {
	Kind    autoheal.FailureKind `json:"kind"`
	Phase   autoheal.Phase       `json:"phase"`
	Symptom bool                 `json:"symptom" jsonschema:"they were symptoms or parts of others"`
	Count   int                  `json:"count"`
}

// RecoveryStats are the recoveries of one kind and class. The times are those of what recovered; what was given up counts as
// outside its objective, and what was left alone, cancelled or is under way is not measured.
type RecoveryStats struct {
	Kind             autoheal.FailureKind `json:"kind"`
	Class            autoheal.Class       `json:"class"`
	ObjectiveSeconds autoheal.Seconds     `json:"objectiveSeconds" jsonschema:"the shortest of them"`
	Recovered        int                  `json:"recovered"`
	GivenUp          int                  `json:"givenUp"`
	NotMeasured      int                  `json:"notMeasured"`
	Within           int                  `json:"within"`
	WithinShare      *float64             `json:"withinShare" jsonschema:"of recovered and given up; null when there are none"`
	Safe             Percentiles          `json:"safe" jsonschema:"from the failure until no old copy could run"`
	Running          Percentiles          `json:"running" jsonschema:"from the failure until it ran again"`
}

// Percentiles are by nearest rank; null when nothing was measured.
type Percentiles struct {
	P50Seconds *autoheal.Seconds `json:"p50Seconds"`
	P95Seconds *autoheal.Seconds `json:"p95Seconds"`
	MaxSeconds *autoheal.Seconds `json:"maxSeconds"`
}

// HeldStats is what one reason held back.
type HeldStats struct {
	Reason         autoheal.Reason     `json:"reason"`
	Verb           string              `json:"verb" jsonschema:"what was to be done; empty for everything about a subject"`
	Times          int                 `json:"times"`
	Incidents      int                 `json:"incidents"`
	TotalSeconds   autoheal.Seconds    `json:"totalSeconds"`
	LongestSeconds autoheal.Seconds    `json:"longestSeconds"`
	Longest        autoheal.IncidentID `json:"longest"`
	Detail         string              `json:"detail" jsonschema:"of the longest"`
}

// Offender is a subject with its incidents.
type Offender struct {
	Subject   autoheal.Ref           `json:"subject"`
	Incidents int                    `json:"incidents"`
	Kinds     []autoheal.FailureKind `json:"kinds"`
	Last      time.Time              `json:"last"`
	Score     *float64               `json:"score" jsonschema:"the healer's own, of nodes; it halves with time"`
}

// GPUHours is what failures cost and what healing saved. Lost is measured: GPUs times the time from the failure until they
// were of use again. Saved is an estimate: the time that each recovered workload came back sooner than after the baseline,
// times its GPUs; one that took longer counts against it.
type GPUHours struct {
	Lost            float64          `json:"lost"`
	StillCounting   int              `json:"stillCounting" jsonschema:"workloads that were given up or are not back: their loss is larger than what is counted"`
	Saved           float64          `json:"saved"`
	BaselineSeconds autoheal.Seconds `json:"baselineSeconds"`
	Counted         int              `json:"counted" jsonschema:"recovered workloads with GPUs, on which saved rests"`
	Method          string           `json:"method"`
}

// offendersMost is how many offenders a report names.
const offendersMost = 10

func reportGet(ctx context.Context, env *Env, in ReportIn) (ReportOut, error) {
	now := env.Now()
	since, err := parseWhen("since", in.Since, now)
	if err != nil {
		return ReportOut{}, err
	}
	if !since.Before(now) {
		return ReportOut{}, badParam("since", "Wrong value for parameter since: it must lie in the past")
	}
	baseline, err := parseAge("baseline", in.Baseline)
	if err != nil {
		return ReportOut{}, err
	}
	all, err := env.Healer.Incidents(ctx, autoheal.IncidentFilter{Since: since, Brief: true})
	if err != nil {
		return ReportOut{}, fmt.Errorf("list incidents: %w", err)
	}
	out := ReportOut{
		Since: since, Until: now, Incidents: len(all), Outcomes: outcomes(all), Recoveries: recoveryStats(all), Held: heldStats(all, now),
		GPUHours:  gpuHours(all, baseline),
		Simulated: slices.ContainsFunc(all, func(i autoheal.Incident) bool { return i.Simulated }),
	}
	out.Offenders, err = offenders(ctx, env, all)
	return out, err
}

func outcomes(all []autoheal.Incident) []OutcomeCount {
	count := map[OutcomeCount]int{}
	for _, i := range all {
		count[OutcomeCount{Kind: i.Kind, Phase: i.Phase, Symptom: i.MergedInto != ""}]++
	}
	var out []OutcomeCount
	for o, n := range count {
		o.Count = n
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b OutcomeCount) int {
		return cmp.Or(byKind(a.Kind, b.Kind), cmp.Compare(a.Phase, b.Phase), cmp.Compare(fmt.Sprint(a.Symptom), fmt.Sprint(b.Symptom)))
	})
	return out
}

func byKind(a, b autoheal.FailureKind) int {
	return slices.Index(autoheal.FailureKinds(), a) - slices.Index(autoheal.FailureKinds(), b)
}

// sample is what was measured of one kind and class.
type sample struct {
	stats         RecoveryStats
	safe, running []autoheal.Seconds
}

func recoveryStats(all []autoheal.Incident) []RecoveryStats {
	type group struct {
		kind  autoheal.FailureKind
		class autoheal.Class
	}
	samples := map[group]*sample{}
	for _, i := range all {
		for _, r := range i.Recoveries {
			g := group{i.Kind, r.Class}
			if samples[g] == nil {
				samples[g] = &sample{stats: RecoveryStats{Kind: i.Kind, Class: r.Class, ObjectiveSeconds: r.ObjectiveSeconds}}
			}
			samples[g].add(r)
		}
	}
	out := make([]RecoveryStats, 0, len(samples))
	for _, s := range samples {
		if measured := s.stats.Recovered + s.stats.GivenUp; measured > 0 {
			share := float64(s.stats.Within) / float64(measured)
			s.stats.WithinShare = &share
		}
		s.stats.Safe, s.stats.Running = percentiles(s.safe), percentiles(s.running)
		out = append(out, s.stats)
	}
	slices.SortFunc(out, func(a, b RecoveryStats) int {
		return cmp.Or(byKind(a.Kind, b.Kind), slices.Index(autoheal.Classes(), a.Class)-slices.Index(autoheal.Classes(), b.Class))
	})
	return out
}

func (s *sample) add(r autoheal.Recovery) {
	s.stats.ObjectiveSeconds = min(s.stats.ObjectiveSeconds, r.ObjectiveSeconds)
	switch r.End {
	case autoheal.EndRecovered:
		s.stats.Recovered++
	case autoheal.EndEscalated:
		s.stats.GivenUp++
	default:
		s.stats.NotMeasured++
		return
	}
	if r.WithinObjective != nil && *r.WithinObjective {
		s.stats.Within++
	}
	if r.End != autoheal.EndRecovered {
		return
	}
	if r.TimeToSafeSeconds != nil {
		s.safe = append(s.safe, *r.TimeToSafeSeconds)
	}
	if r.TimeToRunningSeconds != nil {
		s.running = append(s.running, *r.TimeToRunningSeconds)
	}
}

// percentiles takes the nearest rank: the least value that at least so many per cent do not exceed.
func percentiles(v []autoheal.Seconds) Percentiles {
	if len(v) == 0 {
		return Percentiles{}
	}
	slices.Sort(v)
	at := func(percent int) *autoheal.Seconds { return &v[(len(v)*percent+99)/100-1] }
	return Percentiles{P50Seconds: at(50), P95Seconds: at(95), MaxSeconds: at(100)}
}

func heldStats(all []autoheal.Incident, now time.Time) []HeldStats {
	type group struct {
		reason autoheal.Reason
		verb   string
	}
	found, last := map[group]*HeldStats{}, map[group]autoheal.IncidentID{}
	for _, i := range all {
		for _, h := range i.Holds {
			g := group{h.Reason, h.Verb}
			s := found[g]
			if s == nil {
				s = &HeldStats{Reason: h.Reason, Verb: h.Verb}
				found[g] = s
			}
			to := now
			if h.To != nil {
				to = *h.To
			}
			lasted := autoheal.Seconds(max(0, to.Sub(h.From)))
			s.Times++
			s.TotalSeconds += lasted
			if lasted > s.LongestSeconds || s.Longest == "" {
				s.LongestSeconds, s.Longest, s.Detail = lasted, i.ID, h.Detail
			}
			if last[g] != i.ID {
				last[g] = i.ID
				s.Incidents++
			}
		}
	}
	out := make([]HeldStats, 0, len(found))
	for _, s := range found {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b HeldStats) int {
		return cmp.Or(cmp.Compare(b.TotalSeconds, a.TotalSeconds), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Verb, b.Verb))
	})
	return out
}

// offenders names the subjects with the most incidents. What was a symptom of another incident offends nobody.
func offenders(ctx context.Context, env *Env, all []autoheal.Incident) ([]Offender, error) {
	found := map[string]*Offender{}
	for _, i := range all {
		if i.MergedInto != "" || i.Subject.Kind == autoheal.RefCluster {
			continue
		}
		o := found[i.Subject.String()]
		if o == nil {
			o = &Offender{Subject: autoheal.Ref{Kind: i.Subject.Kind, ID: i.Subject.ID}}
			found[i.Subject.String()] = o
		}
		o.Incidents++
		if !slices.Contains(o.Kinds, i.Kind) {
			o.Kinds = append(o.Kinds, i.Kind)
		}
		if i.OpenedAt.After(o.Last) {
			o.Last = i.OpenedAt
		}
	}
	nodes, err := env.Healer.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes {
		if o := found[autoheal.NodeRef(n.ID).String()]; o != nil {
			o.Score = &n.Offender
		}
	}
	out := make([]Offender, 0, len(found))
	for _, o := range found {
		slices.SortFunc(o.Kinds, byKind)
		out = append(out, *o)
	}
	slices.SortFunc(out, func(a, b Offender) int {
		return cmp.Or(cmp.Compare(b.Incidents, a.Incidents), b.Last.Compare(a.Last), cmp.Compare(a.Subject.String(), b.Subject.String()))
	})
	return out[:min(len(out), offendersMost)], nil
}

func gpuHours(all []autoheal.Incident, baseline time.Duration) GPUHours {
	g := GPUHours{BaselineSeconds: autoheal.Seconds(baseline), Method: fmt.Sprintf(
		"lost: GPUs × time from the failure until they were of use again, measured, without work since the last checkpoint; saved: GPUs × (%s - time to running) of what recovered, an estimate against a person who brings each workload back by hand in that time", baseline)}
	for _, i := range all {
		for _, r := range i.Recoveries {
			if r.GPUSecondsLost != nil {
				g.Lost += *r.GPUSecondsLost / 3600
			}
			switch {
			case r.GPUs == 0:
			case r.GPUSecondsLost == nil, r.End == autoheal.EndEscalated:
				g.StillCounting++
			case r.End == autoheal.EndRecovered && r.TimeToRunningSeconds != nil:
				g.Counted++
				g.Saved += float64(r.GPUs) * (baseline - time.Duration(*r.TimeToRunningSeconds)).Hours()
			}
		}
	}
	return g
}
