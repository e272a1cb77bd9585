package signal

import "time"

// Replays keeps a source that is read anew from being believed anew. The kernel's ring is replayed whenever it is opened,
// and acting on yesterday's line has rebooted nodes that were long repaired.
type Replays struct {
	// MaxAge is the age beyond which a line is history.
	MaxAge time.Duration
	boot   string
	last   uint64
	// Repeated counts the lines that were seen before, Old those beyond MaxAge.
	Repeated, Old int
}

// Mark is how far a source was read; it survives the reader.
type Mark struct {
	Boot     string
	Sequence uint64
}

// NewReplays continues after a mark; the zero Mark has read nothing.
func NewReplays(maxAge time.Duration, after Mark) *Replays {
	return &Replays{MaxAge: maxAge, boot: after.Boot, last: after.Sequence}
}

// Fresh says whether a line may be believed: it is beyond the mark of its boot and not too old. Sequences of another boot
// start anew.
func (r *Replays) Fresh(m Mark, age time.Duration) bool {
	if m.Boot == r.boot && m.Sequence <= r.last && r.last > 0 {
		r.Repeated++
		return false
	}
	r.boot, r.last = m.Boot, m.Sequence
	if age > r.MaxAge {
		r.Old++
		return false
	}
	return true
}

// Mark returns how far the source was read.
func (r *Replays) Mark() Mark { return Mark{Boot: r.boot, Sequence: r.last} }
