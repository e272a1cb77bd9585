package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/sense"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/signal"
)

// maxHear is how many bytes of one attempt's output are looked at in one round, so that one that floods delays no other.
const maxHear = 8 << 20

// output hears what one attempt writes, by reading its log files behind the shim.
type output struct {
	dir       string
	catalogue *signal.Catalogue
	progress  *regexp.Regexp // what a line of progress matches; nil = none does

	mu sync.Mutex
	// mu guards what follows. It is held while files are read, and taken before Agent.mu.
	ear    *sense.Ear
	first  int64 // number of the first line of the file that is being read
	offset int64 // in it
	next   int64 // number of the next line
	lost   int64
	moved  time.Duration // time of the newest line of progress
	buf    []byte
}

func (a *Agent) newOutput(k key, dir string, p *autoheal.ProgressSpec) *output {
	o := &output{dir: dir, catalogue: a.hears.catalogue.Load(), progress: progressPattern(p)}
	ref := autoheal.Ref{Kind: autoheal.RefWorkload, ID: string(k.workload), Generation: strconv.Itoa(k.attempt)}
	node := autoheal.Ref{Kind: autoheal.RefNode, ID: a.opts.Name, Generation: a.bootID}
	o.ear = sense.NewEar(o.catalogue, signal.KindWorkload, func(s autoheal.Signal, at time.Duration) {
		s.Subject, s.Also = ref, []autoheal.Ref{node}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.emitLocked(s, at)
	})
	return o
}

// hear takes in what was written since the last time, at most budget bytes of it, or all with a negative one. It returns
// how many lines in all were gone before they could be looked at.
func (o *output) hear(budget int64) (lost int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	files := o.files()
	for _, f := range files {
		if f.first > o.first || o.offset == 0 {
			o.lost += max(f.first-o.next, 0)
			o.first, o.offset, o.next = f.first, f.header, max(f.first, o.next)
		}
		budget = o.read(f.file, budget)
		if budget == 0 {
			break
		}
	}
	for _, f := range files {
		_ = f.file.Close() // it was only read
	}
	o.buf = nil
	return o.lost
}

// outputFile is one file of an attempt's log, open: it may get another name at any moment.
type outputFile struct {
	file   *os.File
	first  int64 // number of its first line
	header int64 // bytes before that
}

// files opens the file that is being read and those after it, oldest first.
func (o *output) files() []outputFile {
	var out []outputFile
	for i := range shim.LogFiles {
		f, ok := openOutput(filepath.Join(o.dir, shim.LogFile+"."+strconv.Itoa(i)))
		if !ok {
			continue
		}
		if f.first < o.first || len(out) > 0 && f.first >= out[0].first { // read already, or met twice in a rotation
			_ = f.file.Close() // it was only read
			continue
		}
		out = append([]outputFile{f}, out...)
		if f.first == o.first {
			break
		}
	}
	return out
}

func openOutput(path string) (outputFile, bool) {
	f, err := os.Open(path)
	if err != nil {
		return outputFile{}, false // not there
	}
	var head [64]byte
	n, _ := f.ReadAt(head[:], 0) // a short file is no error here
	line, _, whole := bytes.Cut(head[:n], []byte{'\n'})
	number, ok := bytes.CutPrefix(line, []byte(shim.LogHeader))
	first, err := strconv.ParseInt(string(number), 10, 64)
	if !whole || !ok || err != nil {
		_ = f.Close() // being made
		return outputFile{}, false
	}
	return outputFile{file: f, first: first, header: int64(len(line)) + 1}, true
}

// read takes in a file from the offset on and returns what is left of the budget.
func (o *output) read(f *os.File, budget int64) int64 {
	if o.buf == nil {
		o.buf = make([]byte, 256<<10)
	}
	for budget != 0 {
		n, err := f.ReadAt(o.buf, o.offset)
		end := bytes.LastIndexByte(o.buf[:n], '\n') + 1
		o.lines(o.buf[:end])
		if o.progress != nil {
			o.progressLines(o.buf[:end])
		}
		o.offset += int64(end)
		if budget > 0 {
			budget = max(budget-int64(end), 0)
		}
		if end == 0 || err != nil {
			break
		}
	}
	return budget
}

// lines takes whole records, jumping over those in which no word of any rule occurs.
func (o *output) lines(text []byte) {
	for at := 0; at < len(text); {
		begin, end, ok := o.catalogue.NextLine(text, at, signal.KindWorkload)
		if !ok {
			o.skip(text[at:])
			return
		}
		o.skip(text[at:begin])
		o.record(text[begin : end+1])
		at = end + 1
	}
}

// skip passes over records, but for the counts of lines that the shim had to drop.
func (o *output) skip(text []byte) {
	for at := 0; ; {
		i := bytes.Index(text[at:], []byte(" d "))
		if i < 0 {
			break
		}
		begin := bytes.LastIndexByte(text[:at+i], '\n') + 1
		at += i + 3
		if end := bytes.IndexByte(text[begin:], '\n'); end >= 0 {
			o.dropped(text[begin : begin+end+1])
		}
	}
	n := bytes.Count(text, []byte{'\n'})
	o.next += int64(n)
	o.ear.Skip(n)
}

// dropped reports whether a record is the count of lines that the shim had to drop, and takes it.
func (o *output) dropped(line []byte) bool {
	r, ok := parseRecord(line)
	if !ok || r.stream != "" {
		return false
	}
	if n, err := strconv.ParseInt(string(r.text), 10, 64); err == nil {
		o.next, o.lost = o.next+n-1, o.lost+n // the record itself is counted as a line
	}
	return true
}

func (o *output) record(line []byte) {
	o.next++
	if r, ok := parseRecord(line); ok && !o.dropped(line) {
		o.ear.Hear(r.text, r.at)
	}
}

func (o *output) tell(now time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ear.Tell(now)
}

func (o *output) found() []signal.Found {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ear.Found()
}
