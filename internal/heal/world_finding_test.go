package heal

import (
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
)

// toldRule is the rule of signals that carry a whole finding, for transcripts about what follows from one.
const toldRule = "test/finding"

// told is a detector that says what a transcript tells it to.
type told struct{}

func (told) Kind() autoheal.FailureKind { return "" }

func (told) Detect(v detect.View, ch detect.Change, now time.Time) []autoheal.Finding {
	s := ch.Signal
	if s == nil || s.Rule != toldRule {
		return nil
	}
	f := autoheal.Finding{
		Kind: autoheal.FailureKind(s.Fields["kind"]), Subject: s.Subject, Confidence: 0.95, Conclusive: s.Conclusive, Withdrawn: s.Clears, Since: s.At, Evidence: []autoheal.Signal{*s},
		Because: s.Fields["kind"] + ".told", Cause: s.Fields["cause"], Affected: s.Also,
	}
	return []autoheal.Finding{f}
}

// finding tells a finding: finding node_fault node/n1 cause=… [quote=…] [on=n1] [affects=wl-a,wl-b] [withdrawn=1]. Blanks of
// texts are written as _.
func (w *world) finding(words []string, kv map[string]string) {
	text := func(k string) string { return strings.ReplaceAll(kv[k], "_", " ") }
	kind, id, _ := strings.Cut(words[1], "/")
	s := &autoheal.Signal{
		Rule: toldRule, Source: "kmsg", Subject: autoheal.Ref{Kind: autoheal.RefKind(kind), ID: id}, At: w.now, SeenAt: w.now, TTL: 5 * time.Minute, Count: 1,
		Conclusive: true, Excerpt: text("quote"), Clears: kv["withdrawn"] != "", Fields: map[string]string{"kind": words[0], "cause": text("cause")},
	}
	if n := w.nodes[autoheal.NodeID(id)]; n != nil {
		s.Subject = n.Ref()
	}
	if n := w.nodes[autoheal.NodeID(kv["on"])]; n != nil {
		s.Also = append(s.Also, n.Ref())
	}
	for a := range strings.SplitSeq(kv["affects"], ",") {
		if a != "" {
			s.Also = append(s.Also, w.current(a).Ref())
		}
	}
	w.core.detectors = append(detect.All(), told{})
	w.send(autoheal.Event{Kind: autoheal.EventSignal, Signal: s, At: w.now, SeenAt: w.now, Source: "sim"})
}
