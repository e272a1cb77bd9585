package drill

import (
	"context"

	"autoheal.dev/autoheal"
)

// powerOff stands for a BMC: told of a node on its standard input, it ends all that runs there at once and keeps its agent
// from being started again.
const powerOff = `node=$(sed "s/.*\"node\":\"\([^\"]*\)\".*/\1/") && echo "$node" >>"$0/fenced" && : >"$0/data/agents/$node.hold" && kill -9 "$(cat "$0/data/agents/$node.pid")"; for p in /proc/[0-9]*; do grep -q "$0/data/agents/$node/wl/" "$p/cmdline" && kill -9 "${p#/proc/}"; done 2>/dev/null; exit 0`

// nodeFence cuts a node off whose workloads are not trusted to stop themselves.
func nodeFence() Drill {
	return Drill{
		Name: "node-fence", Kind: autoheal.NodeOffline, Expected: Recovered, Nodes: 3,
		Settings: []string{"autoHeal.fence.selfStop=60s", "autoHeal.fence.wait=65s"}, // longer than it takes to power it off
		Always:   []string{"autoHeal.fence.trustSelfStop=false", "autoHeal.fence.command=[/bin/sh, -c, '" + powerOff + "', '{dir}']"},
		Doc:      "Freeze the agent of one node where nobody trusts workloads to stop themselves: the configured command powers the node off, and only with its confirmation does what may run once start elsewhere.",
		Run:      runNodeFence,
	}
}

func runNodeFence(ctx context.Context, s *Session) error {
	s.proof = autoheal.ProofPowerOff
	moved, err := s.freezeWriter(ctx)
	if err != nil {
		return err
	}
	if fenced := string(readAll(s.file("fenced"))); fenced != "n1\n" {
		s.problem("the command should have been told once to power n1 off: %q", fenced)
	}
	return s.neverTwice(moved[1])
}
