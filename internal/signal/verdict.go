package signal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// Verdict is the one answer over all that an excerpt says.
type Verdict struct {
	Failure autoheal.Failure `json:"failure"`
	// Code names the rule or table entry that decided, such as "nvidia/xid/79"; "" if nothing did.
	Code string `json:"code"`
	// Xid is the NVIDIA Xid that decided, null if another line did.
	Xid     *int            `json:"xid"`
	Action  autoheal.Advice `json:"action"`
	Subject *autoheal.Ref   `json:"subject"` // null if nothing failed; the ID is empty where the lines do not name it
	Because []string        `json:"because"`
	// Confidence is from 0 to 1.
	Confidence float64 `json:"confidence"`
}

// How sure a verdict is, by what it rests on.
const (
	sureStated      = 0.99 // the hardware names the action itself
	sureKernel      = 0.95 // a cause that the kernel reports
	sureWorkload    = 0.85 // a cause that a workload reports
	sureNothing     = 0.9  // nothing of the catalogue occurs
	sureConsequence = 0.6  // only what usually follows from something else
	sureWatch       = 0.7  // only what asks for no action
)

// Rank of causes: of the lowest number that occurs the earliest line is the cause.
const (
	rankHardware = iota // hardware explains what crashes on it
	rankLink            // hardware, but the line does not name the part
	rankKernel          // the kernel says what happened
	rankWorkload        // the workload says what happened
	rankWatch           // nothing is asked for
	rankFollows         // follows from something that is not in the excerpt
	rankCrash           // something crashed; nobody says why
)

// Judge returns the verdict over the meanings found in an excerpt, in the order of its lines: the earliest cause, not
// what follows from it; hardware, not the crash of what runs on it; an application error that several GPUs report is the
// application's.
func Judge(found []Found) Verdict {
	live := standing(found)
	if len(live) == 0 {
		return nothing(found)
	}
	cause := slices.MinFunc(live, func(a, b Found) int { return rank(a) - rank(b) })
	v := Verdict{Failure: cause.Failure, Code: cause.Code, Xid: xidOf(cause), Action: cause.Action, Confidence: sure(cause)}
	subject := cause.Subject
	v.Subject = &subject
	v.because("line %d: %s", cause.Line, quote(cause.Message))
	v.because("%s", meaningOf(cause))
	v.applyStated(cause, live)
	v.weighGPUs(cause, live)
	if n := len(live) - 1; n > 0 {
		v.because("%s", others(live, cause))
	}
	return v
}

func (v *Verdict) because(format string, args ...any) {
	v.Because = append(v.Because, fmt.Sprintf(format, args...))
}

// standing returns what was found without benign lines and without what a later line takes back.
func standing(found []Found) []Found {
	var live []Found
	for _, f := range found {
		if len(f.Rule.Clears) > 0 {
			live = slices.DeleteFunc(live, f.takesBack)
		}
		if f.Replaces > 0 {
			live = slices.DeleteFunc(live, f.replaces)
		}
		if !f.Benign {
			live = append(live, f)
		}
	}
	for i := range live {
		live[i].Consequence = live[i].Consequence || live[i].followsAny(live)
	}
	return live
}

// followsAny says whether a finding is what comes with one of the others, rather than a cause.
func (f Found) followsAny(live []Found) bool {
	return slices.ContainsFunc(live, func(o Found) bool {
		return slices.ContainsFunc(f.Follows, func(code string) bool { return under(o.Code, code) }) && f.sameThing(o)
	})
}

// takesBack says whether f is the all-clear of an earlier finding: of a code that it clears, on the same thing.
func (f Found) takesBack(earlier Found) bool {
	return slices.ContainsFunc(f.Rule.Clears, func(code string) bool { return under(earlier.Code, code) }) && f.sameThing(earlier)
}

// replaces says whether an earlier finding is the exception that f came out of handling, and says no more than that the
// program is at fault. What names a cause outside of the program stands.
func (f Found) replaces(earlier Found) bool {
	return earlier.Line == f.Replaces && earlier.Failure == autoheal.FailureApp && earlier.Rule.Exception && f.Failure != autoheal.FailureCrash
}

// under says whether a code is another or lies below it.
func under(code, of string) bool {
	rest, ok := strings.CutPrefix(code, of)
	return ok && (rest == "" || rest[0] == '/')
}

// sameThing compares the fields that name a thing. What a line does not name, it does not tell apart.
func (f Found) sameThing(o Found) bool {
	for _, k := range thingFields() {
		a, b := f.Fields[k], o.Fields[k]
		if a != "" && b != "" && a != b {
			return false
		}
	}
	return true
}

// thingFields are the fields that tell one thing from another.
func thingFields() []string { return []string{"pci", "device", "interface", "server", "port", "cpu"} }

