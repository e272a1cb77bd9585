package source

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"

	"autoheal.dev/autoheal/internal/signal"
)

// run scans a text from a reader and returns what stands at its end.
func run(t *testing.T, text string) (*signal.Book, Stats) {
	t.Helper()
	c := catalogue(t)
	book := signal.NewBook(signal.BookOptions{})
	s, err := Scan(strings.NewReader(text), c, signal.KindAny, signal.NewStream(c, nil), func(f signal.Found) { book.Add(f) })
	if err != nil {
		t.Fatal(err)
	}
	return book, s
}

const xid79 = "NVRM: Xid (PCI:0000:05:00): 79, pid=12, name=python3, GPU has fallen off the bus."

// TestFormats finds the same Xid in every way in which logs carry it.
func TestFormats(t *testing.T) {
	for name, tt := range map[string]struct {
		text   string
		format Format
	}{
		"bare":                    {xid79, Text},
		"dmesg":                   {"[ 1843.308145] " + xid79, Text},
		"dmesg with caller":       {"[ 1843.308145][ T1234] " + xid79, Text},
		"dmesg -T":                {"[Thu Oct 10 03:06:53 2024] " + xid79, Text},
		"dmesg -e":                {"[Oct10 03:06] old\n[  +0.000012] " + xid79, Text},
		"dmesg -d":                {"[ 1843.308145 <    0.000012>] " + xid79, Text},
		"dmesg -d alone":          {"[<    0.000012>] " + xid79, Text},
		"dmesg -x":                {"kern  :err   : [ 1843.308145] " + xid79, Text},
		"dmesg iso":               {"2024-10-10T03:06:53,123456+00:00 " + xid79, Text},
		"dmesg raw":               {"<3>[ 1843.308145] " + xid79, Text},
		"dmesg coloured":          {"\x1b[32m[ 1843.308145] \x1b[0m\x1b[33mNVRM: \x1b[0m" + strings.TrimPrefix(xid79, "NVRM: "), Coloured},
		"kmsg":                    {"3,2212,4053155111,-;" + xid79 + "\n SUBSYSTEM=pci\n DEVICE=+pci:0000:05:00.0", Text},
		"syslog":                  {"Nov 14 10:46:51 host kernel: " + xid79, Text},
		"syslog with time":        {"Nov  4 10:46:51 host kernel: [12345.678901] " + xid79, Text},
		"syslog rfc 5424":         {"<3>1 2024-11-14T10:46:51.123Z host kernel - - - " + xid79, Text},
		"syslog iso":              {"2024-11-14T10:46:51.123456+01:00 host kernel: " + xid79, Text},
		"journal short-monotonic": {"[ 1843.308145] host kernel: " + xid79, Text},
		"talos":                   {"10.5.0.2: kern: err: [2024-11-14T10:46:51.123Z]: " + xid79, Text},
		"journal json":            {`{"__REALTIME_TIMESTAMP":"1731581211000000","_TRANSPORT":"kernel","MESSAGE":"` + xid79 + `"}`, JournalJSON},
		"journal json bytes":      {`{"__REALTIME_TIMESTAMP":"1731581211000000","_TRANSPORT":"kernel","MESSAGE":[` + numbers(xid79) + `]}`, JournalJSON},
		"journal export":          {"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1731581211000000\n_TRANSPORT=kernel\nMESSAGE=" + xid79 + "\n\n", JournalExport},
		"crlf":                    {"[ 1843.308145] " + xid79 + "\r\n", Text},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range []string{tt.text, tt.text + "\n", packed(tt.text)} {
				b, s := run(t, text)
				v := b.Verdict()
				if s.Format != tt.format || v.Xid == nil || *v.Xid != 79 || v.Subject.ID != "0000:05:00" || len(b.Entries()) != 1 {
					t.Errorf("%s: %+v %s", s.Format, v, text[:min(len(text), 80)])
				}
			}
		})
	}
}

// TestQuotationsAreNoEvidence: a line of the kernel in what a program or a container says is none.
func TestQuotationsAreNoEvidence(t *testing.T) {
	for name, text := range map[string]string{
		"a program in syslog": "Nov 14 10:46:51 host gpud[99]: " + xid79,
		"the journal":         `{"__REALTIME_TIMESTAMP":"1","_TRANSPORT":"stdout","MESSAGE":"` + xid79 + `"}`,
		"a container, CRI":    "2024-10-10T03:06:53.123456789Z stderr F " + xid79,
		"a container, Docker": `{"log":"` + xid79 + `\n","stream":"stderr","time":"2024-10-10T03:06:53.123456789Z"}`,
		"a program in kmsg":   "12,2212,4053155111,-;" + xid79,
		"in the middle":       "[ 1843.308145] saw " + xid79,
	} {
		t.Run(name, func(t *testing.T) {
			if b, _ := run(t, text); len(b.Entries()) != 0 {
				t.Errorf("believed: %+v", b.Entries()[0])
			}
		})
	}
}

