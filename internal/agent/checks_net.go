package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what a workload may answer a check with.
const (
	maxAnswer  = 1 << 10
	maxMetrics = 4 << 20
)

// dialTCP connects to a port of the attempt and hangs up.
func (a *Agent) dialTCP(ctx context.Context, at *attempt, port int) error {
	c, err := a.dialAttempt(ctx, at, port)
	if err != nil {
		return err
	}
	return c.Close()
}

// dialAttempt reaches a port on the loopback of the attempt: this machine's, or that of its container.
func (a *Agent) dialAttempt(ctx context.Context, at *attempt, port int) (net.Conn, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dial := func() (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp4", address) }
	if at.spec.Container == nil {
		return dial()
	}
	a.mu.Lock()
	pid := at.view.status.Pid
	a.mu.Unlock()
	return dialInside(pid, dial)
}

// dialInside dials in the network of a container's first process: a socket belongs to the network in which its thread was
// when it was made. The thread is thrown away unless it finds back.
func dialInside(pid int, dial func() (net.Conn, error)) (net.Conn, error) {
	type dialled struct {
		c   net.Conn
		err error
	}
	done := make(chan dialled, 1)
	go func() {
		runtime.LockOSThread()
		c, err, back := dialFromThread(pid, dial)
		if back {
			runtime.UnlockOSThread()
		}
		done <- dialled{c, err}
	}()
	d := <-done
	return d.c, d.err
}

func dialFromThread(pid int, dial func() (net.Conn, error)) (c net.Conn, err error, back bool) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("find own network: %w", err), true
	}
	defer own.Close()
	theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("find the network of process %d: %w", pid, err), true
	}
	defer theirs.Close()
	if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the network of process %d: %w", pid, err), true
	}
	c, err = dial()
	return c, err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil
}

// getHTTP asks a port of the attempt. Anything from 200 to 399 passes; where a redirection leads is not asked.
func (a *Agent) getHTTP(ctx context.Context, at *attempt, port int, path string) (body string, err error) {
	code, body, err := a.fetch(ctx, at, port, path, maxAnswer)
	if err == nil && (code < 200 || code > 399) {
		err = fmt.Errorf("it answered %d %s", code, http.StatusText(code))
	}
	return body, err
}

// fetch makes one request of its own connection and reads at most limit bytes of the answer.
func (a *Agent) fetch(ctx context.Context, at *attempt, port int, path string, limit int64) (code int, body string, err error) {
	transport := &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return a.dialAttempt(ctx, at, port) },
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(port))+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("User-Agent", "autoheal-check/"+a.opts.Version)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	return resp.StatusCode, string(data), errors.Join(err, resp.Body.Close())
}

// readMetric sums the samples of a metric that the attempt offers in the Prometheus text format.
func (a *Agent) readMetric(ctx context.Context, at *attempt, port int, path, name string) (float64, error) {
	code, body, err := a.fetch(ctx, at, port, path, maxMetrics)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("it answered %d %s", code, http.StatusText(code))
	}
	if err != nil {
		return 0, err
	}
	return sumMetric(body, name)
}

// sumMetric sums the samples of one name.
func sumMetric(text, name string) (float64, error) {
	sum, found := 0.0, false
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		if strings.HasPrefix(rest, "{") {
			if _, rest, ok = cutLast(rest, "}"); !ok {
				continue
			}
		} else if !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "\t") {
			continue // a longer name
		}
		f := strings.Fields(rest)
		if len(f) == 0 {
			continue
		}
		v, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			return 0, fmt.Errorf("read metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("it offers no metric %s", name)
	}
	return sum, nil
}
