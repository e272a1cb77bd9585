package signal

import (
	"time"

	"autoheal.dev/autoheal"
)

// Line is one line, or one record of several lines, of a log.
type Line struct {
	Text []byte // whole, with its frame
	Kind Kind   // of the log: kernel, workload, or any when it mixes both
	// Number counts from 1.
	Number int
	// At is when it was written, as a reader learned it; zero lets the frame say it. Framed means that the reader removed
	// the frame and knows who wrote the message.
	At     time.Time
	Framed bool
	Origin Origin
}

// Found is what a line means, with where it was found.
type Found struct {
	Match
	Subject autoheal.Ref
	Line    int
	// Replaces is the line of the exception that this one came out of handling; 0 if none.
	Replaces int
	Origin   Origin
	In       Kind // as what the line counts: the kind of its log, or what its frame says
	At       time.Time
	Boot     time.Duration // since boot; -1 if unknown
	Message  string        // at most maxExcerpt bytes
}

// maxExcerpt is how much of a message a signal keeps.
const maxExcerpt = 2 << 10

// contextReach is how many lines before another a context line is believed to belong to it.
const contextReach = 200

// Stream reads the lines of one source in order. It keeps what a meaning needs of earlier lines, which is bounded: the
// last line of each context rule.
type Stream struct {
	catalogue *Catalogue
	inventory *Inventory
	context   map[string]contextLine // by rule
	known     map[string]known       // by message: storms repeat few lines
	tracebacks
}

// known is what a message meant when it came before.
type known struct {
	kind  Kind
	found Found
}

// maxKnown bounds the memory for repeated messages; when it is full it starts anew.
const maxKnown = 1024

type contextLine struct {
	number int
	fields map[string]string
}

// NewStream returns a Stream that has read nothing. The inventory, which may be nil, maps PCI addresses to GPUs.
func NewStream(c *Catalogue, inv *Inventory) *Stream {
	return &Stream{catalogue: c, inventory: inv, context: map[string]contextLine{}, known: map[string]known{}}
}

// Feed returns what a line means, benign meanings included; ok is false for the great majority, which means nothing.
func (s *Stream) Feed(l Line) (Found, bool) {
	fr := Frame{Origin: l.Origin, Boot: -1, Message: l.Text}
	if !l.Framed {
		fr = Unframe(l.Text)
	}
	at := fr.At
	if !l.At.IsZero() {
		at = l.At
	}
	kind := evidenceIn(l.Kind, fr.Origin)
	f, ok := s.meaning(fr.Message, kind, l.Number)
	f.Line, f.Origin, f.At, f.Boot = l.Number, fr.Origin, at, fr.Boot
	if ok && f.Boot >= 0 && f.Boot < f.Rule.Settle {
		f.Benign = true
	}
	return f, ok
}

// meaning returns what a message means here, after what came before it.
func (s *Stream) meaning(message []byte, kind Kind, number int) (Found, bool) {
	if k, ok := s.known[string(message)]; ok && k.kind == kind {
		return k.found, true
	}
	m, ok := s.catalogue.Match(message, kind)
	if !ok {
		return Found{}, false
	}
	m.takeRank(message)
	s.takeContext(&m, number)
	if m.Rule.Context || s.catalogue.taken[m.Rule.ID] {
		s.context[m.Rule.ID] = contextLine{number, m.Fields}
	}
	if m.Rule.Context {
		s.note(m.Rule.Traceback, number)
		return Found{}, false
	}
	replaces := 0
	if m.Rule.Exception {
		ignored, earlier := s.see(number)
		if ignored {
			return Found{}, false
		}
		replaces = earlier
	}
	f := Found{Match: m, Subject: s.subject(m), Replaces: replaces, In: kind, Message: string(message[:min(len(message), maxExcerpt)])}
	if len(m.Rule.Takes) == 0 && !s.catalogue.taken[m.Rule.ID] && !m.Rule.Exception && len(message) <= maxExcerpt {
		if len(s.known) >= maxKnown {
			clear(s.known)
		}
		s.known[f.Message] = known{kind, f}
	}
	return f, true
}

// takeContext gives a match the fields of the lines before it that it does not have itself.
func (s *Stream) takeContext(m *Match, number int) {
	for _, id := range m.Rule.Takes {
		c, ok := s.context[id]
		if !ok || number-c.number > contextReach {
			continue
		}
		for k, v := range c.fields {
			if m.Fields == nil {
				m.Fields = map[string]string{}
			}
			if m.Fields[k] == "" {
				m.Fields[k] = v
			}
		}
	}
}

// evidenceIn says as what a line may count: in a log that mixes both its frame decides, and in a kernel log a program
// that quotes the kernel is not the kernel. What a workload writes never is.
func evidenceIn(log Kind, o Origin) Kind {
	switch log {
	case KindWorkload:
		return KindWorkload
	case KindKernel:
		if o == OriginProgram || o == OriginWorkload {
			return kindProgram
		}
		return KindKernel
	}
	switch o {
	case OriginKernel:
		return KindKernel
	case OriginWorkload:
		return KindWorkload
	case OriginProgram:
		return kindProgram
	}
	return KindAny
}

// kindProgram is the kind of what a system program logs: rules for any log count there, and no others.
const kindProgram Kind = "program"

// subject names what a match is about, as far as the line says. Node and workload are left to the caller, who knows.
func (s *Stream) subject(m Match) autoheal.Ref {
	switch m.Scope {
	case ScopeGPU:
		pci := m.Fields["pci"]
		if gpu, ok := s.inventory.Find(pci); ok {
			m.Fields["uuid"], m.Fields["index"] = gpu.UUID, gpu.Index
			return autoheal.Ref{Kind: autoheal.RefGPU, ID: gpu.UUID}
		}
		return autoheal.Ref{Kind: autoheal.RefGPU, ID: pci}
	case ScopeWorkload:
		return autoheal.Ref{Kind: autoheal.RefWorkload}
	default:
		return autoheal.Ref{Kind: autoheal.RefNode}
	}
}
