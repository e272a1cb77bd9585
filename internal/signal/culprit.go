package signal

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// Gang is a job of several members, and what they said when it failed.
type Gang struct {
	Members int // that belong to it
	Ranks   int // processes of all members together; 0 means one of each
	Reports []Report
}

// Report is what one member said, in the order of time.
type Report struct {
	Member    int
	Addresses []string // by which other members may name it
	Signals   []autoheal.Signal
}

// Role is what gives a culprit away.
type Role string

// Roles.
const (
	RoleNobody  Role = ""
	RoleCrashed Role = "crashed" // it was the first to end, by a failure of its own: a crash, no partition
	RoleBehind  Role = "behind"  // the others wait for it in a collective that it has not come to
	RoleMissing Role = "missing" // the others wait, and it does not say that it waits
	RoleNamed   Role = "named"   // most of the others name it as the peer that they lost
)

// Culprit is the member that the others are the victims of.
type Culprit struct {
	Role   Role
	Member int   // -1 if it is nobody, or cannot be told
	Ranks  []int // its processes that give it away, where the lines name them
	// Suspects are the members among which it cannot be told: avoid them, accuse none.
	Suspects []int
	// Peer is the address that most members name, where it is known of no member.
	Peer string
	// Own says that some member failed by itself, whether or not it can be told who was first.
	Own        bool
	Confidence float64 // from 0 to 1
	Because    string
}

// clockSkew is how far apart the clocks of two hosts may be: what lies closer together has no order.
const clockSkew = 5 * time.Second

// How sure a culprit is.
const (
	sureCrashedFirst  = 0.95 // the only one with a failure of its own, before all others complained
	sureCrashedLate   = 0.8  // the only one with a failure of its own, after others complained
	sureCrashedBefore = 0.75 // the first of several
	sureBehind        = 0.9  // has not even begun what others wait for
	sureIncomplete    = 0.7  // has begun it like the others, and finished less
	sureMissing       = 0.9  // three or more others wait
	sureMissingOfTwo  = 0.7  // two others wait
	sureMissingOfOne  = 0.6  // one other waits
	sureNamedByMost   = 0.85
	sureNamedBySome   = 0.7
)

// Culprit tells the culprit of a failed gang from its victims. Positive evidence comes first: a crash, then who is behind,
// then who is missing, then who is named. On a tie it is nobody.
func (c *Catalogue) Culprit(g Gang) Culprit {
	e := c.evidence(g)
	for _, tell := range []func() (Culprit, bool){e.crashed, e.mismatched, e.behind, e.missing, e.named} {
		if found, ok := tell(); ok {
			return found
		}
	}
	return Culprit{Member: -1, Because: "no member differs from the others"}
}

// evidence is what the members said, by process.
type evidence struct {
	ranks     int // processes
	perMember int // processes of a member; 0 if members differ
	units     []*unit
	byProcess map[process]*unit
	byRank    map[int]int    // rank -> member that it was first seen on
	addresses map[string]int // address -> member
	groups    map[string]int // process group -> processes that tell their progress in it
}

// process names a unit.
type process struct{ member, rank int }

// unit is one process, or a member whose lines do not say which of its processes wrote them.
type unit struct {
	member, rank int // rank -1 if unknown
	cause        *autoheal.Signal
	complained   time.Time // first line that follows from somebody else's failure; zero if none or without a time
	waits        *wait     // in a collective, until its time was up
	progress     map[string]progress
	names        []string // peers that it lost
	accuses      []int    // ranks that it names
}

type wait struct {
	seq    int // -1 if not given
	op, of string
}

type progress struct{ enqueued, completed int }

func (c *Catalogue) evidence(g Gang) *evidence {
	e := &evidence{ranks: cmp.Or(g.Ranks, g.Members), byProcess: map[process]*unit{}, byRank: map[int]int{}, addresses: map[string]int{}, groups: map[string]int{}}
	if g.Members > 0 && e.ranks%g.Members == 0 {
		e.perMember = e.ranks / g.Members
	}
	for _, r := range g.Reports {
		for _, a := range r.Addresses {
			e.addresses[a] = r.Member
		}
		for i := range r.Signals {
			s := &r.Signals[i]
			e.take(e.unitOf(r.Member, s), s, c.follows(s))
		}
	}
	slices.SortFunc(e.units, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(a.member, b.member), cmp.Compare(a.rank, b.rank))
	})
	return e
}

