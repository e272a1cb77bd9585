package policy

import (
	"slices"
	"testing"

	"autoheal.dev/autoheal"
)

// TestVerdictTableIsTotal wants a cell for every failure and action, with steps that mean something for its kind.
func TestVerdictTableIsTotal(t *testing.T) {
	p := Default()
	for _, f := range autoheal.Failures() {
		for _, a := range autoheal.Advices() {
			r, ok := p.Respond(f, a)
			if !ok {
				t.Errorf("%s × %s: no cell", f, a)
				continue
			}
			if (r.Kind == "") != (len(r.Steps) == 0) {
				t.Errorf("%s × %s: kind %q with steps %v", f, a, r.Kind, r.Steps)
			}
			for _, s := range r.Steps {
				if !slices.Contains(fittingSteps[r.Kind], s) {
					t.Errorf("%s × %s: the step %s means nothing for %s", f, a, s, r.Kind)
				}
			}
			if r.Kind == "" && a != autoheal.AdviceNone && f != autoheal.FailureNone {
				t.Errorf("%s × %s: asks for an action and nothing is done", f, a)
			}
		}
		if len(verdicts[f]) != len(autoheal.Advices()) {
			t.Errorf("%s has %d cells, want %d", f, len(verdicts[f]), len(autoheal.Advices()))
		}
	}
	if len(verdicts) != len(autoheal.Failures()) {
		t.Errorf("%d rows, want %d", len(verdicts), len(autoheal.Failures()))
	}
}

// TestVerdictTableKeepsPromises checks the cells that behaviour E names.
func TestVerdictTableKeepsPromises(t *testing.T) {
	p := Default()
	steps := func(f autoheal.Failure, a autoheal.Advice) []Step {
		r, _ := p.Respond(f, a)
		return r.Steps
	}
	for _, a := range autoheal.Advices() {
		if slices.Contains(steps(autoheal.FailureOOMGPU, a), StepGrowMemory) {
			t.Errorf("E5: a GPU out of memory never grows host memory, but oom_gpu × %s does", a)
		}
	}
	if slices.Contains(steps(autoheal.FailureOOMHost, autoheal.AdviceRestartApp), StepGrowMemory) {
		t.Error("E5: a node out of memory grows no workload")
	}
	if !slices.Contains(steps(autoheal.FailureOOMHost, autoheal.AdviceIncreaseMemory), StepGrowMemory) {
		t.Error("E5: a workload at its own limit grows")
	}
	if s := steps(autoheal.FailureGPU, autoheal.AdviceRestartApp); slices.Contains(s, StepQuarantineGPU) || slices.Contains(s, StepCordon) {
		t.Errorf("E1: restart_app restarts that workload only, got %v", s)
	}
	if s := steps(autoheal.FailureGPU, autoheal.AdviceResetGPU); slices.Index(s, StepMigrate) > slices.Index(s, StepAdvice) {
		t.Errorf("E1: migration comes before repair, got %v", s)
	}
}
