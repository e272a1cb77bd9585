package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/gpu"
	"autoheal.dev/autoheal/internal/clock"
)

// impatient has timers that fire at once.
type impatient struct{ clock.Real }

func (impatient) NewTimer(time.Duration) clock.Timer { return clock.Real{}.NewTimer(0) }

// A driver that does not answer twice in a row hangs: that is told of the node, its GPUs are unknown, and it is taken back
// with the first answer.
func TestDriverHung(t *testing.T) {
	a := bareAgent(t)
	a.node.Name, a.opts.Name, a.node.Conditions = "n1", "n1", map[string]string{}
	a.node.GPUs = []autoheal.GPU{{UUID: "GPU-a", Health: autoheal.HealthOK}}
	tool := filepath.Join(t.TempDir(), "nvidia-smi")
	write := func(lines string) {
		t.Helper()
		if err := os.WriteFile(tool, []byte("#!/bin/sh\n"+lines+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	told := func() (standing *autoheal.Signal) {
		for _, c := range a.standing {
			if c.signal.Rule == ruleDriverHung {
				standing = c.signal
			}
		}
		return standing
	}
	write("exec sleep 1000")
	a.prober = gpu.NewProber(tool, impatient{})
	a.probeGPUs(t.Context())
	if told() != nil || a.node.GPUs[0].Health != autoheal.HealthUnknown || a.node.Conditions[condGPUProbe] == "" {
		t.Errorf("after one: %+v, %+v, %v", told(), a.node.GPUs[0], a.node.Conditions)
	}
	a.probeGPUs(t.Context())
	s := told()
	if s == nil || s.Subject != (autoheal.Ref{Kind: autoheal.RefNode, ID: "n1", Generation: "boot-1"}) || s.Action != autoheal.AdviceRebootNode || s.Count != 2 || a.node.Conditions[condDriverHung] == "" {
		t.Fatalf("after two: %+v, %v", s, a.node.Conditions)
	}
	write("echo '<nvidia_smi_log><gpu id=\"00000000:18:00.0\"><uuid>GPU-a</uuid></gpu></nvidia_smi_log>'")
	a.prober = gpu.NewProber(tool, clock.Real{})
	a.probeGPUs(t.Context())
	last := a.ring.entries[len(a.ring.entries)-1]
	for _, c := range a.ring.entries {
		if c.signal != nil && c.signal.Clears {
			last = c
		}
	}
	if told() != nil || last.signal == nil || !last.signal.Clears || last.signal.Rule != ruleDriverHung || a.node.GPUs[0].Health != autoheal.HealthOK || len(a.node.Conditions) != 0 {
		t.Errorf("after an answer: standing %+v, last %+v, %v", told(), last.signal, a.node.Conditions)
	}
	n := len(a.ring.entries)
	a.probeGPUs(t.Context())
	if len(a.ring.entries) != n {
		t.Errorf("a good answer tells something: %+v", a.ring.entries[n])
	}
}
