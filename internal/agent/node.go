package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/agent/gpu"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

var errParentDied = errors.New("the parent of this throw-away cluster died")

// CheckUser says why workloads could not be run as this user.
func CheckUser(name string) error {
	_, err := lookUser(name)
	return err
}

// lookUser resolves the workload user; nil means the agent's own.
func lookUser(name string) (*shim.Credential, error) {
	if name == "" {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("run workloads as %s: only root may; run the agent as root or leave --workload-user out", name)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("run workloads as %s: %w", name, err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("run workloads as %s: %w", name, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("run workloads as %s: %w", name, err)
	}
	c := &shim.Credential{UID: uint32(uid), GID: uint32(gid)}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}

// inspect fills in what the node is and can do.
func (a *Agent) inspect() error {
	n := &a.node
	*n = nodeproto.NodeStatus{
		Name: a.opts.Name, Version: a.opts.Version, Platform: "linux", Labels: a.opts.Labels, GPUs: []autoheal.GPU{},
		Caps:       []autoheal.Verb{autoheal.Start, autoheal.Stop, autoheal.Collect, autoheal.Refresh},
		Runtimes:   []string{},
		Conditions: map[string]string{}, Warnings: []string{},
	}
	memory := meminfo()["MemTotal"] >> 10
	if a.opts.MemoryMB > 0 {
		memory = a.opts.MemoryMB
	}
	cpu := int64(runtime.NumCPU()) * 1000
	if a.opts.CPUs > 0 {
		cpu = int64(a.opts.CPUs * 1000)
	}
	n.Capacity = autoheal.Resources{CPUMilli: cpu, MemoryMB: memory, Pids: a.opts.PidsLimit}
	n.Allocatable = n.Capacity
	a.prepareGroups()
	if a.opts.SimulateGPUs == "" {
		a.prober = gpu.Find(a.clk)
	}
	n.Programs = !a.opts.NoPrograms
	n.Caps = append(n.Caps, autoheal.Reboot)
	if a.canReset() {
		n.Caps = append(n.Caps, autoheal.ResetGPU)
	}
	if a.opts.SimulateGPUs == "" {
		return nil
	}
	list, err := gpu.Simulate(a.opts.SimulateGPUs, a.opts.Name)
	if err != nil {
		return err
	}
	n.GPUs = list
	n.Capacity, n.Allocatable = withGPUs(n.Capacity, list), withGPUs(n.Allocatable, list)
	return nil
}

func (a *Agent) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.node.Warnings = append(a.node.Warnings, text)
	a.log.Warn("node warning", slog.String("warning", text))
}

// prepareGroups makes the node's control group, or says once why limits are measured.
func (a *Agent) prepareGroups() {
	if a.opts.CgroupPrefix == "none" {
		a.host = cgroup.Host{Reason: "switched off"}
	} else {
		a.host = cgroup.Detect()
	}
	limits := cgroup.Limits{MemoryMB: a.opts.MemoryMB, CPUMilli: int64(a.opts.CPUs * 1000)}
	parent, err := a.host.Prepare(a.opts.CgroupPrefix, a.opts.Name, limits)
	if err != nil {
		a.node.Cgroups = "none: " + err.Error()
		a.warn("memory limits are measured once a second and not enforced by the kernel: %v", err)
		return
	}
	a.parent, a.node.Cgroups = parent, string(a.host.Version)
}

func readProc(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "" // without it the number is unknown, which is 0 here
	}
	return string(data)
}

// startWatchers starts what looks at the machine for as long as Run lasts.
func (a *Agent) startWatchers(cancel context.CancelCauseFunc) {
	a.answerProbes() // writes a.node: before anybody else may
	if a.prober != nil {
		a.probeGPUs(a.ctx) // before joining, so that the first listing is right
		a.wg.Go(a.watchGPUs)
	}
	a.findEngines(a.ctx)
	a.wg.Go(a.watchConditions)
	if a.opts.EphemeralFD > 0 {
		a.wg.Go(func() { a.watchParent(cancel) })
	}
	a.wg.Go(a.watchLogs)
}

// watchParent ends Run when the inherited pipe closes.
func (a *Agent) watchParent(cancel context.CancelCauseFunc) {
	unix.CloseOnExec(a.opts.EphemeralFD) // a shim that held it open would outlive the cluster
	if err := unix.SetNonblock(a.opts.EphemeralFD, true); err != nil {
		cancel(errParentDied) // nothing is behind the number: nobody would ever stop this cluster
		return
	}
	f := os.NewFile(uintptr(a.opts.EphemeralFD), "parent")
	stop := context.AfterFunc(a.ctx, func() { _ = f.Close() })
	defer stop()
	var buf [64]byte
	for {
		if _, err := f.Read(buf[:]); err != nil {
			cancel(errParentDied) // after Run's own end it changes nothing
			return
		}
	}
}