// thing is what a finding is about, as far as the line names it.
func (f Found) thing() string {
	var parts []string
	for _, k := range thingFields() {
		parts = append(parts, f.Fields[k])
	}
	return strings.Join(parts, " ")
}

// rank places a finding among causes.
func rank(f Found) int {
	kernel := f.Rule.Kind == KindKernel
	switch {
	case f.Failure == autoheal.FailureCrash && (f.Consequence || kernel):
		return rankCrash
	case f.Failure == autoheal.FailureNone:
		return rankCrash + 1
	case f.Consequence || f.Stated:
		return rankFollows
	case f.Action == autoheal.AdviceNone:
		return rankWatch
	case f.Yields:
		return rankLink
	case f.Failure == autoheal.FailureGPU || f.Failure == autoheal.FailureHostHW || f.Failure == autoheal.FailureDisk && kernel:
		return rankHardware
	case kernel:
		return rankKernel
	default:
		return rankWorkload
	}
}

// sure is how sure a cause is. What a workload writes is never worth what the kernel says, even when it is about hardware:
// it could clear itself of every crash.
func sure(f Found) float64 {
	switch rank(f) {
	case rankHardware, rankLink, rankKernel:
		if f.In == KindWorkload || f.Rule.Kind == KindWorkload {
			return sureWorkload
		}
		return sureKernel
	case rankWorkload:
		return sureWorkload
	case rankWatch:
		return sureWatch
	default:
		return sureConsequence
	}
}

// applyStated lets the action that the hardware states for a GPU override the one of tables. The latest statement holds.
func (v *Verdict) applyStated(cause Found, live []Found) {
	if v.Failure != autoheal.FailureGPU && v.Failure != autoheal.FailureApp || cause.Subject.Kind != autoheal.RefGPU {
		return
	}
	for i := len(live) - 1; i >= 0; i-- {
		s := live[i]
		if !s.Stated || !s.sameThing(cause) {
			continue
		}
		v.Action, v.Confidence = s.Action, sureStated
		if s.Action == autoheal.AdviceResetGPU || s.Action == autoheal.AdviceRebootNode {
			v.Failure = autoheal.FailureGPU
		}
		if s.Line != cause.Line {
			v.because("line %d: the driver states the action itself: %s", s.Line, s.Fields["to"])
		}
		return
	}
}

// weighGPUs notes when several GPUs report the same error of an application: that is software, wherever it runs.
func (v *Verdict) weighGPUs(cause Found, live []Found) {
	if v.Failure != autoheal.FailureApp || cause.Subject.Kind != autoheal.RefGPU {
		return
	}
	gpus := map[string]bool{}
	for _, f := range live {
		if f.Code == cause.Code {
			gpus[f.Subject.ID] = true
		}
	}
	if len(gpus) > 1 {
		v.Subject = &autoheal.Ref{Kind: autoheal.RefWorkload}
		v.because("%d GPUs report the same: that is the application's fault, not a GPU's", len(gpus))
	}
}

// nothing is the verdict over an excerpt in which nothing failed.
func nothing(found []Found) Verdict {
	v := Verdict{Failure: autoheal.FailureNone, Action: autoheal.AdviceNone, Confidence: sureNothing}
	if len(found) == 0 {
		v.because("no line means a failure")
		return v
	}
	last := found[len(found)-1]
	v.because("%d of the lines are known, and none is a failure that still stands; the last one, line %d: %s", len(found), last.Line, meaningOf(last))
	return v
}

func meaningOf(f Found) string {
	s := f.Code
	if n, ok := strings.CutPrefix(f.Code, "nvidia/xid/"); ok {
		s = "Xid " + n
	}
	if f.Name != "" {
		s += " (" + f.Name + ")"
	}
	return s + ": " + f.Because
}

// others names what else was found, by code with counts, in the order of first occurrence.
func others(live []Found, cause Found) string {
	var codes []string
	counts := map[string]int{}
	for _, f := range live {
		if f.Code == cause.Code && f.Line == cause.Line {
			continue
		}
		if counts[f.Code]++; counts[f.Code] == 1 {
			codes = append(codes, f.Code)
		}
	}
	for i, c := range codes {
		if counts[c] > 1 {
			codes[i] = fmt.Sprintf("%s × %d", c, counts[c])
		}
	}
	return "beside it: " + strings.Join(codes, ", ")
}

// xidOf returns the number of an Xid.
func xidOf(f Found) *int {
	s, ok := strings.CutPrefix(f.Code, "nvidia/xid/")
	if !ok {
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil
	}
	return &n
}

// maxQuote is how much of a line a reason quotes.
const maxQuote = 240

// quote makes hostile text printable on one line, and short.
func quote(s string) string {
	if len(s) > maxQuote {
		s = strings.ToValidUTF8(s[:maxQuote], "") + "…"
	}
	return printable(s)
}

// printable replaces what is not valid text, controls a terminal or breaks a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == 0xfffd {
			return ' '
		}
		return r
	}, s)
}
