package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// gpuRow is what drills need of a GPU of node_get.
type gpuRow struct {
	ID          autoheal.GPUID      `json:"id"`
	Index       int                 `json:"index"`
	PCI         string              `json:"pci"`
	Health      autoheal.Health     `json:"health"`
	Quarantined *autoheal.Mark      `json:"quarantined"`
	UsedBy      autoheal.WorkloadID `json:"usedBy"`
}

// gpus returns the GPUs of a node.
func (s *Session) gpus(ctx context.Context, node autoheal.NodeID) ([]gpuRow, error) {
	var out struct{ Resources struct{ GPUs []gpuRow } }
	err := s.cluster.call(ctx, "node_get", map[string]any{"nodeId": node}, &out)
	return out.Resources.GPUs, err
}

// gpuOf returns the GPU that a workload on a node uses.
func (s *Session) gpuOf(ctx context.Context, node autoheal.NodeID, id autoheal.WorkloadID) (gpuRow, error) {
	all, err := s.gpus(ctx, node)
	if err != nil {
		return gpuRow{}, err
	}
	i := slices.IndexFunc(all, func(g gpuRow) bool { return g.UsedBy == id })
	if i < 0 {
		return gpuRow{}, fmt.Errorf("no GPU of %s is used by %s", node, id)
	}
	return all[i], nil
}

// xid is the kernel's line about a GPU.
func (g gpuRow) xid(n int, text string) string {
	return fmt.Sprintf("NVRM: Xid (PCI:%s): %d, %s", strings.TrimSuffix(g.PCI, ".0"), n, text)
}

