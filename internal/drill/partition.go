package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// gangSize is the number of ranks of a drill's gang, culpritRank the one whose node is broken.
const (
	gangSize    = 4
	culpritRank = 2
)

// partition stops one node of a gang from answering.
func partition() Drill {
	return Drill{
		Name: "partition", Kind: autoheal.NetworkPartition, Expected: Recovered, Nodes: 5, Settings: patientFence,
		Doc: "Let one rank of a gang of four stop answering while its process lives, so that the others time out: its node is named, and the gang is restarted as one with one generation, away from it.",
		Run: runPartition,
	}
}

func runPartition(ctx context.Context, s *Session) error {
	dir := s.file("gang")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	stall := s.file("stall")
	ids, err := s.submit(ctx, s.gang("train", dir, stall)...)
	if err != nil {
		return err
	}
	if _, err := s.submit(ctx, everyClass("-other")...); err != nil {
		return err
	}
	if err := s.gangWorks(ctx, dir, "1"); err != nil {
		return err
	}
	st, err := s.cluster.look(ctx)
	if err != nil {
		return err
	}
	culprit := st.workload(ids[culpritRank]).Node
	if err := s.arm(ctx, ids); err != nil {
		return err
	}
	if err := s.inject("silencing the rank on "+string(culprit), func() error { return os.WriteFile(stall, []byte(culprit), 0o644) }); err != nil {
		return err
	}
	ref := autoheal.GangRef("train")
	inc, err := s.ended(ctx, autoheal.NetworkPartition, ref, autoheal.Recovered)
	if err != nil {
		return err
	}
	if !strings.Contains(inc.Cause, fmt.Sprintf("rank %d on %s holds up gang train", culpritRank, culprit)) {
		s.problem("%s does not name rank %d on %s: %s", inc.ID, culpritRank, culprit, inc.Cause)
	}
	if err := s.checkGang(ctx, ids, culprit); err != nil {
		return err
	}
	return s.gangWorks(ctx, dir, "2")
}

// gang is a gang of ranks that work with each other, no two of which fit on one node.
func (s *Session) gang(name, dir, stall string) []spec {
	var out []spec
	for n := range gangSize {
		command := []string{s.opt.Self, "drill", "rank", "--dir", dir, "--stall", stall}
		if n == gangSize-1 {
			command = append(command, "--hangs") // one of the victims hangs on without an end
		}
		out = append(out, spec{
			Name: fmt.Sprintf("%s-%d", name, n), Command: command, GPUs: 6, Priority: 70,
			Labels: map[string]string{autoheal.LabelGang: name, autoheal.LabelGangSize: strconv.Itoa(gangSize), autoheal.LabelRank: strconv.Itoa(n)},
		})
	}
	return out
}

// gangWorks waits until a generation of a gang has finished collectives.
func (s *Session) gangWorks(ctx context.Context, dir, generation string) error {
	file := StepFile(dir, generation)
	_, err := s.wait(ctx, "generation "+generation+" of the gang to work", func(*state) (bool, string) {
		step, _ := strconv.Atoi(string(readAll(file)))
		return step >= 3, fmt.Sprintf("%s says %d", filepath.Base(file), step)
	})
	return err
}

// checkGang checks that the gang was restarted once, as one, and away from the culprit.
func (s *Session) checkGang(ctx context.Context, ids []autoheal.WorkloadID, culprit autoheal.NodeID) error {
	var nodes []autoheal.NodeID
	for _, id := range ids {
		d, err := s.lineage(ctx, id)
		if err != nil {
			return err
		}
		last := d.Lineage[len(d.Lineage)-1]
		if len(d.Lineage) != 2 || last.Attempt != 2 || last.State != autoheal.Running {
			s.problem("%s should have been restarted once, as attempt 2, and run: %s", id, attemptsText(d))
		}
		if last.NodeID == culprit || slices.Contains(nodes, last.NodeID) {
			s.problem("attempt %d of %s is on %s, which the gang had to keep off or has another rank", last.Attempt, id, last.NodeID)
		}
		nodes = append(nodes, last.NodeID)
	}
	return nil
}
