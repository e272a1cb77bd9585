package drill

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"

	"autoheal.dev/autoheal"
)

// hog is a workload that takes memory once a file exists.
func (s *Session) hog(name, file string, mib, limit int64, class autoheal.Class) spec {
	return spec{
		Name: name, MemoryMB: limit, Priority: 40, Labels: map[string]string{autoheal.LabelClass: string(class)},
		Command: []string{s.opt.Self, "drill", "hog", "--mib", strconv.FormatInt(mib, 10), "--after", file},
	}
}

// oom makes a workload need more memory than it asked for.
func oom() Drill {
	return Drill{
		Name: "oom", Kind: autoheal.CrashLoop, Expected: Recovered, Nodes: 2, Cgroups: true,
		Doc: "Let a job use more memory than its own limit, so that the kernel kills it: it is started again with one and a half times the memory, and stays up.",
		Run: runOOM,
	}
}

func runOOM(ctx context.Context, s *Session) error {
	file := s.file("grow")
	specs := append(everyClass("-other"), s.hog("hungry", file, 140, 128, autoheal.High))
	ids, err := s.submit(ctx, specs...)
	if err != nil {
		return err
	}
	victim := ids[4]
	if err := s.arm(ctx, ids[4:]); err != nil {
		return err
	}
	if err := s.inject("making a job exceed its memory limit", func() error { return os.WriteFile(file, nil, 0o600) }); err != nil {
		return err
	}
	ref := autoheal.Ref{Kind: autoheal.RefWorkload, ID: string(victim)}
	inc, err := s.incidentEnded(ctx, autoheal.CrashLoop, ref)
	if err != nil {
		return err
	}
	s.timed, s.result = true, phaseResult(inc.Phase)
	s.expect = append(s.expect, expectedIncident{Kind: autoheal.CrashLoop, Subject: ref, Phase: autoheal.Recovered})
	d, err := s.lineage(ctx, victim)
	if err != nil {
		return err
	}
	if len(d.Lineage) != 2 || d.Lineage[0].MemoryMB != 128 || d.Lineage[1].MemoryMB != 192 || d.Restarts != 1 {
		s.problem("%s should have two attempts, with 128 and 192 MiB, and one crash counted: %s", victim, attemptsText(d))
	}
	if x := d.Lineage[0].Exit; x == nil || x.OOM != autoheal.OOMHostCgroup {
		s.problem("the end of attempt 1 of %s should be an out-of-memory kill at its own limit: %s", victim, attemptsText(d))
	}
	return nil
}

func attemptsText(d workloadDetails) string {
	text := ""
	for _, a := range d.Lineage {
		text += fmt.Sprintf("[%d on %s with %d MiB: %s", a.Attempt, a.NodeID, a.MemoryMB, a.State)
		if a.Exit != nil {
			text += fmt.Sprintf(" (%s, oom %q)", a.Exit.Reason, a.Exit.OOM)
		}
		text += "] "
	}
	return text + fmt.Sprintf("%d crashes counted", d.Restarts)
}

// oomGlobal makes a node run out of memory although nobody exceeds a limit of its own.
func oomGlobal() Drill {
	return Drill{
		Name: "oom-global", Kind: autoheal.CrashLoop, Expected: Recovered, Nodes: 2, Cgroups: true,
		Args: []string{"--node-memory", "320"},
		Doc:  "Let two workloads together exceed the memory of their node while neither exceeds a limit of its own: the one that the kernel kills is started on another node, with the memory it had and no crash held against it.",
		Run:  runOOMGlobal,
	}
}

func runOOMGlobal(ctx context.Context, s *Session) error {
	file := s.file("grow")
	ids, err := s.submitOn(ctx, "n1", s.hog("modest", file, 200, 288, autoheal.High), s.hog("noisy", file, 140, 0, autoheal.Low))
	if err != nil {
		return err
	}
	if err := s.arm(ctx, ids); err != nil {
		return err
	}
	if err := s.inject("making two jobs exceed the memory of their node", func() error { return os.WriteFile(file, nil, 0o600) }); err != nil {
		return err
	}
	var inc *autoheal.Incident
	_, err = s.wait(ctx, "the end of the kernel's choice", func(st *state) (bool, string) {
		for i := range st.Incidents {
			if inc = &st.Incidents[i]; inc.Phase.Ended() {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%d incidents are open", openIncidents(st))
	})
	if err != nil {
		return err
	}
	s.headline, s.timed, s.result = inc.ID, true, phaseResult(inc.Phase)
	victim := autoheal.WorkloadID(inc.Subject.ID)
	s.expect = append(s.expect, expectedIncident{Kind: autoheal.CrashLoop, Subject: autoheal.Ref{Kind: autoheal.RefWorkload, ID: inc.Subject.ID}, Phase: autoheal.Recovered})
	if i := slices.Index(ids, victim); i >= 0 {
		s.spare(ids[1-i]) // the other one goes on untouched
	}
	d, err := s.lineage(ctx, victim)
	if err != nil {
		return err
	}
	if len(d.Lineage) != 2 || d.Lineage[0].MemoryMB != d.Lineage[1].MemoryMB || d.Lineage[1].NodeID != "n2" || d.Restarts != 0 {
		s.problem("%s should have a second attempt on n2 with the memory of the first, and no crash counted: %s", victim, attemptsText(d))
	}
	if x := d.Lineage[0].Exit; x == nil || x.OOM != autoheal.OOMHostGlobal {
		s.problem("the end of attempt 1 of %s should be an out-of-memory kill above its own limit: %s", victim, attemptsText(d))
	}
	return nil
}
