package sense

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

const (
	// tellAgain is how often the count of a signal that is told already is told anew.
	tellAgain = 10 * time.Second
	// maxSignals is how many signals of one source stand at once, maxTexts how many different texts of one meaning.
	maxSignals, maxTexts = 256, 8
)

// Ear keeps what one source says. It is not for use by several at once.
type Ear struct {
	kind   signal.Kind
	stream *signal.Stream
	book   *signal.Book
	emit   func(autoheal.Signal, time.Duration)
	lines  int
	grown  map[*signal.Entry]bool // told with a smaller count
	toldAt time.Duration
}

// NewEar returns an Ear that has heard nothing. Emit gets each signal when it is new, with Clears when a line takes it
// back, and now and then when its count has grown, with the time since boot at which its line was written.
func NewEar(c *signal.Catalogue, kind signal.Kind, emit func(autoheal.Signal, time.Duration)) *Ear {
	return &Ear{
		kind: kind, stream: signal.NewStream(c, nil), book: signal.NewBook(signal.BookOptions{Entries: maxSignals, Texts: maxTexts}),
		emit: emit, grown: map[*signal.Entry]bool{},
	}
}

// Skip counts lines that were not worth hearing.
func (e *Ear) Skip(lines int) { e.lines += lines }

// Hear takes one line, written at a time since boot, and tells what is new in it.
func (e *Ear) Hear(text []byte, at time.Duration) {
	e.lines++
	f, ok := e.stream.Feed(signal.Line{Text: text, Kind: e.kind, Number: e.lines})
	if !ok {
		return
	}
	f.At, f.Boot = onAxis(at), at
	var before []*signal.Entry
	if len(f.Rule.Clears) > 0 {
		before = e.book.Entries()
	}
	entry, isNew := e.book.Add(f)
	e.taken(before, at)
	switch {
	case entry == nil:
	case isNew:
		e.emit(entry.Signal(), at)
	default:
		e.grown[entry] = true
	}
}

// taken tells what a line has taken back.
func (e *Ear) taken(before []*signal.Entry, at time.Duration) {
	if len(before) == 0 {
		return
	}
	after := e.book.Entries()
	for _, entry := range before {
		if !slices.Contains(after, entry) {
			s := entry.Signal()
			s.Clears = true
			e.emit(s, at)
		}
	}
}

// onAxis puts a time since boot on the axis that a book's times to live are counted on; no date comes out of it.
func onAxis(at time.Duration) time.Time { return time.Unix(0, 0).Add(at) }

// Tell tells the counts that have grown, unless it did so a moment ago, and forgets what has expired.
func (e *Ear) Tell(now time.Duration) {
	if now-e.toldAt < tellAgain {
		return
	}
	e.toldAt = now
	e.book.Expire(onAxis(now))
	for _, entry := range e.book.Entries() {
		if e.grown[entry] {
			e.emit(counted(entry), now)
		}
	}
	clear(e.grown)
}

func counted(entry *signal.Entry) autoheal.Signal {
	s := entry.Signal()
	s.Count = entry.Count
	return s
}

// Found returns what stands, in the order in which it was first heard, each with the time at which it was heard last: what
// was said before an attempt began and is said again while it runs is said of that attempt, too.
func (e *Ear) Found() []signal.Found {
	var out []signal.Found
	for _, entry := range e.book.Entries() {
		f := entry.Found
		f.At, f.Boot = entry.LastAt, entry.LastAt.Sub(onAxis(0))
		out = append(out, f)
	}
	return out
}

// Forget drops what stands and matches, without telling: whoever mended it does. Said again, it is new.
func (e *Ear) Forget(match func(signal.Found) bool) {
	e.book.Forget(match)
	standing := e.book.Entries()
	for entry := range e.grown {
		if !slices.Contains(standing, entry) {
			delete(e.grown, entry)
		}
	}
}

// Dropped counts what there was no place for.
func (e *Ear) Dropped() int { return e.book.Dropped }
