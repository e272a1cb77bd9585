package drill

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// hog is a workload that takes memory once the file after exists, and makes the file done then.
func (s *Session) hog(name string, mib, limit int64, class autoheal.Class, after, done string) spec {
	return spec{
		Name: name, MemoryMB: limit, Priority: 40, Labels: map[string]string{autoheal.LabelClass: string(class)},
		Command: []string{s.opt.Self, "drill", "hog", "--mib", strconv.FormatInt(mib, 10), "--after", after, "--done", done},
	}
}

// oom makes a workload need more memory than it asked for.
func oom() Drill {
	return Drill{
		Name: "oom", Kind: autoheal.CrashLoop, Expected: Recovered, Nodes: 2, Cgroups: true, Settings: patientFence,
		Doc: "Let a job use more memory than its own limit, so that the kernel kills it: it is started again with one and a half times the memory, and stays up.",
		Run: runOOM,
	}
}

func runOOM(ctx context.Context, s *Session) error {
	file := s.file("grow")
	specs := append(everyClass("-other"), s.hog("hungry", 140, 128, autoheal.High, file, ""))
	ids, err := s.submit(ctx, specs...)
	if err != nil {
		return err
	}
	victim := ids[4]
	if err := s.arm(ctx, ids[4:]); err != nil {
		return err
	}
	if err := s.touch("making a job exceed its memory limit", file); err != nil {
		return err
	}
	return s.ranOutOnce(ctx, victim, autoheal.OOMHostCgroup, 128, 192)
}

// ranOutOnce waits until a workload that ran out of a memory is recovered, and checks that it was tried once more, with which
// limits in MiB.
func (s *Session) ranOutOnce(ctx context.Context, victim autoheal.WorkloadID, of autoheal.OOMKind, before, after int64) error {
	if _, err := s.ended(ctx, autoheal.CrashLoop, autoheal.WorkloadRef(victim), autoheal.Recovered); err != nil {
		return err
	}
	d, err := s.lineage(ctx, victim)
	if err != nil {
		return err
	}
	if len(d.Lineage) != 2 || d.Lineage[0].MemoryMB != before || d.Lineage[1].MemoryMB != after || d.Restarts != 1 {
		s.problem("%s should have two attempts, with %d and %d MiB, and one crash counted: %s", victim, before, after, attemptsText(d))
		return nil
	}
	if x := d.Lineage[0].Exit; x == nil || x.OOM != of {
		s.problem("attempt 1 of %s should have ended as out of memory, %q: %s", victim, of, attemptsText(d))
	}
	return nil
}

func attemptsText(d workloadDetails) string {
	var text strings.Builder
	for _, a := range d.Lineage {
		text.WriteString(fmt.Sprintf("[%d on %s with %d MiB: %s", a.Attempt, a.NodeID, a.MemoryMB, a.State))
		if a.Exit != nil {
			text.WriteString(fmt.Sprintf(" (%s, oom %q)", a.Exit.Reason, a.Exit.OOM))
		}
		text.WriteString("] ")
	}
	return text.String() + fmt.Sprintf("%d crashes counted", d.Restarts)
}

// oomGlobal makes a node run out of memory although nobody exceeds a limit of its own.
func oomGlobal() Drill {
	return Drill{
		Name: "oom-global", Kind: autoheal.CrashLoop, Expected: Recovered, Nodes: 2, Cgroups: true, Settings: patientFence,
		Args: []string{"--node-memory", "320"},
		Doc:  "Let two workloads together exceed the memory of their node while neither exceeds a limit of its own: the one that the kernel kills is started on another node, with the memory it had and no crash held against it.",
		Run:  runOOMGlobal,
	}
}

func runOOMGlobal(ctx context.Context, s *Session) error {
	file, taken := s.file("grow"), s.file("taken")
	ids, err := s.submitOn(ctx, "n1", s.hog("modest", 200, 288, autoheal.High, "", taken), s.hog("noisy", 140, 0, autoheal.Low, file, ""))
	if err != nil {
		return err
	}
	// Only one of them asks for memory at the fault, so that the kernel has no reason to kill both.
	if _, err := s.wait(ctx, "the first job to hold its memory", func(*state) (bool, string) {
		ok, err := exists(taken)
		return ok && err == nil, "it does not hold it yet"
	}); err != nil {
		return err
	}
	if err := s.arm(ctx, ids); err != nil {
		return err
	}
	if err := s.touch("making a job take the memory that its node does not have", file); err != nil {
		return err
	}
	st, err := s.wait(ctx, "both jobs to run again", func(st *state) (bool, string) {
		if ok, why := allRun(st, ids); !ok {
			return false, why
		}
		return len(st.Incidents) > 0 && openIncidents(st) == 0, fmt.Sprintf("%d of %d incidents are open", openIncidents(st), len(st.Incidents))
	})
	if err != nil {
		return err
	}
	first := st.Incidents[0]
	s.headline, s.timed, s.result = first.ID, true, phaseResult(first.Phase)
	// The kernel may kill one of them, or the second as well before the memory of the first is free. Each of its choices
	// is one incident or continues one.
	for _, i := range st.Incidents {
		if id := autoheal.WorkloadID(i.Subject.ID); i.Subject.Kind == autoheal.RefWorkload && slices.Contains(ids, id) {
			s.expect = append(s.expect, expectedIncident{Kind: autoheal.CrashLoop, Subject: i.Subject, Phase: autoheal.Recovered})
		}
	}
	ended := 0
	for _, id := range ids {
		d, err := s.lineage(ctx, id)
		if err != nil {
			return err
		}
		ended += len(d.Lineage) - 1
		if why := judgeGlobalOOM(d); why != "" {
			s.problem("%s: %s: %s", id, why, attemptsText(d))
		}
		if len(d.Lineage) == 1 {
			s.spare(id)
		}
	}
	if ended == 0 {
		s.problem("the kernel killed none of the jobs")
	}
	return nil
}

// judgeGlobalOOM says what is wrong with the attempts of a workload that was only ever killed for the node's memory: each
// next one must be on another node, with the memory of the one before, and no crash may be held against the workload.
func judgeGlobalOOM(d workloadDetails) string {
	if d.Restarts != 0 {
		return "crashes were held against it"
	}
	for i, a := range d.Lineage[:len(d.Lineage)-1] {
		next := d.Lineage[i+1]
		switch {
		case a.Exit == nil || a.Exit.OOM != autoheal.OOMHostGlobal:
			return fmt.Sprintf("attempt %d should have ended by an out-of-memory kill above its own limit", a.Attempt)
		case next.MemoryMB != a.MemoryMB:
			return fmt.Sprintf("attempt %d should have the memory of the one before", next.Attempt)
		case next.NodeID == a.NodeID:
			return fmt.Sprintf("attempt %d should be on another node", next.Attempt)
		}
	}
	return ""
}
