package heal

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// Bounds of comparing nodes (behaviour E9).
const (
	comparedPeers = 2
	compareTime   = 30 * time.Second // for all answers; a node that does not give one in time is not available
	pairsTime     = 5 * time.Second  // after that, for what was answered to arrive
)

// peers chooses the nodes that suspects are compared with: those of the same gang first. Without a suspect the ranks' own
// nodes are compared with each other.
func (c *Core) peers(suspects, mates []autoheal.NodeID) []autoheal.NodeID {
	var out []autoheal.NodeID
	most := comparedPeers
	if len(suspects) == 0 {
		most++
	}
	add := func(ids []autoheal.NodeID) {
		for _, id := range ids {
			n := c.v.nodes[id]
			if len(out) < most && n != nil && n.Link == autoheal.LinkUp && !slices.Contains(suspects, id) && !slices.Contains(out, id) && c.d.isolated(id) == nil {
				out = append(out, id)
			}
		}
	}
	add(mates)
	if len(out) < most {
		add(slices.Sorted(maps.Keys(c.v.nodes)))
	}
	return out
}

// stepCollectNetwork has every suspect and its peers tell the state of their links, and how they reach each other.
func (c *Core) stepCollectNetwork(i *incident) bool {
	if i.Kind != autoheal.NetworkPartition {
		return true
	}
	if i.Told == nil && i.Subject.Kind == autoheal.RefNode {
		c.tellLink(i)
	}
	if i.Told == nil || !c.toldForNow(i) {
		if !c.restarted(i) {
			return false // its recovery tells
		}
		c.stepDone(i, string(policy.StepCollectNetwork), "skipped", "its ranks were seen to before they were heard")
		return true
	}
	asked := slices.Concat(i.Told.Suspects, i.Told.Peers)
	finished := true
	for _, id := range asked {
		finished = c.compare(i, id, asked, i.Told.At) && finished
	}
	if over := i.Told.At.Add(compareTime); !finished && c.now.Before(over) {
		c.after(key{inc: i.ID}, over)
		return false
	}
	result, reason := "done", c.notAvailable(i, asked)
	if len(asked) == 0 {
		result, reason = "skipped", "there is nobody to compare"
	}
	c.stepDone(i, string(policy.StepCollectNetwork), result, reason)
	return true
}

// toldForNow reports whether what was told is about the ranks that are being recovered now.
func (c *Core) toldForNow(i *incident) bool {
	for _, w := range i.Order {
		if rec := i.Recoveries[w]; rec.Step == autoheal.StepWaiting && i.Told.At.Before(rec.StepAt) {
			return false
		}
	}
	return true
}

// compare asks one node, once since then, for the state of its network, and how it reaches the others; true when that is over.
func (c *Core) compare(i *incident, id autoheal.NodeID, asked []autoheal.NodeID, since time.Time) bool {
	n := c.v.nodes[id]
	if n == nil || n.Link != autoheal.LinkUp || !n.Supports(autoheal.Collect) {
		return true
	}
	others := slices.DeleteFunc(slices.Clone(asked), func(o autoheal.NodeID) bool { return o == id })
	if len(others) == 0 {
		return true
	}
	return c.once(&proposal{
		i: i, k: key{inc: i.ID}, verb: autoheal.Collect, target: n.Ref(), step: policy.StepCollectNetwork, node: n,
		reason: "the state of its network", params: autoheal.ActionParams{Peers: others},
	}, since)
}

