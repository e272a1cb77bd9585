package signal

import (
	"bytes"
	"strconv"
	"time"
)

// stripBracket removes [ 1843.308145], with -T a date, with -d and -e a difference, and what may follow: the number of
// the thread or processor that logged, and the host and the word kernel of journalctl -o short-monotonic.
func (f *Frame) stripBracket() bool {
	end := bytes.IndexByte(f.Message, ']')
	if end < 2 || end > 48 {
		return false
	}
	inside := bytes.TrimSpace(f.Message[1:end])
	rest := f.Message[end+1:]
	switch {
	case f.bootTime(inside):
		f.claim(OriginKernel)
	case f.ctime(inside):
		f.claim(OriginKernel)
	case isDifference(inside):
		f.claim(OriginKernel)
	case f.Origin == OriginKernel && isCaller(inside): // [ T1234] and [  C12] after the time
	case f.setTime(inside): // a date of anybody
		f.Message = bytes.TrimLeft(rest, ": ")
		return true
	default:
		return false
	}
	f.Message = bytes.TrimLeft(rest, " ")
	f.shortMonotonic()
	return true
}

// shortMonotonic removes "host kernel: " and takes "host program[1]: " for what it is.
func (f *Frame) shortMonotonic() {
	_, rest, ok := cutWord(f.Message)
	if !ok {
		return
	}
	if after, ok := bytes.CutPrefix(rest, []byte("kernel: ")); ok {
		f.Message = after
	}
}

// bootTime reads seconds since boot, alone or followed by the difference of dmesg -d.
func (f *Frame) bootTime(b []byte) bool {
	first, rest, _ := bytes.Cut(b, []byte{' '})
	if len(first) < 3 || !isDigit(first[0]) || bytes.IndexByte(first, '.') < 1 {
		return false
	}
	s, err := strconv.ParseFloat(string(first), 64)
	if err != nil || s > 1e10 {
		return false
	}
	if rest = bytes.TrimSpace(rest); len(rest) > 0 && rest[0] != '<' {
		return false
	}
	f.Boot = time.Duration(s * float64(time.Second))
	return true
}

// ctime reads Thu Oct 10 03:06:53 2024, and Nov14 10:46 of dmesg -e.
func (f *Frame) ctime(b []byte) bool {
	s := string(bytes.Join(bytes.Fields(b), []byte{' '}))
	if t, err := time.Parse("Mon Jan 2 15:04:05 2006", s); err == nil {
		f.At = t
		return true
	}
	_, err := time.Parse("Jan2 15:04", s)
	return err == nil
}

// isDifference knows the forms of dmesg -d and -e: <    0.000012> and +0.000012.
func isDifference(b []byte) bool {
	b = bytes.Trim(b, "<> +")
	if len(b) < 3 || bytes.IndexByte(b, '.') < 1 {
		return false
	}
	_, err := strconv.ParseFloat(string(b), 64)
	return err == nil
}

func isCaller(b []byte) bool {
	if len(b) < 2 || b[0] != 'T' && b[0] != 'C' {
		return false
	}
	_, ok := number(b[1:])
	return ok
}

// stripDated removes a date in the form of RFC 3339 or near it, and what logs put after it: the stream and flag of a
// container runtime, or host and program of syslog.
func (f *Frame) stripDated() bool {
	word, rest, ok := cutWord(f.Message)
	if !ok || len(word) < 10 || word[4] != '-' && word[4] != '/' {
		return false
	}
	if !f.setTime(word) {
		clock, after, ok := cutWord(rest)
		if !ok || !f.setTime(append(append(bytes.Clone(word), 'T'), clock...)) {
			return false
		}
		rest = after
	}
	f.Message = rest
	stream, after, _ := cutWord(rest)
	if s := string(stream); s == "stdout" || s == "stderr" {
		f.claim(OriginWorkload)
		if flag, after2, ok := cutWord(after); ok && len(flag) > 0 && (flag[0] == 'F' || flag[0] == 'P') && len(flag) == 1 {
			after = after2
		}
		f.Message = after
		return true
	}
	f.hostAndProgram(rest)
	return true
}

// setTime reads the dates that logs use.
func (f *Frame) setTime(b []byte) bool {
	s := string(bytes.ReplaceAll(b, []byte{','}, []byte{'.'}))
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999", "2006/01/02T15:04:05.999999999",
		"2006-01-02 15:04:05.999999999",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			f.At = t.UTC()
			return true
		}
	}
	return false
}

// stripSyslog removes Nov 14 10:46:51 host program[pid]: of the old syslog.
func (f *Frame) stripSyslog() bool {
	m := f.Message
	if len(m) < 16 || m[3] != ' ' || m[6] != ' ' || m[9] != ':' || m[12] != ':' {
		return false
	}
	end := bytes.IndexByte(m[7:], ' ')
	if end < 0 {
		return false
	}
	stamp := string(m[:7+end])
	t, err := time.Parse("Jan _2 15:04:05.999999", stamp)
	if err != nil {
		if t, err = time.Parse("Jan 02 15:04:05.999999", stamp); err != nil {
			return false
		}
	}
	_ = t // it has no year: kept as order only
	f.Message = bytes.TrimLeft(m[7+end:], " ")
	f.hostAndProgram(f.Message)
	return true
}

