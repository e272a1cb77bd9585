package drill

import (
	"context"
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
)

// rebootNode stands for a BMC: told of a node on its standard input, it has the node boot anew. All that runs there ends at
// once, and what the kernel had said is gone. The node's own machine goes on: the boot is simulated.
const rebootNode = `node=$(sed "s/.*\"node\":\"\([^\"]*\)\".*/\1/") && echo "$node" >>"$0/reboots" && mkdir -p "$0/boots" && : >"$0/kernel/$node" && wc -l <"$0/reboots" >"$0/boots/$node" && kill -9 "$(cat "$0/data/agents/$node.pid")"`

// gpuReboot has a GPU fall off the bus of a node that can be rebooted.
func gpuReboot() Drill {
	return Drill{
		Name: "gpu-reboot", Kind: autoheal.GPUFailure, Expected: Recovered, Nodes: 3, Kernel: true, Settings: patientFence,
		Args: []string{"--node-arg=--simulate-boots={dir}/boots"},
		Always: []string{
			"autoHeal.repair.rebootCommand=[/bin/sh, -c, '" + rebootNode + "', '{dir}']",
			`autoHeal.node.returnTest.command=[/bin/sh, -c, 'echo "$AUTOHEAL_NODE $AUTOHEAL_GPU" >>"$0"', '{dir}/tests']`,
			"autoHeal.node.returnTest.timeout=1m",
		},
		Doc: "Let a GPU fall off the bus of a node that can be rebooted: the node is cordoned and emptied, the configured command reboots it, its silence meanwhile is nobody's failure, and after the test it is back in service.",
		Run: runGPUReboot,
	}
}

func runGPUReboot(ctx context.Context, s *Session) error {
	moved, err := s.submitOn(ctx, "n1", everyClass("")...)
	if err != nil {
		return err
	}
	if _, err := s.submitOn(ctx, "n2", everyClass("-other")...); err != nil {
		return err
	}
	g, err := s.gpuOf(ctx, "n1", moved[1])
	if err != nil {
		return err
	}
	before, err := s.bootOf(ctx, "n1")
	if err != nil {
		return err
	}
	if err := s.arm(ctx, moved, "n1"); err != nil {
		return err
	}
	line := g.xid(79, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
	if err := s.inject("letting a GPU of n1 fall off the bus", func() error { return s.kernel("n1", line) }); err != nil {
		return err
	}
	inc, err := s.ended(ctx, autoheal.GPUFailure, autoheal.NodeRef("n1"), autoheal.Recovered)
	if err != nil {
		return err
	}
	_, err = s.wait(ctx, "n1 to return to service", func(st *state) (bool, string) {
		n := st.node("n1")
		return n.Status == autoheal.StatusReady && len(n.CordonedBy) == 0, fmt.Sprintf("it is %s, marked by %q", n.Status, n.CordonedBy)
	})
	if err != nil {
		return err
	}
	s.checkOrder(inc, autoheal.Cordon, autoheal.Reboot, autoheal.Test)
	for _, a := range inc.Actions {
		if a.Verb == autoheal.Stop && a.ResultAt != nil && s.rebootedBefore(inc, a) {
			s.problem("%s was stopped after the node was rebooted", a.Target)
		}
	}
	after, err := s.bootOf(ctx, "n1")
	if err != nil {
		return err
	}
	if after == before || !strings.Contains(after, "simulated") {
		s.problem("n1 should be in another, simulated boot: it was %s and is %s", before, after)
	}
	if reboots := string(readAll(s.file("reboots"))); reboots != "n1\n" {
		s.problem("the reboot command should have been told once of n1: %q", reboots)
	}
	if tests := string(readAll(s.file("tests"))); tests != "n1 \n" {
		s.problem("the test should have run once for n1: %q", tests)
	}
	return nil
}

// rebootedBefore reports whether the node was rebooted before an action.
func (s *Session) rebootedBefore(inc *autoheal.Incident, a autoheal.ActionView) bool {
	for _, r := range inc.Actions {
		if r.Verb == autoheal.Reboot && r.IntentAt.Before(a.IntentAt) {
			return true
		}
	}
	return false
}

// bootOf names the present boot of a node.
func (s *Session) bootOf(ctx context.Context, node autoheal.NodeID) (string, error) {
	var out struct{ BootID string }
	err := s.cluster.call(ctx, "node_get", map[string]any{"nodeId": node}, &out)
	return out.BootID, err
}
