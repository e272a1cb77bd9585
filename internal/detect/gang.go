package detect

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

// GangReport is what the ranks of a gang say of a failure of the network between them (behaviour E9).
type GangReport struct {
	// Broken says that the network failed them: enough ranks have lost the others, and none has failed by itself.
	Broken bool
	// Crashed says that a rank failed by itself: what the others lost is a consequence.
	Crashed bool
	// Culprit is the rank that the others are the victims of; nil if it is nobody or cannot be told. Role says what gives
	// it away, Confidence how sure that is, Because in words.
	Culprit    *autoheal.Workload
	Role       string
	Confidence float64
	Because    string
	// Suspects are the ranks that it may be, the culprit among them: kept off, and if there are several accused of nothing.
	Suspects []*autoheal.Workload
	// Victims are the ranks that lost the others and are no suspects.
	Victims []*autoheal.Workload
	// First is the earliest thing said, Since when, Latest when the last was said.
	First         *autoheal.Signal
	Since, Latest time.Time
	// Ended is how many ranks have ended because they lost the others.
	Ended int
	// Said is all that bears on it, in order of rank.
	Said []autoheal.Signal
}

// elasticRestart is what a launcher says that starts the ranks again by itself: a restart on top of it would disturb.
const elasticRestart = "pytorch/elastic_restart"

// ReportGang reads what the ranks of a gang have said and how they ended. A gang whose ranks are not of one generation is
// being started: of it nothing can be said.
func ReportGang(v View, id autoheal.GangID, now time.Time) (GangReport, bool) {
	members := v.Gang(id)
	if len(members) < 2 || slices.ContainsFunc(members, func(w *autoheal.Workload) bool { return w.Attempt != members[0].Attempt }) {
		return GangReport{}, false
	}
	r := reader{v: v, now: now, members: members, lost: make([]bool, len(members))}
	for n, w := range members {
		r.read(n, w)
	}
	r.judge()
	return r.out, true
}

// reader reads the ranks of one gang.
type reader struct {
	v       View
	now     time.Time
	members []*autoheal.Workload
	out     GangReport
	gang    signal.Gang
	lost    []bool // by place in members: it says that it has lost the others
	silent  []int  // ended, and nothing that it said tells why
	done    bool   // a rank has completed while others lost it
}

// read takes what one rank has said, as far as it is fresh, and how it ended.
func (r *reader) read(n int, w *autoheal.Workload) {
	rep := signal.Report{Member: n, Addresses: r.addresses(w)}
	for _, s := range r.v.Said(w.ID) {
		if s.Rule == elasticRestart {
			rep.Signals, r.lost[n] = nil, false
			continue
		}
		if r.now.Sub(s.At) > r.v.Policy().Evidence.MaxAge && !ended(w) {
			continue // behaviour A6: too old to act upon
		}
		rep.Signals = append(rep.Signals, s)
		r.lost[n] = r.lost[n] || r.fatal(&s)
	}
	if w.State == autoheal.Succeeded {
		r.done = true
	}
	if own, ok := r.ownEnd(n, w); ok {
		rep.Signals = append(rep.Signals, own)
	}
	slices.SortStableFunc(rep.Signals, func(a, b autoheal.Signal) int { return a.At.Compare(b.At) })
	r.gang.Reports = append(r.gang.Reports, rep)
}

func ended(w *autoheal.Workload) bool { return w.State == autoheal.Failed && w.Exit != nil }

// fatal reports whether a signal says that a rank has lost the others for good.
func (r *reader) fatal(s *autoheal.Signal) bool {
	rule := r.v.Catalogue().Rule(s.Rule)
	return r.v.Catalogue().Path(s) == signal.PathPeers && !rule.Transient && rule.Severity != signal.Warning
}

// ownEnd returns the end of a rank as a failure of its own, where it was one. One that nothing explains, or that somebody
// asked for, counts only if nobody had complained before it: see blameSilent.
func (r *reader) ownEnd(n int, w *autoheal.Workload) (autoheal.Signal, bool) {
	if !ended(w) {
		return autoheal.Signal{}, false
	}
	s := exitSignal(w, r.now)
	switch v := w.Exit.Verdict; {
	case w.Exit.OOM != autoheal.OOMNone || w.Exit.Reason == autoheal.ExitStartFailed || w.Exit.Reason == autoheal.ExitNodeFault:
		return s, true
	case w.Exit.Reason != autoheal.ExitCrashed:
		r.silent = append(r.silent, n)
		return s, false
	case v == nil || v.Failure == autoheal.FailureNone:
		if r.lost[n] {
			r.out.Ended++
			return s, false
		}
		r.silent = append(r.silent, n)
		return s, false
	case v.Failure == autoheal.FailureNetwork && r.between(v.Code):
		r.lost[n] = true
		r.out.Ended++
		return s, false
	default:
		s.Rule, s.Failure, s.Action = v.Code, v.Failure, v.Action
		return s, true
	}
}

