package policy

import (
	"maps"
	"slices"

	"autoheal.dev/autoheal"
)

// Response is what a verdict over a log leads to. An empty Kind means that it is recorded and nothing is done: it counts
// towards what is transient (behaviour B3).
type Response struct {
	Kind autoheal.FailureKind
	// Steps are the ladder of Kind, or a shorter one where the verdict rules steps out.
	Steps []Step
}

// response is a cell of the table; without steps the ladder of the kind is taken as configured.
type response struct {
	kind  autoheal.FailureKind
	steps []Step
}

// What cells have in common.
var (
	recorded  = response{}
	gpuRepair = response{kind: autoheal.GPUFailure}
	gpuOut    = response{autoheal.GPUFailure, []Step{StepQuarantineGPU, StepCollect, StepMigrate, StepAlertHardware}}
	gpuOnlyIt = response{autoheal.GPUFailure, []Step{StepRestart, StepMigrate, StepAlert}} // behaviour E1: that workload only
	gpuAsk    = response{autoheal.GPUFailure, []Step{StepCollect, StepAlertHardware}}

	crash      = response{kind: autoheal.CrashLoop}
	crashFixed = response{autoheal.CrashLoop, []Step{StepRestart, StepPause, StepAlert}} // behaviour E5: no memory will help
	crashMoved = response{autoheal.CrashLoop, []Step{StepRestart, StepMigrate, StepPause, StepAlert}}

	network     = response{kind: autoheal.NetworkPartition}
	networkGang = response{autoheal.NetworkPartition, []Step{StepCollectNetwork, StepRestartGang, StepAlert}}
	networkAsk  = response{autoheal.NetworkPartition, []Step{StepCollectNetwork, StepAlert}}

	nodeOut    = response{kind: autoheal.NodeFault}
	nodeReboot = response{autoheal.NodeFault, []Step{StepStopPlacing, StepCollect, StepMigrate, StepReboot, StepTest, StepAlertHardware}}
	nodeFull   = response{autoheal.NodeFault, []Step{StepStopPlacing, StepCollect, StepMigrate, StepAlert}}
	nodeAsk    = response{autoheal.NodeFault, []Step{StepCollect, StepAlert}}
)

// verdicts says for every failure and every action what is done (behaviour E10). It is total; a test fails on a missing
// cell. An action that does not fit its failure, such as more memory for a broken GPU, asks a person.
var verdicts = map[autoheal.Failure]map[autoheal.Advice]response{
	autoheal.FailureNone:    same(recorded),
	autoheal.FailureGPU:     gpuCells(),
	autoheal.FailureApp:     appCells(),
	autoheal.FailureOOMHost: oomHostCells(),
	autoheal.FailureOOMGPU:  but(appCells(), map[autoheal.Advice]response{autoheal.AdviceIncreaseMemory: crashFixed, autoheal.AdviceRestartApp: crashFixed}),
	autoheal.FailureNetwork: networkCells(),
	autoheal.FailureDisk:    nodeCells(),
	autoheal.FailureHostHW:  nodeCells(),
	autoheal.FailureHostSW:  nodeCells(),
	autoheal.FailureCrash:   appCells(),
}

func gpuCells() map[autoheal.Advice]response {
	return map[autoheal.Advice]response{
		autoheal.AdviceNone: recorded, autoheal.AdviceRestartApp: gpuOnlyIt, autoheal.AdviceResetGPU: gpuRepair,
		autoheal.AdviceRebootNode: gpuRepair, autoheal.AdviceReplaceHW: gpuOut, autoheal.AdviceContactSupport: gpuAsk,
		autoheal.AdviceIncreaseMemory: gpuAsk, autoheal.AdviceReduceGPUMem: gpuAsk, autoheal.AdviceCheckNetwork: gpuAsk,
		autoheal.AdviceFreeDisk: gpuAsk, autoheal.AdviceFixCode: gpuAsk,
	}
}

func appCells() map[autoheal.Advice]response {
	return map[autoheal.Advice]response{
		autoheal.AdviceNone: recorded, autoheal.AdviceRestartApp: crash, autoheal.AdviceResetGPU: gpuRepair,
		autoheal.AdviceRebootNode: gpuRepair, autoheal.AdviceReplaceHW: gpuOut, autoheal.AdviceContactSupport: crashFixed,
		autoheal.AdviceIncreaseMemory: crash, autoheal.AdviceReduceGPUMem: crashFixed, autoheal.AdviceCheckNetwork: crashMoved,
		autoheal.AdviceFreeDisk: crashMoved, autoheal.AdviceFixCode: crashFixed,
	}
}

// oomHostCells: more memory only at the workload's own limit; a node that ran out is left (behaviour E5).
func oomHostCells() map[autoheal.Advice]response {
	return but(appCells(), map[autoheal.Advice]response{
		autoheal.AdviceRestartApp: crashMoved, autoheal.AdviceResetGPU: crashMoved, autoheal.AdviceRebootNode: nodeReboot,
		autoheal.AdviceReplaceHW: nodeOut,
	})
}

func networkCells() map[autoheal.Advice]response {
	return map[autoheal.Advice]response{
		autoheal.AdviceNone: recorded, autoheal.AdviceRestartApp: networkGang, autoheal.AdviceResetGPU: gpuRepair,
		autoheal.AdviceRebootNode: nodeReboot, autoheal.AdviceReplaceHW: nodeOut, autoheal.AdviceContactSupport: networkAsk,
		autoheal.AdviceIncreaseMemory: networkAsk, autoheal.AdviceReduceGPUMem: networkAsk, autoheal.AdviceCheckNetwork: network,
		autoheal.AdviceFreeDisk: networkAsk, autoheal.AdviceFixCode: networkAsk,
	}
}

func nodeCells() map[autoheal.Advice]response {
	return map[autoheal.Advice]response{
		autoheal.AdviceNone: recorded, autoheal.AdviceRestartApp: nodeFull, autoheal.AdviceResetGPU: gpuRepair,
		autoheal.AdviceRebootNode: nodeReboot, autoheal.AdviceReplaceHW: nodeOut, autoheal.AdviceContactSupport: nodeAsk,
		autoheal.AdviceIncreaseMemory: nodeAsk, autoheal.AdviceReduceGPUMem: nodeAsk, autoheal.AdviceCheckNetwork: nodeAsk,
		autoheal.AdviceFreeDisk: nodeFull, autoheal.AdviceFixCode: nodeAsk,
	}
}

// same gives every action the same cell.
func same(r response) map[autoheal.Advice]response {
	out := map[autoheal.Advice]response{}
	for a := range appCells() {
		out[a] = r
	}
	return out
}

// but changes some cells.
func but(cells, changed map[autoheal.Advice]response) map[autoheal.Advice]response {
	maps.Copy(cells, changed)
	return cells
}

// Respond returns what a verdict leads to: the ladder of a kind as it is configured, or the shorter one of the table.
// ok is false for a failure or action that does not exist.
func (p *Policy) Respond(f autoheal.Failure, a autoheal.Advice) (Response, bool) {
	r, ok := verdicts[f][a]
	if !ok {
		return Response{}, false
	}
	if r.kind == "" {
		return Response{}, true
	}
	if r.steps == nil {
		return Response{Kind: r.kind, Steps: p.Ladder(r.kind)}, true
	}
	return Response{Kind: r.kind, Steps: slices.Clone(r.steps)}, true
}
