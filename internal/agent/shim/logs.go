package shim

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"autoheal.dev/autoheal/internal/clock"
)

// Bounds of a workload's output.
const (
	MaxLine     = 16 << 10 // bytes of one line; a longer one is split
	LogFiles    = 4        // log.0 is the newest
	LogHeader   = "#autoheal-log "
	pendingMax  = 128 << 10
	defLogBytes = 4 << 20
	defLogRate  = 8 << 20
	tellDropped = time.Second // after which it is told that lines are missing, if no line comes to tell it before
)

// logSink takes lines from the pipe readers and hands them to one writer. A reader never waits for the disk: what does
// not fit into the bounded buffer, or comes faster than the rate, is dropped and counted, and the count is written down
// where the lines are missing: before the next line, or soon after the last one.
type logSink struct {
	maxBytes int64
	rate     int64
	boot     func() time.Duration
	clk      clock.Clock
	wake     chan struct{}
	done     chan struct{}

	mu sync.Mutex
	// mu guards what follows.
	pending []byte
	lines   int64 // in pending, markers excluded
	dropped int64 // since the last marker
	tokens  int64
	refill  time.Duration
	closed  bool
	last    [2][]string // the last lines of standard error and of standard output

	// Of the writer alone.
	file  *os.File
	size  int64
	next  int64 // number of the next line, dropped ones included
	spare []byte
	fault error
	// shifted says that the place of log.0 is free for a file that could not be written yet.
	shifted bool
}

func newLogSink(maxBytes, rate int64, boot func() time.Duration, clk clock.Clock) *logSink {
	if maxBytes <= 0 {
		maxBytes = defLogBytes
	}
	if rate <= 0 {
		rate = defLogRate
	}
	s := &logSink{
		maxBytes: maxBytes, rate: rate, tokens: rate, refill: boot(), boot: boot, clk: clk,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go s.write()
	return s
}

// put appends one line. It waits for nothing but the lock, which is held for copying only.
func (s *logSink) put(at time.Duration, stream byte, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if passed := at - s.refill; passed > 0 {
		// Capped before multiplying, so that a long silence cannot overflow.
		s.tokens = min(s.rate, s.tokens+int64(float64(min(passed, time.Second))/float64(time.Second)*float64(s.rate)))
		s.refill = at
	}
	s.remember(stream, text)
	if s.closed || int64(len(text)) > s.tokens || len(s.pending)+len(text)+64 > pendingMax {
		if s.dropped++; s.dropped == 1 {
			s.wakeWriter() // to tell it in time
		}
		return
	}
	s.mark(at)
	s.tokens -= int64(len(text))
	s.pending = appendRecord(s.pending, at, stream, text)
	s.lines++
	s.wakeWriter()
}

func (s *logSink) wakeWriter() {
	select {
	case s.wake <- struct{}{}:
	default: // it is to look already
	}
}

// How much of the output goes with an exit.
const (
	lastLines = 6
	lastBytes = 300 // of one line
)

// remember keeps the last lines that say something: what a program prints right before it dies is mostly why.
func (s *logSink) remember(stream byte, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	if len(text) > lastBytes {
		cut := lastBytes
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	i := 0
	if stream == 'o' {
		i = 1
	}
	if len(s.last[i]) == lastLines {
		s.last[i] = append(s.last[i][:0], s.last[i][1:]...)
	}
	s.last[i] = append(s.last[i], strings.Clone(text))
}

// lastWords returns the last lines of standard error, or of standard output when there was none. They are untrusted.
func (s *logSink) lastWords() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last[0]) > 0 {
		return strings.Join(s.last[0], "\n")
	}
	return strings.Join(s.last[1], "\n")
}

// mark writes the count of what was dropped before the line that follows.
func (s *logSink) mark(at time.Duration) {
	if s.dropped > 0 {
		s.pending = appendRecord(s.pending, at, 'd', strconv.FormatInt(s.dropped, 10))
		s.lines += s.dropped
		s.dropped = 0
	}
}

func appendRecord(b []byte, at time.Duration, stream byte, text string) []byte {
	b = strconv.AppendInt(b, at.Milliseconds(), 10)
	b = append(b, ' ', stream, ' ')
	b = append(b, text...)
	return append(b, '\n')
}

// close writes what is left and waits for the writer.
func (s *logSink) close() error {
	s.mu.Lock()
	s.mark(s.boot())
	s.closed = true
	s.mu.Unlock()
	s.wakeWriter()
	<-s.done
	return s.fault
}

