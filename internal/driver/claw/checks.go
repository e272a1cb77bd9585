package claw

import (
	"reflect"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// checks is what a node says of an attempt's own checks. It is not kept in the registry: a listing tells it again.
type checks struct {
	isReady bool
	readyAt time.Time
	failing *autoheal.CheckFailure
}

func (c *checks) ready() bool { return c == nil || c.isReady }

func (c *checks) same(o *checks) bool { return reflect.DeepEqual(c, o) }

// checksOf takes over what a node said at at. Ages make dates once: told again, the same finding has the same date.
func checksOf(a *attempt, s *nodeproto.CheckStatus, at time.Time) *checks {
	if s == nil {
		return nil
	}
	before := a.checks
	if before == nil {
		before = &checks{}
	}
	c := &checks{isReady: s.Ready, readyAt: before.readyAt}
	if s.ReadyMS > 0 && c.readyAt.IsZero() {
		c.readyAt = at.Add(-age(s.ReadyMS))
	}
	if s.Failing == "" {
		return c
	}
	c.failing = &autoheal.CheckFailure{What: s.Failing, Since: at.Add(-age(s.FailingMS)), Failures: s.Failures, Reason: s.Reason, Output: s.Output}
	if b := before.failing; b != nil && b.What == s.Failing && b.Reason == s.Reason {
		c.failing.Since = b.Since
	}
	return c
}
