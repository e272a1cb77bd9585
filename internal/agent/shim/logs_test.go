package shim

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"autoheal.dev/autoheal/internal/clock"
)

func split(pieces ...string) []string {
	var lines []string
	p := splitter{emit: func(_ time.Duration, text string) { lines = append(lines, text) }}
	for _, piece := range pieces {
		p.feed(0, []byte(piece))
	}
	p.flush(0)
	return lines
}

func TestSplitter(t *testing.T) {
	for _, tc := range []struct {
		in   []string
		want string
	}{
		{[]string{"a\nb\n"}, "a|b"},
		{[]string{"a", "b\nc"}, "ab|c"},
		{[]string{"a\r\nb\r", "\nc\n"}, "a|b|c"},
		{[]string{"10%\r20%\r100%\n"}, "10%|20%|100%"},
		{[]string{"\n\nx\n"}, "||x"},
		{[]string{"bad \xff\xfe utf8\n"}, "bad \uFFFD utf8"},
		{[]string{strings.Repeat("x", MaxLine+1)}, strings.Repeat("x", MaxLine) + "|x"},
	} {
		if got := strings.Join(split(tc.in...), "|"); got != tc.want {
			t.Errorf("%.40q: %.60q, want %.60q", tc.in, got, tc.want)
		}
	}
}

// TestSplitterKeepsText checks that however the bytes arrive, lines are bounded and valid, and valid text is all there.
func TestSplitterKeepsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "data")
		if rapid.Bool().Draw(t, "long") {
			data = bytes.Repeat(data, 400)
		}
		var pieces []string
		for rest := data; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			pieces, rest = append(pieces, string(rest[:n])), rest[n:]
		}
		lines := split(pieces...)
		for _, l := range lines {
			if len(l) > MaxLine || !utf8.ValidString(l) || strings.ContainsAny(l, "\n\r") {
				t.Fatalf("line of %d bytes: %.80q", len(l), l)
			}
		}
		flat := strings.NewReplacer("\n", "", "\r", "").Replace(string(data))
		if utf8.ValidString(string(data)) && len(data) < MaxLine && strings.Join(lines, "") != flat {
			t.Fatalf("lines %.80q of %.80q", lines, data)
		}
	})
}

func FuzzSplitter(f *testing.F) {
	f.Add("plain\ntext\r\n\xff", "more")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, l := range split(a, b) {
			if len(l) > MaxLine || !utf8.ValidString(l) || strings.ContainsAny(l, "\n\r") {
				t.Fatalf("line of %d bytes: %.80q", len(l), l)
			}
		}
	})
}

// TestSinkCountsWhatItDrops writes faster than allowed: what is kept and what is counted make up all lines.
func TestSinkCountsWhatItDrops(t *testing.T) {
	t.Chdir(t.TempDir())
	now := time.Duration(0)
	s := newLogSink(4<<10, 1000, func() time.Duration { return now }, clock.Real{})
	const lines = 500
	for i := range lines {
		now += time.Millisecond
		s.put(now, 'o', strings.Repeat("x", 10+i%20))
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	kept, dropped := 0, 0
	for i := range LogFiles {
		data, err := os.ReadFile(logName(i))
		if err != nil {
			continue // not that much was written
		}
		for l := range strings.Lines(string(data)) {
			f := strings.Fields(l)
			switch {
			case strings.HasPrefix(l, LogHeader):
			case f[1] == "o":
				kept++
			case f[1] == "d":
				n := 0
				for _, c := range f[2] {
					n = n*10 + int(c-'0')
				}
				dropped += n
			}
		}
	}
	if kept == 0 || dropped == 0 || kept+dropped != lines {
		t.Errorf("%d kept and %d dropped of %d", kept, dropped, lines)
	}
}

// TestSinkTellsOfTheLastDropped ends a burst with lines that are dropped, and says nothing more: that they are missing is
// told all the same.
func TestSinkTellsOfTheLastDropped(t *testing.T) {
	t.Chdir(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := newLogSink(4<<10, 100, func() time.Duration { return time.Since(began) }, clock.Real{})
		for range 5 {
			s.put(s.boot(), 'o', strings.Repeat("x", 80))
		}
		said := func() string {
			time.Sleep(tellDropped + time.Millisecond)
			synctest.Wait()
			data, err := os.ReadFile(logName(0))
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		if got := said(); strings.Count(got, " o x") != 1 || !strings.HasSuffix(got, " d 4\n") {
			t.Errorf("one line and the count of four should be there: %q", got)
		}
		if again := said(); strings.Count(again, " d ") != 1 {
			t.Errorf("told again: %q", again)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLastWords(t *testing.T) {
	t.Chdir(t.TempDir())
	s := newLogSink(0, 0, func() time.Duration { return 0 }, clock.Real{})
	defer s.close()
	s.put(0, 'o', "step 1")
	if got := s.lastWords(); got != "step 1" {
		t.Errorf("without standard error: %q", got)
	}
	for n := range 10 {
		s.put(0, 'e', fmt.Sprintf("line %d", n))
		s.put(0, 'e', "  ")
	}
	s.put(0, 'e', strings.Repeat("é", 1000))
	s.put(0, 'o', "step 2")
	got := strings.Split(s.lastWords(), "\n")
	if len(got) != lastLines || got[0] != "line 5" {
		t.Errorf("kept %q", got)
	}
	if last := got[len(got)-1]; len(last) > lastBytes+4 || !utf8.ValidString(last) {
		t.Errorf("a long line is kept as %d bytes", len(last))
	}
}

// A disk on which nothing can be written pushes out nothing that was written before, however often it is tried.
func TestSinkKeepsLogsOnAFullDisk(t *testing.T) {
	t.Chdir(t.TempDir())
	s := &logSink{maxBytes: 1 << 20}
	s.writeBatch([]byte("1 o before\n"), 1)
	if s.fault != nil {
		t.Fatal(s.fault)
	}
	_ = s.file.Close() // as after a write that failed
	s.file = nil
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	for range 2 * LogFiles {
		s.writeBatch([]byte("2 o lost\n"), 1)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if s.fault == nil {
		t.Fatal("the disk was not full")
	}
	s.writeBatch([]byte("3 o after\n"), 1)
	text := func(i int) string {
		data, _ := os.ReadFile(logName(i)) // absent reads as empty
		return string(data)
	}
	if s.fault != nil || !strings.Contains(text(0), "after") || !strings.Contains(text(1), "before") {
		t.Errorf("%v; log.0 %q, log.1 %q", s.fault, text(0), text(1))
	}
}