// write writes what is pending until the sink is closed. The timer runs while lines are missing that nobody has told of.
func (s *logSink) write() {
	defer close(s.done)
	late := s.clk.NewTimer(tellDropped)
	defer late.Stop()
	late.Stop()
	for armed := false; ; {
		told := false
		select {
		case <-s.wake:
		case <-late.C():
			armed, told = false, true
		}
		s.mu.Lock()
		if told {
			s.mark(s.boot())
		}
		batch, lines, closed := s.pending, s.lines, s.closed
		s.pending, s.lines = s.spare[:0], 0
		s.mu.Unlock()
		s.writeBatch(batch, lines)
		s.spare = batch
		if closed {
			if s.file != nil {
				_ = s.file.Close() // output is best effort; exit.json is what must be durable
			}
			return
		}
		if !armed && s.missing() {
			late.Reset(tellDropped)
			armed = true
		}
	}
}

// missing reports whether lines were dropped that no marker counts yet.
func (s *logSink) missing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped > 0
}

// writeBatch loses the batch where the disk is full or broken, and says so as a marker when it works again.
func (s *logSink) writeBatch(batch []byte, lines int64) {
	if len(batch) == 0 {
		return
	}
	err := s.rotate(int64(len(batch)))
	if err == nil {
		var n int
		n, err = s.file.Write(batch)
		s.size += int64(n)
	}
	s.next += lines
	s.fault = err
	if err != nil {
		s.mu.Lock()
		s.dropped += lines
		s.next -= lines // counted when the marker is written
		s.mu.Unlock()
		if s.file != nil { // a torn line must not run into the next one
			_ = s.file.Close()
			s.file = nil
		}
	}
}

func logName(i int) string { return LogFile + "." + strconv.Itoa(i) }

// rotate opens a new log.0 when there is none or the batch would overfill it. It makes place for each new one once: where
// none can be written, on a full disk, trying again must not push out what was written before.
func (s *logSink) rotate(n int64) error {
	if s.file != nil && s.size+n <= s.maxBytes {
		return nil
	}
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	for i := LogFiles - 1; i > 0 && !s.shifted; i-- {
		_ = os.Rename(logName(i-1), logName(i)) // absent at first
	}
	s.shifted = true
	f, err := os.OpenFile(logName(0), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	head := LogHeader + strconv.FormatInt(s.next, 10) + "\n"
	if _, err := f.WriteString(head); err != nil {
		_ = f.Close()
		return fmt.Errorf("write log: %w", err)
	}
	s.file, s.size, s.shifted = f, int64(len(head)), false
	return nil
}

// copyLines reads r to its end and puts its lines.
func (s *logSink) copyLines(r io.Reader, stream byte) {
	buf := make([]byte, 16<<10)
	lines := splitter{emit: func(at time.Duration, text string) { s.put(at, stream, text) }}
	for {
		n, err := r.Read(buf)
		if n > 0 {
			lines.feed(s.boot(), buf[:n])
		}
		if err != nil {
			lines.flush(s.boot())
			return
		}
	}
}

// splitter cuts a stream into lines that are valid UTF-8 and at most MaxLine bytes. A carriage return ends a line as
// well: progress bars would otherwise never end.
type splitter struct {
	emit    func(at time.Duration, text string)
	part    []byte
	afterCR bool
}

func (p *splitter) feed(at time.Duration, data []byte) {
	for len(data) > 0 {
		i := 0
		for i < len(data) && data[i] != '\n' && data[i] != '\r' {
			i++
		}
		if i > 0 {
			p.afterCR = false
		}
		take := min(i, MaxLine-len(p.part))
		p.part = append(p.part, data[:take]...)
		if take < i || (i == len(data) && len(p.part) == MaxLine) { // too long: a line of its own
			p.end(at)
			data = data[take:]
			continue
		}
		if i == len(data) {
			return
		}
		if data[i] != '\n' || !p.afterCR { // the \n of \r\n ends nothing new
			p.end(at)
		}
		p.afterCR = data[i] == '\r'
		data = data[i+1:]
	}
}

func (p *splitter) flush(at time.Duration) {
	if len(p.part) > 0 {
		p.end(at)
	}
}

func (p *splitter) end(at time.Duration) {
	text := strings.ToValidUTF8(string(p.part), "\uFFFD") // a replacement is longer than what it replaces
	p.part = p.part[:0]
	for len(text) > MaxLine {
		cut := MaxLine
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		p.emit(at, text[:cut])
		text = text[cut:]
	}
	p.emit(at, text)
}
