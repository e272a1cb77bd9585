package heal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// ticketWaits is how long the ticket of a broken part may wait for what is still being moved off it.
const ticketWaits = 15 * time.Minute

// stepTicket asks a person for new hardware, or for a look at it, with all that a vendor asks for (behaviour F4). What has
// passed its test needs nobody.
func (c *Core) stepTicket(i *incident) bool {
	step := string(policy.StepAlertHardware)
	if !c.stepsBefore(i, policy.StepAlertHardware) {
		return false
	}
	if i.tested() {
		c.stepDone(i, step, "skipped", "it passed its test")
		return true
	}
	if c.takenBack(i) {
		c.stepDone(i, step, "skipped", takenBack)
		return true
	}
	if at := i.lastStep().Add(ticketWaits); i.Open > 0 && c.now.Before(at) {
		c.after(key{inc: i.ID}, at)
		return false
	}
	c.alert(i, alertSpec{
		name: "replace-hardware", severity: autoheal.SeverityCritical, dedup: string(i.ID) + " ticket", text: c.ticket(i),
	})
	c.stepDone(i, step, "done", "")
	return true
}

// takenBack is what is said where a person ended what we had begun.
const takenBack = "somebody took our mark away: it is left as it is"

// takenBack reports whether a person put a part back into service while it was being seen to.
func (c *Core) takenBack(i *incident) bool {
	if i.Steps[string(policy.StepQuarantineGPU)].Result != "done" || !c.pol.Node.AutoCordon {
		return false
	}
	parts := c.outOfUse(i)
	return len(parts) > 0 && !slices.ContainsFunc(parts, c.outOfService)
}

// ticketed reports whether the ticket went out at this very moment: then it is the message that a person is needed.
func (c *Core) ticketed(i *incident) bool {
	return slices.ContainsFunc(c.d.find.alertsOf[i.ID], func(a *alert) bool { return a.DedupKey == string(i.ID)+" ticket" && a.FiredAt.Equal(c.now) })
}

// gpuIntention says what is going to be done about a broken GPU.
func gpuIntention(i *incident) string {
	what := "The GPU is taken out of use, and what runs on it is moved."
	switch {
	case len(i.Ladder) > 0 && !slices.Contains(i.Ladder, string(policy.StepQuarantineGPU)) && i.Open == 0:
		return "A person has to look at it; nothing is changed."
	case len(i.Ladder) > 0 && !slices.Contains(i.Ladder, string(policy.StepQuarantineGPU)):
		return "It is restarted; the GPU stays in service."
	case i.Subject.Kind == autoheal.RefNode:
		what = "The node is taken out of use, and its work is moved."
	}
	return fmt.Sprintf("%s Workloads affected: %d.", what, i.Open)
}

// ticket is the text that goes to the vendor as it is.
func (c *Core) ticket(i *incident) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s.\nHost: %s", i.part(), i.asksFor(), strings.TrimSuffix(i.Cause, "."), i.at())
	for _, g := range c.brokenParts(i) {
		fmt.Fprintf(&b, "\nGPU %d: %s, UUID %s, serial %s, PCI %s, driver %s, firmware %s", g.Index, known(g.Model), g.UUID, known(g.Serial), known(g.PCI), known(g.Driver), known(g.Firmware))
		b.WriteString(c.xidLines(g.UUID))
	}
	fmt.Fprintf(&b, "\nRepairs: %s", c.repairText(i))
	for _, s := range []policy.Step{policy.StepQuarantineGPU, policy.StepAdvice, policy.StepResetGPU, policy.StepReboot, policy.StepTest} {
		if d, over := i.Steps[string(s)]; over && d.Reason != "" && (s != policy.StepTest || d.Result != "skipped") {
			fmt.Fprintf(&b, "\n%s: %s, %s", strings.ReplaceAll(string(s), "_", " "), d.Result, d.Reason)
		}
	}
	fmt.Fprintf(&b, "\nEvidence: autoheal bundle %s\nOnce it is mended: %s", i.ID, i.backInService())
	return b.String()
}

// brokenParts are the GPUs that an incident names, and of a node as a whole those that are not well.
func (c *Core) brokenParts(i *incident) []autoheal.GPU {
	out := slices.Clone(i.Parts)
	n := c.v.nodes[i.at()]
	if n == nil || i.Subject.Kind != autoheal.RefNode {
		return out
	}
	for _, g := range n.GPUs {
		if g.Health != autoheal.HealthOK && !slices.ContainsFunc(out, func(o autoheal.GPU) bool { return o.UUID == g.UUID }) {
			out = append(out, g)
		}
	}
	return out
}

func known(s string) string {
	if s == "" {
		return "not known"
	}
	return s
}

// part names what an incident of a GPU is about.
func (i *incident) part() string {
	if i.Subject.Kind == autoheal.RefGPU && len(i.Parts) == 1 {
		return fmt.Sprintf("GPU %d of node %s", i.Parts[0].Index, i.Node)
	}
	return i.Subject.String()
}

// asksFor says what a person is asked to do about a part.
func (i *incident) asksFor() string {
	switch {
	case i.Action == autoheal.AdviceReplaceHW || i.Steps[string(policy.StepAdvice)].Result == "failed" || i.Steps[string(policy.StepTest)].Result == "failed":
		return "has to be replaced"
	case i.asksForRepair():
		return "has to be mended by hand"
	}
	return "has to be looked at"
}

// backInService is what to type once a part was mended.
func (i *incident) backInService() string {
	if i.Subject.Kind == autoheal.RefGPU {
		return "autoheal quarantine clear " + i.Subject.String()
	}
	return "autoheal uncordon " + string(i.at())
}

// xidLines lists what the kernel has said of a GPU, by code, with how often, and when first and last.
func (c *Core) xidLines(id autoheal.GPUID) string {
	book := c.d.Xids[id]
	if book == nil {
		return ""
	}
	var b strings.Builder
	for _, code := range sortedCodes(book) {
		n := book.Codes[code]
		fmt.Fprintf(&b, "\n  %s: %d, first %s, last %s", codeName(code), n.N, n.First.UTC().Format(time.RFC3339), n.Last.UTC().Format(time.RFC3339))
	}
	return b.String()
}

func sortedCodes(b *xidBook) []string {
	var out []string
	for code := range b.Codes {
		out = append(out, code)
	}
	slices.Sort(out)
	return out
}

// codeName is a code of the catalogue as people know it.
func codeName(code string) string {
	if n, ok := strings.CutPrefix(code, "nvidia/xid/"); ok {
		return "Xid " + n
	}
	return code
}

// repairText lists the resets and reboots that were tried.
func (c *Core) repairText(i *incident) string {
	var out []string
	for _, a := range i.Actions {
		if a.Verb == autoheal.ResetGPU || a.Verb == autoheal.Reboot {
			out = append(out, fmt.Sprintf("%s at %s (%s)", a.Verb, a.IntentAt.UTC().Format(time.RFC3339), outcomeText(a)))
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
