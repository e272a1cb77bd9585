package agent

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// When the machine is short of something. What is told holds until there is twice as much again: at the edge it would
// come and go.
const (
	lowPercent       = 5
	lowDiskBytes     = 1 << 30
	pidsAlmostUsedUp = 95
	stalledPercent   = 40 // of a minute in which nothing could run for want of memory, where the kernel tells
	again            = 2
)

// conditions looks at disk, memory and process numbers. held are the conditions that were told.
func conditions(dir string, held map[string]string) map[string]string {
	found := map[string]string{}
	factor := func(name string) uint64 {
		if _, told := held[name]; told {
			return again
		}
		return 1
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Blocks > 0 {
		free, size, k := fs.Bavail*uint64(fs.Bsize), fs.Blocks*uint64(fs.Bsize), factor(condDiskFull)
		if free*100 < size*lowPercent*k && free < lowDiskBytes*k {
			found[condDiskFull] = fmt.Sprintf("less than %d%% free in the agent's folder", lowPercent)
		}
		if fs.Flags&unix.ST_RDONLY != 0 {
			found[condReadOnly] = "the agent's folder is read-only"
		}
	}
	mem, k := meminfo(), int64(factor(condMemory))
	stalled := memoryStall(readProc("/proc/pressure/memory"))
	switch total, free := mem["MemTotal"], mem["MemAvailable"]; {
	case total > 0 && free*100 < total*lowPercent*k:
		found[condMemory] = fmt.Sprintf("less than %d%% of memory available", lowPercent)
	case stalled*float64(k) > stalledPercent:
		found[condMemory] = fmt.Sprintf("for more than %d%% of the last minute nothing could run for want of memory", stalledPercent)
	}
	used, most := pidsUsed()
	if k := int64(factor(condPids)); most > 0 && (most-used)*100 < most*(100-pidsAlmostUsedUp)*k {
		found[condPids] = fmt.Sprintf("more than %d%% of process numbers used", pidsAlmostUsedUp)
	}
	return found
}

// memoryStall reads from the kernel's pressure file which share of the last minute all tasks waited for memory, in per
// cent; 0 where it does not tell.
func memoryStall(text string) float64 {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "full" {
			continue
		}
		v, ok := strings.CutPrefix(f[2], "avg60=")
		if n, err := strconv.ParseFloat(v, 64); ok && err == nil {
			return n
		}
	}
	return 0
}

// machineFault is what the kernel reported of the machine, until when.
type machineFault struct {
	text  string
	until time.Duration
}

// faultHolds is how long broken hardware counts if it is not reported again; what else its kernel reports counts as long as
// the signal. Booting ends both.
const faultHolds = 24 * time.Hour

// noteFaultLocked has the node take no work for as long as what its kernel calls critical counts.
func (a *Agent) noteFaultLocked(s autoheal.Signal, at time.Duration) {
	broken := s.Failure == autoheal.FailureHostHW || s.Failure == autoheal.FailureDisk
	if s.Subject.Kind != autoheal.RefNode || !s.Conclusive || !broken && s.Failure != autoheal.FailureHostSW {
		return
	}
	if s.Clears {
		delete(a.faults, s.Rule)
	} else {
		f := machineFault{text: clip(s.Excerpt, maxDetail), until: at + s.TTL}
		if broken {
			f.until = max(f.until, at+faultHolds)
		}
		if old, known := a.faults[s.Rule]; known {
			f.text = old.text // the first line says it; told again it is no news
		}
		a.faults[s.Rule] = f
	}
	n := a.copyNodeLocked()
	a.putFaultsLocked(n)
	a.setNodeLocked(n)
}

// putFaultsLocked puts what counts of the kernel's reports into the conditions of a node.
func (a *Agent) putFaultsLocked(n *nodeproto.NodeStatus) {
	maps.DeleteFunc(n.Conditions, func(name, _ string) bool { return autoheal.FromKernel(name) })
	for rule, f := range a.faults {
		if a.boot() > f.until {
			delete(a.faults, rule)
			continue
		}
		n.Conditions[autoheal.CondFault+rule] = f.text
	}
}
