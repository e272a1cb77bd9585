package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/redact"
)

// Bounds of evidence (behaviour F4).
const (
	kernelLines = 200
	maxEvidence = 64 << 10  // of one text
	maxReport   = 512 << 10 // of the GPUs' report, which is long where they are many
	// dumpTime is what a process gets to write its stacks before its log is read.
	dumpTime = time.Second
)

// doCollect captures what a repair would destroy. A part that cannot be read says so instead of being absent.
func (a *Agent) doCollect(ctx context.Context, req nodeproto.CollectRequest) (*nodeproto.CollectResponse, error) {
	if err := a.epoch.admit(req.Epoch); err != nil {
		return nil, err
	}
	report := make(chan string, 1)
	a.wg.Go(func() { report <- a.gpuReport(ctx) }) // the one part that may take long
	procs := readProcesses("/proc")
	subjects := a.subjects(req)
	texts := map[string]string{
		"kernel":    a.kernelTail(),
		"processes": a.processList(procs),
		"stacks":    stacks(procs, subjects),
	}
	if req.Dump {
		texts["stacks"] = dumpStacks(procs, subjects) + texts["stacks"]
		a.pause(dumpTime)
	}
	if req.Workload != "" {
		texts["log"] = a.logTail(ctx, req)
	}
	texts["gpu"] = <-report
	secrets := a.secrets()
	for name, text := range texts {
		most := maxEvidence
		if name == "gpu" {
			most = maxReport
		}
		texts[name] = evidence(text, secrets, most)
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

// secrets are the values of the environments of all workloads that are here; the names of their variables stand for them
// (behaviour F6).
func (a *Agent) secrets() *redact.Values {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out redact.Values
	for _, at := range a.attempts {
		env := at.spec.Start.Spec.Env
		for _, name := range slices.Sorted(maps.Keys(env)) {
			out.Add(env[name], "["+name+"]")
		}
	}
	return &out
}

// evidence is the end of a text as it may leave the machine. It is cut last: a cut through a secret would leave its end.
func evidence(text string, secrets *redact.Values, most int) string {
	return strings.ToValidUTF8(lastBytes(secrets.Strike(text), most), "\uFFFD")
}

// lastBytes keeps the end of a text.
func lastBytes(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}
