package heal

import "autoheal.dev/autoheal"

// newest finds the newest action of an incident for a verb on a target, however many it has.
type newest struct {
	n  int // so many of its actions are in of
	of map[actionFor]*action
}

// actionFor is what an action is about.
type actionFor struct {
	verb   autoheal.Verb
	target autoheal.Ref
}

// fewActions of an incident are looked through one by one.
const fewActions = 32

// newestAction finds the newest action of an incident for a verb on a target, or nil.
func (c *Core) newestAction(i *incident, verb autoheal.Verb, target autoheal.Ref) *action {
	if len(i.Actions) <= fewActions {
		return i.lookThrough(verb, target)
	}
	l := c.ix.newest[i.ID]
	if l == nil {
		l = &newest{of: map[actionFor]*action{}}
		c.ix.newest[i.ID] = l
	}
	for ; l.n < len(i.Actions); l.n++ {
		a := i.Actions[l.n]
		l.of[actionFor{a.Verb, a.Target}] = a
	}
	return l.of[actionFor{verb, target}]
}

// lookThrough does the same by looking at one after the other.
func (i *incident) lookThrough(verb autoheal.Verb, target autoheal.Ref) *action {
	for n := len(i.Actions) - 1; n >= 0; n-- {
		if a := i.Actions[n]; a.Verb == verb && a.Target == target {
			return a
		}
	}
	return nil
}

// lastStart returns the newest start that an incident asked for in a recovery, or nil.
func (c *Core) lastStart(i *incident, rec *recovery) *action {
	var last *action
	for _, w := range rec.Members {
		if a := c.ix.starts[w]; a != nil && a.Incident == i.ID && a.Workload == rec.Workload && (last == nil || a.IntentAt.After(last.IntentAt)) {
			last = a
		}
	}
	return last
}
