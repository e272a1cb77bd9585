package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// maxCheckOutput bounds what is kept of a check's output: its end.
const maxCheckOutput = 1 << 10

// RunCheck runs a command as a process of the attempt in dir: in its control group, with its environment, in its working
// folder and as its user. It is for the agent, not for the shim. The error says how the command ended, if that was not
// with exit status 0; with the end of ctx it is killed, and what it started in its session with it.
func RunCheck(ctx context.Context, dir string, s *Spec, argv []string) (output string, err error) {
	c := *s
	c.Argv = argv
	path, err := lookPath(c.Argv, c.Env)
	if err != nil {
		return "", err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return "", fmt.Errorf("open standard input: %w", err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("open output: %w", err)
	}
	defer r.Close()
	tail := make(chan string, 1)
	go func() { tail <- keepTail(r) }()
	ended := make(chan error, 1)
	go func() { // one thread for the whole life of the process: with it the parent-death signal would come
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		pid, err := fork(&c, dir, path, [3]uintptr{null.Fd(), w.Fd(), w.Fd()}, ctx.Err)
		if err = errors.Join(err, w.Close()); err != nil {
			ended <- err
			return
		}
		ended <- awaitCheck(ctx, pid)
	}()
	err = <-ended
	select {
	case output = <-tail:
	case <-ctx.Done(): // something that left its session holds the output open
		_ = r.Close()
		output = <-tail
	}
	return output, err
}

// keepTail reads to the end and keeps the last bytes.
func keepTail(r *os.File) string {
	var kept []byte
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		kept = append(kept, buf[:n]...)
		kept = kept[max(0, len(kept)-maxCheckOutput):]
		if err != nil {
			return string(kept)
		}
	}
}

// awaitCheck returns how a check ended. Its number is not given back before nothing can be sent to it any more.
func awaitCheck(ctx context.Context, pid int) error {
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = unix.Kill(-pid, unix.SIGKILL) // gone already is as good
		close(killed)
	})
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	if !stop() {
		<-killed
	}
	_ = unix.Kill(-pid, unix.SIGKILL) // what it left behind in its session
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ws.Signaled():
		return fmt.Errorf("it was killed by %s", unix.SignalName(ws.Signal()))
	case ws.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", ws.ExitStatus())
	}
	return nil
}
