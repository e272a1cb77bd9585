package source

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"autoheal.dev/autoheal/internal/signal"
)

// Format is how the lines of a log are packed.
type Format string

// Formats. Text holds all that is framed line by line; signal.Unframe knows those.
const (
	Text          Format = "text"
	Coloured      Format = "text, coloured"
	JournalJSON   Format = "journal, JSON"
	JournalExport Format = "journal, export"
	ContainerJSON Format = "container, JSON"
)

const (
	// chunk is how much is read at once. It stays in the processor's cache.
	chunk = 256 << 10
	// maxLine is how much of a line is looked at.
	maxLine = chunk
)

// Stats says what was read, and what was lost on the way.
type Stats struct {
	Format Format `json:"format"`
	Gzip   bool   `json:"gzip"`
	Bytes  int64  `json:"bytes"`
	Lines  int64  `json:"lines"`
	// Truncated counts lines longer than is looked at, Undecodable records that are not what their format promises.
	Truncated   int64 `json:"truncated"`
	Undecodable int64 `json:"undecodable"`
	// Damaged says why reading ended before the end; "" if it did not.
	Damaged string `json:"damaged,omitempty"`
}

// Scan reads a log to its end and hands lines to feed, in order; lines that no rule can mean are left out. feed's Text is
// valid until it returns. The error is that of the reader; a damaged archive is no error but noted in Stats.
func Scan(r io.Reader, c *signal.Catalogue, kind signal.Kind, s *signal.Stream, found func(signal.Found)) (Stats, error) {
	sc := &scanner{catalogue: c, kind: kind, stream: s, found: found}
	in := bufio.NewReaderSize(r, chunk)
	if head, _ := in.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		sc.stats.Gzip = true
		z, err := gzip.NewReader(in)
		if err != nil {
			sc.stats.Damaged = err.Error()
			return sc.stats, nil
		}
		in = bufio.NewReaderSize(z, chunk)
	}
	head, _ := in.Peek(chunk)
	sc.stats.Format = detect(head)
	err := sc.run(in)
	if err != nil && (sc.stats.Gzip || errors.Is(err, io.ErrUnexpectedEOF)) {
		sc.stats.Damaged = err.Error()
		return sc.stats, nil
	}
	if err != nil {
		return sc.stats, fmt.Errorf("read the log: %w", err)
	}
	return sc.stats, nil
}

// Excerpt is Scan of a text at hand.
func Excerpt(text []byte, c *signal.Catalogue, kind signal.Kind, s *signal.Stream, found func(signal.Found)) Stats {
	sc := &scanner{catalogue: c, kind: kind, stream: s, found: found}
	sc.stats.Format, sc.stats.Bytes = detect(text), int64(len(text))
	sc.lines(text)
	sc.flush()
	return sc.stats
}

// detect tells the format by the beginning.
func detect(head []byte) Format {
	first, _, _ := bytes.Cut(bytes.TrimLeft(head, " \r\n\t"), []byte{'\n'})
	switch {
	case bytes.HasPrefix(first, []byte("{")) && (bytes.Contains(first, []byte(`"MESSAGE"`)) || bytes.Contains(first, []byte(`"__REALTIME_TIMESTAMP"`))):
		return JournalJSON
	case bytes.HasPrefix(first, []byte("{")) && bytes.Contains(first, []byte(`"log":`)) && bytes.Contains(first, []byte(`"stream":`)):
		return ContainerJSON
	case bytes.HasPrefix(first, []byte("__CURSOR=")):
		return JournalExport
	case bytes.Contains(head, []byte("\x1b[")):
		return Coloured
	}
	return Text
}

// scanner is one run of Scan.
type scanner struct {
	catalogue *signal.Catalogue
	kind      signal.Kind
	stream    *signal.Stream
	found     func(signal.Found)
	stats     Stats
	pending   []byte            // of a container's line that came in parts
	record    map[string][]byte // of a journal in export form
}

// run cuts the input into whole lines, however long they are.
func (s *scanner) run(in *bufio.Reader) error {
	buf := make([]byte, 0, 2*chunk)
	for {
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		s.stats.Bytes += int64(n)
		end := bytes.LastIndexByte(buf, '\n') + 1
		if end == 0 && len(buf) >= maxLine || err != nil {
			end = len(buf)
		}
		s.lines(buf[:end])
		cut := end > 0 && buf[end-1] != '\n' && err == nil
		buf = buf[:copy(buf, buf[end:])]
		if err == nil && cut {
			err = s.skipLine(in)
		}
		if errors.Is(err, io.EOF) {
			s.flush()
			return nil
		}
		if err != nil {
			s.flush()
			return err
		}
	}
}

// skipLine drops the rest of a line that is too long.
func (s *scanner) skipLine(in *bufio.Reader) error {
	s.stats.Truncated++
	for {
		part, err := in.ReadSlice('\n')
		s.stats.Bytes += int64(len(part))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// lines takes whole lines.
func (s *scanner) lines(text []byte) {
	if s.stats.Format == Text {
		s.text(text)
		return
	}
	for line := range bytes.Lines(text) {
		s.stats.Lines++
		s.one(bytes.TrimSuffix(line, []byte{'\n'}))
	}
}

// text jumps from one line that has words of a rule to the next.
func (s *scanner) text(text []byte) {
	at, kind := 0, s.kind
	if kind == signal.KindAny && allKernel(text) {
		kind = signal.KindKernel // as which each of these lines would count anyway, and the kernel's words are quicker found
	}
	for at < len(text) {
		begin, end, ok := s.catalogue.NextLine(text, at, kind)
		if !ok {
			break
		}
		s.stats.Lines += int64(bytes.Count(text[at:begin], []byte{'\n'})) + 1
		s.feed(signal.Line{Text: text[begin:end], Kind: s.kind})
		at = min(end+1, len(text))
	}
	rest := text[at:]
	s.stats.Lines += int64(bytes.Count(rest, []byte{'\n'}))
	if len(rest) > 0 && rest[len(rest)-1] != '\n' {
		s.stats.Lines++
	}
}

// allKernel says whether every line has the kernel's own frame, [ 1843.308145], in which nothing but the kernel's rules
// count, whatever else the log mixes.
func allKernel(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line[0] != '[' {
			return false
		}
		line = bytes.TrimLeft(line[1:], " ")
		point := bytes.IndexByte(line[:min(len(line), 12)], '.')
		if point < 1 || len(line) < point+9 || line[point+7] != ']' || line[point+8] != ' ' || !digits(line[:point]) || !digits(line[point+1:point+7]) {
			return false
		}
	}
	return true
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func (s *scanner) feed(l signal.Line) {
	l.Number = int(s.stats.Lines)
	if f, ok := s.stream.Feed(l); ok {
		s.found(f)
	}
}
