package program

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

const (
	// keepOutput is how much of the end of the output is kept, in bytes.
	keepOutput = 4 << 10
	// afterKill is how long a killed program may take to be gone before it is left behind.
	afterKill = 5 * time.Second
)

// path is what programs find others in.
const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Call is one run of a program.
type Call struct {
	Argv    []string
	Input   any      // as JSON on standard input; nil = nothing
	Env     []string // beside PATH and LC_ALL, which are all it has otherwise
	Timeout time.Duration
}

// Result is how a run ended. Output is the end of what it wrote to both outputs: valid text, untrusted.
type Result struct {
	Output string
	Err    error // nil = exit status 0
}

// Errors of a Result that a caller may tell apart.
var (
	ErrTimeout = errors.New("did not end in time")
	ErrStart   = errors.New("cannot be started")
)

// Run runs a program until it ends, its time is over or ctx ends.
func Run(ctx context.Context, clk clock.Clock, c Call) Result {
	if len(c.Argv) == 0 {
		return Result{Err: fmt.Errorf("%w: no program is named", ErrStart)}
	}
	input, err := json.Marshal(c.Input)
	if err != nil {
		return Result{Err: fmt.Errorf("write the input of %s: %w", c.Argv[0], err)}
	}
	out := &tail{}
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Env = append([]string{path, "LC_ALL=C.UTF-8"}, c.Env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	if c.Input != nil {
		cmd.Stdin = bytes.NewReader(append(input, '\n'))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // what it started and left behind may hold its outputs open
	if err := cmd.Start(); err != nil {
		return Result{Err: fmt.Errorf("%s %w: %w", c.Argv[0], ErrStart, err)}
	}
	done := make(chan error, 1)
	// Nobody waits for this goroutine when the kernel holds on to the child: it may take until the machine is rebooted.
	go func() { done <- cmd.Wait() }()
	return Result{Err: await(ctx, clk, cmd, c, done), Output: out.text()}
}

// await returns how the program ended; one that does not in time is killed with its process group.
func await(ctx context.Context, clk clock.Clock, cmd *exec.Cmd, c Call, done <-chan error) error {
	timer := clk.NewTimer(c.Timeout)
	defer timer.Stop()
	var why error
	select {
	case err := <-done:
		return ended(c, err)
	case <-timer.C():
		why = fmt.Errorf("%s %w: %s", c.Argv[0], ErrTimeout, c.Timeout)
	case <-ctx.Done():
		why = fmt.Errorf("run %s: %w", c.Argv[0], context.Cause(ctx))
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended meanwhile
	late := clk.NewTimer(afterKill)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C():
		why = fmt.Errorf("%w; its process %d cannot be killed", why, cmd.Process.Pid)
	}
	return why
}

// ended says of a program that ended by itself how it did. What it left behind with its outputs open is no failure.
func ended(c Call, err error) error {
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return fmt.Errorf("%s: %w", c.Argv[0], err)
}
