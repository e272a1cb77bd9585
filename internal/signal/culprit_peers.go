package signal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// missing tells who does not say that it waits while the others do.
func (e *evidence) missing() (Culprit, bool) {
	waiting := map[int]bool{}
	for _, u := range e.units {
		if u.rank >= 0 && (u.waits != nil || len(u.progress) > 0) {
			waiting[u.rank] = true
		}
	}
	var gone []*unit
	for rank := range e.ranks {
		if !waiting[rank] {
			gone = append(gone, &unit{member: e.memberOf(rank), rank: rank})
		}
	}
	n := len(waiting)
	if n == 0 || len(gone) == 0 || len(gone) >= n && e.ranks != 2 {
		return Culprit{}, false
	}
	sure := sureMissing
	switch n {
	case 1:
		sure = sureMissingOfOne
	case 2:
		sure = sureMissingOfTwo
	}
	return accuse(RoleMissing, sure, gone, fmt.Sprintf("%d processes wait in a collective, and %s is not among them", n, names(gone))), true
}

// named tells whom most of the others name as the peer that they lost.
func (e *evidence) named() (Culprit, bool) {
	votes, voters := map[string][]int{}, 0
	for _, u := range e.units {
		if len(u.names)+len(u.accuses) > 0 {
			voters++
		}
		for _, key := range u.votes(e) {
			votes[key] = append(votes[key], u.member)
		}
	}
	top, second := "", 0
	for _, key := range sortedKeys(votes) {
		switch n := len(votes[key]); {
		case n > len(votes[top]):
			top, second = key, len(votes[top])
		case n > second:
			second = n
		}
	}
	n := len(votes[top])
	switch {
	case n == 0:
		return Culprit{}, false
	case n == second:
		return tied(votes, n, voters)
	case n*2 <= voters && voters > 1:
		return Culprit{}, false
	}
	found := Culprit{Role: RoleNamed, Member: -1, Confidence: sureMissingOfOne, Because: fmt.Sprintf("%d of %d processes that lost a peer name %s", n, voters, top)}
	switch {
	case n >= 3 && n*4 >= voters*3:
		found.Confidence = sureNamedByMost
	case n >= 2:
		found.Confidence = sureNamedBySome
	}
	if m, ok := strings.CutPrefix(top, "member "); ok {
		found.Member, _ = strconv.Atoi(m)
		return found, true
	}
	found.Peer = top
	return found, true
}

// tied names the members that most of the others name, where there are several of them: one is the culprit and one its
// victim. More than two of many are no tie but a mess.
func tied(votes map[string][]int, n, voters int) (Culprit, bool) {
	var suspects []int
	for _, key := range sortedKeys(votes) {
		if len(votes[key]) != n {
			continue
		}
		m, ok := strings.CutPrefix(key, "member ")
		if !ok {
			return Culprit{}, false
		}
		member, _ := strconv.Atoi(m)
		suspects = append(suspects, member)
	}
	if len(suspects) > 2 {
		return Culprit{}, false
	}
	slices.Sort(suspects)
	return Culprit{Member: -1, Suspects: suspects, Because: fmt.Sprintf("of %d processes that lost a peer %d name member %d, and as many name member %d", voters, n, suspects[0], suspects[1])}, true
}

// votes returns whom a process names, each once: a member where it can be told, else an address. Nobody names itself.
func (u *unit) votes(e *evidence) []string {
	var out []string
	vote := func(member int, peer string) {
		key := peer
		if member >= 0 {
			key = "member " + strconv.Itoa(member)
		}
		if key != "" && member != u.member && !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	for _, rank := range u.accuses {
		vote(e.memberOf(rank), "")
	}
	for _, peer := range u.names {
		if m, ok := e.addresses[peer]; ok {
			vote(m, peer)
		} else {
			vote(-1, peer)
		}
	}
	return out
}

func sortedKeys(m map[string][]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
