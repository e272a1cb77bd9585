package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/signal"
)

// Bounds of an answer with lines.
const (
	defaultLogLines = 100
	maxLogLines     = 10_000
	maxLogBytes     = 1 << 20
)

// doLogs answers with the last lines that match, oldest first.
func (a *Agent) doLogs(_ context.Context, req nodeproto.LogsRequest) (*nodeproto.LogsResponse, error) {
	level, ok := parseLevel(req.Level)
	if !ok {
		return nil, refuse(nodeproto.CodeInvalid, "logs: level %q; use debug, info, warn or error", req.Level)
	}
	out := &nodeproto.LogsResponse{Lines: []nodeproto.LogLine{}}
	search := logSearch{since: req.SinceMS, level: level, query: parseQuery(req.Query), limit: min(req.Limit, maxLogLines), catalogue: a.hears.catalogue.Load()}
	if search.limit <= 0 {
		search.limit = defaultLogLines
	}
	if req.Kernel {
		lines, err := a.kernelRecords()
		if err != nil {
			return nil, err
		}
		search.kind, search.age = signal.KindKernel, bootToAge(a.boot())
		search.collect(slices.Values(lines), out)
		return out, nil
	}
	of, times, chunks, err := a.outputOf(key{req.Workload, req.Attempt})
	if err != nil {
		return nil, err
	}
	search.kind, search.age, search.attempt = signal.KindWorkload, a.ageOf(times), of.attempt
	search.collect(records(chunks, &out.Lost), out)
	return out, nil
}

// outputOf returns what an attempt wrote, also one that was forgotten since.
func (a *Agent) outputOf(k key) (of key, times keptTimes, chunks []logChunk, err error) {
	if at := a.findAttempt(k.workload, k.attempt); at != nil {
		if chunks, err = readLogFiles(at.dir); err != nil || len(chunks) > 0 {
			return at.key, timesOf(at.spec), chunks, err
		}
		k = at.key // it wrote nothing, or is being forgotten at this moment
		of, times = k, timesOf(at.spec)
	}
	kept, when, chunks, ok, err := a.kept.read(k)
	switch {
	case err != nil || ok:
		return kept, when, chunks, err
	case of.attempt == 0:
		return of, times, nil, refuse(nodeproto.CodeNotFound, "logs: this node knows no such attempt of %s", k.workload)
	}
	return of, times, nil, nil
}

// logSearch is what lines are chosen by.
type logSearch struct {
	since     int64
	level     level
	query     query
	limit     int
	attempt   int
	kind      signal.Kind
	age       func(time.Duration) int64
	catalogue *signal.Catalogue
}

// collect adds the last lines that match.
func (s *logSearch) collect(lines iter.Seq[logRecord], out *nodeproto.LogsResponse) {
	for r := range lines {
		ms, level := s.age(r.at), guessLevel(r.text)
		if s.since > 0 && ms > s.since || level < s.level {
			continue
		}
		words := s.words(r.text)
		if !s.query.matches(r.text, words) {
			continue
		}
		out.Lines = append(out.Lines, nodeproto.LogLine{
			AgeMS: ms, Stream: r.stream, Level: level.said(), Attempt: s.attempt, Message: string(r.text), Words: words,
		})
		if len(out.Lines) >= 2*s.limit { // halve now and then instead of shifting at each line
			out.Lines, out.Truncated = append(out.Lines[:0], out.Lines[len(out.Lines)-s.limit:]...), true
		}
	}
	trimLines(out, s.limit)
}

// words are those of the signal in a line, by which it is found beside its own.
func (s *logSearch) words(line []byte) []string {
	if _, _, ok := s.catalogue.NextLine(line, 0, s.kind); !ok {
		return nil
	}
	m, ok := s.catalogue.Match(signal.Unframe(line).Message, s.kind)
	if !ok {
		return nil
	}
	return m.Words()
}

// trimLines keeps the last lines within both limits.
func trimLines(out *nodeproto.LogsResponse, limit int) {
	keep, used := 0, 0
	for keep < len(out.Lines) && keep < limit {
		size := jsonSize(out.Lines[len(out.Lines)-1-keep])
		if used+size > maxLogBytes-4<<10 {
			break
		}
		used += size
		keep++
	}
	if keep < len(out.Lines) {
		out.Lines, out.Truncated = out.Lines[len(out.Lines)-keep:], true
	}
}

// findAttempt returns the attempt, or with n 0 the newest one of the workload.
func (a *Agent) findAttempt(w autoheal.WorkloadID, n int) *attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > 0 {
		return a.attempts[key{w, n}]
	}
	var newest *attempt
	for k, at := range a.attempts {
		if k.workload == w && (newest == nil || k.attempt > newest.key.attempt) {
			newest = at
		}
	}
	return newest
}

// ageOf turns times of the attempt's boot into ages in milliseconds.
func (a *Agent) ageOf(s keptTimes) func(time.Duration) int64 {
	if s.BootID == a.bootID {
		return bootToAge(a.boot())
	}
	wall := a.clk.Now().UnixMilli()
	return func(t time.Duration) int64 {
		return max(wall-s.CreatedWall-(t-time.Duration(s.CreatedBoot)).Milliseconds(), 0)
	}
}

func bootToAge(now time.Duration) func(time.Duration) int64 {
	return func(t time.Duration) int64 { return max((now - t).Milliseconds(), 0) }
}

// maxKernelSearch is how much of the end of a file that stands for the kernel's log is searched.
const maxKernelSearch = 16 << 20

// kernelRecords returns what the kernel's log holds. A line that does not say when it was written was, at the latest, when
// the file was changed last.
func (a *Agent) kernelRecords() ([]logRecord, error) {
	var text string
	var err error
	now, wall := a.boot(), a.clk.Now()
	last := now
	if a.opts.KernelLog == "" {
		text, err = readKmsg()
	} else {
		var info fs.FileInfo
		if info, err = os.Stat(a.opts.KernelLog); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		} else if err == nil {
			last = now - wall.Sub(info.ModTime())
			text, err = tailFile(a.opts.KernelLog, maxKernelSearch)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the kernel's log: %w", err)
	}
	var out []logRecord
	for line := range strings.Lines(text) {
		f := signal.Unframe([]byte(line))
		r := logRecord{at: last, stream: "kernel", text: bytes.TrimRight([]byte(line), "\n")}
		switch {
		case f.Boot >= 0:
			r.at = f.Boot
		case !f.At.IsZero():
			r.at = now - wall.Sub(f.At)
		}
		out = append(out, r)
	}
	return out, nil
}
