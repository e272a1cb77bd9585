package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/journal/journaltest"
)

// usual returns a step as the engine makes them: a phase, a recovery's step and an intent.
func usual(b *journaltest.Builder) []journal.Record {
	return b.Step("inc-000017",
		journal.IncidentPhase{From: autoheal.Suspected, To: autoheal.Recovering, Reason: "grace over"},
		journal.RecoveryStep{Workload: "wl-000042", From: autoheal.StepWaiting, To: autoheal.StepStopping, Rung: "migrate", Try: 1, Reason: "node silent", Deadline: b.Now},
		journal.Intent{Action: autoheal.Action{
			ID: "inc-000017/3", Incident: "inc-000017", Epoch: 7, Verb: autoheal.Stop, Target: autoheal.Ref{Kind: "workload", ID: "wl-000042", Generation: "1"},
			Actor: autoheal.ActorEngine, Reason: "node n3 is offline", Deadline: b.Now,
		}, Effect: autoheal.EffectDisrupt, BudgetKey: "disrupt", Try: 1},
	)
}

// floor writes and syncs as many bytes as an append of the step puts into the write-ahead log, n times, to a file that
// is as long already, and returns the time of one.
func floor(b *testing.B, dir string, bytes, n int) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, bytes)
	if _, err := f.Write(make([]byte, bytes*64)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	began := clock.Real{}.Now()
	for i := range n {
		if _, err := f.WriteAt(buf, int64(i%64*bytes)); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return clock.Real{}.Now().Sub(began) / time.Duration(n)
}

// walBytes returns how much one append of a step adds to the write-ahead log.
func walBytes(b *testing.B, h *harness, build *journaltest.Builder) int {
	b.Helper()
	size := func() int64 {
		info, err := os.Stat(h.path + "-wal")
		if err != nil {
			b.Fatal(err)
		}
		return info.Size()
	}
	journaltest.Append(b, h.s, usual(build))
	before := size()
	const n = 20
	for range n {
		journaltest.Append(b, h.s, usual(build))
	}
	return int((size() - before) / n)
}

// BenchmarkAppendDurable reports beside the time of an append that of its floor, a bare write and fdatasync of as many
// bytes in the same run, and the ratio of the two.
func BenchmarkAppendDurable(b *testing.B) {
	h := newHarness(b)
	build := journaltest.NewBuilder()
	bytes := walBytes(b, h, build)
	n := 0
	for b.Loop() {
		journaltest.Append(b, h.s, usual(build))
		n++
	}
	took := b.Elapsed() / time.Duration(n)
	least := floor(b, filepath.Dir(h.path), bytes, min(n, 2000))
	b.ReportMetric(float64(least.Nanoseconds()), "floor-ns/op")
	b.ReportMetric(float64(took)/float64(least), "x-floor")
	b.ReportMetric(float64(bytes), "wal-B/op")
}

func filled(b *testing.B, records int) *harness {
	b.Helper()
	h := newHarness(b)
	build := journaltest.NewBuilder()
	var batch []journal.Record
	for len(batch) < records {
		batch = append(batch, usual(build)...)
	}
	// A few large steps instead of many small ones: quicker to make, the same to read.
	for i := range batch {
		batch[i].Step = uint64(i/1000) + 1
	}
	for i := 0; i < len(batch); i += 1000 {
		journaltest.Append(b, h.s, batch[i:min(i+1000, len(batch))])
	}
	return h
}

// BenchmarkReplay100k is what a start costs when nothing was compacted.
func BenchmarkReplay100k(b *testing.B) {
	h := filled(b, 100_000)
	for b.Loop() {
		n := 0
		for _, err := range h.s.Replay(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n < 100_000 {
			b.Fatalf("%d records", n)
		}
	}
}

// BenchmarkOpen100k verifies every record, as every start does.
func BenchmarkOpen100k(b *testing.B) {
	h := filled(b, 100_000)
	for b.Loop() {
		h.Reopen(b)
	}
}
