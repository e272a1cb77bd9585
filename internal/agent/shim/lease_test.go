package shim

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"autoheal.dev/autoheal/internal/clock"
)

// TestDeadlineOnlyGrows renews in any order: the deadline is the latest that was given, never an earlier one.
func TestDeadlineOnlyGrows(t *testing.T) {
	t.Chdir(t.TempDir())
	rapid.Check(t, func(t *rapid.T) {
		o := &owner{spec: &Spec{}, clk: clock.Real{}, boot: func() time.Duration { return 0 }, permit: &permit{boot: Boottime}}
		var latest int64
		for range rapid.IntRange(1, 20).Draw(t, "renewals") {
			l := Lease{Enforced: rapid.Bool().Draw(t, "enforced"), At: rapid.Int64Range(0, 1000).Draw(t, "at")}
			latest = max(latest, l.At)
			o.renew(l)
			if got := o.status.Lease; got.At != latest || got.Enforced != l.Enforced {
				t.Fatalf("lease %+v after %+v, latest %d", got, l, latest)
			}
		}
	})
}

func TestGraceLiesInsideTheDeadline(t *testing.T) {
	l := Lease{Enforced: true, At: int64(time.Minute), GraceMS: 10_000}
	if l.TermAt() != 50*time.Second || l.Expired(time.Minute-1) || !l.Expired(time.Minute) {
		t.Errorf("SIGTERM at %s", l.TermAt())
	}
	if l.Enforced = false; l.Expired(time.Hour) {
		t.Error("a deadline that is not enforced expires")
	}
}

func TestRequestsFitTheirLimit(t *testing.T) {
	r := Request{Op: OpStop, Lease: Lease{true, 1 << 62, 1 << 62, 1 << 62}, GraceMS: 1 << 62, Force: true, Reason: "superseded"}
	data, err := json.Marshal(r)
	if err != nil || len(data) > maxRequest/2 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
