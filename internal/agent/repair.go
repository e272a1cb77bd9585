package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/program"
)

// maxHold bounds for how long a node is kept empty for a reboot, maxProgram for how long a program may run.
const (
	maxHold    = 15 * time.Minute
	maxProgram = 2 * time.Hour
)

// defaultReset is how long the driver's own tool may take when nobody says a time.
const defaultReset = 2 * time.Minute

// admitRepair refuses what an older healer asks for, or what was meant for another boot.
func (a *Agent) admitRepair(epoch uint64, id autoheal.ActionID, bootID string) error {
	if err := a.epoch.admit(epoch); err != nil {
		return err
	}
	switch {
	case id == "":
		return refuse(nodeproto.CodeInvalid, "a repair needs the ID of its action")
	case bootID != "" && bootID != a.bootID:
		return refuse(nodeproto.CodeOtherBoot, "this node has booted since: this was meant for boot %s", bootID)
	}
	return nil
}

// doReset takes on the reset of a GPU that nothing uses.
func (a *Agent) doReset(_ context.Context, req nodeproto.ResetRequest) (*nodeproto.Accepted, error) {
	if err := a.admitRepair(req.Epoch, req.Action, req.BootID); err != nil {
		return nil, err
	}
	if a.knowsJob(req.Action) {
		return &nodeproto.Accepted{Accepted: true, Repeated: true}, nil
	}
	g, err := a.shutGPU(req.GPU, req.Action)
	if err != nil {
		return nil, err
	}
	argv, err := a.resetCommand(g, req.Program)
	if err == nil {
		err = a.checkFree(g)
	}
	if err != nil {
		a.openGPU(g.UUID)
		return nil, err
	}
	if req.Program.TimeoutMS <= 0 {
		req.Program.TimeoutMS = defaultReset.Milliseconds()
	}
	return a.begin(nodeproto.JobStatus{
		Action: req.Action, Verb: autoheal.ResetGPU, Target: autoheal.Ref{Kind: autoheal.RefGPU, ID: string(g.UUID), Generation: a.bootID}, Simulated: g.Simulated,
	}, &g, func(s nodeproto.JobStatus) (string, string, error) { return a.reset(s, g, argv, req.Program.TimeoutMS) })
}

// doTest takes on the site's test, of the node or of a GPU that nothing uses.
func (a *Agent) doTest(_ context.Context, req nodeproto.TestRequest) (*nodeproto.Accepted, error) {
	if err := a.admitRepair(req.Epoch, req.Action, req.BootID); err != nil {
		return nil, err
	}
	switch {
	case a.knowsJob(req.Action):
		return &nodeproto.Accepted{Accepted: true, Repeated: true}, nil
	case len(req.Program.Argv) == 0 || req.Program.TimeoutMS <= 0:
		return nil, refuse(nodeproto.CodeInvalid, "a test needs a program and the time that it may take")
	case a.opts.NoPrograms:
		return nil, refuse(nodeproto.CodeUnsupported, "this agent runs no programs of the site's own (--no-programs)")
	case req.Target.Kind == autoheal.RefNode:
		s := nodeproto.JobStatus{Action: req.Action, Verb: autoheal.Test, Target: autoheal.Ref{Kind: autoheal.RefNode, ID: a.opts.Name, Generation: a.bootID}, Simulated: a.opts.SimulateGPUs != ""}
		return a.begin(s, nil, func(s nodeproto.JobStatus) (string, string, error) { return a.runProgram(s, nil, req.Program) })
	case req.Target.Kind != autoheal.RefGPU:
		return nil, refuse(nodeproto.CodeInvalid, "a test is of a node or of a GPU, not of a %s", req.Target.Kind)
	}
	g, err := a.shutGPU(autoheal.GPUID(req.Target.ID), req.Action)
	if err != nil {
		return nil, err
	}
	if err := a.checkFree(g); err != nil {
		a.openGPU(g.UUID)
		return nil, err
	}
	s := nodeproto.JobStatus{Action: req.Action, Verb: autoheal.Test, Target: autoheal.Ref{Kind: autoheal.RefGPU, ID: string(g.UUID), Generation: a.bootID}, Simulated: g.Simulated}
	return a.begin(s, &g, func(s nodeproto.JobStatus) (string, string, error) { return a.runProgram(s, &g, req.Program) })
}

// begin takes a job on, durably, and does it beside everything else. A GPU that it is about stays shut until its end.
func (a *Agent) begin(s nodeproto.JobStatus, g *autoheal.GPU, do func(nodeproto.JobStatus) (detail, output string, err error)) (*nodeproto.Accepted, error) {
	repeated, err := a.enterJob(s)
	if err != nil || repeated {
		if g != nil {
			a.openGPU(g.UUID)
		}
		if err != nil {
			return nil, refuse(nodeproto.CodeNodeFault, "%s: %v", s.Verb, err)
		}
		return &nodeproto.Accepted{Accepted: true, Repeated: true}, nil
	}
	a.wg.Go(func() {
		detail, output, err := do(s)
		if g != nil {
			a.openGPU(g.UUID)
		}
		a.leaveJob(s.Action, err, detail, output)
	})
	return &nodeproto.Accepted{Accepted: true}, nil
}

