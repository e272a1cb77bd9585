package sim

import "time"

// lease is the lease by echo as an agent keeps it for its shims, on the node's own clock: the deadline is when the answer
// with the largest acknowledged number was sent, plus the self-stop length. An acknowledgement that is late, replayed or
// duplicated can never move it beyond that.
type lease struct {
	n     int64                   // number of the last answer
	acked int64                   // largest acknowledged
	sent  map[int64]time.Duration // when the unacknowledged ones were sent
}

// answer numbers an answer sent at now.
func (l *lease) answer(now time.Duration) int64 {
	l.n++
	if l.sent == nil {
		l.sent = map[int64]time.Duration{}
	}
	l.sent[l.n] = now
	return l.n
}

// ack takes an acknowledgement and returns when the answer it names was sent.
func (l *lease) ack(n int64) (time.Duration, bool) {
	at, ok := l.sent[n]
	if !ok || n <= l.acked {
		return 0, false
	}
	l.acked = n
	for k := range l.sent {
		if k <= n {
			delete(l.sent, k)
		}
	}
	return at, true
}
