package agent

import (
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// ringSize bounds the changes that are kept; who falls further behind gets a full listing.
const ringSize = 4096

// change is one entry of the ring: exactly one pointer is set.
type change struct {
	seq     int64
	at      time.Duration // CLOCK_BOOTTIME
	node    *nodeproto.NodeStatus
	attempt *view
	signal  *autoheal.Signal
	size    int // in an answer; of signals that stand
}

// ring keeps the latest changes. Reading consumes nothing, so that a poll whose answer was lost can be repeated. It is
// guarded by its owner's lock.
type ring struct {
	seq     int64 // of the newest change
	entries []change
	dropped int64 // seq of the newest entry that fell out
}

// add appends a change and returns its number.
func (r *ring) add(c change) int64 {
	r.seq++
	c.seq = r.seq
	if len(r.entries) == ringSize {
		r.dropped = r.entries[0].seq
		r.entries = r.entries[1:]
	}
	r.entries = append(r.entries, c)
	return r.seq
}

// skip reserves n numbers that no change has, for the pages of a listing.
func (r *ring) skip(n int64) (first int64) {
	first = r.seq + 1
	r.seq += n
	return first
}

// after returns the changes with numbers above seq. lost counts those that fell out since; then only a full listing
// helps. A number that was never given out (after > seq) is lost as well.
func (r *ring) after(seq int64) (changes []change, lost int64) {
	if seq > r.seq {
		return nil, 1
	}
	if seq < r.dropped {
		return nil, r.dropped - seq
	}
	i := len(r.entries)
	for i > 0 && r.entries[i-1].seq > seq {
		i--
	}
	return r.entries[i:], 0
}
