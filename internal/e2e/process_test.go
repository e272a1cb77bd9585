package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/leakcheck"
)

// process is a run of the program whose output is followed.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	out  *transcript
	done chan struct{} // closed when it ended
}

func startProcess(t testing.TB, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(binary, args...))
}

func startCommand(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, out: newTranscript(), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is read from the state
		p.out.close()
		close(p.done)
	}()
	t.Cleanup(func() {
		if p.ended() {
			return
		}
		if t.Failed() {
			t.Logf("output of %s:\n%s", cmd, p.out)
		}
		p.signal(syscall.SIGINT)
		if _, ok := p.waitFor(patience); !ok {
			t.Errorf("%s does not end when it is interrupted:\n%s", cmd, p.out)
			p.signal(syscall.SIGKILL)
			<-p.done
		}
	})
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !p.ended() {
		p.t.Errorf("signal %v: %v", s, err)
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) waitFor(d time.Duration) (code int, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), true
	case <-ctx.Done():
		return 0, false
	}
}

// wait returns the exit code; -1 when a signal ended it.
func (p *process) wait() int {
	p.t.Helper()
	code, ok := p.waitFor(patience)
	if !ok {
		p.t.Fatalf("%s does not end:\n%s", p.cmd, p.out)
	}
	return code
}

// kill ends it as kill -9 does.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait()
}

// line waits until the output says text, and returns the line.
func (p *process) line(text string) string {
	p.t.Helper()
	l, ok := p.out.find(text, patience)
	if !ok {
		p.t.Fatalf("%s does not say %q:\n%s", p.cmd, text, p.out)
	}
	return l
}

// transcript keeps an output and lets readers wait for what it says.
type transcript struct {
	mu      sync.Mutex // guards what follows
	text    bytes.Buffer
	closed  bool
	changed chan struct{} // closed and replaced at every change
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{})} }

func (tr *transcript) Write(b []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.text.Write(b)
	tr.tellLocked()
	return len(b), nil
}

func (tr *transcript) close() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.closed = true
	tr.tellLocked()
}

func (tr *transcript) tellLocked() {
	close(tr.changed)
	tr.changed = make(chan struct{})
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

// find waits for a whole line that holds text; false when the output ended or d passed without one.
func (tr *transcript) find(text string, d time.Duration) (string, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for {
		tr.mu.Lock()
		all, closed, changed := tr.text.String(), tr.closed, tr.changed
		tr.mu.Unlock()
		for l := range strings.Lines(all) {
			if strings.Contains(l, text) && (closed || strings.HasSuffix(l, "\n")) {
				return strings.TrimSuffix(l, "\n"), true
			}
		}
		if closed {
			return "", false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", false
		}
	}
}

// identity names one process for good: a number alone can be given to another one.
func identity(t testing.TB, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatalf("process %d has ended: %v", pid, err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if fields[0] == "Z" {
		t.Fatalf("process %d has ended", pid)
	}
	return fmt.Sprintf("%d since tick %s", pid, fields[19])
}

// handle opens a process, so that its end can be waited for.
func handle(t testing.TB, pid int) *os.File {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("open process %d: %v", pid, err)
	}
	f := os.NewFile(uintptr(fd), "process "+strconv.Itoa(pid))
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// awaitEnd waits for the end of a process.
func awaitEnd(t testing.TB, h *os.File) {
	t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.Fd()), Events: unix.POLLIN}}, int(patience/time.Millisecond))
	for err == unix.EINTR { //nolint:errorlint // a system call returns the number itself
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(h.Fd()), Events: unix.POLLIN}}, int(patience/time.Millisecond))
	}
	if err != nil || n != 1 {
		t.Fatalf("%s does not end (%v)", h.Name(), err)
	}
}

// processes lists what runs for the cluster: what bears the mark of the test, and what names the data directory, as a
// shim does, whose environment is of the agent's making.
func (c *cluster) processes() []int {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil // only a malformed pattern is an error
	}
	mark := []byte(leakcheck.MarkerEnv + "=" + c.run.Marker)
	var out []int
	for _, f := range files {
		env, errEnv := os.ReadFile(f)
		args, errArgs := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		if errEnv != nil || errArgs != nil {
			continue // ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		marked := slices.ContainsFunc(bytes.Split(env, []byte{0}), func(kv []byte) bool { return bytes.Equal(kv, mark) })
		if marked || bytes.Contains(args, []byte(c.dir)) {
			out = append(out, pid)
		}
	}
	return out
}

// awaitNobody waits until nothing runs for the cluster any more.
func (c *cluster) awaitNobody() {
	c.t.Helper()
	for _, pid := range c.processes() {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil { // else it has ended
			h := os.NewFile(uintptr(fd), "process "+strconv.Itoa(pid))
			awaitEnd(c.t, h)
			_ = h.Close()
		}
	}
	if left := c.processes(); len(left) > 0 {
		c.t.Fatalf("processes %v run on", left)
	}
}