func numbers(s string) string {
	parts := make([]string, len(s))
	for i := range len(s) {
		parts[i] = fmt.Sprint(s[i])
	}
	return strings.Join(parts, ",")
}

func packed(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// TestLossShows counts what was not read as it should be.
func TestLossShows(t *testing.T) {
	long := strings.Repeat("x", 3*maxLine)
	b, s := run(t, long+"\n[ 1.5] "+xid79+"\n")
	if s.Truncated != 1 || len(b.Entries()) != 1 || s.Lines != 2 || s.Bytes != int64(len(long)+len(xid79)+9) {
		t.Errorf("a long line: %+v, %d signals", s, len(b.Entries()))
	}
	b, s = run(t, `{"__REALTIME_TIMESTAMP":"1","_TRANSPORT":"kernel","MESSAGE":"fine"}`+"\n{broken\n"+`{"_TRANSPORT":"kernel","MESSAGE":"`+xid79+`"}`)
	if s.Undecodable != 1 || len(b.Entries()) != 1 {
		t.Errorf("a broken record: %+v, %d signals", s, len(b.Entries()))
	}
	whole := packed(strings.Repeat("[ 1.5] nothing\n", 1000) + xid79)
	_, s = run(t, whole[:len(whole)/2])
	if s.Damaged == "" {
		t.Errorf("half an archive: %+v", s)
	}
}

// TestLinesAcrossReads finds a line wherever a read cuts it.
func TestLinesAcrossReads(t *testing.T) {
	c := catalogue(t)
	text := "[ 1.5] nothing\n[ 2.5] " + xid79 + "\n[ 3.5] nothing"
	for size := 1; size < len(text); size++ {
		found := 0
		s, err := Scan(&slow{text: text, size: size}, c, signal.KindKernel, signal.NewStream(c, nil), func(f signal.Found) {
			if found++; f.Line != 2 {
				t.Errorf("reads of %d: line %d", size, f.Line)
			}
		})
		if err != nil || found != 1 || s.Lines != 3 {
			t.Fatalf("reads of %d: found %d times, %+v, %v", size, found, s, err)
		}
	}
}

// slow hands out a few bytes at a time.
type slow struct {
	text string
	size int
}

func (s *slow) Read(p []byte) (int, error) {
	n := copy(p, s.text[:min(s.size, len(s.text))])
	s.text = s.text[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestStormIsBounded: 800,000 lines of which 29 differ cost 29 signals, with counts.
func TestStormIsBounded(t *testing.T) {
	var block bytes.Buffer
	for i := range 29 * 100 {
		fmt.Fprintf(&block, "[%d.%06d] NVRM: Xid (PCI:0000:%02x:00): 95, pid='<unknown>', name=<unknown>, Uncontained: LTC TAG (0x%d,0x0)\n", i, i, i%29%8, i%29)
	}
	c := catalogue(t)
	book := signal.NewBook(signal.BookOptions{})
	times := 800_000/2900 + 1
	s, err := Scan(repeated(block.Bytes(), times), c, signal.KindKernel, signal.NewStream(c, nil), func(f signal.Found) { book.Add(f) })
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, e := range book.Entries() {
		total += e.Count
	}
	if len(book.Entries()) != 29 || int64(total) != s.Lines || total < 800_000 {
		t.Errorf("%d signals of %d lines, counted %d", len(book.Entries()), s.Lines, total)
	}
}

// TestQuietLinesCostNothing: a line that means nothing allocates nothing, even where it has words of a rule.
func TestQuietLinesCostNothing(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates, too")
	}
	c := catalogue(t)
	stream := signal.NewStream(c, nil)
	lines := [][]byte{
		[]byte("[ 1843.308145] NVRM: loading NVIDIA UNIX Open Kernel Module"),
		[]byte("[ 1843.308145] saw NVRM: Xid (PCI:0000:05:00): 79 in a report"),
		[]byte("[ 1843.308145] EXT4-fs (sda1): mounted filesystem"),
	}
	for _, line := range lines {
		if n := testing.AllocsPerRun(100, func() { stream.Feed(signal.Line{Text: line, Kind: signal.KindKernel}) }); n > 0 {
			t.Errorf("%.0f allocations for %s", n, line)
		}
	}
}

// TestAllKernel: only lines that the frame says are the kernel's are searched as such.
func TestAllKernel(t *testing.T) {
	for text, want := range map[string]bool{
		"[ 1843.308145] a\n[    0.000000] b\n":   true,
		"[ 1843.308145] a\nRuntimeError: b\n":    false,
		"[ 1843.308145] a\n continued\n":         false,
		"[2024-10-10 03:06:53.123] a\n":          false,
		"[rank0]: a\n":                           false,
		"[12345.678901]x\n":                      false,
		"[ 1.5] a\n":                             false,
		"\n":                                     false,
		"[ 1843.308145] a\n\n[ 1843.308145] b\n": false,
	} {
		if got := allKernel([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
		for line := range bytes.Lines([]byte(text)) {
			if want && signal.Unframe(line).Origin != signal.OriginKernel {
				t.Errorf("%q is not the kernel's", line)
			}
		}
	}
}
