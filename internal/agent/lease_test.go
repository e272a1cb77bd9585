package agent

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLeaseNeverOutlivesItsEcho attacks the lease with polls that are late, doubled, out of order or made up. A model
// keeps what is true: when each answer was sent, and the largest one that any poll has acknowledged.
func TestLeaseNeverOutlivesItsEcho(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const selfStop = time.Minute
		var l lease
		now := time.Hour
		sentAt := map[int64]time.Duration{}
		var acked int64
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(90*time.Second)).Draw(t, "passed"))
			if rapid.Bool().Draw(t, "answer") {
				sentAt[l.answer(now)] = now
				continue
			}
			n := rapid.Int64Range(-1, l.last+2).Draw(t, "ack") // any earlier one again, none, and some that were never sent
			before := l.deadline
			l.ack(n, selfStop)
			if _, real := sentAt[n]; real {
				acked = max(acked, n)
			}
			limit := time.Duration(0)
			if acked > 0 {
				limit = sentAt[acked] + selfStop
			}
			if l.deadline > limit {
				t.Fatalf("deadline %s after ack %d, the echo of %d allows %s", l.deadline, n, acked, limit)
			}
			if l.deadline < before {
				t.Fatalf("deadline fell from %s to %s", before, l.deadline)
			}
			if n > 0 && n == acked && l.deadline != limit {
				t.Fatalf("deadline %s, an honest ack of %d gives %s", l.deadline, n, limit)
			}
		}
	})
}

func TestLease(t *testing.T) {
	const selfStop = time.Minute
	var l lease
	if l.known() || l.valid(time.Hour) {
		t.Error("before the first poll there is nothing to tell, and whether there is self-stop is not known")
	}
	l.ack(0, selfStop)
	if l.known() || l.valid(time.Hour) {
		t.Error("with self-stop on, nothing may be started before an answer was acknowledged")
	}
	n := l.answer(time.Hour)
	l.ack(n, selfStop)
	if l.deadline != time.Hour+selfStop || !l.valid(l.deadline-selfStop/2) || l.valid(l.deadline-selfStop/2+1) {
		t.Errorf("deadline %s", l.deadline)
	}
	l.ack(n, 0)
	if !l.known() || !l.valid(2*time.Hour) || l.deadline != 0 {
		t.Error("switched off, nothing expires")
	}
	l.ack(n, selfStop)
	if l.known() || l.valid(time.Hour) {
		t.Error("switched on again, an old acknowledgement is worth nothing")
	}
}

func TestLeaseRefusedRenews(t *testing.T) {
	var l lease
	if l.refusedAt(time.Hour) {
		t.Error("without self-stop there is nothing to renew")
	}
	l.ack(0, time.Minute)
	if !l.refusedAt(time.Hour) || l.deadline != time.Hour+time.Minute {
		t.Errorf("deadline %s", l.deadline)
	}
	if l.refusedAt(time.Hour) {
		t.Error("the same moment renews twice")
	}
}

func TestLeaseForgetsWhatIsNeverAcknowledged(t *testing.T) {
	var l lease
	for i := range 10 * maxUnacked {
		l.answer(time.Duration(i + 1))
	}
	if len(l.sent) != maxUnacked {
		t.Errorf("%d answers are remembered", len(l.sent))
	}
	l.ack(1, time.Minute)
	if l.deadline != 0 {
		t.Errorf("deadline %s from an answer that was forgotten", l.deadline)
	}
}
