package gpu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
)

// ProbeTimeout is how long one report may take (behaviour E2).
const ProbeTimeout = 20 * time.Second

// maxReport bounds the output of one report; sixteen GPUs make about a megabyte.
const maxReport = 16 << 20

// Prober asks nvidia-smi, never twice at once: a child that hangs in the driver cannot be killed, and another one would
// hang beside it.
type Prober struct {
	tool string // nvidia-smi
	clk  clock.Clock

	mu sync.Mutex
	// mu guards what follows.
	child *child // nil when none runs
	hung  int    // probes in a row without an answer
}

// child is one nvidia-smi under way, whose answer everybody gets who asks meanwhile.
type child struct {
	began time.Time
	done  chan struct{} // closed when it has ended; what follows is set by then
	late  bool          // its time was over: it was killed
	out   []byte
	err   error
}

// Find returns a prober for the nvidia-smi of this machine, or nil where there is none: then there are no GPUs.
func Find(clk clock.Clock) *Prober {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return nil
	}
	return NewProber(path, clk)
}

// NewProber makes a prober that runs the program at path.
func NewProber(path string, clk clock.Clock) *Prober { return &Prober{tool: path, clk: clk} }

// ResetCommand is what resets a GPU with the driver's own tool.
func (p *Prober) ResetCommand(id autoheal.GPUID) []string {
	return []string{p.tool, "--gpu-reset", "-i", string(id)}
}

// Hung returns how many probes in a row got no answer; two mean that the driver hangs (behaviour E2).
func (p *Prober) Hung() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hung
}

// Probe returns the reports and the raw text. While an earlier child is stuck it returns ErrHung at once and counts.
func (p *Prober) Probe(ctx context.Context) ([]Report, []byte, error) { return p.ask(ctx, 1) }

// Look is a probe that counts for nothing when it gets no answer.
func (p *Prober) Look(ctx context.Context) ([]Report, []byte, error) { return p.ask(ctx, 0) }

// Settle waits until no child is under way, or has had its time.
func (p *Prober) Settle(ctx context.Context) {
	p.mu.Lock()
	c := p.child
	p.mu.Unlock()
	if c == nil {
		return
	}
	timer := p.clk.NewTimer(max(0, ProbeTimeout-p.clk.Now().Sub(c.began)))
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C():
	case <-ctx.Done():
	}
}

// ask waits for the child under way, or for a new one, at most until it has had its time.
func (p *Prober) ask(ctx context.Context, counts int) ([]Report, []byte, error) {
	p.mu.Lock()
	c := p.child
	if c == nil {
		runCtx := ctx
		if counts == 0 { // whoever only looks may go away before others who have joined
			runCtx = context.WithoutCancel(ctx)
		}
		c = p.begin(runCtx)
	}
	left := ProbeTimeout - p.clk.Now().Sub(c.began)
	p.mu.Unlock()
	if left <= 0 {
		return p.unanswered(counts, "the child of an earlier probe is stuck")
	}
	timer := p.clk.NewTimer(left)
	defer timer.Stop()
	select {
	case <-c.done:
		return p.answered(c, counts)
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("probe GPUs: %w", context.Cause(ctx))
	case <-timer.C():
		return p.unanswered(counts, "no answer in "+ProbeTimeout.String())
	}
}

func (p *Prober) unanswered(counts int, why string) ([]Report, []byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hung += counts
	return nil, nil, fmt.Errorf("%w: %s", ErrHung, why)
}

// begin starts a child. It is called with p.mu held.
func (p *Prober) begin(ctx context.Context) *child {
	c := &child{began: p.clk.Now(), done: make(chan struct{})}
	p.child = c
	runCtx, cancel := context.WithCancel(ctx)
	timer := p.clk.NewTimer(ProbeTimeout)
	// The goroutines here are those that nobody waits for: the child may be stuck in the kernel until the machine is
	// rebooted. It is asked to end when its time is over.
	go func() {
		defer cancel()
		defer timer.Stop()
		select {
		case <-c.done:
		case <-timer.C():
			p.mu.Lock()
			c.late = true
			p.mu.Unlock()
		}
	}()
	go func() {
		c.out, c.err = p.run(runCtx)
		p.mu.Lock()
		p.child = nil
		close(c.done)
		p.mu.Unlock()
	}()
	return c
}

func (p *Prober) answered(c *child, counts int) ([]Report, []byte, error) {
	p.mu.Lock()
	late := c.late
	if !late {
		p.hung = 0 // whatever it said, the driver answered
	}
	p.mu.Unlock()
	if late {
		return p.unanswered(counts, "no answer in "+ProbeTimeout.String())
	}
	if c.err != nil {
		return nil, c.out, fmt.Errorf("run nvidia-smi: %w: %s", c.err, bytes.TrimSpace(c.out[:min(len(c.out), 300)]))
	}
	reports, err := Parse(c.out)
	return reports, c.out, err
}

func (p *Prober) run(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, p.tool, "-q", "-x")
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	out := &limited{}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if out.over {
		err = errors.Join(err, fmt.Errorf("more than %d bytes of output", maxReport))
	}
	return out.buf.Bytes(), err
}

// limited keeps what fits and swallows the rest, so that the child can end.
type limited struct {
	buf  bytes.Buffer
	over bool
}

func (l *limited) Write(b []byte) (int, error) {
	if l.buf.Len()+len(b) > maxReport {
		l.over = true
		return len(b), nil
	}
	return l.buf.Write(b)
}
