package shim

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/cgroup"
)

// ending is all that is known of how an attempt ended.
type ending struct {
	status   unix.WaitStatus
	startErr error               // nothing ran
	asked    autoheal.ExitReason // why the shim ended it; "" = it ended by itself
	askedBy  string              // the detail that goes with it
	before   cgroup.Stat         // counters at its start
	after    cgroup.Stat
	kernel   autoheal.OOMKind // what the kernel log says; "" = nothing found
	measured bool             // killed at its limit by the shim's own measuring
	limitMB  int64
}

// exit is the verdict.
func (e *ending) exit() autoheal.Exit {
	if e.startErr != nil {
		reason := autoheal.ExitNodeFault
		switch {
		case e.asked != "":
			reason = e.asked
		case errors.Is(e.startErr, errNotStarted):
			reason = autoheal.ExitStartFailed
		}
		return autoheal.Exit{Code: -1, Reason: reason, Detail: e.startErr.Error()}
	}
	x := autoheal.Exit{Code: -1, Reason: autoheal.ExitCrashed, Detail: e.askedBy}
	switch {
	case e.status.Signaled():
		x.Signal = unix.SignalName(e.status.Signal())
	case e.status.Exited():
		x.Code = e.status.ExitStatus()
	}
	switch {
	case e.asked != "":
		x.Reason = e.asked
		return x
	case e.measured:
		x.OOM = autoheal.OOMHostCgroup
		x.Detail = fmt.Sprintf("measured: used more than its %d MiB; the kernel enforces no limit here", e.limitMB)
		return x
	case x.Code == 0:
		x.Reason = autoheal.ExitCompleted
		return x
	}
	x.OOM, x.Detail = e.oom()
	return x
}

// oom says whose memory ran out. The proof is the increase of the group's own count of killed processes: exit code 137
// alone may be anybody's kill -9. Whose limit it was is told by the kernel log where it can be read, else by which
// limit refused memory.
func (e *ending) oom() (autoheal.OOMKind, string) {
	kills := e.after.OOMKills - e.before.OOMKills
	own, above := e.after.OwnHits > e.before.OwnHits, e.after.AboveHit > e.before.AboveHit
	switch {
	case kills <= 0:
		return autoheal.OOMNone, ""
	case e.kernel == autoheal.OOMHostCgroup || e.kernel == "" && own && !above:
		return autoheal.OOMHostCgroup, fmt.Sprintf("killed by the kernel at its own memory limit of %d MiB", e.limitMB)
	case e.kernel == autoheal.OOMHostGlobal || !own:
		return autoheal.OOMHostGlobal, "killed by the kernel because a limit above its own, or the host, ran out of memory"
	default:
		// Both limits refused memory at some time and the kernel log is silent. Taken for the limit above: growing a
		// workload for its host's fault does harm, restarting one in place that needs more does not.
		return autoheal.OOMHostGlobal, "killed by the kernel; both its own limit and one above it were reached, so it is not taken for its own fault"
	}
}

// kernelOOM looks for the newest out-of-memory line of the group at path in records of the kernel log.
func kernelOOM(log, path string) autoheal.OOMKind {
	kind := autoheal.OOMNone
	for line := range strings.Lines(log) {
		_, text, ok := strings.Cut(line, "oom-kill:constraint=")
		if !ok {
			continue
		}
		fields := map[string]string{}
		for f := range strings.SplitSeq(strings.TrimSpace(text), ",") {
			if k, v, ok := strings.Cut(f, "="); ok {
				fields[k] = v
			}
		}
		task := fields["task_memcg"]
		if path == "" || !strings.HasSuffix(task, path) && !strings.Contains(task, path+"/") {
			continue
		}
		if at := fields["oom_memcg"]; at != "" && len(at) >= strings.Index(task, path)+len(path) {
			kind = autoheal.OOMHostCgroup
		} else {
			kind = autoheal.OOMHostGlobal
		}
	}
	return kind
}

// readKernelLog returns what /dev/kmsg holds now, or "" without the right to read it.
func readKernelLog() string {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var out strings.Builder
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EPIPE): // overwritten while reading: the next read goes on
		case err != nil || n == 0:
			return out.String()
		case strings.Contains(string(buf[:n]), "oom-kill:"):
			out.Write(buf[:n])
		}
	}
}
