package drill

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"autoheal.dev/autoheal"
)

// nodeHang stops an agent for longer than the grace and lets it go on.
func nodeHang() Drill {
	return Drill{
		Name: "node-hang", Kind: autoheal.NodeOffline, Expected: Recovered, Nodes: 3,
		Doc: "Freeze the agent of one node, then let it go on: its workloads are moved, no moment has two copies of what may run once, old copies are settled and the node returns to service.",
		Run: runNodeHang,
	}
}

func runNodeHang(ctx context.Context, s *Session) error {
	moved, err := s.freezeWriter(ctx)
	if err != nil {
		return err
	}
	s.say("letting the frozen agent go on")
	if err := s.signalAgent("n1", syscall.SIGCONT); err != nil {
		return err
	}
	return s.returned(ctx, "n1", moved)
}

// freezeWriter freezes the agent of a node, one of whose jobs writes down when it ran, and waits until its work runs elsewhere.
func (s *Session) freezeWriter(ctx context.Context) (moved []autoheal.WorkloadID, err error) {
	specs := everyClass("")
	specs[1].Command = writer(s.file("training.log")) // at most once
	if moved, err = s.submitOn(ctx, "n1", specs...); err != nil {
		return nil, err
	}
	if _, err := s.submitOn(ctx, "n2", everyClass("-other")...); err != nil {
		return nil, err
	}
	if err := s.arm(ctx, moved, "n1"); err != nil {
		return nil, err
	}
	if err := s.inject("freezing the agent of n1", func() error { return s.signalAgent("n1", syscall.SIGSTOP) }); err != nil {
		return nil, err
	}
	return moved, s.nodeLost(ctx, "n1", moved)
}

// writer is a program that writes its generation and the time since boot ten times a second.
func writer(file string) []string {
	return []string{"/bin/sh", "-c", `while read -r up rest </proc/uptime; do echo "$AUTOHEAL_GENERATION $up" >>"$0"; sleep 0.1; done`, file}
}

// returned waits until a node that came back is in service again, and checks that no old copy is left on it.
func (s *Session) returned(ctx context.Context, node autoheal.NodeID, moved []autoheal.WorkloadID) error {
	s.say("waiting until the node is back in service")
	_, err := s.wait(ctx, fmt.Sprintf("%s to return to service", node), func(st *state) (bool, string) {
		n := st.node(node)
		return n.Status == autoheal.StatusReady && len(n.CordonedBy) == 0, fmt.Sprintf("it is %s, marked by %q", n.Status, n.CordonedBy)
	})
	if err != nil {
		return err
	}
	old, err := s.cluster.processes(func(p process) bool { return p.Node == node && p.Role != roleAgent })
	if err != nil {
		return err
	}
	for _, p := range old {
		s.problem("an old copy of %s is left on %s: %s %d", p.Workload, node, p.Role, p.PID)
	}
	return s.checkOverlap(ctx, moved[1])
}

// neverTwice measures by the workload's own file for how long two copies ran at once.
func (s *Session) neverTwice(id autoheal.WorkloadID) error {
	both, err := overlap(string(readAll(s.file("training.log"))))
	if err != nil {
		return err
	}
	seconds := autoheal.Seconds(both)
	s.overlap = &seconds
	if both > 0 {
		s.problem("two copies of %s ran at once for %s", id, both)
	}
	return nil
}

// checkOverlap measures for how long two copies ran at once, and compares with the incident.
func (s *Session) checkOverlap(ctx context.Context, id autoheal.WorkloadID) error {
	if err := s.neverTwice(id); err != nil {
		return err
	}
	var inc autoheal.Incident
	if err := s.cluster.call(ctx, "incident_get", map[string]any{"incidentId": s.headline}, &inc); err != nil {
		return err
	}
	for _, r := range inc.Recoveries {
		switch {
		case r.Workload != id:
		case r.OverlapSeconds == nil:
			s.problem("%s does not tell the overlap of %s", inc.ID, id)
		case *r.OverlapSeconds != 0:
			s.problem("%s tells an overlap of %s of %s", inc.ID, time.Duration(*r.OverlapSeconds), id)
		}
	}
	return nil
}

// overlap returns for how long two generations of a writer were alive at once, 0 when they came one after the other. Each line is a generation and a time since
// boot in seconds. Both generations must have written, or there was nothing to compare.
func overlap(log string) (time.Duration, error) {
	type span struct{ first, last time.Duration }
	spans := map[int]*span{}
	for line := range strings.Lines(log) {
		f := strings.Fields(line)
		if len(f) != 2 || !strings.HasSuffix(line, "\n") {
			continue // cut off by the end of its writer
		}
		gen, err1 := strconv.Atoi(f[0])
		at, err2 := time.ParseDuration(f[1] + "s")
		if err1 != nil || err2 != nil {
			return 0, fmt.Errorf("read the log of the writer: line %q", strings.TrimSpace(line))
		}
		if s := spans[gen]; s == nil {
			spans[gen] = &span{at, at}
		} else {
			s.first, s.last = min(s.first, at), max(s.last, at)
		}
	}
	if len(spans) < 2 {
		return 0, fmt.Errorf("read the log of the writer: %d generations wrote, expected two", len(spans))
	}
	worst := time.Duration(0)
	for g, a := range spans {
		for h, b := range spans {
			if g < h {
				worst = max(worst, min(a.last, b.last)-max(a.first, b.first))
			}
		}
	}
	return worst, nil
}
