package archtest

// Allowance excuses one rule in one file, and says why. A reason that could be given for any file is not a reason.
type Allowance struct {
	// Rule and File name the violations that are excused.
	Rule, File string
	// Reason is what a reviewer was told.
	Reason string
}

// Allowed lists every exception of this repository. An entry that no longer excuses anything is itself a violation, so
// the list cannot outlive its reasons.
var Allowed = []Allowance{
	{
		Rule: "environment", File: "internal/leakcheck/run.go",
		Reason: "test support: the mark of a run is an environment variable by its nature, and a part's mark continues the whole's",
	},
	{
		Rule: "global", File: "internal/tool/field.go",
		Reason: "a memo of a pure function of a type, as encoding/json has one: no caller can tell whether it is there",
	},
}

// excuse removes the violations that an allowance names, and adds one for each allowance that is unused or has no reason.
func excuse(vs []Violation, allowed []Allowance) []Violation {
	used := make([]bool, len(allowed))
	var left []Violation
	for _, v := range vs {
		if i := allowanceFor(v, allowed); i >= 0 {
			used[i] = true
			continue
		}
		left = append(left, v)
	}
	for i, a := range allowed {
		switch {
		case a.Reason == "":
			left = append(left, Violation{
				File: a.File, Line: 1, Rule: "allow", Problem: "the exception from " + a.Rule + " has no reason",
				Remedy: "give the reason in internal/archtest/allow.go",
			})
		case !used[i]:
			left = append(left, Violation{
				File: a.File, Line: 1, Rule: "allow", Problem: "the exception from " + a.Rule + " excuses nothing any more",
				Remedy: "remove it from internal/archtest/allow.go",
			})
		}
	}
	return left
}

func allowanceFor(v Violation, allowed []Allowance) int {
	for i, a := range allowed {
		if a.Rule == v.Rule && a.File == v.File {
			return i
		}
	}
	return -1
}
