package drill

import (
	"context"
	"fmt"

	"autoheal.dev/autoheal"
)

// exhaustion submits a critical service into a cluster in which no place is large enough for it.
func exhaustion() Drill {
	return Drill{
		Name: "exhaustion", Kind: autoheal.ResourceExhaustion, Expected: Recovered, Nodes: 2,
		Settings: append([]string{"autoHeal.preemption.pendingFor=1s"}, patientFence...),
		Doc:      "Submit a critical service into a cluster where only pieces are free: the one small job whose end makes room is stopped, the service runs in its place, and the job runs again once there is room.",
		Run:      runExhaustion,
	}
}

// crowd is what fills the cluster: two nodes of eight GPUs.
type crowd struct{ kept, batch, fixed, small, rival, vip autoheal.WorkloadID }

func runExhaustion(ctx context.Context, s *Session) error {
	var c crowd
	if err := c.fill(ctx, s); err != nil {
		return err
	}
	if err := s.arm(ctx, []autoheal.WorkloadID{c.small}); err != nil {
		return err
	}
	err := s.inject("submitting a critical service", func() (err error) {
		c.vip, err = s.submitOne(ctx, spec{
			Name: "llm", Command: sleeper, GPUs: 4, Priority: 95, Labels: map[string]string{autoheal.LabelClass: "critical", autoheal.LabelKind: "service"},
		})
		return err
	})
	if err != nil {
		return err
	}
	s.hit[c.vip] = true
	if _, err := s.ended(ctx, autoheal.ResourceExhaustion, autoheal.WorkloadRef(c.vip), autoheal.Recovered); err != nil {
		return err
	}
	if err := c.made(ctx, s); err != nil {
		return err
	}
	return c.givenBack(ctx, s)
}

// fill leaves two GPUs free on one node. What would make room for four is a job of four on the first node, or of two on the
// second, which is the less important one.
func (c *crowd) fill(ctx context.Context, s *Session) error {
	yes := true
	job := func(name string, gpus, priority int) spec {
		return spec{Name: name, Command: sleeper, GPUs: gpus, Priority: priority}
	}
	batch, small := job("batch", 4, 20), job("small", 2, 10)
	batch.Preemptible, small.Preemptible = &yes, &yes
	first, err := s.submitOn(ctx, "n1", job("kept", 4, 1), batch)
	if err != nil {
		return err
	}
	second, err := s.submitOn(ctx, "n2", job("fixed", 4, 1), small)
	if err != nil {
		return err
	}
	c.kept, c.batch, c.fixed, c.small = first[0], first[1], second[0], second[1]
	if c.rival, err = s.submitOne(ctx, job("rival", 4, 5)); err != nil { // waits beside, and must not get the place
		return err
	}
	_, err = s.wait(ctx, "the reason why the rival waits", func(st *state) (bool, string) {
		w := st.workload(c.rival)
		return w != nil && w.State == autoheal.Pending, describe(w)
	})
	return err
}

// made checks who gave way, and that the place went to the one that it was made for.
func (c *crowd) made(ctx context.Context, s *Session) error {
	st, err := s.cluster.look(ctx)
	if err != nil {
		return err
	}
	if w := st.workload(c.vip); w == nil || w.State != autoheal.Running || w.Node != "n2" || w.Attempt != 1 {
		s.problem("%s should run as attempt 1 on n2: %s", c.vip, describe(w))
	}
	if w := st.workload(c.rival); w == nil || w.State != autoheal.Pending {
		s.problem("%s, which waits beside it, should not have a place: %s", c.rival, describe(w))
	}
	d, err := s.lineage(ctx, c.small)
	if err != nil {
		return err
	}
	if len(d.Lineage) != 2 || d.Lineage[0].Exit == nil || d.Lineage[0].Exit.Reason != autoheal.ExitPreempted || d.Lineage[1].State != autoheal.Pending || d.Restarts != 0 {
		s.problem("%s should have given way and wait again, with nothing counted against it: %s", c.small, attemptsText(d))
	}
	return s.capacityAlert(ctx, c.vip)
}

// capacityAlert checks the message that went out at the trigger.
func (s *Session) capacityAlert(ctx context.Context, id autoheal.WorkloadID) error {
	var out struct {
		Alerts []autoheal.Alert `json:"alerts"`
	}
	if err := s.cluster.call(ctx, "alert_list", map[string]any{}, &out); err != nil {
		return fmt.Errorf("list alerts: %w", err)
	}
	for _, a := range out.Alerts {
		if a.Name == "capacity" {
			return nil
		}
	}
	s.problem("no capacity alert was raised for %s", id)
	return nil
}

// givenBack ends the service: its victim runs again.
func (c *crowd) givenBack(ctx context.Context, s *Session) error {
	if err := s.cluster.call(ctx, "workload_stop", map[string]any{"workloadId": c.vip}, nil); err != nil {
		return err
	}
	_, err := s.wait(ctx, "the job that gave way to run again", func(st *state) (bool, string) {
		w := st.workload(c.small)
		return w != nil && w.State == autoheal.Running && w.Attempt == 2, describe(w)
	})
	return err
}
