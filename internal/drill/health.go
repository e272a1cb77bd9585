package drill

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"autoheal.dev/autoheal"
)

// serviceHang makes a service take requests and answer none.
func serviceHang() Drill {
	return Drill{
		Name: "service-hang", Kind: autoheal.HealthCheck, Expected: Recovered, Nodes: 2, Settings: patientFence,
		Doc: "Let a critical service take requests and answer none: its health check fails, it is restarted on its node, and is back when its check passes.",
		Run: runServiceHang,
	}
}

func runServiceHang(ctx context.Context, s *Session) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	specs := append(everyClass("-other"), spec{
		Name: "chat", Priority: 95, Command: []string{s.opt.Self, "drill", "serve", "--port", strconv.Itoa(port)},
		Labels: map[string]string{
			autoheal.LabelClass: string(autoheal.Critical), autoheal.LabelKind: string(autoheal.KindService),
			autoheal.LabelHealth: fmt.Sprintf("http :%d/healthz", port), autoheal.LabelHealthInterval: "2s", autoheal.LabelHealthTimeout: "1s",
		},
	})
	ids, err := s.submit(ctx, specs...)
	if err != nil {
		return err
	}
	victim := ids[4]
	if _, err := s.wait(ctx, "the service to pass its health check", func(st *state) (bool, string) {
		w := st.workload(victim)
		return w != nil && w.Ready, describe(w)
	}); err != nil {
		return err
	}
	if err := s.arm(ctx, ids[4:]); err != nil {
		return err
	}
	p, err := s.main(victim)
	if err != nil {
		return err
	}
	if err := s.inject("making a service answer nobody", func() error { return s.cluster.proc.signal(p, syscall.SIGUSR1) }); err != nil {
		return err
	}
	ref := autoheal.WorkloadRef(victim)
	inc, err := s.ended(ctx, autoheal.HealthCheck, ref, autoheal.Recovered)
	if err != nil {
		return err
	}
	return s.restartedInPlace(ctx, victim, inc)
}

// restartedInPlace checks that a workload was ended, seen to end, and started once on the same node, and that its stacks
// were captured before.
func (s *Session) restartedInPlace(ctx context.Context, id autoheal.WorkloadID, inc *autoheal.Incident) error {
	st, err := s.cluster.look(ctx)
	if err != nil {
		return err
	}
	if w, b := st.workload(id), s.before.state.workload(id); w == nil || w.State != autoheal.Running || w.Attempt != 2 || w.Node != b.Node || !w.Ready {
		s.problem("%s should run as attempt 2 on %s and be ready: %s", id, b.Node, describe(w))
	}
	for _, r := range inc.Recoveries {
		if r.Proof != autoheal.ProofExitObserved {
			s.problem("%s was restarted on proof %q, its exit was seen", r.Workload, r.Proof)
		}
	}
	var order []string
	for _, a := range inc.Actions {
		if a.Outcome != nil && *a.Outcome == autoheal.OutcomeDone {
			order = append(order, string(a.Verb))
		}
	}
	if got := strings.Join(order, " "); got != "collect stop start" {
		s.problem("%s: the actions were %q, they should be collect, stop, start", inc.ID, got)
	}
	return nil
}

// trainStall makes a job go on without getting on.
func trainStall() Drill {
	return Drill{
		Name: "train-stall", Kind: autoheal.HealthCheck, Expected: Recovered, Nodes: 2, Settings: patientFence,
		Doc: "Let a training job run on without a further step: its stacks are captured, it is ended and seen to end, and started once more, never beside itself.",
		Run: runTrainStall,
	}
}

// stepper writes a step ten times a second until its file exists; after that the next generation only does.
var stepper = []string{"/bin/sh", "-c", `
n=0
while :; do
  if [ ! -e "$0" ] || [ "$AUTOHEAL_ATTEMPT" != 1 ]; then n=$((n+1)); echo "step $n loss 0.1"; read -r up rest </proc/uptime; echo "$AUTOHEAL_GENERATION $up" >>"$1"; fi
  sleep 0.1
done`}

func runTrainStall(ctx context.Context, s *Session) error {
	stall := s.file("stall")
	specs := append(everyClass("-other"), spec{
		Name: "pretrain", Priority: 70, Command: append(append([]string{}, stepper...), stall, s.file("training.log")),
		Labels: map[string]string{
			autoheal.LabelClass: string(autoheal.High), autoheal.LabelAtMostOnce: "true",
			autoheal.LabelProgress: `log ^step \d+`, autoheal.LabelProgressStall: "5s",
		},
	})
	ids, err := s.submit(ctx, specs...)
	if err != nil {
		return err
	}
	victim := ids[4]
	if err := s.arm(ctx, ids[4:]); err != nil {
		return err
	}
	if _, err := s.wait(ctx, "a first step of the job", func(*state) (bool, string) {
		return len(readAll(s.file("training.log"))) > 0, "it has written none"
	}); err != nil {
		return err
	}
	if err := s.touch("stalling a training job", stall); err != nil {
		return err
	}
	ref := autoheal.WorkloadRef(victim)
	inc, err := s.ended(ctx, autoheal.HealthCheck, ref, autoheal.Recovered)
	if err != nil {
		return err
	}
	if err := s.restartedInPlace(ctx, victim, inc); err != nil {
		return err
	}
	return s.neverTwice(victim)
}
