package source

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"autoheal.dev/autoheal/internal/signal"
)

// one takes a line of a format that has to be decoded.
func (s *scanner) one(line []byte) {
	switch s.stats.Format {
	case JournalJSON:
		s.journalJSON(line)
	case ContainerJSON:
		s.containerJSON(line)
	case JournalExport:
		s.journalExport(line)
	default:
		s.feed(signal.Line{Text: line, Kind: s.kind})
	}
}

// undecodable counts a record and looks at it as plain text all the same.
func (s *scanner) undecodable(line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	s.stats.Undecodable++
	s.feed(signal.Line{Text: line, Kind: s.kind})
}

// journalRecord is what is read of a record of the journal.
type journalRecord struct {
	Message    json.RawMessage `json:"MESSAGE"`
	Transport  string          `json:"_TRANSPORT"`
	Identifier string          `json:"SYSLOG_IDENTIFIER"`
	Realtime   string          `json:"__REALTIME_TIMESTAMP"`
}

func (s *scanner) journalJSON(line []byte) {
	var r journalRecord
	if err := json.Unmarshal(line, &r); err != nil {
		s.undecodable(line)
		return
	}
	message, ok := journalMessage(r.Message)
	if !ok {
		s.undecodable(line)
		return
	}
	s.journal(message, r.Transport, r.Identifier, r.Realtime)
}

// journalMessage reads MESSAGE: text, null, or the bytes of what is not valid text as a list of numbers.
func journalMessage(raw json.RawMessage) ([]byte, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, true
	}
	if raw[0] == '[' {
		var numbers []int
		if err := json.Unmarshal(raw, &numbers); err != nil {
			return nil, false
		}
		out := make([]byte, len(numbers))
		for i, n := range numbers {
			out[i] = byte(n)
		}
		return out, true
	}
	var text string
	err := json.Unmarshal(raw, &text)
	return []byte(text), err == nil
}

func (s *scanner) journal(message []byte, transport, identifier, realtime string) {
	if len(message) == 0 {
		return
	}
	origin := signal.OriginProgram
	if transport == "kernel" || transport == "" && identifier == "kernel" {
		origin = signal.OriginKernel
	}
	var at time.Time
	if us, err := strconv.ParseInt(realtime, 10, 64); err == nil {
		at = time.UnixMicro(us).UTC()
	}
	s.feed(signal.Line{Text: message, Kind: s.kind, At: at, Framed: true, Origin: origin})
}

// containerJSON reads {"log":"…\n","stream":"stderr","time":"…"}; a long line comes in parts, of which only the last ends
// with a line end.
func (s *scanner) containerJSON(line []byte) {
	var r struct {
		Log  *string   `json:"log"`
		Time time.Time `json:"time"`
	}
	if err := json.Unmarshal(line, &r); err != nil || r.Log == nil {
		s.undecodable(line)
		return
	}
	s.pending = append(s.pending, *r.Log...)
	if len(s.pending) < maxLine && !bytes.HasSuffix(s.pending, []byte{'\n'}) {
		return
	}
	if !bytes.HasSuffix(s.pending, []byte{'\n'}) {
		s.stats.Truncated++
	}
	s.container(r.Time)
}

func (s *scanner) container(at time.Time) {
	text := bytes.TrimRight(s.pending, "\r\n")
	s.feed(signal.Line{Text: text, Kind: s.kind, At: at, Framed: true, Origin: signal.OriginWorkload})
	s.pending = s.pending[:0]
}

// journalExport collects the fields of a record up to the empty line that ends it.
func (s *scanner) journalExport(line []byte) {
	if len(line) == 0 {
		s.endRecord()
		return
	}
	key, value, ok := bytes.Cut(line, []byte{'='})
	if !ok {
		return // a field of raw bytes: its length and content follow on lines of their own
	}
	if s.record == nil {
		s.record = map[string][]byte{}
	}
	switch string(key) {
	case "MESSAGE", "_TRANSPORT", "SYSLOG_IDENTIFIER", "__REALTIME_TIMESTAMP":
		s.record[string(key)] = bytes.Clone(value)
	}
}

func (s *scanner) endRecord() {
	if s.record == nil {
		return
	}
	r := s.record
	s.record = nil
	if r["MESSAGE"] == nil {
		s.stats.Undecodable++
		return
	}
	s.journal(r["MESSAGE"], string(r["_TRANSPORT"]), string(r["SYSLOG_IDENTIFIER"]), string(r["__REALTIME_TIMESTAMP"]))
}

// flush hands over what waited for more.
func (s *scanner) flush() {
	if len(s.pending) > 0 {
		s.container(time.Time{})
	}
	s.endRecord()
}