// hostAndProgram removes "host program[pid]: "; the host may be missing.
func (f *Frame) hostAndProgram(m []byte) {
	for range 3 { // some syslogs put a level between
		word, rest, ok := cutWord(m)
		if !ok {
			return
		}
		if name, isTag := bytes.CutSuffix(word, []byte{':'}); isTag && isProgram(name) {
			if open := bytes.IndexByte(name, '['); open > 0 {
				name = name[:open]
			}
			f.wroteBy(string(name), false)
			f.Message = rest
			return
		}
		m = rest
	}
}

// isProgram knows a tag: a name, and perhaps a process in brackets. Names of drivers and words of messages, such as
// NVRM: and Error:, are no tags.
func isProgram(name []byte) bool {
	if len(name) == 0 || len(name) > 64 {
		return false
	}
	if name[len(name)-1] == ']' {
		open := bytes.IndexByte(name, '[')
		_, ok := number(name[open+1 : len(name)-1])
		return open > 0 && ok
	}
	return string(name) == "kernel"
}

// stripFacility removes kern  :err   : of dmesg -x and kern: err: [date]: of Talos.
func (f *Frame) stripFacility() bool {
	m := f.Message
	for _, facility := range []string{"kern", "user", "daemon", "syslog"} {
		rest, ok := bytes.CutPrefix(m, []byte(facility))
		if !ok {
			continue
		}
		if rest = bytes.TrimLeft(rest, " "); len(rest) == 0 || rest[0] != ':' {
			continue
		}
		level, after, ok := bytes.Cut(rest[1:], []byte{':'})
		if !ok || !isLevel(bytes.TrimSpace(level)) {
			continue
		}
		if facility == "kern" {
			f.claim(OriginKernel)
		} else {
			f.claim(OriginProgram)
		}
		f.Message = bytes.TrimLeft(after, " ")
		return true
	}
	return false
}

func isLevel(b []byte) bool {
	switch string(b) {
	case "emerg", "alert", "crit", "err", "error", "warn", "warning", "notice", "info", "debug":
		return true
	}
	return false
}

// stripKernelWord removes a leading "kernel: ", which some collectors leave, with or without a host before it.
func (f *Frame) stripKernelWord() bool {
	rest, ok := bytes.CutPrefix(f.Message, []byte("kernel: "))
	if !ok {
		var after []byte
		if _, after, ok = cutWord(f.Message); ok {
			rest, ok = bytes.CutPrefix(after, []byte("kernel: "))
		}
		if !ok {
			return false
		}
	}
	f.claim(OriginKernel)
	f.Message = rest
	return true
}

// stripClock removes a time of day that stands alone: 19:14:43.
func (f *Frame) stripClock() bool {
	word, rest, ok := cutWord(f.Message)
	if !ok || len(word) < 8 || len(word) > 15 || word[2] != ':' || word[5] != ':' {
		return false
	}
	if _, err := time.Parse("15:04:05.999999", string(bytes.ReplaceAll(word, []byte{','}, []byte{'.'}))); err != nil {
		return false
	}
	f.Message = rest
	return true
}

// stripAddress removes the address of a node before the facility: 10.0.0.5: kern: warning: of Talos.
func (f *Frame) stripAddress() bool {
	word, rest, ok := cutWord(f.Message)
	if !ok || len(word) > 46 || word[len(word)-1] != ':' || bytes.IndexByte(word, '.') < 0 {
		return false
	}
	inner := Frame{Boot: -1, Message: rest}
	if !inner.stripFacility() {
		return false
	}
	f.Message = rest
	return true
}

// foreignReach is how far into a line the word of the kernel is looked for behind a date in another language.
const foreignReach = 80

// stripForeign removes a syslog frame whose month is not English: jan. 29 20:50:17 host kernel: .
func (f *Frame) stripForeign() bool {
	head := f.Message[:min(len(f.Message), foreignReach)]
	at := bytes.Index(head, []byte(" kernel: "))
	if f.Origin != OriginUnknown || at < 8 || !hasClock(head[:at]) {
		return false
	}
	f.claim(OriginKernel)
	f.Message = f.Message[at+len(" kernel: "):]
	return true
}

// kernelMonitor is the part of node-problem-detector that passes on what the kernel said.
var kernelMonitor = []byte(" kernel-monitor ")

// stripEvent removes what kubectl prints before an event of node-problem-detector: type, reason, age, from.
func (f *Frame) stripEvent() bool {
	line := bytes.TrimLeft(f.Message, " \t")
	if !bytes.HasPrefix(line, []byte("Warning ")) && !bytes.HasPrefix(line, []byte("Normal ")) {
		return false
	}
	at := bytes.Index(line[:min(len(line), 2*foreignReach)], kernelMonitor)
	if f.Origin != OriginUnknown || at < 0 {
		return false
	}
	f.claim(OriginKernel)
	f.Message = line[at+len(kernelMonitor):]
	return true
}

// hasClock looks for a time of day among words.
func hasClock(b []byte) bool {
	for word := range bytes.FieldsSeq(b) {
		if len(word) == 8 && word[2] == ':' && word[5] == ':' && isDigit(word[0]) && isDigit(word[7]) {
			return true
		}
	}
	return false
}
