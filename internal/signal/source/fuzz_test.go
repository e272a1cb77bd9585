package source

import (
	"bytes"
	"testing"

	"autoheal.dev/autoheal/internal/signal"
)

// FuzzScan: any bytes are read to their end, counted, and never break the reader.
func FuzzScan(f *testing.F) {
	c := catalogue(f)
	for _, s := range []string{
		"[ 1.5] " + xid79 + "\n", packed(xid79), packed(xid79)[:20], `{"MESSAGE":[78,86,82],"_TRANSPORT":"kernel"}` + "\n{", `{"MESSAGE":null,"__REALTIME_TIMESTAMP":"x"}`,
		`{"log":"part","stream":"stdout","time":"2024-10-10T03:06:53Z"}` + "\n" + `{"log":"rest\n","stream":"stdout"}`,
		"__CURSOR=1\nMESSAGE=x\n_TRANSPORT=kernel\n\n__CURSOR=2\nMESSAGE\n\x04\x00\x00\x00\x00\x00\x00\x00a\nbc\n\n", "\x1b[1m[ 1.5] x\x1b[0m\n", "\x1f\x8b", "\x00\xff\n\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		stream := signal.NewStream(c, nil)
		book := signal.NewBook(signal.BookOptions{})
		s, err := Scan(bytes.NewReader(log), c, signal.KindAny, stream, func(f signal.Found) { book.Add(f) })
		if err != nil {
			t.Fatal(err)
		}
		if !s.Gzip && s.Bytes != int64(len(log)) {
			t.Errorf("read %d of %d bytes", s.Bytes, len(log))
		}
		for _, e := range book.Entries() {
			if int64(e.LastLine) > s.Lines || e.Line < 1 {
				t.Errorf("line %d to %d of %d", e.Line, e.LastLine, s.Lines)
			}
		}
		book.Verdict()
	})
}
