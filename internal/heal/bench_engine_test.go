package heal

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/journal/sqlite"
	"autoheal.dev/autoheal/internal/policy"
	"autoheal.dev/autoheal/internal/store"
)

// liveEngine is an engine with the durable journal and a cluster in memory that starts at once, in real time.
type liveEngine struct {
	b       *testing.B
	cluster *fakeCluster
	commits atomic.Int64
	wal     string
	stop    func()
}

// newLiveEngine runs an engine on so many nodes, with workloads on the first; it returns once the listing was taken in.
func newLiveEngine(b *testing.B, pol *policy.Policy, nodes, workloads int) *liveEngine {
	b.Helper()
	l := &liveEngine{b: b, cluster: newFakeCluster()}
	for n := range nodes {
		l.cluster.addNode(fmt.Sprintf("n%d", n+1))
	}
	for n := range workloads {
		l.cluster.addWorkload(fmt.Sprintf("wl-%02d", n), "n1", autoheal.High)
	}
	path := filepath.Join(b.TempDir(), "data", "state.db")
	l.wal = path + "-wal"
	db, err := store.Open(b.Context(), path, store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	journal, err := sqlite.Open(b.Context(), db, sqlite.Options{AfterAppend: func(uint64, uint64) { l.commits.Add(1) }})
	if err != nil {
		b.Fatal(err)
	}
	e := New(Options{
		Cluster: l.cluster, Store: journal, Clock: clock.NewSteady(), Logger: slog.New(slog.DiscardHandler), Policy: pol,
		Life: Life{Epoch: 1, Version: "bench", ConfigHash: "c", BootID: "b", Cluster: "default"},
	})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	}
	for {
		st, err := e.Status(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if st.Synced {
			return l
		}
	}
}

// moved waits until so many new attempts run, and returns when the last one came to life.
func (l *liveEngine) moved(attempts int) time.Time {
	for {
		l.cluster.mu.Lock()
		n, more := len(l.cluster.starts), l.cluster.more
		l.cluster.mu.Unlock()
		if n >= attempts {
			return now()
		}
		select {
		case <-more:
		case <-time.After(30 * time.Second):
			l.b.Fatalf("after 30 s %d of %d attempts run", n, attempts)
		}
	}
}

// durableWrites returns how long as many durable writes of so many bytes take, one after the other, on the same disk.
func durableWrites(b *testing.B, dir string, writes int64, bytes int) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, bytes)
	for range 64 { // the file is as long already, as the write-ahead log of a running healer is
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	began := now()
	for n := range writes {
		if _, err := f.WriteAt(buf, n%64*int64(bytes)); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return now().Sub(began)
}

// measurement is one run of a scenario beside its floor.
type measurement struct {
	took, floor time.Duration
	commits     int64
}

// report prints p50 and p95 of both, in place of the mean.
func report(b *testing.B, ms []measurement) {
	var took, floor []time.Duration
	commits := int64(0)
	for _, m := range ms {
		took, floor, commits = append(took, m.took), append(floor, m.floor), max(commits, m.commits)
	}
	ms50 := func(ds []time.Duration, p int) float64 { return float64(percentile(ds, p).Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms50(took, 50), "p50-ms")
	b.ReportMetric(ms50(took, 95), "p95-ms")
	b.ReportMetric(ms50(floor, 50), "floor-p50-ms")
	b.ReportMetric(ms50(took, 50)/ms50(floor, 50), "x-floor")
	b.ReportMetric(float64(commits), "commits-most")
}

const leastRuns = 50 // of anything whose p95 is told

// quick is a policy without the waits that are there on purpose, so that what is measured is the work: grace, fence,
// settling and backoff are over at once.
func quick(b *testing.B) *policy.Policy {
	p := *actPolicy(b)
	p.Node.OfflineGracePeriod, p.Node.Settle, p.Node.ProbeInterval = time.Millisecond, 0, time.Millisecond
	p.Fence.SelfStop, p.Fence.Margin, p.Fence.Wait = time.Millisecond, time.Millisecond, 3*time.Millisecond
	p.Workload.RestartBackoff = policy.Backoff{Kind: policy.BackoffNone, Factor: 1}
	return &p
}

// BenchmarkMove20 moves 20 at-most-once workloads off a node whose silence has outlasted grace and fence: from the
// event to the moment when the last new attempt runs. Its floor is as many durable writes as the engine made commits.
func BenchmarkMove20(b *testing.B) {
	measure(b, 3, 20, func(l *liveEngine) (began time.Time) {
		l.cluster.change(func(f *fakeCluster) {
			n := f.nodes["n1"]
			n.Link, n.LinkSince, n.LastSeen, n.Ready = autoheal.LinkSilent, now(), now().Add(-10*time.Minute), false
			began = now()
		}, "node/n1")
		return began
	})
}

// BenchmarkFirstRestart restarts one crashed workload without its backoff: from the event to the moment when the new
// attempt runs. Its floor is as many durable writes as the engine made commits.
func BenchmarkFirstRestart(b *testing.B) {
	measure(b, 3, 1, func(l *liveEngine) time.Time {
		began := now()
		l.cluster.crash("wl-00")
		return began
	})
}

func measure(b *testing.B, nodes, workloads int, fail func(l *liveEngine) time.Time) {
	var ms []measurement
	for range max(b.N, leastRuns) {
		l := newLiveEngine(b, quick(b), nodes, workloads)
		pause := clock.Real{}.NewTimer(20 * time.Millisecond) // out of the start's own caution (four probe intervals)
		<-pause.C()
		before, size := l.commits.Load(), fileSize(b, l.wal)
		began := fail(l)
		took := l.moved(workloads).Sub(began)
		commits := l.commits.Load() - before
		bytes := max(int(fileSize(b, l.wal)-size)/int(commits), 4096)
		ms = append(ms, measurement{took, durableWrites(b, filepath.Dir(l.wal), commits, bytes), commits})
		l.stop()
	}
	report(b, ms)
}

func fileSize(b *testing.B, path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}
