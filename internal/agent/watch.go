package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/gpu"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// How often the machine is looked at (behaviour E2 for GPUs).
const (
	gpuInterval       = time.Minute
	conditionInterval = 10 * time.Second
)

// Names of conditions.
const (
	condDiskFull   = autoheal.CondDiskFull
	condReadOnly   = autoheal.CondReadOnly
	condMemory     = autoheal.CondMemory
	condPids       = autoheal.CondPids
	condDriverHung = "driver_hung"
	condGPUProbe   = "gpu_probe"
	condGPUPrefix  = "gpu:" // + UUID: why its health is not ok
)

// watchGPUs asks the driver once a minute, spread so that not all nodes of a rack ask at once.
func (a *Agent) watchGPUs() {
	h := fnv.New32a()
	_, _ = h.Write([]byte(a.opts.Name)) // a hash does not fail
	a.pause(time.Duration(h.Sum32()%uint32(gpuInterval.Milliseconds())) * time.Millisecond)
	for a.ctx.Err() == nil {
		a.probeGPUs(a.ctx)
		a.pause(gpuInterval)
	}
}

// probeGPUs takes one report. What no report says is unknown, never good.
func (a *Agent) probeGPUs(ctx context.Context) {
	if a.isResetting() {
		return // what it would say of a GPU that is being reset is no news, and it would keep the reset from working
	}
	reports, _, err := a.prober.Probe(ctx)
	if ctx.Err() != nil {
		return
	}
	hung := a.prober.Hung()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tellHungLocked(hung)
	n := a.copyNodeLocked()
	for name := range n.Conditions {
		if strings.HasPrefix(name, condGPUPrefix) || name == condGPUProbe || name == condDriverHung {
			delete(n.Conditions, name)
		}
	}
	if err != nil {
		for i := range n.GPUs {
			n.GPUs[i].Health, n.GPUs[i].Action = autoheal.HealthUnknown, ""
		}
		n.Conditions[condGPUProbe] = clip(err.Error(), maxDetail)
		if hung >= 2 && errors.Is(err, gpu.ErrHung) {
			n.Conditions[condDriverHung] = fmt.Sprintf("%d probes in a row got no answer", hung)
		}
	} else {
		n.GPUs = mergeGPUs(n.GPUs, reports, n.Conditions)
		for _, r := range reports {
			a.minors[r.GPU.UUID] = r.Minor
		}
	}
	a.forgetBlameLocked(n)
	a.blameGPUsLocked(n)
	n.Capacity = withGPUs(n.Capacity, n.GPUs)
	n.Allocatable = withGPUs(n.Allocatable, n.GPUs)
	a.setNodeLocked(n)
}

func (a *Agent) isResetting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.resetting
}

// tellHungLocked tells that the driver hangs as long as it does, and when it does not any more.
func (a *Agent) tellHungLocked(probes int) {
	hung := probes >= 2
	if s := a.driverHung(probes); hung || a.hung {
		s.Clears = !hung
		a.emitLocked(s, a.boot())
	}
	a.hung = hung
}

// mergeGPUs takes over a report. A GPU that was there and is missing now has failed: it is not forgotten, because an
// attempt may hold it and a person must look for it.
func mergeGPUs(known []autoheal.GPU, reports []gpu.Report, conditions map[string]string) []autoheal.GPU {
	list := make([]autoheal.GPU, 0, len(reports))
	present := map[autoheal.GPUID]bool{}
	for _, r := range reports {
		present[r.GPU.UUID] = true
		list = append(list, r.GPU)
		if len(r.Reasons) > 0 {
			conditions[condGPUPrefix+string(r.GPU.UUID)] = clip(strings.Join(r.Reasons, "; "), maxDetail)
		}
	}
	for _, g := range known {
		if !present[g.UUID] {
			g.Health, g.Action = autoheal.HealthFailed, autoheal.AdviceRebootNode
			list = append(list, g)
			conditions[condGPUPrefix+string(g.UUID)] = "missing from the driver's report"
		}
	}
	return list
}

