package agent

import (
	"context"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
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
	at := a.findAttempt(req.Workload, req.Attempt)
	if at == nil {
		return nil, refuse(nodeproto.CodeNotFound, "logs: this node knows no such attempt of %s", req.Workload)
	}
	chunks, err := readLogFiles(at.dir)
	if err != nil {
		return nil, err
	}
	limit := req.Limit
	if limit <= 0 {
		limit = defaultLogLines
	}
	limit = min(limit, maxLogLines)
	matches := parseQuery(req.Query)
	age := a.ageOf(at)
	out := &nodeproto.LogsResponse{Lines: []nodeproto.LogLine{}}
	for r := range records(chunks, &out.Lost) {
		ms := age(r.at)
		if req.SinceMS > 0 && ms > req.SinceMS || level > levelDebug && guessLevel(r.text) < level {
			continue
		}
		words := a.known.words(r.text, a.log)
		if !matches(findable(r.text, words)) {
			continue
		}
		out.Lines = append(out.Lines, nodeproto.LogLine{AgeMS: ms, Stream: r.stream, Attempt: at.key.attempt, Message: string(r.text), Words: words})
		if len(out.Lines) >= 2*limit { // halve now and then instead of shifting at each line
			out.Lines, out.Truncated = append(out.Lines[:0], out.Lines[len(out.Lines)-limit:]...), true
		}
	}
	trimLines(out, limit)
	return out, nil
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
func (a *Agent) ageOf(at *attempt) func(time.Duration) int64 {
	if at.spec.BootID == a.bootID {
		now := a.boot()
		return func(t time.Duration) int64 { return max((now - t).Milliseconds(), 0) }
	}
	wall, s := a.clk.Now().UnixMilli(), at.spec
	return func(t time.Duration) int64 {
		return max(wall-s.CreatedWall-(t-time.Duration(s.CreatedBoot)).Milliseconds(), 0)
	}
}
