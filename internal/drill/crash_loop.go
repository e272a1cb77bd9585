package drill

import (
	"context"
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
)

// rootCause is what the crashing workload says; the alert must quote it.
const rootCause = "RuntimeError: checkpoint /data/model-7 is truncated"

// crashLoop makes a workload fail again and again.
func crashLoop() Drill {
	return Drill{
		Name: "crash-loop", Kind: autoheal.CrashLoop, Expected: Escalated, Nodes: 2, Settings: patientFence,
		Doc: "Make a job fail at every start: after three restarts it is paused, and the alert quotes the line that says why.",
		Run: runCrashLoop,
	}
}

func runCrashLoop(ctx context.Context, s *Session) error {
	specs := everyClass("")
	flag := s.file("broken")
	specs[2].Command = []string{"/bin/sh", "-c", `while [ ! -e "$0" ]; do sleep 0.1; done; echo "` + rootCause + `" >&2; exit 3`, flag}
	ids, err := s.submit(ctx, specs...)
	if err != nil {
		return err
	}
	victim := ids[2]
	if err := s.arm(ctx, ids[2:3]); err != nil {
		return err
	}
	if err := s.touch("making a job fail at every start", flag); err != nil {
		return err
	}
	ref := autoheal.WorkloadRef(victim)
	inc, err := s.ended(ctx, autoheal.CrashLoop, ref, autoheal.Escalated)
	if err != nil {
		return err
	}
	st, err := s.wait(ctx, "the job to be paused", func(st *state) (bool, string) {
		w := st.workload(victim)
		return w.Paused != nil, describe(w)
	})
	if err != nil {
		return err
	}
	if w := st.workload(victim); w.Attempt != 4 || w.Restarts != 4 || w.Paused.By != autoheal.ByAutoheal {
		s.problem("%s should have been paused by the healer after 4 attempts and 4 crashes: %s, %d crashes, by %s", victim, describe(w), w.Restarts, w.Paused.By)
	}
	s.checkAlert(st, inc.ID)
	return nil
}

// checkAlert checks that one critical alert tells of the incident, with its root cause and what to type.
func (s *Session) checkAlert(st *state, inc autoheal.IncidentID) {
	var texts []string
	for _, a := range st.Alerts {
		if a.Severity == autoheal.SeverityCritical && (a.Incident == inc || a.Source == string(inc)) {
			texts = append(texts, a.Message)
		}
	}
	if len(texts) != 1 {
		s.problem("%d critical alerts tell of %s, expected one", len(texts), inc)
		return
	}
	for _, part := range []string{rootCause, "autoheal "} {
		if !strings.Contains(texts[0], part) {
			s.problem("the alert of %s does not say %q: %s", inc, part, fmt.Sprintf("%.300s", texts[0]))
		}
	}
}
