package gpu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// ProbeTimeout is how long one report may take (behaviour E2).
const ProbeTimeout = 20 * time.Second

// maxReport bounds the output of one report; sixteen GPUs make about a megabyte.
const maxReport = 16 << 20

// Prober asks nvidia-smi, never twice at once: a child that hangs in the driver cannot be killed, and another one would
// hang beside it.
type Prober struct {
	argv []string
	clk  clock.Clock

	mu sync.Mutex
	// mu guards what follows.
	running bool
	hung    int // probes in a row without an answer
}

// Find returns a prober for the nvidia-smi of this machine, or nil where there is none: then there are no GPUs.
func Find(clk clock.Clock) *Prober {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return nil
	}
	return NewProber([]string{path, "-q", "-x"}, clk)
}

// NewProber makes a prober that runs argv.
func NewProber(argv []string, clk clock.Clock) *Prober { return &Prober{argv: argv, clk: clk} }

// Hung returns how many probes in a row got no answer; two mean that the driver hangs (behaviour E2).
func (p *Prober) Hung() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hung
}

// Probe returns the reports and the raw text. While an earlier child is stuck it returns ErrHung at once and counts.
func (p *Prober) Probe(ctx context.Context) ([]Report, []byte, error) {
	p.mu.Lock()
	if p.running {
		p.hung++
		p.mu.Unlock()
		return nil, nil, fmt.Errorf("%w: the child of an earlier probe is stuck", ErrHung)
	}
	p.running = true
	p.mu.Unlock()
	type answer struct {
		out []byte
		err error
	}
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan answer, 1)
	// The one goroutine here that nobody waits for: its child may be stuck in the kernel until the machine is rebooted.
	go func() {
		out, err := p.run(runCtx)
		p.mu.Lock()
		p.running = false
		p.mu.Unlock()
		done <- answer{out, err}
	}()
	timer := p.clk.NewTimer(ProbeTimeout)
	defer timer.Stop()
	select {
	case a := <-done:
		return p.answered(a.out, a.err)
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("probe GPUs: %w", context.Cause(ctx))
	case <-timer.C():
		p.mu.Lock()
		p.hung++
		p.mu.Unlock()
		return nil, nil, fmt.Errorf("%w: no answer in %s", ErrHung, ProbeTimeout)
	}
}

func (p *Prober) answered(out []byte, err error) ([]Report, []byte, error) {
	p.mu.Lock()
	p.hung = 0 // whatever it said, the driver answered
	p.mu.Unlock()
	if err != nil {
		return nil, out, fmt.Errorf("run nvidia-smi: %w: %s", err, bytes.TrimSpace(out[:min(len(out), 300)]))
	}
	reports, err := Parse(out)
	return reports, out, err
}

func (p *Prober) run(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
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
