package agent

import (
	"strings"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/gpu"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// condSignalPrefix begins the name of the condition that says what the kernel calls a GPU broken for; its UUID follows.
const condSignalPrefix = "gpu_signal:"

// reported is what the driver said of a GPU that the kernel calls broken.
type reported struct {
	health autoheal.Health
	action autoheal.Advice
}

// blameGPUsLocked has every GPU count as failed that the kernel calls broken, as long as that stands and whatever its driver
// reports, so that nothing new is placed on it. What the driver reported comes back with the all-clear or with time.
func (a *Agent) blameGPUsLocked(n *nodeproto.NodeStatus) {
	for i := range n.GPUs {
		g := &n.GPUs[i]
		if reported, ours := a.reported[g.UUID]; ours {
			g.Health, g.Action = reported.health, reported.action
			delete(a.reported, g.UUID)
			delete(n.Conditions, condSignalPrefix+string(g.UUID))
		}
	}
	for _, c := range a.standing {
		s := c.signal
		if !s.Conclusive || s.Failure != autoheal.FailureGPU || s.Subject.Kind != autoheal.RefGPU || a.expired(c) {
			continue
		}
		for i := range n.GPUs {
			g := &n.GPUs[i]
			if string(g.UUID) != s.Subject.ID {
				continue
			}
			if _, ours := a.reported[g.UUID]; ours {
				g.Action = gpu.Worse(g.Action, s.Action)
				continue
			}
			a.reported[g.UUID] = reported{g.Health, g.Action}
			g.Health, g.Action = autoheal.HealthFailed, s.Action
			n.Conditions[condSignalPrefix+string(g.UUID)] = clip(s.Rule+": "+s.Excerpt, maxDetail)
		}
	}
}

// forgetBlameLocked starts anew from what the driver has just reported.
func (a *Agent) forgetBlameLocked(n *nodeproto.NodeStatus) {
	clear(a.reported)
	for name := range n.Conditions {
		if strings.HasPrefix(name, condSignalPrefix) {
			delete(n.Conditions, name)
		}
	}
}

// judgeGPUs looks whether what was said of GPUs still stands.
func (a *Agent) judgeGPUs() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.standing) == 0 && len(a.reported) == 0 {
		return
	}
	n := a.copyNodeLocked()
	a.blameGPUsLocked(n)
	a.setNodeLocked(n)
}