// follows says whether a signal follows from something else, or may: a failure of the way to a peer has two ends. What is
// outside of the job, such as a server of data sets, nobody else of it is the victim of.
func (c *Catalogue) follows(s *autoheal.Signal) bool {
	r := c.byID[s.Rule]
	if r != nil && r.Consequence || s.Failure == autoheal.FailureNone || s.Action == autoheal.AdviceNone {
		return true
	}
	return s.Failure == autoheal.FailureNetwork && (r == nil || r.Path != "")
}

// Path returns which way of the network a signal is about; "" for what is none of either.
func (c *Catalogue) Path(s *autoheal.Signal) Path {
	if r := c.byID[s.Rule]; r != nil && s.Failure == autoheal.FailureNetwork {
		return r.Path
	}
	return ""
}

// unitOf returns the process that a signal is from.
func (e *evidence) unitOf(member int, s *autoheal.Signal) *unit {
	rank := -1
	if n, err := strconv.Atoi(s.Fields["rank"]); err == nil && n >= 0 {
		rank = n
	} else if e.perMember == 1 {
		rank = member
	}
	key := process{member, rank}
	u := e.byProcess[key]
	if u == nil {
		u = &unit{member: member, rank: rank, progress: map[string]progress{}}
		e.byProcess[key] = u
		e.units = append(e.units, u)
		if _, known := e.byRank[rank]; !known && rank >= 0 {
			e.byRank[rank] = member
		}
	}
	return u
}

// take notes one signal of a process.
func (e *evidence) take(u *unit, s *autoheal.Signal, follows bool) {
	if !follows {
		if u.cause == nil {
			u.cause = s
		}
		return
	}
	if u.complained.IsZero() {
		u.complained = s.At
	}
	if op := s.Fields["op"]; op != "" {
		w := wait{seq: intField(s, "seq"), op: op, of: s.Fields["numel_in"]}
		if u.waits == nil || w.seq >= 0 && w.seq < u.waits.seq {
			u.waits = &w
		}
	}
	if q := (progress{intField(s, "enqueued"), intField(s, "completed")}); q.enqueued >= 0 {
		group := cmp.Or(s.Fields["pg_name"], s.Fields["pg"])
		if _, known := u.progress[group]; !known {
			e.groups[group]++
		}
		u.progress[group] = q
	}
	if p := s.Fields["peer"]; p != "" && !slices.Contains(u.names, p) {
		u.names = append(u.names, p)
	}
	if n := intField(s, "suspect"); n >= 0 {
		u.accuses = append(u.accuses, n)
	}
}

func intField(s *autoheal.Signal, key string) int {
	if n, err := strconv.Atoi(s.Fields[key]); err == nil {
		return n
	}
	return -1
}

// memberOf returns the member that runs a rank, -1 if it cannot be told.
func (e *evidence) memberOf(rank int) int {
	if m, ok := e.byRank[rank]; ok {
		return m
	}
	if e.perMember > 0 && rank >= 0 && rank < e.ranks {
		return rank / e.perMember
	}
	return -1
}

// crashed tells who ended first by a failure of its own.
func (e *evidence) crashed() (Culprit, bool) {
	var own []*unit
	for _, u := range e.units {
		if u.cause != nil {
			own = append(own, u)
		}
	}
	if len(own) == 0 {
		return Culprit{}, false
	}
	if everywhere(own, e.ranks) {
		return Culprit{Member: -1, Own: true, Because: fmt.Sprintf("%d of %d processes report %s: that is the program's fault, not a machine's", len(own), e.ranks, own[0].cause.Rule)}, true
	}
	slices.SortStableFunc(own, func(a, b *unit) int { return a.cause.At.Compare(b.cause.At) })
	first := own[0]
	found := Culprit{Role: RoleCrashed, Own: true, Member: first.member, Ranks: rankList(first), Because: fmt.Sprintf("%s failed by itself: %s", first, first.cause.Rule)}
	others := membersOf(own)
	switch {
	case len(others) == 1 && e.complainedBefore(first):
		found.Confidence = sureCrashedLate
	case len(others) == 1:
		found.Confidence = sureCrashedFirst
	case e.firstByFar(own):
		found.Confidence = sureCrashedBefore
	default:
		return Culprit{Member: -1, Own: true, Suspects: others, Because: fmt.Sprintf("%d members failed by themselves, too close together to have an order", len(others))}, true
	}
	return found, true
}

// everywhere says whether most processes report the same failure of their own.
func everywhere(own []*unit, of int) bool {
	if len(own) < 2 || len(own)*2 <= of {
		return false
	}
	return !slices.ContainsFunc(own, func(u *unit) bool { return u.cause.Rule != own[0].cause.Rule })
}

