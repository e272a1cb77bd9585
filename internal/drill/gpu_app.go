package drill

import (
	"context"

	"autoheal.dev/autoheal"
)

// gpuAppFault has a program touch memory of its GPU that is not its own.
func gpuAppFault() Drill {
	return Drill{
		Name: "gpu-app-fault", Kind: autoheal.GPUFailure, Expected: Recovered, Nodes: 2, Kernel: true, Settings: patientFence,
		Doc: "Let the kernel of one node say that a program has touched memory of its GPU that is not its own: that workload alone is started again, where it was, and neither GPU nor node is taken out of use.",
		Run: runGPUAppFault,
	}
}

func runGPUAppFault(ctx context.Context, s *Session) error {
	ids, err := s.submitOn(ctx, "n1", everyClass("")...)
	if err != nil {
		return err
	}
	victim := ids[1]
	g, err := s.gpuOf(ctx, "n1", victim)
	if err != nil {
		return err
	}
	if err := s.arm(ctx, ids[1:2]); err != nil {
		return err
	}
	line := g.xid(31, "pid=4242, name=python3, Ch 00000008, intr 10000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f_2a000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ")
	if err := s.inject("letting a program touch foreign memory of its GPU", func() error { return s.kernel("n1", line) }); err != nil {
		return err
	}
	inc, err := s.ended(ctx, autoheal.GPUFailure, autoheal.WorkloadRef(victim), autoheal.Recovered)
	if err != nil {
		return err
	}
	all, err := s.gpus(ctx, "n1")
	if err != nil {
		return err
	}
	for _, g := range all {
		if g.Quarantined != nil {
			s.problem("GPU %d is quarantined: %s", g.Index, g.Quarantined.Reason)
		}
	}
	for _, a := range inc.Actions {
		if a.Verb == autoheal.Cordon || a.Verb == autoheal.QuarantineGPU || a.Verb == autoheal.ResetGPU {
			s.problem("%s of %s was done for a fault of the program's own", a.Verb, a.Target)
		}
	}
	d, err := s.lineage(ctx, victim)
	if err != nil {
		return err
	}
	if len(d.Lineage) != 2 || d.Lineage[1].NodeID != "n1" {
		s.problem("%s should have been started again once, on n1: %s", victim, attemptsText(d))
	}
	return nil
}

// gpuOOM has a program ask for more memory than its GPU has.
func gpuOOM() Drill {
	return Drill{
		Name: "gpu-oom", Kind: autoheal.CrashLoop, Expected: Recovered, Nodes: 2, Settings: patientFence,
		Doc: "Let a job end because the memory of its GPU is used up, as its own output says: it is started again with the host memory that it had, because more of that would not help.",
		Run: runGPUOOM,
	}
}

// failsOnce ends with what PyTorch says when a GPU's memory is used up, once its flag file is there; it takes the file away.
const failsOnce = `while [ ! -e "$0" ]; do sleep 0.1; done; rm "$0"
echo "Traceback (most recent call last):" >&2
echo "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 324.00 MiB. GPU 0 has a total capacity of 79.15 GiB of which 91.25 MiB is free." >&2
exit 1`

func runGPUOOM(ctx context.Context, s *Session) error {
	flag := s.file("full")
	specs := everyClass("")
	specs[1].Command, specs[1].MemoryMB = []string{"/bin/sh", "-c", failsOnce, flag}, 256
	ids, err := s.submit(ctx, specs...)
	if err != nil {
		return err
	}
	victim := ids[1]
	if err := s.arm(ctx, ids[1:2]); err != nil {
		return err
	}
	if err := s.touch("letting a job use up the memory of its GPU", flag); err != nil {
		return err
	}
	return s.ranOutOnce(ctx, victim, autoheal.OOMGPU, 256, 256)
}
