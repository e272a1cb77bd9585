package signal

import (
	"cmp"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// Limits of a Book. A log that repeats itself 800,000 times costs what its distinct lines cost.
const (
	defaultEntries = 4096
	defaultTexts   = 64
)

// BookOptions bounds a Book; zero values mean the defaults.
type BookOptions struct {
	// Entries is how many signals it holds, Texts how many different messages of one code; further ones of that code and
	// subject count as one.
	Entries, Texts int
}

// Entry is one signal with how often it came.
type Entry struct {
	Found        // as it came first
	Count    int // lines
	LastLine int // the latest of them
	LastAt   time.Time
}

// Book keeps the signals of one source that stand: de-duplicated, counted and bounded. All-clears take signals away,
// and so does time. It is not for use by several at once.
type Book struct {
	opt     BookOptions
	entries map[entryKey]*Entry
	texts   map[string]int // entries by code
	losses  map[string]losses
	// Withdrawn counts the signals that an all-clear took back, Benign the lines that were recognised as harmless, and
	// Dropped those for which there was no place.
	Withdrawn, Benign, Dropped int
}

type entryKey struct {
	code, subject, message string
}

// losses are how often a thing failed and came back, within flapWindow.
type losses struct {
	count int
	at    time.Time
	boot  time.Duration
}

// flapWindow is the time in which repeated losses are no longer transient (behaviour B3).
const flapWindow = 5 * time.Minute

// NewBook returns an empty Book.
func NewBook(opt BookOptions) *Book {
	opt.Entries, opt.Texts = cmp.Or(opt.Entries, defaultEntries), cmp.Or(opt.Texts, defaultTexts)
	return &Book{opt: opt, entries: map[entryKey]*Entry{}, texts: map[string]int{}, losses: map[string]losses{}}
}

// Add takes a finding and returns its entry, and whether it is new; nil if the finding is no signal.
func (b *Book) Add(f Found) (*Entry, bool) {
	if len(f.Rule.Clears) > 0 {
		b.withdraw(f)
	}
	if f.Benign {
		b.Benign++
		return nil, false
	}
	key := entryKey{f.Code, f.Subject.ID, f.Message}
	if e, ok := b.entries[key]; ok {
		e.again(f)
		return e, false
	}
	if b.texts[f.Code] >= b.opt.Texts {
		key.message = "" // one entry stands for all further messages
		if e, ok := b.entries[key]; ok {
			e.again(f)
			return e, false
		}
	}
	if len(b.entries) >= b.opt.Entries {
		b.Dropped++
		return nil, false
	}
	e := &Entry{Found: f, Count: 1, LastLine: f.Line, LastAt: f.At}
	b.entries[key] = e
	b.texts[f.Code]++
	return e, true
}

func (e *Entry) again(f Found) {
	e.Count++
	e.LastLine, e.LastAt = f.Line, f.At
}

// withdraw removes what an all-clear takes back.
func (b *Book) withdraw(f Found) {
	for key, e := range b.entries {
		if f.takesBack(e.Found) && !b.flaps(e) {
			b.remove(key, e)
			b.Withdrawn++
		}
	}
}

// flaps counts a loss that is about to be taken back, and says whether it was one too many. What has no time counts as
// soon after the one before.
func (b *Book) flaps(e *Entry) bool {
	if e.Rule.Flaps == 0 || len(b.losses) >= b.opt.Entries {
		return false
	}
	key := e.Code + "\x00" + e.thing()
	l := b.losses[key]
	if !e.LastAt.IsZero() && !l.at.IsZero() && e.LastAt.Sub(l.at) > flapWindow || e.Boot >= 0 && l.boot > 0 && e.Boot-l.boot > flapWindow {
		l = losses{}
	}
	l.count, l.at, l.boot = l.count+1, e.LastAt, e.Boot
	b.losses[key] = l
	return l.count >= e.Rule.Flaps
}

func (b *Book) remove(key entryKey, e *Entry) {
	delete(b.entries, key)
	if b.texts[e.Code]--; b.texts[e.Code] == 0 {
		delete(b.texts, e.Code)
	}
}

// Expire removes what was not seen for its time to live.
func (b *Book) Expire(now time.Time) {
	for key, e := range b.entries {
		if !e.LastAt.IsZero() && now.Sub(e.LastAt) > e.Rule.TTL {
			b.remove(key, e)
		}
	}
}

// Clear removes all signals of a code, or of all below it, on any subject: a person said that they no longer hold.
func (b *Book) Clear(code string) {
	for key, e := range b.entries {
		if under(e.Code, code) {
			b.remove(key, e)
			b.Withdrawn++
		}
	}
}

// Forget removes the signals that match: what they were about has been mended.
func (b *Book) Forget(match func(Found) bool) {
	for key, e := range b.entries {
		if match(e.Found) {
			b.remove(key, e)
			b.Withdrawn++
		}
	}
}

// Entries lists the signals in the order of their first lines.
func (b *Book) Entries() []*Entry {
	out := make([]*Entry, 0, len(b.entries))
	for _, e := range b.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(x, y *Entry) int {
		return cmp.Or(cmp.Compare(x.Line, y.Line), cmp.Compare(x.Code, y.Code), cmp.Compare(x.Message, y.Message))
	})
	return out
}

// Verdict judges what stands.
func (b *Book) Verdict() Verdict {
	entries := b.Entries()
	found := make([]Found, len(entries))
	for i, e := range entries {
		found[i] = e.Found
	}
	v := Judge(found)
	if len(found) == 0 && b.Benign+b.Withdrawn > 0 {
		v.Because = nil
		v.because("known lines only: %d harmless, %d failures taken back by a later line", b.Benign, b.Withdrawn)
	}
	return v
}

// Signals returns the signals that stand as nouns, in the order of their first lines.
func (b *Book) Signals() []autoheal.Signal {
	out := []autoheal.Signal{}
	for _, e := range b.Entries() {
		s := e.Signal()
		s.Count = e.Count
		out = append(out, s)
	}
	return out
}
