package detect

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// crashLoop claims that a workload which is wanted has ended badly. An exit that was seen is conclusive (behaviour A6).
// Whether it counts against the workload is decided by the exit's reason (behaviour E3).
type crashLoop struct{}

func (crashLoop) Kind() autoheal.FailureKind { return autoheal.CrashLoop }

func (crashLoop) Detect(v View, c Change, now time.Time) []autoheal.Finding {
	w := c.Workload
	if w == nil || w.State != autoheal.Failed || w.Exit == nil || !Wanted(w) {
		return nil
	}
	switch w.Exit.Reason {
	case autoheal.ExitSuperseded: // we gave it up ourselves; what became of it is not known
		return nil
	case autoheal.ExitDrained, autoheal.ExitPreempted, autoheal.ExitShutdown: // who ended it makes the next attempt
		return nil
	case autoheal.ExitMaxRuntime: // it ran as long as its owner allowed: an end, not a failure
		return nil
	}
	if b := c.WorkloadBefore; b != nil && b.Attempt == w.Attempt && b.State == w.State && b.Desired == w.Desired && (b.Paused == nil) == (w.Paused == nil) {
		return nil
	}
	f := autoheal.Finding{
		Kind: autoheal.CrashLoop, Subject: w.Ref(), Affected: []autoheal.Ref{w.Ref()},
		Confidence: 1, Conclusive: true, Since: w.EndedAt, Cause: DescribeExit(w), Because: "crash_loop." + string(w.Exit.Reason),
		Evidence: []autoheal.Signal{exitSignal(w, now)},
	}
	if w.Gang != "" {
		if r, ok := ReportGang(v, w.Gang, now); ok && r.Broken {
			return nil // its ranks have lost each other: that is another failure (behaviour E9)
		}
		f.Subject = autoheal.Ref{Kind: autoheal.RefGang, ID: string(w.Gang), Generation: strconv.Itoa(w.Attempt)}
		f.Affected = nil
		for _, m := range v.Gang(w.Gang) {
			f.Affected = append(f.Affected, m.Ref())
		}
	}
	return []autoheal.Finding{f}
}

// Wanted reports whether a workload is meant to run and ours to restart: its owner wants it, it is not paused, and
// nothing else manages it.
func Wanted(w *autoheal.Workload) bool {
	return w.Desired == autoheal.DesiredRunning && w.Paused == nil && w.Owner == nil && w.Options.Heal != autoheal.HealOff
}

// DescribeExit says in one sentence how an attempt ended.
func DescribeExit(w *autoheal.Workload) string {
	e := w.Exit
	what := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		what = "killed by " + e.Signal
	}
	switch {
	case e.OOM == autoheal.OOMHostCgroup:
		return fmt.Sprintf("out of memory at its own limit of %d MiB (%s)", w.Request.MemoryMB, what)
	case e.OOM == autoheal.OOMHostGlobal:
		return fmt.Sprintf("killed because the node ran out of memory, not at its own limit (%s)", what)
	case e.OOM == autoheal.OOMGPU:
		return fmt.Sprintf("out of GPU memory (%s)", what)
	case e.Reason == autoheal.ExitStartFailed:
		return "could not be started: " + strings.TrimPrefix(e.Detail, "program could not be started: ")
	case e.Reason == autoheal.ExitNodeFault:
		return "its node could not start it: " + e.Detail
	case e.Verdict != nil && len(e.Verdict.Because) > 0:
		return fmt.Sprintf("%s: %s (%s, %s)", what, clip(e.Verdict.Because[0], 300), e.Verdict.Failure, e.Verdict.Code)
	case e.Reason == autoheal.ExitCrashed && e.Detail != "":
		return fmt.Sprintf("%s, its last line was %q", what, lastLine(e.Detail))
	case e.Reason == autoheal.ExitCrashed:
		return what
	case e.Signal == "" && e.Code < 0: // nobody saw how it ended
		return inWords(e.Reason)
	default:
		return fmt.Sprintf("%s (%s)", inWords(e.Reason), what)
	}
}

// inWords says why an attempt ended that did not end by itself.
func inWords(r autoheal.ExitReason) string {
	switch r {
	case autoheal.ExitStopped:
		return "it was stopped"
	case autoheal.ExitDrained:
		return "it was stopped by a drain"
	case autoheal.ExitPreempted:
		return "it was stopped for a more important workload"
	case autoheal.ExitSelfStop:
		return "it stopped itself: its deadline passed without contact"
	case autoheal.ExitShimKilled:
		return "the shim that owned it was killed, and it with it"
	case autoheal.ExitRebooted:
		return "its machine was rebooted"
	case autoheal.ExitShutdown:
		return "its cluster was shut down"
	case autoheal.ExitMaxRuntime:
		return "it ran as long as it may"
	default:
		return "ended by " + string(r)
	}
}

// lastLine returns the last line of what a workload said, at most 200 bytes. It is untrusted.
func lastLine(s string) string {
	s = s[strings.LastIndexByte(strings.TrimRight(s, "\n"), '\n')+1:]
	return clip(strings.TrimSpace(s), 200)
}

// clip cuts a text to n bytes of whole characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func exitSignal(w *autoheal.Workload, now time.Time) autoheal.Signal {
	failure := autoheal.FailureCrash
	switch w.Exit.OOM {
	case autoheal.OOMHostCgroup, autoheal.OOMHostGlobal:
		failure = autoheal.FailureOOMHost
	case autoheal.OOMGPU:
		failure = autoheal.FailureOOMGPU
	}
	var action autoheal.Advice
	if v := w.Exit.Verdict; v != nil {
		if failure == autoheal.FailureCrash {
			failure = v.Failure
		}
		action = v.Action
	}
	return autoheal.Signal{
		Rule: "exit", Source: "shim", Failure: failure, Subject: w.Ref(), At: w.EndedAt, SeenAt: now, Count: 1, Conclusive: true, Action: action,
		Fields: map[string]string{
			"code": strconv.Itoa(w.Exit.Code), "signal": w.Exit.Signal, "reason": string(w.Exit.Reason), "oom": string(w.Exit.OOM),
			"attempt": strconv.Itoa(w.Attempt),
		},
		Excerpt: w.Exit.Detail,
	}
}
