package sense

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

func builtin(t *testing.T) *signal.Catalogue {
	t.Helper()
	c, err := signal.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A storm of lines costs what its distinct lines cost, and the counts are told now and then.
func TestStormBecomesCounts(t *testing.T) {
	var told []autoheal.Signal
	ear := NewEar(builtin(t), signal.KindKernel, func(s autoheal.Signal, _ time.Duration) { told = append(told, s) })
	const distinct, lines = 29, 800_000
	storm := make([][]byte, distinct)
	for i := range storm {
		storm[i] = fmt.Appendf(nil, "NVRM: Xid (PCI:0000:%02x:00): 79, pid=1, GPU has fallen off the bus.", i)
	}
	for i := range lines {
		ear.Hear(storm[i%distinct], time.Duration(i)*time.Microsecond)
	}
	if len(told) != distinct || len(ear.Found()) != distinct {
		t.Fatalf("%d signals were told and %d stand, want %d", len(told), len(ear.Found()), distinct)
	}
	ear.Tell(time.Minute)
	ear.Tell(time.Minute + time.Second) // a moment ago
	if len(told) != 2*distinct {
		t.Fatalf("%d signals were told after a minute, want each one once more", len(told))
	}
	sum := 0
	for _, s := range told[distinct:] {
		sum += s.Count
	}
	if sum != lines {
		t.Errorf("the counts sum up to %d, want %d", sum, lines)
	}
	if ear.Tell(2 * time.Minute); len(told) != 2*distinct {
		t.Error("a count that has not grown was told again")
	}
}

// More different signals than there is place for are dropped and counted, and time makes place.
func TestPlaceIsBounded(t *testing.T) {
	told := 0
	ear := NewEar(builtin(t), signal.KindKernel, func(autoheal.Signal, time.Duration) { told++ })
	for i := range 10 * maxSignals {
		ear.Hear(fmt.Appendf(nil, "NVRM: Xid (PCI:%04x:10:00): %d, pid=1, x", i, 13+i%100), 0)
	}
	if len(ear.Found()) > maxSignals || told > maxSignals || ear.Dropped() == 0 {
		t.Errorf("%d stand, %d told, %d dropped", len(ear.Found()), told, ear.Dropped())
	}
	ear.Tell(10 * 365 * 24 * time.Hour)
	if n := len(ear.Found()); n != 0 {
		t.Errorf("%d signals still stand years later", n)
	}
}

func TestAllClearIsTold(t *testing.T) {
	c := builtin(t)
	var told []autoheal.Signal
	ear := NewEar(c, signal.KindKernel, func(s autoheal.Signal, _ time.Duration) { told = append(told, s) })
	ear.Hear([]byte("mlx5_core 0000:1a:00.0 ib0: Link down"), time.Second)
	ear.Hear([]byte("mlx5_core 0000:1a:00.0 ib0: Link up"), 2*time.Second)
	if len(told) != 2 || told[0].Clears || !told[1].Clears || told[0].Rule != told[1].Rule || len(ear.Found()) != 0 {
		t.Errorf("told %+v, %d stand", told, len(ear.Found()))
	}
}

// follow reads a file that stands for the kernel's log.
type follow struct {
	t    *testing.T
	dir  string
	got  []string
	k    *Kernel
	path string
}

func newFollow(t *testing.T) *follow {
	f := &follow{t: t, dir: t.TempDir()}
	f.path = filepath.Join(f.dir, "kern.log")
	return f
}

func (f *follow) open() {
	f.t.Helper()
	k, err := OpenKernel(f.path, filepath.Join(f.dir, "mark"), "boot", func() time.Duration { return time.Hour })
	if err != nil {
		f.t.Fatal(err)
	}
	f.k = k
}

func (f *follow) write(flag int, text string) {
	f.t.Helper()
	w, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|flag, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := w.WriteString(text); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follow) want(lines ...string) {
	f.t.Helper()
	f.got = nil
	if err := f.k.Read(func(line []byte, _ time.Duration) { f.got = append(f.got, string(line)) }); err != nil {
		f.t.Fatal(err)
	}
	if !slices.Equal(f.got, lines) {
		f.t.Errorf("read %q, want %q", f.got, lines)
	}
}

func TestFileIsFollowed(t *testing.T) {
	f := newFollow(t)
	f.write(os.O_APPEND, "history\n")
	f.open()
	f.want()
	f.write(os.O_APPEND, "one\ntw")
	f.want("one\n")
	f.write(os.O_APPEND, "o\n")
	f.want("two\n")
	f.want()

	f.write(os.O_APPEND, "while nobody reads\n")
	if err := f.k.Close(); err != nil {
		t.Fatal(err)
	}
	f.open()
	f.want("while nobody reads\n")

	if err := os.Rename(f.path, f.path+".1"); err != nil {
		t.Fatal(err)
	}
	f.want()
	f.write(os.O_APPEND, "rotated\n")
	f.want("rotated\n")
	f.write(os.O_TRUNC, "cut\n")
	f.want("cut\n")
}

// A file that comes later is all new, and a line without end is lost, counted, and does not stop what follows.
func TestFileComesLater(t *testing.T) {
	f := newFollow(t)
	f.open()
	f.want()
	f.write(os.O_APPEND, "first\n")
	f.want("first\n")
	f.write(os.O_APPEND, string(make([]byte, 2*maxRead))+"\nnext\n")
	f.k.Read(func([]byte, time.Duration) {})
	if f.k.Lost == 0 {
		t.Error("a line without end was not counted as lost")
	}
	f.write(os.O_APPEND, "last\n")
	f.want("last\n")
}

// The ring is replayed whenever it is opened: what was read before, or is old, is not believed again.
func TestRingReplays(t *testing.T) {
	for _, tc := range []struct {
		name  string
		mark  mark
		boot  string
		lines []string
		want  int
		last  uint64
	}{
		{"new", mark{}, "b1", []string{"3,10,3590000000,-;fresh", "3,11,3599000000,-;fresher"}, 2, 11},
		{"history", mark{}, "b1", []string{"3,1,1000000,-;at boot", "3,2,3590000000,-;fresh"}, 1, 2},
		{"read before", mark{Boot: "b1", Sequence: 10}, "b1", []string{"3,10,3590000000,-;old", "3,11,3590000001,-;new"}, 1, 11},
		{"another boot", mark{Boot: "b0", Sequence: 900}, "b1", []string{"3,10,3590000000,-;new"}, 1, 10},
	} {
		k := &Kernel{boot: tc.boot, since: func() time.Duration { return time.Hour }, mark: tc.mark}
		k.replays = signal.NewReplays(maxAge, signal.Mark{Boot: tc.mark.Boot, Sequence: tc.mark.Sequence})
		n := 0
		for _, l := range tc.lines {
			k.record([]byte(l), func([]byte, time.Duration) { n++ })
		}
		if n != tc.want || k.mark.Sequence != tc.last {
			t.Errorf("%s: %d lines were believed, want %d; the mark is %+v", tc.name, n, tc.want, k.mark)
		}
	}
}