// doReboot makes sure that the node is empty and stays so while somebody reboots it.
func (a *Agent) doReboot(_ context.Context, req nodeproto.RebootRequest) (*nodeproto.Accepted, error) {
	if err := a.admitRepair(req.Epoch, req.Action, req.BootID); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var live []string
	a.liveLocked(func(at *attempt) { live = append(live, at.key.String()) })
	for k := range a.starting {
		live = append(live, k.String())
	}
	if len(live) > 0 {
		slices.Sort(live)
		return nil, refuse(nodeproto.CodeInUse, "reboot: %s runs here", strings.Join(slices.Compact(live), ", "))
	}
	for _, j := range a.jobs.list {
		if j.State == autoheal.JobRunning {
			return nil, refuse(nodeproto.CodeInUse, "reboot: the %s of %s is under way", j.Verb, j.Target.ID)
		}
	}
	a.shutNode = a.boot() + min(max(time.Duration(req.HoldMS)*time.Millisecond, 0), maxHold)
	return &nodeproto.Accepted{Accepted: true}, nil
}

// shutGPU keeps new attempts off a GPU that none holds, for an action. What it is about is returned.
func (a *Agent) shutGPU(id autoheal.GPUID, action autoheal.ActionID) (autoheal.GPU, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.node.GPUs, func(g autoheal.GPU) bool { return g.UUID == id })
	if i < 0 {
		return autoheal.GPU{}, refuse(nodeproto.CodeNotFound, "this node has no GPU %s", id)
	}
	if by, held := a.heldLocked()[id]; held {
		return autoheal.GPU{}, refuse(nodeproto.CodeInUse, "GPU %s is held by attempt %d of %s", id, by.attempt, by.workload)
	}
	if by, shut := a.shut[id]; shut {
		return autoheal.GPU{}, refuse(nodeproto.CodeInUse, "GPU %s is being reset or tested (%s)", id, by)
	}
	a.shut[id] = action
	return a.node.GPUs[i], nil
}

func (a *Agent) openGPU(id autoheal.GPUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.shut, id)
}

// checkFree refuses while a process has the GPU's device open. Simulated GPUs have none.
func (a *Agent) checkFree(g autoheal.GPU) error {
	if g.Simulated {
		return nil
	}
	a.mu.Lock()
	minor, known := a.minors[g.UUID]
	a.mu.Unlock()
	if !known {
		minor = -1
	}
	if by := holders("/proc", "/dev/nvidia", minor); len(by) > 0 {
		return refuse(nodeproto.CodeInUse, "GPU %s is held by %s", g.UUID, strings.Join(by, ", "))
	}
	return nil
}

// programInput is what a program of the site gets on its standard input.
type programInput struct {
	Action    autoheal.ActionID `json:"action"`
	Verb      autoheal.Verb     `json:"verb"`
	Node      string            `json:"node"`
	GPU       *programGPU       `json:"gpu"` // null: the whole node
	BusyGPUs  []int             `json:"busyGpus"`
	Simulated bool              `json:"simulated"`
}

type programGPU struct {
	UUID   autoheal.GPUID `json:"uuid"`
	Index  int            `json:"index"`
	PCI    string         `json:"pci"`
	Model  string         `json:"model"`
	Serial string         `json:"serial"`
}

// runProgram runs a program of the site's own for a job.
func (a *Agent) runProgram(s nodeproto.JobStatus, g *autoheal.GPU, p nodeproto.Program) (detail, output string, err error) {
	in := programInput{Action: s.Action, Verb: s.Verb, Node: a.opts.Name, BusyGPUs: a.busyGPUs(), Simulated: s.Simulated}
	env := []string{"AUTOHEAL_ACTION=" + string(s.Action), "AUTOHEAL_NODE=" + a.opts.Name, "AUTOHEAL_BUSY_GPUS=" + joinInts(in.BusyGPUs)}
	if s.Simulated {
		env = append(env, "AUTOHEAL_SIMULATED=1")
	}
	if g != nil {
		in.GPU = &programGPU{UUID: g.UUID, Index: g.Index, PCI: g.PCI, Model: g.Model, Serial: g.Serial}
		env = append(env, "AUTOHEAL_GPU="+string(g.UUID), "AUTOHEAL_GPU_INDEX="+strconv.Itoa(g.Index), "CUDA_VISIBLE_DEVICES="+string(g.UUID))
	}
	r := program.Run(a.ctx, a.clk, program.Call{
		Argv: p.Argv, Input: in, Env: env, Timeout: min(time.Duration(p.TimeoutMS)*time.Millisecond, maxProgram),
	})
	return p.Argv[0] + " ended with status 0", r.Output, r.Err
}

// busyGPUs are the indices of those that attempts hold.
func (a *Agent) busyGPUs() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	held, out := a.heldLocked(), []int{}
	for _, g := range a.node.GPUs {
		if _, busy := held[g.UUID]; busy {
			out = append(out, g.Index)
		}
	}
	return out
}

func joinInts(list []int) string {
	var out []string
	for _, n := range list {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, ",")
}

// canReset reports whether this agent can reset GPUs with what the machine has.
func (a *Agent) canReset() bool {
	return a.opts.SimulateGPUs != "" || a.prober != nil && os.Geteuid() == 0
}

func (k key) String() string { return fmt.Sprintf("attempt %d of %s", k.attempt, k.workload) }
