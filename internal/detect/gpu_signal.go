package detect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// repeatsOfApp is how often within a day one GPU may have errors that look like the application's before it is the GPU
// (behaviour E1).
const (
	repeatsOfApp = 2
	repeatWindow = 24 * time.Hour
)

// How sure a claim is, by who says it.
const (
	sureKernel       = 0.99
	sureDriver       = 0.95
	sureCorroborated = 0.8 // a workload says it, and the driver is not content
)

// gpuBySignal looks at what a log says of a GPU, or of the node's GPUs as a whole.
func gpuBySignal(v View, s *autoheal.Signal, now time.Time) []autoheal.Finding {
	if s.Clears || now.Sub(s.At) > v.Policy().Evidence.MaxAge { // old news acts no more (behaviour A6)
		return nil
	}
	if s.Subject.Kind == autoheal.RefWorkload {
		return corroborated(v, s)
	}
	p, ok := partOf(v, s)
	if !ok || !Proven(s) {
		return nil
	}
	c := claim{
		part: p, failure: s.Failure, action: s.Action, confidence: sureKernel, since: s.At, because: s.Rule,
		cause: fmt.Sprintf("%s: %s", p.name(), said(s)), evidence: []autoheal.Signal{*s},
	}
	return c.weigh(v)
}

// Proven reports whether a signal of a GPU proves something: what the kernel calls critical does, and its record of what is
// the application's own (behaviour A6). Other warnings of the kernel are recorded as evidence only.
func Proven(s *autoheal.Signal) bool {
	return s.Conclusive || s.Source == "kmsg" && s.Subject.Kind == autoheal.RefGPU && s.Action == autoheal.AdviceRestartApp
}

// weigh decides how far a claim reaches. What asks for no action, or only for the application to start anew, is the GPU's
// own once that GPU repeats it.
func (c claim) weigh(v View) []autoheal.Finding {
	r, _ := v.Policy().Respond(c.failure, c.action)
	app := c.action == autoheal.AdviceRestartApp && (c.failure == autoheal.FailureApp || c.failure == autoheal.FailureGPU)
	if c.failure == autoheal.FailureApp && c.gpu == nil || r.Kind != autoheal.GPUFailure && !app && r.Kind != "" {
		return nil
	}
	if r.Kind == autoheal.GPUFailure && !app {
		return c.byScope(v)
	}
	if c.gpu == nil {
		return nil
	}
	if why := c.repeats(v, app); why != "" {
		c.failure, c.because = "", "gpu_failure.repeats" // the ladder of the kind
		c.cause += "; " + why
		return c.byScope(v)
	}
	if !app {
		return nil // recorded
	}
	c.failure = autoheal.FailureGPU
	return c.restartOnly(v)
}

// repeats says why what looked like the application's error, or asked for nothing, is the GPU's after all: it happens again
// and again on this GPU, and not wherever the same program runs (behaviour E1, B3).
func (c claim) repeats(v View, app bool) string {
	all, own := 0, 0
	limit := v.Policy().Transient.Xid
	for _, x := range v.Xids(c.gpu.UUID) {
		if c.since.Sub(x.At) > max(limit.Window, repeatWindow) || x.App && c.software(v, x) {
			continue
		}
		if c.since.Sub(x.At) <= limit.Window {
			all++
		}
		if x.App && c.since.Sub(x.At) <= repeatWindow {
			own++
		}
	}
	switch {
	case app && own >= repeatsOfApp:
		return fmt.Sprintf("%d such errors of this GPU within %s, and of no other GPU under the same program", own, hours(repeatWindow))
	case limit.Count > 0 && all >= limit.Count:
		return fmt.Sprintf("%d Xids of this GPU within %s", all, hours(limit.Window))
	}
	return ""
}

// software reports whether the same program had the same error on another GPU: then it is the program, wherever it runs.
func (c claim) software(v View, x Xid) bool {
	for _, o := range v.XidsOf(x.Like) {
		if x.Like != "" && o.Code == x.Code && o.GPU != x.GPU && x.At.Sub(o.At).Abs() <= repeatWindow {
			return true
		}
	}
	return false
}

func hours(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

// corroborated believes a workload that calls its hardware broken where the driver reports an uncorrected trouble of the GPU
// that it runs on; alone, a workload could clear itself of every crash.
func corroborated(v View, s *autoheal.Signal) []autoheal.Finding {
	w := v.Workload(autoheal.WorkloadID(s.Subject.ID))
	if s.Failure != autoheal.FailureGPU || w == nil || v.Node(w.Node) == nil || s.Subject.Generation != "" && s.Subject != w.Ref() {
		return nil
	}
	n := v.Node(w.Node)
	for k := range n.GPUs {
		p := part{n, &n.GPUs[k]}
		if p.gpu.Health != autoheal.HealthDegraded || !slices.Contains(w.GPUs, p.gpu.UUID) {
			continue
		}
		c := claim{
			part: p, failure: autoheal.FailureGPU, action: autoheal.AdviceResetGPU, confidence: sureCorroborated, since: s.At, because: "gpu_failure.corroborated",
			cause:    fmt.Sprintf("%s: %s says %s, and its driver reports trouble", p.name(), w.ID, said(s)),
			evidence: []autoheal.Signal{*s, healthSignal(p, s.At)},
		}
		return c.byScope(v)
	}
	return nil
}

// said quotes a signal with the name of its rule as people know it.
func said(s *autoheal.Signal) string {
	code := s.Rule
	if n, ok := strings.CutPrefix(code, "nvidia/xid/"); ok {
		code = "Xid " + n
	}
	if s.Excerpt == "" {
		return code
	}
	return fmt.Sprintf("%s, %q", code, clip(oneLine(s.Excerpt), 200))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
