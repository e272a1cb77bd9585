package agent

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/signal"
)

// resetCommand is what resets a GPU: the site's own program, or the driver's tool. None stands for a simulated GPU that is
// only said to be reset.
func (a *Agent) resetCommand(g autoheal.GPU, p nodeproto.Program) ([]string, error) {
	switch {
	case len(p.Argv) > 0 && a.opts.NoPrograms:
		return nil, refuse(nodeproto.CodeUnsupported, "this agent runs no programs of the site's own (--no-programs)")
	case len(p.Argv) > 0:
		return p.Argv, nil
	case g.Simulated:
		return nil, nil
	case !a.canReset():
		return nil, refuse(nodeproto.CodeUnsupported, "resetting a GPU needs nvidia-smi and root, or autoHeal.repair.resetCommand")
	}
	return a.prober.ResetCommand(g.UUID), nil
}

// reset resets a GPU and, when that worked, takes back what the kernel had said of it.
func (a *Agent) reset(s nodeproto.JobStatus, g autoheal.GPU, argv []string, timeoutMS int64) (detail, output string, err error) {
	p := nodeproto.Program{Argv: argv, TimeoutMS: timeoutMS}
	if g.Simulated {
		detail = "a simulated reset of a simulated GPU"
		if len(argv) > 0 {
			detail, output, err = a.runProgram(s, &g, p)
		}
		if err == nil {
			err = a.simulatedReset(g)
		}
		if err == nil {
			a.mended(g.UUID)
		}
		return detail, output, err
	}
	a.resetOne.Lock() // one after the other: the driver's tool wants no company
	defer a.resetOne.Unlock()
	a.setResetting(true)
	a.prober.Settle(a.ctx)
	detail, output, err = a.runProgram(s, &g, p)
	a.setResetting(false)
	if err != nil {
		return "", output, err
	}
	a.mended(g.UUID)
	return detail, output, a.seenAgain(g.UUID)
}

func (a *Agent) setResetting(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resetting = on
}

// simulatedReset says why a simulated GPU stays broken: its fault asks for more than a reset.
func (a *Agent) simulatedReset(g autoheal.GPU) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.standing {
		s := c.signal
		if s.Subject.Kind == autoheal.RefGPU && s.Subject.ID == string(g.UUID) && !a.expired(c) && (s.Action == autoheal.AdviceRebootNode || s.Action == autoheal.AdviceReplaceHW) {
			return fmt.Errorf("the simulated GPU stays broken: %s asks for more than a reset (%s)", s.Rule, s.Action)
		}
	}
	return nil
}

// seenAgain asks the driver for a GPU that was reset.
func (a *Agent) seenAgain(id autoheal.GPUID) error {
	a.probeGPUs(a.ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if why := a.node.Conditions[condGPUProbe]; why != "" {
		return fmt.Errorf("after the reset the driver does not answer: %s", why)
	}
	i := slices.IndexFunc(a.node.GPUs, func(g autoheal.GPU) bool { return g.UUID == id })
	if why := a.node.Conditions[condGPUPrefix+string(id)]; i < 0 || a.node.GPUs[i].Health == autoheal.HealthFailed {
		return fmt.Errorf("after the reset it is still broken: %s", why)
	}
	return nil
}

// mended takes back all that the kernel had said of a GPU; said again, it is new.
func (a *Agent) mended(id autoheal.GPUID) {
	l := a.hears
	l.mu.Lock()
	defer l.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	inventory := signal.NewInventory(a.node.GPUs)
	if l.ear != nil {
		l.ear.Forget(func(f signal.Found) bool {
			known, ok := inventory.Find(f.Subject.ID)
			return f.Subject.Kind == autoheal.RefGPU && ok && known.UUID == string(id)
		})
	}
	now := a.boot()
	for _, c := range slices.Clone(a.standing) {
		if s := *c.signal; s.Subject.Kind == autoheal.RefGPU && s.Subject.ID == string(id) {
			s.Clears = true
			a.emitLocked(s, now)
		}
	}
	n := a.copyNodeLocked()
	a.blameGPUsLocked(n)
	a.setNodeLocked(n)
}

// driverHung is the signal that nvidia-smi has not answered twice in a row (behaviour E2). It is told again as long as
// that is so.
func (a *Agent) driverHung(probes int) autoheal.Signal {
	return autoheal.Signal{
		Rule: ruleDriverHung, Source: "nvidia-smi", Failure: autoheal.FailureGPU, Action: autoheal.AdviceRebootNode,
		Subject: autoheal.Ref{Kind: autoheal.RefNode, ID: a.opts.Name, Generation: a.bootID}, TTL: 5 * time.Minute, Count: probes,
		Excerpt: "nvidia-smi -q -x does not answer: the driver of the GPUs hangs",
	}
}

// ruleDriverHung is the code of that signal.
const ruleDriverHung = "nvidia/driver_hung"
