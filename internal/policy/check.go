package policy

import (
	"fmt"
	"time"

	"autoheal.dev/autoheal"
)

// startAllowance is what is kept of an objective for starting the replacement (behaviour A4).
const startAllowance = 10 * time.Second

const (
	keyGrace    = "autoHeal.node.offlineGracePeriod"
	keyInterval = "autoHeal.node.probeInterval"
	keyTimeout  = "autoHeal.node.probeTimeout"
	keySettle   = "autoHeal.node.settle"
	keySelfStop = "autoHeal.fence.selfStop"
	keyMargin   = "autoHeal.fence.margin"
	keyWait     = "autoHeal.fence.wait"
)

func keyObjective(c autoheal.Class) string { return "autoHeal.classes." + string(c) + ".objective" }

// Validate checks the settings against each other. Each problem names the numbers and what to write instead; its File
// is empty.
func (p *Policy) Validate() Problems {
	var out Problems
	add := func(detail, remedy string, keys ...string) {
		out = append(out, Problem{Key: keys[0], Detail: detail, Remedy: remedy, keys: keys})
	}
	p.checkFence(add)
	p.checkProbes(add)
	p.checkClasses(add)
	if p.Cluster.Driver == DriverOpenClaw && p.Cluster.URL == "" {
		add("the driver openclaw needs the address of its gateway", "set cluster.url, for example wss://gateway:18789", "cluster.driver", "cluster.url")
	}
	return out
}

type addProblem func(detail, remedy string, keys ...string)

func (p *Policy) checkFence(add addProblem) {
	f := p.Fence
	if f.SelfStop+f.Margin >= f.Wait {
		add(fmt.Sprintf("selfStop %s + margin %s is not less than wait %s: a new copy could start before the old one has stopped", FormatDuration(f.SelfStop), FormatDuration(f.Margin), FormatDuration(f.Wait)),
			fmt.Sprintf("set autoHeal.fence.wait above %s", FormatDuration(f.SelfStop+f.Margin)), keyWait, keySelfStop, keyMargin)
	}
	if w := p.PollWait(); w > f.SelfStop/4 {
		add(fmt.Sprintf("a poll that waits probeInterval %s is more than a quarter of selfStop %s: a few lost answers would stop workloads", FormatDuration(w), FormatDuration(f.SelfStop)),
			fmt.Sprintf("set autoHeal.node.probeInterval to at most %s, or autoHeal.fence.selfStop to at least %s", atMost(f.SelfStop/4), FormatDuration(4*w)), keyInterval, keySelfStop)
	}
}

func (p *Policy) checkProbes(add addProblem) {
	n := p.Node
	if n.ProbeTimeout >= n.ProbeInterval {
		add(fmt.Sprintf("probeTimeout %s is not less than probeInterval %s: probes would pile up", FormatDuration(n.ProbeTimeout), FormatDuration(n.ProbeInterval)),
			fmt.Sprintf("set autoHeal.node.probeTimeout below %s", FormatDuration(n.ProbeInterval)), keyTimeout, keyInterval)
	}
	if 3*n.ProbeInterval > n.OfflineGracePeriod {
		add(fmt.Sprintf("three probes of %s take longer than the grace %s: one lost answer could take a node down", FormatDuration(n.ProbeInterval), FormatDuration(n.OfflineGracePeriod)),
			fmt.Sprintf("set autoHeal.node.offlineGracePeriod to at least %s, or autoHeal.node.probeInterval to at most %s", FormatDuration(3*n.ProbeInterval), atMost(n.OfflineGracePeriod/3)),
			keyGrace, keyInterval)
	}
	class, least := p.smallestObjective()
	if 3*n.ProbeInterval > least/2 {
		add(fmt.Sprintf("three probes of %s take longer than half the objective %s of class %s", FormatDuration(n.ProbeInterval), FormatDuration(least), class),
			fmt.Sprintf("set autoHeal.node.probeInterval to at most %s, or the objective to at least %s", atMost(least/6), FormatDuration(6*n.ProbeInterval)),
			keyObjective(class), keyInterval)
	}
	if n.Settle >= n.OfflineGracePeriod/2 {
		add(fmt.Sprintf("settle %s is not less than half the grace %s", FormatDuration(n.Settle), FormatDuration(n.OfflineGracePeriod)),
			fmt.Sprintf("set autoHeal.node.settle below %s", FormatDuration(n.OfflineGracePeriod/2)), keySettle, keyGrace)
	}
}

// atMost writes an upper bound rounded down to what people write.
func atMost(d time.Duration) string { return FormatDuration(d.Truncate(time.Millisecond)) }

func (p *Policy) smallestObjective() (autoheal.Class, time.Duration) {
	class, least := autoheal.Critical, p.Classes[autoheal.Critical].Objective
	for _, c := range autoheal.Classes() {
		if o := p.Classes[c].Objective; o < least {
			class, least = c, o
		}
	}
	return class, least
}

func (p *Policy) checkClasses(add addProblem) {
	classes := autoheal.Classes()
	need := max(p.Node.OfflineGracePeriod, p.Fence.Wait) + startAllowance
	for i, c := range classes {
		if o := p.Classes[c].Objective; c != autoheal.Critical && need > o {
			add(fmt.Sprintf("the objective %s of class %s cannot be met: max(grace %s, fence wait %s) + %s to start = %s", FormatDuration(o), c, FormatDuration(p.Node.OfflineGracePeriod), FormatDuration(p.Fence.Wait), FormatDuration(startAllowance), FormatDuration(need)),
				fmt.Sprintf("set %s to at least %s, or shorten autoHeal.node.offlineGracePeriod and autoHeal.fence.wait to at most %s", keyObjective(c), FormatDuration(need), FormatDuration(max(0, o-startAllowance))),
				keyObjective(c), keyGrace, keyWait)
		}
		if i == 0 {
			continue
		}
		above := classes[i-1]
		if lo, hi := p.Classes[c].MinPriority, p.Classes[above].MinPriority; lo >= hi {
			add(fmt.Sprintf("minPriority %d of class %s is not below minPriority %d of class %s", lo, c, hi, above),
				fmt.Sprintf("set it below %d", hi), "autoHeal.classes."+string(c)+".minPriority", "autoHeal.classes."+string(above)+".minPriority")
		}
	}
}