// notAvailable names the nodes that have not told the state of their network.
func (c *Core) notAvailable(i *incident, asked []autoheal.NodeID) string {
	var missing []autoheal.NodeID
	for _, id := range asked {
		answered := slices.ContainsFunc(i.Actions, func(a *action) bool {
			return a.Verb == autoheal.Collect && len(a.Params.Peers) > 0 && a.Target.ID == string(id) && !a.IntentAt.Before(i.Told.At) && a.Outcome == autoheal.OutcomeDone
		})
		if !answered {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("not available: the network of %v", missing)
}

// Rules of the signals in which a driver tells what a collect has found out about a network.
const (
	ruleNetworkFacts = "network/facts"
	ruleNetworkPair  = "network/pair"
)

// hearNetwork takes what a node has found out for an incident into that incident, and reports whether it was such a thing.
func (c *Core) hearNetwork(s *autoheal.Signal) bool {
	if s.Source != "collect" || s.Rule != ruleNetworkFacts && s.Rule != ruleNetworkPair {
		return false
	}
	id := autoheal.IncidentID(s.Fields["incident"])
	i := c.d.Incidents[id]
	if i == nil || i.Phase.Ended() || i.Told == nil || s.Subject.Kind != autoheal.RefNode {
		return true
	}
	if s.Rule == ruleNetworkFacts {
		e := journal.EvidenceAdded{Count: 1}
		if len(i.Evidence) < keepEvidence {
			e.Signal = s
		}
		c.record(id, e)
		return true
	}
	sent, err1 := strconv.Atoi(s.Fields["sent"])
	lost, err2 := strconv.Atoi(s.Fields["lost"])
	rtt, _ := strconv.ParseInt(s.Fields["rtt_us"], 10, 64)
	if err1 != nil || err2 != nil || lost < 0 || lost > sent {
		return true
	}
	c.record(id, journal.PairChecked{
		From: autoheal.NodeID(s.Subject.ID), To: autoheal.NodeID(s.Fields["peer"]), Sent: sent, Lost: lost, RTT: time.Duration(rtt) * time.Microsecond, Detail: clip(s.Excerpt, 300),
	})
	c.dirty[key{inc: id}] = true
	return true
}

// collected reports whether the state of the network is kept, where the ladder asks for it.
func (c *Core) collected(i *incident) bool {
	_, over := i.Steps[string(policy.StepCollectNetwork)]
	return over || !slices.Contains(c.ladder(i), policy.StepCollectNetwork)
}

// restarted reports whether no gang of an incident is still to be stopped.
func (c *Core) restarted(i *incident) bool {
	return !slices.ContainsFunc(i.Order, func(w autoheal.WorkloadID) bool {
		s := i.Recoveries[w].Step
		return s == autoheal.StepWaiting || s == autoheal.StepStopping
	})
}

// stepAlertNetwork tells people whom to look at.
func (c *Core) stepAlertNetwork(i *incident) bool {
	if i.Kind != autoheal.NetworkPartition {
		return true
	}
	if !c.collected(i) || !c.restarted(i) {
		return false
	}
	text := ""
	switch t := i.Told; {
	case t == nil:
	case t.Node != "":
		text = fmt.Sprintf("node %s is suspected of its network (%s, confidence %.2g): %s. Look at its adapter, its cable and its port of the switch: autoheal nodes show %s", t.Node, t.Role, t.Confidence, t.Because, t.Node)
	case len(t.Suspects) > 1:
		text = fmt.Sprintf("the network of %s or of %s has failed gang %s, and it cannot be told whose: %s. Look at both: autoheal nodes show %s, autoheal nodes show %s", t.Suspects[0], t.Suspects[1], t.Gang, t.Because, t.Suspects[0], t.Suspects[1])
	default:
		text = fmt.Sprintf("the network has failed gang %s, and no node of it stands out: %s. See what its ranks said: autoheal incidents show %s", t.Gang, t.Because, i.ID)
	}
	if text == "" {
		c.stepDone(i, string(policy.StepAlert), "skipped", "nobody is suspected")
		return true
	}
	c.alert(i, alertSpec{name: "check-network", severity: autoheal.SeverityWarning, dedup: fmt.Sprintf("%s network %d", i.ID, i.Told.At.UnixMilli()), text: text})
	c.stepDone(i, string(policy.StepAlert), "done", "")
	return true
}
