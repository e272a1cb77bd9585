package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"autoheal.dev/autoheal"
)

// diskFull fills the file system of one node.
func diskFull() Drill {
	return Drill{
		Name: "disk-full", Kind: autoheal.NodeFault, Expected: Recovered, Nodes: 3, Settings: patientFence, Mounts: true,
		Doc:    "Fill the file system of one node: its jobs are moved, each seen to end although nothing can be written, its service runs on, nothing new goes there, and it takes work again once there is room.",
		Before: func(c *cluster) error { return c.smallDisk("n1") },
		Run:    runDiskFull,
	}
}

// smallDisk gives a node that is about to be made a small file system of its own.
func (c *cluster) smallDisk(node string) error {
	dir := filepath.Join(c.data, "agents", node)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of %s: %w", node, err)
	}
	return mountSmall(dir, "32m")
}

func runDiskFull(ctx context.Context, s *Session) error {
	ids, err := s.submitOn(ctx, "n1", everyClass("")...)
	if err != nil {
		return err
	}
	if _, err := s.submitOn(ctx, "n2", everyClass("-other")...); err != nil {
		return err
	}
	jobs := ids[1:] // the first is a service: it writes nothing, and stays
	if err := s.arm(ctx, jobs, "n1"); err != nil {
		return err
	}
	waste := filepath.Join(s.cluster.data, "agents", "n1", "waste")
	if err := s.inject("filling the disk of n1", func() error { return fill(waste) }); err != nil {
		return err
	}
	if _, err := s.wait(ctx, "all jobs to run elsewhere", func(st *state) (bool, string) {
		for _, id := range jobs {
			if w := st.workload(id); w.State != autoheal.Running || w.Node == "n1" || w.Attempt != 2 {
				return false, fmt.Sprintf("%s: %s", id, describe(w))
			}
		}
		return st.node("n1").Status == autoheal.StatusNotReady, "n1 still takes work"
	}); err != nil {
		return err
	}
	s.say("making room again")
	if err := os.Remove(waste); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	ref := autoheal.NodeRef("n1")
	inc, err := s.ended(ctx, autoheal.NodeFault, ref, autoheal.Recovered)
	if err != nil {
		return err
	}
	for _, r := range inc.Recoveries {
		if r.Proof != autoheal.ProofExitObserved || !slices.Contains(jobs, r.Workload) {
			s.problem("%s was moved on proof %q; only jobs are moved, and seen to end", r.Workload, r.Proof)
		}
	}
	_, err = s.wait(ctx, "n1 to take work again", func(st *state) (bool, string) {
		n := st.node("n1")
		return n.Status == autoheal.StatusReady && len(n.CordonedBy) == 0, fmt.Sprintf("it is %s, marked by %q", n.Status, n.CordonedBy)
	})
	return err
}

// fill writes a file until nothing more can be written.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for _, size := range []int{1 << 20, 4 << 10, 1} { // to the last byte
		block := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}
