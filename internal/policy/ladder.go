package policy

import (
	"slices"

	"autoheal.dev/autoheal"
)

// Steps lists every step a ladder can have, in the order of the constants.
func Steps() []Step {
	return []Step{
		StepStopPlacing, StepCordon, StepQuarantineGPU, StepCollect, StepCollectNetwork, StepMigrate, StepRestart,
		StepRestartGang, StepGrowMemory, StepPreempt, StepScaleDown, StepDrain, StepAdvice, StepResetGPU, StepReboot,
		StepReplace, StepTest, StepIsolate, StepPause, StepAlert, StepAlertHardware, StepAlertCapacity, StepEscalate,
	}
}

var defaultLadders = map[autoheal.FailureKind][]Step{
	autoheal.NodeOffline:        {StepCordon, StepMigrate, StepAlertHardware},
	autoheal.GPUFailure:         {StepQuarantineGPU, StepCollect, StepMigrate, StepAdvice, StepTest, StepAlertHardware},
	autoheal.NodeFault:          {StepStopPlacing, StepCollect, StepMigrate, StepAlertHardware},
	autoheal.NetworkPartition:   {StepCollectNetwork, StepRestartGang, StepIsolate, StepAlert},
	autoheal.HealthCheck:        {StepRestart, StepMigrate, StepPause, StepAlert},
	autoheal.CrashLoop:          {StepRestart, StepGrowMemory, StepPause, StepAlert},
	autoheal.ResourceExhaustion: {StepAlertCapacity, StepPreempt, StepScaleDown},
}

// fittingSteps says which steps mean something for a kind. What is absent has no subject there: a pending workload has
// no node to reboot, a silent node no process to restart in place.
var fittingSteps = map[autoheal.FailureKind][]Step{
	autoheal.NodeOffline: {
		StepStopPlacing, StepCordon, StepCollect, StepCollectNetwork, StepMigrate, StepReboot,
		StepReplace, StepTest, StepAlert, StepAlertHardware, StepEscalate,
	},
	autoheal.GPUFailure: {
		StepStopPlacing, StepCordon, StepQuarantineGPU, StepCollect, StepRestart, StepRestartGang,
		StepMigrate, StepDrain, StepAdvice, StepResetGPU, StepReboot, StepReplace, StepTest, StepAlert,
		StepAlertHardware, StepEscalate,
	},
	autoheal.NodeFault: {
		StepStopPlacing, StepCordon, StepCollect, StepMigrate, StepDrain, StepReboot, StepReplace,
		StepTest, StepAlert, StepAlertHardware, StepEscalate,
	},
	autoheal.NetworkPartition: {
		StepStopPlacing, StepCollect, StepCollectNetwork, StepRestart, StepRestartGang,
		StepMigrate, StepIsolate, StepAlert, StepAlertHardware, StepEscalate,
	},
	autoheal.HealthCheck: {StepCollect, StepRestart, StepRestartGang, StepMigrate, StepPause, StepAlert, StepEscalate},
	autoheal.CrashLoop: {
		StepCollect, StepRestart, StepRestartGang, StepGrowMemory, StepMigrate, StepPause, StepAlert,
		StepEscalate,
	},
	autoheal.ResourceExhaustion: {StepCollect, StepAlertCapacity, StepPreempt, StepScaleDown, StepAlert, StepEscalate},
}

// repairs are the steps that touch the part itself: what runs there must be moved first (behaviour E1).
var repairs = []Step{StepAdvice, StepResetGPU, StepReboot, StepReplace}

// Ladder returns the steps for a kind: the configured ones, else the default ones. The caller owns the result.
func (p *Policy) Ladder(k autoheal.FailureKind) []Step {
	if l, ok := p.Ladders[k]; ok {
		return slices.Clone(l)
	}
	return slices.Clone(defaultLadders[k])
}

// isAlert reports whether a step only tells people something; such a step never waits for anybody.
func isAlert(s Step) bool {
	return s == StepAlert || s == StepAlertHardware || s == StepAlertCapacity || s == StepEscalate
}
