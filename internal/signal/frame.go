package signal

import (
	"bytes"
	"time"
)

// Origin is who wrote a line, as far as its frame says.
type Origin string

// Origins.
const (
	OriginUnknown  Origin = ""         // no frame that says it
	OriginKernel   Origin = "kernel"   // the kernel's ring, by whatever way it came
	OriginProgram  Origin = "program"  // a program that logs to syslog or the journal
	OriginWorkload Origin = "workload" // the output of a container
)

// Frame is a line without what loggers put around it.
type Frame struct {
	Origin  Origin
	Program string // of a syslog line
	// At is when the line was written; zero if the frame has no date. Boot is the time since boot, -1 if not given.
	At   time.Time
	Boot time.Duration
	// Sequence is that of the kernel's ring; 0 if not given.
	Sequence uint64
	// Message is what was logged. It is part of the line, or a copy where escapes had to be undone.
	Message []byte
}

// maxLayers is how many frames may lie around each other: a container's around syslog's around the kernel's.
const maxLayers = 5

// Unframe removes the frames of dmesg, /dev/kmsg, syslog, the journal, container runtimes, Talos and the events of
// Kubernetes around a message.
func Unframe(line []byte) Frame {
	f := Frame{Boot: -1, Message: bytes.TrimRight(line, "\r\n")}
	if bytes.IndexByte(f.Message, 0x1b) >= 0 {
		f.Message = stripColours(f.Message)
	}
	for range maxLayers {
		if !f.strip() && !f.stripForeign() && !f.stripEvent() {
			break
		}
	}
	f.Message = bytes.TrimLeft(f.Message, " \t")
	return f
}

// strip removes the outermost frame and says whether there was one.
func (f *Frame) strip() bool {
	m := f.Message
	if len(m) < 4 {
		return false
	}
	switch c := m[0]; {
	case c == '[':
		return f.stripBracket()
	case c == '<':
		return f.stripPriority()
	case c >= '0' && c <= '9':
		return f.stripKmsg() || f.stripDated() || f.stripClock() || f.stripAddress()
	case c >= 'A' && c <= 'Z':
		return f.stripSyslog()
	case c >= 'a' && c <= 'z':
		return f.stripFacility() || f.stripKernelWord()
	default:
		return false
	}
}

// claim notes who wrote the line. An outer frame that names a program is right about what lies inside: a program may log
// what looks like the kernel's frame.
func (f *Frame) claim(o Origin) {
	if f.Origin == OriginUnknown {
		f.Origin = o
	}
}

// stripColours removes the escape sequences by which dmesg and loggers colour their lines.
func stripColours(m []byte) []byte {
	out := make([]byte, 0, len(m))
	for i := 0; i < len(m); i++ {
		if m[i] != 0x1b || i+1 >= len(m) || m[i+1] != '[' {
			out = append(out, m[i])
			continue
		}
		i += 2
		for i < len(m) && (m[i] >= '0' && m[i] <= '9' || m[i] == ';') {
			i++
		}
	}
	return out
}

// stripKmsg removes the header of a record of /dev/kmsg: priority, sequence, microseconds since boot, flags.
func (f *Frame) stripKmsg() bool {
	end := bytes.IndexByte(f.Message, ';')
	if end < 0 || end > 80 {
		return false
	}
	parts := bytes.Split(f.Message[:end], []byte{','})
	if len(parts) < 4 {
		return false
	}
	var n [3]uint64
	for i := range n {
		v, ok := number(parts[i])
		if !ok {
			return false
		}
		n[i] = v
	}
	if n[0]>>3 == 0 { // facility kern; others are programs that write to the ring
		f.claim(OriginKernel)
	} else {
		f.claim(OriginProgram)
	}
	f.Sequence, f.Boot = n[1], time.Duration(n[2])*time.Microsecond
	f.Message = unescapeKmsg(f.Message[end+1:])
	return true
}

// unescapeKmsg undoes \xNN, by which the kernel writes line ends and unprintable bytes in a record.
func unescapeKmsg(m []byte) []byte {
	if !bytes.Contains(m, []byte(`\x`)) {
		return m
	}
	out := make([]byte, 0, len(m))
	for i := 0; i < len(m); i++ {
		if m[i] == '\\' && i+3 < len(m) && m[i+1] == 'x' {
			hi, lo := unhex(m[i+2]), unhex(m[i+3])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 3
				continue
			}
		}
		out = append(out, m[i])
	}
	return out
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// stripPriority removes <6>, and <34>1 of RFC 5424, whose date and host follow.
func (f *Frame) stripPriority() bool {
	end := bytes.IndexByte(f.Message, '>')
	if end < 2 || end > 4 {
		return false
	}
	p, ok := number(f.Message[1:end])
	if !ok || p > 191 {
		return false
	}
	rest := f.Message[end+1:]
	if bytes.HasPrefix(rest, []byte("1 ")) && len(rest) > 10 && isDigit(rest[2]) {
		f.Message = rest[2:]
		return f.stripRFC5424(p>>3 == 0)
	}
	if p>>3 == 0 {
		f.claim(OriginKernel)
	}
	f.Message = rest
	return true
}

// stripRFC5424 removes date, host, program, process, message ID and structured data.
func (f *Frame) stripRFC5424(kernel bool) bool {
	date, rest, ok := cutWord(f.Message)
	if !ok {
		return false
	}
	f.setTime(date)
	_, rest, _ = cutWord(rest) // host
	program, rest, _ := cutWord(rest)
	_, rest, _ = cutWord(rest) // process
	_, rest, ok = cutWord(rest)
	if !ok {
		return false
	}
	if after, nothing := bytes.CutPrefix(rest, []byte("- ")); nothing {
		rest = after
	} else if end := bytes.Index(rest, []byte("] ")); len(rest) > 0 && rest[0] == '[' && end > 0 {
		rest = rest[end+2:]
	}
	f.wroteBy(string(program), kernel)
	f.Message = bytes.TrimPrefix(rest, []byte("\xef\xbb\xbf"))
	return true
}

// wroteBy notes the program of a syslog line.
func (f *Frame) wroteBy(program string, kernel bool) {
	if kernel || program == "kernel" {
		f.claim(OriginKernel)
		return
	}
	f.claim(OriginProgram)
	if f.Program == "" {
		f.Program = program
	}
}

// cutWord splits at the first blank, and skips further ones.
func cutWord(m []byte) (word, rest []byte, ok bool) {
	i := bytes.IndexByte(m, ' ')
	if i < 0 {
		return m, nil, false
	}
	return m[:i], bytes.TrimLeft(m[i:], " "), true
}

// number reads digits only.
func number(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
