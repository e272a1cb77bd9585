package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/nodeproto"
)

// Bounds of evidence (behaviour F4).
const (
	kernelLines = 200
	maxEvidence = 64 << 10
)

// doCollect captures what a repair would destroy. A part that cannot be read says so instead of being absent.
func (a *Agent) doCollect(ctx context.Context, req nodeproto.CollectRequest) (*nodeproto.CollectResponse, error) {
	if err := a.epoch.admit(req.Epoch); err != nil {
		return nil, err
	}
	texts := map[string]string{
		"kernel":    a.kernelTail(),
		"gpu":       a.gpuReport(ctx),
		"processes": processList(),
	}
	if req.Workload != "" {
		texts["log"] = a.logTail(ctx, req)
	}
	for name, text := range texts {
		texts[name] = strings.ToValidUTF8(lastBytes(text, maxEvidence), "\uFFFD")
	}
	return &nodeproto.CollectResponse{Texts: texts}, nil
}

func (a *Agent) logTail(ctx context.Context, req nodeproto.CollectRequest) string {
	r, err := a.doLogs(ctx, nodeproto.LogsRequest{Workload: req.Workload, Limit: kernelLines})
	if err != nil {
		return "not available: " + err.Error()
	}
	var b strings.Builder
	for _, l := range r.Lines {
		fmt.Fprintf(&b, "-%dms %s %s\n", l.AgeMS, l.Stream, l.Message)
	}
	return b.String()
}

// kernelTail returns the last lines of the kernel log, or of the file that stands for it.
func (a *Agent) kernelTail() string {
	var text string
	var err error
	if a.opts.KernelLog != "" {
		text, err = tailFile(a.opts.KernelLog, maxEvidence)
	} else {
		text, err = readKmsg()
	}
	if err != nil {
		return "not available: " + err.Error()
	}
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-1-kernelLines):], "")
}

func tailFile(path string, n int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-n), n))
	return string(data), err
}

// readKmsg reads the records that the kernel keeps now, one line each: PRIORITY,SEQUENCE,MICROSECONDS,FLAG;TEXT.
func readKmsg() (string, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open /dev/kmsg: %w", err)
	}
	defer unix.Close(fd)
	var b strings.Builder
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR): // overwritten meanwhile: go on with the next
		case err != nil || n == 0: // EAGAIN: that was all
			return b.String(), nil
		default:
			record, _, _ := strings.Cut(string(buf[:n]), "\n") // what follows are key=value lines about the device
			b.WriteString(record + "\n")
		}
	}
}

// processList shows every process: pid, parent, state, resident MiB and command line. Environments are not in it.
func processList() string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return "not available: " + err.Error()
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	var b strings.Builder
	b.WriteString("PID PPID STATE RSS_MB COMMAND\n")
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		_, rest, _ := strings.Cut(readProc(filepath.Join(dir, "stat")), ") ")
		f := strings.Fields(rest)
		if len(f) < 22 {
			continue // it ended meanwhile
		}
		pages, _ := strconv.ParseInt(f[21], 10, 64) // the kernel writes numbers
		command := strings.TrimSpace(strings.ReplaceAll(readProc(filepath.Join(dir, "cmdline")), "\x00", " "))
		if command == "" {
			continue // a kernel thread
		}
		fmt.Fprintf(&b, "%d %s %s %d %s\n", pid, f[1], f[0], pages*int64(os.Getpagesize())>>20, clip(command, 300))
	}
	return b.String()
}

// lastBytes keeps the end of a text.
func lastBytes(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}