// between reports whether a rule is about the way between the ranks of a job.
func (r *reader) between(code string) bool {
	rule := r.v.Catalogue().Rule(code)
	return rule != nil && rule.Path == signal.PathPeers
}

// addresses are what the others may call a rank by, as far as no other rank's node is called the same.
func (r *reader) addresses(w *autoheal.Workload) []string {
	names := func(id autoheal.NodeID) []string {
		out := []string{string(id)}
		if n := r.v.Node(id); n != nil {
			out = append(out, n.Addresses...)
		}
		return out
	}
	return slices.DeleteFunc(names(w.Node), func(name string) bool {
		return slices.ContainsFunc(r.members, func(o *autoheal.Workload) bool { return o != w && slices.Contains(names(o.Node), name) })
	})
}

// judge tells the culprit from its victims.
func (r *reader) judge() {
	r.gang.Members = len(r.members)
	r.gang.Ranks = r.processes()
	r.count()
	r.blameSilent()
	found := r.v.Catalogue().Culprit(r.gang)
	r.out.Crashed = found.Own
	r.out.Because, r.out.Confidence = found.Because, found.Confidence
	suspects := found.Suspects
	switch {
	case found.Own:
	case r.done:
		r.out.Because, r.out.Confidence, suspects = "a rank had completed, and the others waited for it", 0, nil
	case found.Member >= 0 && found.Member < len(r.members):
		r.out.Culprit, r.out.Role = r.members[found.Member], string(found.Role)
		suspects = []int{found.Member}
	case found.Peer != "":
		r.out.Because += ", which is the address of no node that is known"
	}
	for _, n := range suspects {
		if n >= 0 && n < len(r.members) {
			r.out.Suspects = append(r.out.Suspects, r.members[n])
		}
	}
	if len(r.out.Suspects) > 2 || len(r.out.Suspects) == len(r.members) && len(r.members) > 2 {
		r.out.Suspects = nil // it cannot be told at all: to keep off so many would keep off everybody
	}
	victims := 0
	for n, w := range r.members {
		if r.lost[n] {
			victims++
			if !slices.Contains(r.out.Suspects, w) {
				r.out.Victims = append(r.out.Victims, w)
			}
		}
	}
	r.out.Broken = !found.Own && (r.out.Ended > 0 || victims >= 2 || victims == 1 && len(r.members) == 2)
}

// count finds the first and the last thing said.
func (r *reader) count() {
	for i := range r.gang.Reports {
		for j := range r.gang.Reports[i].Signals {
			s := &r.gang.Reports[i].Signals[j]
			r.out.Said = append(r.out.Said, *s)
			if r.out.First == nil || s.At.Before(r.out.First.At) {
				r.out.First = s
			}
			if s.At.After(r.out.Latest) {
				r.out.Latest = s.At
			}
		}
	}
	if r.out.First != nil {
		r.out.Since = r.out.First.At
	}
	for _, w := range r.members {
		if !ended(w) {
			continue
		}
		if r.out.Since.IsZero() || w.EndedAt.Before(r.out.Since) {
			r.out.Since = w.EndedAt
		}
		if w.EndedAt.After(r.out.Latest) {
			r.out.Latest = w.EndedAt
		}
	}
}

// sameMoment is how far apart the clocks of two hosts may be: what lies closer together has no order.
const sameMoment = 5 * time.Second

// blameSilent takes ranks that ended badly without a word for crashed, as long as nobody had complained well before.
func (r *reader) blameSilent() {
	for _, n := range r.silent {
		w := r.members[n]
		if r.out.First != nil && w.EndedAt.Sub(r.out.First.At) > sameMoment {
			continue
		}
		s := exitSignal(w, r.now)
		r.gang.Reports[n].Signals = append(r.gang.Reports[n].Signals, s)
	}
}

// processes is how many processes the ranks have in all: one each, or one for every GPU where their lines say so.
func (r *reader) processes() int {
	perMember := 1
	for n, rep := range r.gang.Reports {
		for _, s := range rep.Signals {
			if rank, err := strconv.Atoi(s.Fields["rank"]); err == nil && rank != n {
				perMember = max(1, r.members[n].Request.GPUs)
			}
		}
	}
	return perMember * len(r.members)
}

// Describe names a rank for people: its number and its node.
func Describe(w *autoheal.Workload) string {
	if w.Node == "" {
		return fmt.Sprintf("rank %d", w.Rank)
	}
	return fmt.Sprintf("rank %d on %s", w.Rank, w.Node)
}