// withGPUs sets the GPU part of r.
func withGPUs(r autoheal.Resources, gpus []autoheal.GPU) autoheal.Resources {
	r.GPUs, r.GPUMemoryMB, r.GPUModel = len(gpus), 0, ""
	for i, g := range gpus {
		if i == 0 || g.MemoryMB < r.GPUMemoryMB {
			r.GPUMemoryMB = g.MemoryMB
		}
		if i == 0 {
			r.GPUModel = g.Model
		}
	}
	return r
}

// gpuReport is the driver's own text, for evidence.
func (a *Agent) gpuReport(ctx context.Context) string {
	if a.prober == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.node.GPUs) == 0 {
			return "not available: this machine has no nvidia-smi"
		}
		var b strings.Builder
		b.WriteString("SIMULATED GPUs\n")
		for _, g := range a.node.GPUs {
			fmt.Fprintf(&b, "%d %s %s %s %s\n", g.Index, g.UUID, g.PCI, g.Model, g.Health)
		}
		return b.String()
	}
	if a.isResetting() {
		return "not available: a GPU is being reset"
	}
	_, raw, err := a.prober.Look(ctx)
	if err != nil {
		return fmt.Sprintf("not available: %v\n%s", err, raw)
	}
	return string(raw)
}

// watchConditions looks at disk, memory and process numbers.
func (a *Agent) watchConditions() {
	for a.ctx.Err() == nil {
		a.mu.Lock()
		held := maps.Clone(a.node.Conditions)
		a.mu.Unlock()
		found := conditions(a.dir, held)
		a.mu.Lock()
		n := a.copyNodeLocked()
		for _, name := range []string{condDiskFull, condReadOnly, condMemory, condPids} {
			delete(n.Conditions, name)
		}
		maps.Copy(n.Conditions, found)
		a.putFaultsLocked(n)
		a.setNodeLocked(n)
		a.mu.Unlock()
		a.pause(conditionInterval)
		a.findEngines(a.ctx) // one may have come up since
	}
}

// meminfo returns /proc/meminfo in KiB.
func meminfo() map[string]int64 {
	out := map[string]int64{}
	for line := range strings.Lines(readProc("/proc/meminfo")) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			out[strings.TrimSuffix(f[0], ":")] = n
		}
	}
	return out
}

// pidsUsed returns the tasks of the machine, the fourth field of /proc/loadavg, and the limit.
func pidsUsed() (used, most int64) {
	f := strings.Fields(readProc("/proc/loadavg"))
	if len(f) < 4 {
		return 0, 0
	}
	_, total, _ := strings.Cut(f[3], "/")
	used, err1 := strconv.ParseInt(total, 10, 64)
	most, err2 := strconv.ParseInt(strings.TrimSpace(readProc("/proc/sys/kernel/pid_max")), 10, 64)
	if err1 != nil || err2 != nil {
		return 0, 0
	}
	return used, most
}

// nodeState is what setNodeLocked compares: a change of anything else is no news.
type nodeState struct {
	gpus       []autoheal.GPU
	conditions map[string]string
}

// copyNodeLocked returns the node's status with its own lists, to be changed and given to setNodeLocked.
func (a *Agent) copyNodeLocked() *nodeproto.NodeStatus {
	n := a.node
	n.GPUs, n.Conditions = slices.Clone(a.node.GPUs), maps.Clone(a.node.Conditions)
	return &n
}

// setNodeLocked publishes the node if it differs.
func (a *Agent) setNodeLocked(n *nodeproto.NodeStatus) {
	if reflect.DeepEqual(nodeState{a.node.GPUs, a.node.Conditions}, nodeState{n.GPUs, n.Conditions}) {
		return
	}
	a.node.GPUs, a.node.Conditions = n.GPUs, n.Conditions
	a.node.Capacity, a.node.Allocatable = n.Capacity, n.Allocatable
	a.publishNodeLocked()
}