// complainedBefore says whether another process complained well before one failed.
func (e *evidence) complainedBefore(first *unit) bool {
	return slices.ContainsFunc(e.units, func(u *unit) bool {
		return u.member != first.member && !u.complained.IsZero() && first.cause.At.Sub(u.complained) > clockSkew
	})
}

// firstByFar says whether the first failure is of another order than those of all other members.
func (e *evidence) firstByFar(own []*unit) bool {
	for _, u := range own[1:] {
		if u.member != own[0].member && u.cause.At.Sub(own[0].cause.At) <= clockSkew {
			return false
		}
	}
	return !own[0].cause.At.IsZero()
}

// mismatched tells a program whose ranks call different collectives: then it is no machine. Numbers of different process
// groups cannot be compared.
func (e *evidence) mismatched() (Culprit, bool) {
	if len(e.groups) > 1 {
		return Culprit{}, false
	}
	seen := map[int]wait{}
	for _, u := range e.units {
		if u.waits == nil || u.waits.seq < 0 {
			continue
		}
		w, ok := seen[u.waits.seq]
		if !ok {
			seen[u.waits.seq] = *u.waits
			continue
		}
		if w.op != u.waits.op || w.op == "ALLREDUCE" && w.of != u.waits.of {
			return Culprit{Member: -1, Because: fmt.Sprintf("in collective %d some wait in %s of %s, others in %s of %s: that is the program's fault, not a machine's",
				w.seq, w.op, w.of, u.waits.op, u.waits.of)}, true
		}
	}
	return Culprit{}, false
}

// behind tells whom the others wait for by the numbers of the collectives that each has come to.
func (e *evidence) behind() (Culprit, bool) {
	group := e.mainGroup()
	for _, way := range []struct {
		what string
		sure float64
		at   func(*unit) int
	}{
		{"begun", sureBehind, func(u *unit) int { return u.progressIn(group).enqueued }},
		{"finished", sureIncomplete, func(u *unit) int { return u.progressIn(group).completed }},
		{"come to wait in", sureIncomplete, func(u *unit) int {
			if u.waits == nil {
				return -1
			}
			return u.waits.seq
		}},
	} {
		last, of, low, high := lowest(e.units, way.at)
		if len(last) == 0 || low == high || len(last)*2 > of || len(last)*2 == of && of > 2 {
			continue
		}
		return accuse(RoleBehind, way.sure, last, fmt.Sprintf("%s has %s %d collectives, others %d", names(last), way.what, low, high)), true
	}
	return Culprit{}, false
}

// mainGroup is the process group that most processes speak of; of several the first by name.
func (e *evidence) mainGroup() string {
	best := ""
	for g, n := range e.groups {
		if most := e.groups[best]; n > most || n == most && g < best {
			best = g
		}
	}
	return best
}

func (u *unit) progressIn(group string) progress {
	if p, ok := u.progress[group]; ok {
		return p
	}
	return progress{-1, -1}
}

// lowest returns the units with the lowest number, how many have one, and the lowest and highest.
func lowest(units []*unit, at func(*unit) int) (last []*unit, of, low, high int) {
	for _, u := range units {
		n := at(u)
		if n < 0 {
			continue
		}
		if of++; of == 1 || n < low {
			low, last = n, nil
		}
		if n == low {
			last = append(last, u)
		}
		high = max(high, n)
	}
	return last, of, low, high
}

// accuse names the one member that all units belong to; of several it is nobody, and all are suspects.
func accuse(role Role, sure float64, units []*unit, because string) Culprit {
	members := membersOf(units)
	if len(members) != 1 || members[0] < 0 {
		return Culprit{Member: -1, Suspects: members, Because: because}
	}
	return Culprit{Role: role, Member: members[0], Ranks: rankList(units...), Confidence: sure, Because: because}
}

func membersOf(units []*unit) []int {
	var out []int
	for _, u := range units {
		if !slices.Contains(out, u.member) {
			out = append(out, u.member)
		}
	}
	slices.Sort(out)
	return out
}

func rankList(units ...*unit) []int {
	var out []int
	for _, u := range units {
		if u.rank >= 0 {
			out = append(out, u.rank)
		}
	}
	return out
}

// String names a process for people.
func (u *unit) String() string {
	if u.rank < 0 {
		return fmt.Sprintf("member %d", u.member)
	}
	return fmt.Sprintf("rank %d", u.rank)
}

func names(units []*unit) string {
	parts := make([]string, len(units))
	for i, u := range units {
		parts[i] = u.String()
	}
	return strings.Join(parts, ", ")
}
