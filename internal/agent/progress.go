package agent

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
)

// How often progress is looked for: six times in the time that makes a stall.
const (
	progressLooks = 6
	minLook       = 500 * time.Millisecond
	maxLook       = 10 * time.Second
	lookTime      = 3 * time.Second // a metric is asked for at most that long
)

// gauge says when an attempt last got on, CLOCK_BOOTTIME; 0 = never so far.
type gauge interface {
	last(ctx context.Context, now time.Duration) (time.Duration, error)
}

// watchProgress looks again and again whether an attempt gets on. A time in which nobody looked, because the agent or the
// whole machine stood still, counts as none.
func (a *Agent) watchProgress(at *attempt) {
	p := at.progress
	if !a.awaitRunning(at) {
		return
	}
	every := min(max(p.Stall/progressLooks, minLook), maxLook)
	g := a.gaugeOf(at, p)
	looked, floor := a.boot(), time.Duration(0)
	for {
		now := a.boot()
		if now-looked > 2*every+lookTime {
			floor = now
		}
		looked = now
		ctx, cancel := context.WithTimeoutCause(a.ctx, lookTime, fmt.Errorf("no answer within %s", lookTime))
		last, err := g.last(ctx, now)
		cancel()
		if a.ctx.Err() != nil {
			return
		}
		a.judgeProgress(at, p, now, last, floor, err)
		if !a.rest(at, every) {
			return
		}
	}
}

// judgeProgress compares with how long nothing may happen: until the first progress that is the startup time.
func (a *Agent) judgeProgress(at *attempt, p *autoheal.ProgressSpec, now, last, floor time.Duration, err error) {
	a.foundOut(at, func(c *checkView) {
		started := time.Duration(at.view.status.Started)
		// Each attempt has an output of its own, whose first line may be older than the note of the start.
		c.Moved = c.Moved || last > started || p.Kind == autoheal.CheckLog && last > 0
		allowed := p.Stall
		if !c.Moved {
			allowed = max(p.Stall, p.Startup)
		}
		since := max(last, started)
		switch idle := now - max(since, floor); {
		case idle <= allowed && now-since <= allowed:
			c.Progress = finding{}
		case idle <= allowed || c.Progress.Reason != "": // told already, or nobody looked for long enough
		default:
			c.Progress = finding{Since: since, Reason: stallReason(p, c.Moved, allowed, err)}
		}
	})
}

func stallReason(p *autoheal.ProgressSpec, moved bool, allowed time.Duration, err error) string {
	what := map[autoheal.CheckKind]string{
		autoheal.CheckLog:    fmt.Sprintf("no line of its output that matches %q", p.Pattern),
		autoheal.CheckFile:   fmt.Sprintf("no change of the file %q", p.File),
		autoheal.CheckMetric: "no change of its metric " + p.Metric,
	}[p.Kind]
	text := fmt.Sprintf("%s for %s", what, allowed)
	if !moved {
		text = fmt.Sprintf("%s within its startup time of %s", what, allowed)
	}
	if err != nil {
		text += fmt.Sprintf(" (%v)", err)
	}
	return text
}

func (a *Agent) gaugeOf(at *attempt, p *autoheal.ProgressSpec) gauge {
	switch p.Kind {
	case autoheal.CheckFile:
		return &fileGauge{a: a, at: at, path: p.File}
	case autoheal.CheckMetric:
		return &metricGauge{a: a, at: at, p: p}
	default:
		return logGauge{at.output}
	}
}

// logGauge asks the reader of the attempt's output, which knows the time of each line: it finds again what an earlier life
// of the agent had seen.
type logGauge struct{ o *output }

func (g logGauge) last(context.Context, time.Duration) (time.Duration, error) {
	g.o.hear(maxHear)
	g.o.mu.Lock()
	defer g.o.mu.Unlock()
	return g.o.moved, nil
}

// progressLines notes the newest line of whole records that matches. It looks from the end, where mostly one does.
func (o *output) progressLines(text []byte) {
	for end := len(text); end > 0; {
		begin := bytes.LastIndexByte(text[:end-1], '\n') + 1
		r, ok := parseRecord(text[begin:end])
		if ok && r.stream != "" && o.progress.Match(r.text) {
			o.moved = max(o.moved, r.at)
			return
		}
		end = begin
	}
}

// progressPattern is the pattern of a workload's progress, nil if it is no matter of its output.
func progressPattern(p *autoheal.ProgressSpec) *regexp.Regexp {
	if p == nil || p.Kind != autoheal.CheckLog {
		return nil
	}
	return regexp.MustCompile(p.Pattern) // compiled once before, when the labels were read
}

// fileGauge looks at a file: any change of its size, its date or its identity is progress. Before it was looked at twice,
// its date says when it last changed.
type fileGauge struct {
	a     *Agent
	at    *attempt
	path  string
	seen  fileState
	known bool
	moved time.Duration
}

type fileState struct {
	inode uint64
	size  int64
	mtime unix.Timespec
}

func (g *fileGauge) last(_ context.Context, now time.Duration) (time.Duration, error) {
	var st unix.Stat_t
	if err := unix.Stat(g.where(), &st); err != nil {
		return g.moved, fmt.Errorf("look at the file: %w", err)
	}
	s := fileState{st.Ino, st.Size, st.Mtim}
	switch {
	case g.known && s != g.seen:
		g.moved = now
	case !g.known:
		age := time.Duration(g.a.clk.Now().UnixNano() - st.Mtim.Nano())
		g.moved = max(now-max(age, 0), 0)
	}
	g.seen, g.known = s, true
	return g.moved, nil
}

// where is the file's path as the agent can open it: below the working folder, or as the container sees it.
func (g *fileGauge) where() string {
	if g.at.spec.Container != nil {
		g.a.mu.Lock()
		defer g.a.mu.Unlock()
		return filepath.Join("/proc", fmt.Sprint(g.at.view.status.Pid), "root", g.path)
	}
	if filepath.IsAbs(g.path) {
		return g.path
	}
	return filepath.Join(g.at.dir, shim.WorkDir, g.path)
}

// metricGauge asks for a metric: any other value is progress. What it was before this life of the agent nobody knows.
type metricGauge struct {
	a     *Agent
	at    *attempt
	p     *autoheal.ProgressSpec
	seen  float64
	known bool
	moved time.Duration
}

func (g *metricGauge) last(ctx context.Context, now time.Duration) (time.Duration, error) {
	v, err := g.a.readMetric(ctx, g.at, g.p.Port, g.p.Path, g.p.Metric)
	if err != nil {
		return g.moved, err
	}
	if !g.known || v != g.seen {
		g.moved = now
	}
	g.seen, g.known = v, true
	return g.moved, nil
}
