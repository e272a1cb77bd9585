package drill

import (
	"context"
	"fmt"
	"os"

	"autoheal.dev/autoheal"
)

// commonCause breaks a program that several workloads run.
func commonCause() Drill {
	return Drill{
		Name: "common-cause", Kind: autoheal.CrashLoop, Expected: Recovered, Nodes: 2, Settings: patientFence,
		Doc: "Break a program that five workloads run: it becomes one incident with one alert, nothing is counted up or paused, and when the program is mended all come back by themselves.",
		Run: runCommonCause,
	}
}

func runCommonCause(ctx context.Context, s *Session) error {
	flag := s.file("broken")
	program := []string{"/bin/sh", "-c", `while [ ! -e "$0" ]; do sleep 0.1; done; echo "` + rootCause + `" >&2; exit 3`, flag}
	var specs []spec
	for n := range 5 {
		specs = append(specs, spec{Name: fmt.Sprintf("app-%d", n), Command: program, Priority: 40, Labels: map[string]string{autoheal.LabelKind: "service"}})
	}
	ids, err := s.submit(ctx, append(specs, everyClass("-other")...)...)
	if err != nil {
		return err
	}
	ids = ids[:len(specs)]
	if err := s.arm(ctx, ids); err != nil {
		return err
	}
	if err := s.touch("breaking the program of five workloads", flag); err != nil {
		return err
	}
	program5, err := s.oneIncident(ctx, ids)
	if err != nil {
		return err
	}
	s.say("all are one incident; mending the program")
	if err := os.Remove(flag); err != nil {
		return err
	}
	if _, err := s.ended(ctx, autoheal.CrashLoop, program5, autoheal.Recovered); err != nil {
		return err
	}
	st, err := s.cluster.look(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		s.expect = append(s.expect, expectedIncident{Kind: autoheal.CrashLoop, Subject: autoheal.WorkloadRef(id), Phase: autoheal.Cleared, Optional: true})
		if w := st.workload(id); w.State != autoheal.Running || w.Paused != nil || w.Restarts > 2 {
			s.problem("%s should run, never paused, with no more than the crashes of before: %s, %d crashes", id, describe(w), w.Restarts)
		}
	}
	s.checkCommonAlert(st)
	return nil
}

// oneIncident waits until one incident has all that share the program.
func (s *Session) oneIncident(ctx context.Context, ids []autoheal.WorkloadID) (autoheal.Ref, error) {
	s.say("waiting until they are one incident")
	var subject autoheal.Ref
	_, err := s.wait(ctx, "one incident of all five", func(st *state) (bool, string) {
		for _, inc := range st.Incidents {
			if inc.Subject.Kind == autoheal.RefSpec {
				subject = inc.Subject
				return len(inc.Recoveries) == len(ids), fmt.Sprintf("%s has %d of them", inc.ID, len(inc.Recoveries))
			}
		}
		return false, "no incident of the program was opened"
	})
	return subject, err
}

func (s *Session) checkCommonAlert(st *state) {
	told := 0
	for _, a := range st.Alerts {
		if a.Name == "common-cause" {
			told++
		}
		if a.Name == "needs-a-person" {
			s.problem("a person was asked for one of them: %s", a.Message)
		}
	}
	if told != 1 {
		s.problem("%d alerts tell of the cause in common, expected one", told)
	}
}
