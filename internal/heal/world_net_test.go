package heal

import (
	"fmt"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

// quoted runs the commands that take a line of a log as it is, and reports whether it was one.
func (w *world) quoted(line string) bool {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "prints":
		w.prints(rest)
	case "kernel":
		w.kernel(rest)
	default:
		return false
	}
	return true
}

// repeated is what a listing tells again.
func (w *world) repeated() []autoheal.Event {
	var out []autoheal.Event
	for n := range w.said {
		out = append(out, autoheal.Event{Kind: autoheal.EventSignal, Signal: &w.said[n], At: w.now, SeenAt: w.now})
	}
	return out
}

// prints has the current attempt of a workload write a line, which its node understands by the catalogue.
//
//	prints g-0 [rank0]:[E ProcessGroupNCCL.cpp:607] [Rank 0] Watchdog caught collective operation timeout: …
func (w *world) prints(rest string) {
	id, text, _ := strings.Cut(rest, " ")
	s := w.understand(text, signal.KindWorkload)
	a := w.current(id)
	s.Subject, s.Source = a.Ref(), "workload"
	s.Also = []autoheal.Ref{{Kind: autoheal.RefNode, ID: string(a.Node)}}
	w.tell(s)
}

// kernel has the kernel of a node write a line: kernel n1 TEXT; kernel n1 back TEXT takes it back.
func (w *world) kernel(rest string) {
	id, text, _ := strings.Cut(rest, " ")
	text, back := strings.CutPrefix(text, "back ")
	s := w.understand(text, signal.KindKernel)
	s.Subject, s.Source, s.Clears = w.nodes[autoheal.NodeID(id)].Ref(), "kmsg", back
	w.tell(s)
}

func (w *world) understand(text string, kind signal.Kind) autoheal.Signal {
	m, ok := w.core.v.Catalogue().Match([]byte(text), kind)
	if !ok {
		w.t.Fatalf("no rule knows the line %q", text)
	}
	return autoheal.Signal{Rule: m.Code, Failure: m.Failure, Action: m.Action, Fields: m.Fields, TTL: m.Rule.TTL, Count: 1, Excerpt: text}
}

func (w *world) tell(s autoheal.Signal) {
	s.At, s.SeenAt = w.now, w.now
	w.said = append(w.said, s)
	w.send(autoheal.Event{Kind: autoheal.EventSignal, Signal: &s, At: w.now, SeenAt: w.now})
}

// lossy n3 n1 n2: no probe passes between n3 and the others, in both directions.
func (w *world) lossy(words []string) {
	for _, o := range words[1:] {
		w.lost[[2]string{words[0], o}], w.lost[[2]string{o, words[0]}] = true, true
	}
}

// network answers what a node is asked about its network.
func (w *world) network(a autoheal.Action) []autoheal.Event {
	var out []autoheal.Event
	tell := func(rule string, failure autoheal.Failure, text string, fields map[string]string, also ...autoheal.Ref) {
		fields["incident"] = string(a.Incident)
		s := &autoheal.Signal{
			Rule: rule, Source: "collect", Failure: failure, Subject: a.Target, Also: also, At: w.now, SeenAt: w.now, Count: 1, Action: autoheal.AdviceNone, Fields: fields, Excerpt: text,
		}
		out = append(out, autoheal.Event{Kind: autoheal.EventSignal, Signal: s, At: w.now, SeenAt: w.now})
	}
	tell("network/facts", autoheal.FailureNone, "link eth0: up, 2 carrier changes, 0 errors, 0 drops\nrdma not available: /sys/class/infiniband: no such file or directory", map[string]string{})
	for _, p := range a.Params.Peers {
		lost, text, failure := 0, fmt.Sprintf("%s to %s: 0 of 20 probes lost, mean round trip 0.150 ms", a.Target.ID, p), autoheal.FailureNone
		if w.lost[[2]string{a.Target.ID, string(p)}] {
			lost, text, failure = 20, fmt.Sprintf("%s to %s: 20 of 20 probes lost", a.Target.ID, p), autoheal.FailureNetwork
		}
		tell("network/pair", failure, text, map[string]string{"peer": string(p), "sent": "20", "lost": strconv.Itoa(lost), "rtt_us": "150"}, autoheal.NodeRef(p))
	}
	return out
}

// drained marks a node; what runs there is started elsewhere, a gang as a whole.
func (w *world) drained(a autoheal.Action) []autoheal.Event {
	n := w.nodes[autoheal.NodeID(a.Target.ID)]
	n.Marks, n.Schedulable = append(n.Marks, autoheal.Mark{By: markOwner(a.Actor), Reason: a.Reason, Incident: a.Incident, At: w.now}), false
	return []autoheal.Event{w.nodeEvent(n)}
}
