package heal

import (
	"maps"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// reports is what a node says of itself and of what runs there:
//
//	check wl-1 unhealthy|stalled|passes [failures=3] [ago=30s] [reason=it_says_so]: what a workload's own checks find
//	fault n1 disk_full=why…: a condition of the node; fault n1 disk_full= ends it
//	machine n1 host/edac_ue failure=host_hw action=replace_hw says=… dimm=…: its kernel reports a fault
func (w *world) reports(what string, words []string, kv map[string]string) {
	switch what {
	case "check":
		w.check(words[0], words[1], kv)
	case "fault":
		w.fault(words[0], kv)
	default:
		w.kernelFault(words[0], words[1], kv)
	}
}

// fault changes what a node reports of itself. A driver takes it out of placement meanwhile.
func (w *world) fault(id string, kv map[string]string) {
	n := w.nodes[autoheal.NodeID(id)]
	n.Conditions = maps.Clone(n.Conditions)
	if n.Conditions == nil {
		n.Conditions = map[string]string{}
	}
	for name, why := range kv {
		if n.Conditions[name] = strings.ReplaceAll(why, "_", " "); why == "" {
			delete(n.Conditions, name)
		}
	}
	n.Ready = n.Link == autoheal.LinkUp && len(n.Faults()) == 0
	w.send(w.nodeEvent(n))
}

// kernelFault has the kernel of a node report a fault: a signal, and a condition for as long as it counts.
func (w *world) kernelFault(id, rule string, kv map[string]string) {
	n := w.nodes[autoheal.NodeID(id)]
	s := &autoheal.Signal{
		Rule: rule, Source: "kmsg", Failure: autoheal.Failure(kv["failure"]), Action: autoheal.Advice(kv["action"]), Subject: n.Ref(), At: w.now, SeenAt: w.now,
		TTL: time.Hour, Count: 1, Conclusive: true, Excerpt: strings.ReplaceAll(kv["says"], "_", " "), Fields: map[string]string{},
	}
	for k, v := range kv {
		if k != "failure" && k != "action" && k != "says" {
			s.Fields[k] = v
		}
	}
	w.send(autoheal.Event{Kind: autoheal.EventSignal, Signal: s, At: w.now, SeenAt: w.now, Source: id})
	w.fault(id, map[string]string{autoheal.CondFault + rule: kv["says"]})
}
