package drill

import (
	"context"
	"syscall"

	"autoheal.dev/autoheal"
)

// crashOnce kills the process of one workload.
func crashOnce() Drill {
	return Drill{
		Name: "crash-once", Kind: autoheal.CrashLoop, Expected: Recovered, Nodes: 2, Settings: patientFence,
		Doc: "Kill the process of one workload by a segmentation fault: it is started again once, and the crash is counted.",
		Run: func(ctx context.Context, s *Session) error {
			ids, err := s.submit(ctx, everyClass("")...)
			if err != nil {
				return err
			}
			victim := ids[1] // training: at most once
			if err := s.arm(ctx, ids[1:2]); err != nil {
				return err
			}
			p, err := s.main(victim)
			if err != nil {
				return err
			}
			if err := s.inject("crashing a workload", func() error { return s.cluster.proc.signal(p, syscall.SIGSEGV) }); err != nil {
				return err
			}
			ref := autoheal.WorkloadRef(victim)
			inc, err := s.ended(ctx, autoheal.CrashLoop, ref, autoheal.Recovered)
			if err != nil {
				return err
			}
			st, err := s.cluster.look(ctx)
			if err != nil {
				return err
			}
			if w := st.workload(victim); w == nil || w.State != autoheal.Running || w.Attempt != 2 || w.Restarts != 1 {
				s.problem("%s should run as attempt 2 with one crash counted: %s", victim, describe(w))
			}
			for _, r := range inc.Recoveries {
				if r.Proof != autoheal.ProofExitObserved {
					s.problem("%s was restarted on proof %q, its exit was seen", r.Workload, r.Proof)
				}
			}
			return nil
		},
	}
}
