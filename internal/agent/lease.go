package agent

import "time"

// maxUnacked bounds the answers whose send times are remembered; older ones can no longer extend the lease.
const maxUnacked = 1024

// lease is the lease by echo of package nodeproto, for one agent life: pure, on CLOCK_BOOTTIME values. Its one promise:
// the deadline is never later than sentAt[largest acknowledged] + the self-stop length given with an acknowledgement,
// whatever the order, duplication and delay of polls; refusedAt is the one exception, and its caller's to allow.
type lease struct {
	polled   bool          // a poll of this life said whether there is self-stop
	selfStop time.Duration // 0 = switched off
	deadline time.Duration // CLOCK_BOOTTIME; 0 = none yet
	last     int64         // number of the last answer
	acked    int64         // largest acknowledged
	sent     []sentAnswer  // ascending, all larger than acked
}

type sentAnswer struct {
	n  int64
	at time.Duration
}

// answer numbers an answer that is about to be sent.
func (l *lease) answer(now time.Duration) int64 {
	l.last++
	l.sent = append(l.sent, sentAnswer{l.last, now})
	if len(l.sent) > maxUnacked {
		l.sent = l.sent[1:]
	}
	return l.last
}

// ack takes a poll's acknowledgement of this life and reports whether the lease changed.
func (l *lease) ack(n int64, selfStop time.Duration) bool {
	before := *l
	l.polled = true
	if l.selfStop = max(selfStop, 0); l.selfStop == 0 {
		l.deadline = 0 // switched on again, it begins with a new acknowledgement
	}
	var at time.Duration
	for len(l.sent) > 0 && l.sent[0].n <= n && n <= l.last {
		at = l.sent[0].at
		l.acked = l.sent[0].n
		l.sent = l.sent[1:]
	}
	if at > 0 && l.selfStop > 0 {
		l.deadline = max(l.deadline, at+l.selfStop)
	}
	return !before.polled || l.selfStop != before.selfStop || l.deadline != before.deadline
}

// refusedAt extends the lease because the healer's own process is proven gone.
func (l *lease) refusedAt(now time.Duration) bool {
	if l.selfStop == 0 || now+l.selfStop <= l.deadline {
		return false
	}
	l.deadline = now + l.selfStop
	return true
}

// known reports whether there is anything to tell a shim: what an earlier life told stands until then.
func (l *lease) known() bool { return l.polled && l.selfStop == 0 || l.deadline > 0 }

// left is what remains; negative = expired. Without self-stop nothing expires.
func (l *lease) left(now time.Duration) time.Duration { return l.deadline - now }

// valid reports whether an at-most-once attempt may be started. Before the first poll it is not known whether there is
// self-stop: an attempt started then would have no deadline, while the healer counts on one from the life before. Half of
// the length must be left: who has just come back from a silence would start what has to be stopped in the same moment.
func (l *lease) valid(now time.Duration) bool {
	return l.polled && (l.selfStop == 0 || l.left(now) >= l.selfStop/2)
}