// kernel writes a line into the file that stands for a node's kernel log.
func (s *Session) kernel(node autoheal.NodeID, line string) error {
	f, err := os.OpenFile(filepath.Join(s.cluster.kernelLogs(), string(node)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// evidence is what drills need of evidence_get.
type evidence struct {
	Captures []struct {
		Action autoheal.ActionID
		At     time.Time
		Parts  []struct{ Name, Text string }
	}
}

// checkEvidence checks that something was captured before anything was changed, and that it holds the kernel's line, the
// GPUs, and the process of the workload that was hit.
func (s *Session) checkEvidence(ctx context.Context, inc *autoheal.Incident, line string, hit process) error {
	var got evidence
	if err := s.cluster.call(ctx, "evidence_get", map[string]any{"incidentId": inc.ID}, &got); err != nil {
		return err
	}
	if len(got.Captures) == 0 {
		s.problem("%s has no evidence", inc.ID)
		return nil
	}
	first := got.Captures[0]
	for _, a := range inc.Actions { // what is critical does not wait for it
		critical := slices.ContainsFunc(inc.Recoveries, func(r autoheal.Recovery) bool {
			return string(r.Workload) == a.Target.ID && r.Class == autoheal.Critical
		})
		if !critical && (a.Verb == autoheal.Stop || a.Verb == autoheal.ResetGPU) && a.IntentAt.Before(first.At) {
			s.problem("%s of %s came before the evidence", a.Verb, a.Target)
		}
	}
	want := map[string]string{"kernel": line, "gpu": "SIMULATED GPUs", "processes": fmt.Sprintf("\n%d ", hit.PID), "stacks": fmt.Sprintf("process %d (", hit.PID)}
	for _, p := range first.Parts {
		if strings.Contains(p.Text, want[p.Name]) {
			delete(want, p.Name)
		}
	}
	for part, text := range want {
		s.problem("the evidence of %s lacks %q in its part %s", inc.ID, text, part)
	}
	return nil
}

// gpuLost has a GPU fall off the bus.
func gpuLost() Drill {
	return Drill{
		Name: "gpu-lost", Kind: autoheal.GPUFailure, Expected: Escalated, Nodes: 3, Kernel: true, Settings: patientFence,
		Doc: "Let the kernel of one node say that a GPU has fallen off the bus: the node is cordoned, evidence captured, all its work moved, and the alert is a ticket for the vendor.",
		Run: runGPULost,
	}
}

func runGPULost(ctx context.Context, s *Session) error {
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
	hit, err := s.main(moved[1])
	if err != nil {
		return err
	}
	s.broken["n1"] = true
	if err := s.arm(ctx, moved, "n1"); err != nil {
		return err
	}
	line := g.xid(79, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
	if err := s.inject("letting a GPU of n1 fall off the bus", func() error { return s.kernel("n1", line) }); err != nil {
		return err
	}
	inc, err := s.ended(ctx, autoheal.GPUFailure, autoheal.NodeRef("n1"), autoheal.Escalated)
	if err != nil {
		return err
	}
	st, err := s.cluster.look(ctx)
	if err != nil {
		return err
	}
	if ok, why := allRun(st, moved); !ok {
		s.problem("after the incident %s", why)
	}
	for _, id := range moved {
		if w := st.workload(id); w.Node == "n1" {
			s.problem("%s is still on n1", id)
		}
	}
	if n := st.node("n1"); !slices.Contains(n.CordonedBy, autoheal.ByAutoheal) {
		s.problem("n1 should stay cordoned by the healer: it is %s, marked by %q", n.Status, n.CordonedBy)
	}
	s.checkTicket(st, inc.ID, "Host: n1", string(g.ID), g.PCI, "Xid 79", "first ", "autoheal bundle "+string(inc.ID))
	return s.checkEvidence(ctx, inc, line, hit)
}

// checkTicket checks that one critical alert of an incident says all that a vendor asks for.
func (s *Session) checkTicket(st *state, inc autoheal.IncidentID, parts ...string) {
	var texts []string
	for _, a := range st.Alerts {
		if a.Severity == autoheal.SeverityCritical && (a.Incident == inc || a.Source == string(inc)) {
			texts = append(texts, a.Message)
		}
	}
	if len(texts) != 1 {
		s.problem("%d critical alerts tell of %s, expected one: %q", len(texts), inc, texts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(texts[0], p) {
			s.problem("the ticket of %s does not say %q: %s", inc, p, texts[0])
		}
	}
}

// gpuReset has a GPU's firmware hang, which a reset mends.
func gpuReset() Drill {
	return Drill{
		Name: "gpu-reset", Kind: autoheal.GPUFailure, Expected: Recovered, Nodes: 2, Kernel: true, Settings: patientFence,
		Always: []string{
			"autoHeal.autonomy={reset_gpu: approve}",
			`autoHeal.repair.resetCommand=[/bin/sh, -c, 'cat >>"$0"', '{dir}/resets']`,
			`autoHeal.node.returnTest.command=[/bin/sh, -c, 'echo "$AUTOHEAL_GPU" >>"$0"; echo "memory is good"', '{dir}/tests']`,
			"autoHeal.node.returnTest.timeout=1m",
		},
		Doc: "Let the kernel of one node say that the firmware of a GPU hangs: that GPU alone is taken out of use and its work moved, the reset waits for a person, then the configured command resets it, the configured test passes, and it is back in service.",
		Run: runGPUReset,
	}
}

func runGPUReset(ctx context.Context, s *Session) error {
	ids, err := s.submitOn(ctx, "n1", everyClass("")...)
	if err != nil {
		return err
	}
	victim := ids[1]
	g, err := s.gpuOf(ctx, "n1", victim)
	if err != nil {
		return err
	}
	hit, err := s.main(victim)
	if err != nil {
		return err
	}
	if err := s.arm(ctx, ids[1:2]); err != nil {
		return err
	}
	line := g.xid(119, "pid=1234, name=python3, Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL) (0x20801702 0x4).")
	if err := s.inject("letting the firmware of a GPU of n1 hang", func() error { return s.kernel("n1", line) }); err != nil {
		return err
	}
	if err := s.approveReset(ctx, g, victim); err != nil {
		return err
	}
	ref := autoheal.Ref{Kind: autoheal.RefGPU, ID: string(g.ID)}
	inc, err := s.ended(ctx, autoheal.GPUFailure, ref, autoheal.Recovered)
	if err != nil {
		return err
	}
	if err := s.gpuBack(ctx, "n1", g.ID); err != nil {
		return err
	}
	s.checkPrograms(g)
	s.checkOrder(inc, autoheal.QuarantineGPU, autoheal.Collect, autoheal.Stop, autoheal.ResetGPU, autoheal.Test)
	return s.checkEvidence(ctx, inc, line, hit)
}

// approveReset waits until the work is moved and the reset waits for a person, checks that nothing was reset yet, and
// approves it.
func (s *Session) approveReset(ctx context.Context, g gpuRow, victim autoheal.WorkloadID) error {
	asked := ""
	_, err := s.wait(ctx, "the reset to wait for a person", func(st *state) (bool, string) {
		for _, a := range st.Healer.Approvals {
			if a.Verb == autoheal.ResetGPU && a.Target.ID == string(g.ID) && a.State == "asked" {
				asked = a.ID
			}
		}
		w := st.workload(victim)
		return asked != "" && w.State == autoheal.Running && w.Attempt == 2, fmt.Sprintf("approval %q, %s is %s", asked, victim, describe(w))
	})
	if err != nil {
		return err
	}
	if resets, err := os.ReadFile(s.file("resets")); err == nil {
		s.problem("the GPU was reset before anybody approved: %s", resets)
	}
	all, err := s.gpus(ctx, "n1")
	if err != nil {
		return err
	}
	for _, other := range all {
		if (other.Quarantined != nil) != (other.ID == g.ID) {
			s.problem("GPU %d: quarantined %v, and %s is the broken one", other.Index, other.Quarantined, g.ID)
		}
	}
	s.say("approving the reset")
	return s.cluster.call(ctx, "incident_approve", map[string]any{"approvalId": asked, "reason": "drill"}, nil)
}

// gpuBack waits until a GPU is in service.
func (s *Session) gpuBack(ctx context.Context, node autoheal.NodeID, id autoheal.GPUID) error {
	_, err := s.wait(ctx, "the GPU to be back in service", func(*state) (bool, string) {
		all, err := s.gpus(ctx, node)
		if err != nil {
			return false, err.Error()
		}
		for _, g := range all {
			if g.ID == id {
				return g.Quarantined == nil && g.Health == autoheal.HealthOK, fmt.Sprintf("it is %s, quarantined: %v", g.Health, g.Quarantined)
			}
		}
		return false, "it is not listed"
	})
	return err
}

// checkPrograms checks by their own files that the configured programs were run for this GPU, once each.
func (s *Session) checkPrograms(g gpuRow) {
	var told struct {
		Verb      autoheal.Verb
		GPU       struct{ UUID autoheal.GPUID }
		Simulated bool
	}
	resets := string(readAll(s.file("resets")))
	if err := json.Unmarshal([]byte(resets), &told); err != nil || told.Verb != autoheal.ResetGPU || told.GPU.UUID != g.ID || !told.Simulated {
		s.problem("the reset command should have been told once of %s, and that it is simulated: %s (%v)", g.ID, resets, err)
	}
	if tests := strings.TrimSpace(string(readAll(s.file("tests")))); tests != string(g.ID) {
		s.problem("the test should have run once for %s: %q", g.ID, tests)
	}
}

// checkOrder checks that the first actions with these verbs came in this order.
func (s *Session) checkOrder(inc *autoheal.Incident, verbs ...autoheal.Verb) {
	var last time.Time
	for _, v := range verbs {
		i := slices.IndexFunc(inc.Actions, func(a autoheal.ActionView) bool { return a.Verb == v })
		switch {
		case i < 0:
			s.problem("%s has no %s", inc.ID, v)
		case inc.Actions[i].IntentAt.Before(last):
			s.problem("%s came too early in %s", v, inc.ID)
		default:
			last = inc.Actions[i].IntentAt
		}
	}
}
