package archtest

import (
	"cmp"
	"fmt"
	"slices"
)

// Violation is one broken rule at one place, with what to do about it.
type Violation struct {
	// File is the path from the root of the module, with slashes.
	File string
	// Line counts from one.
	Line int
	// Rule is the short name that an entry of the allow-list uses.
	Rule string
	// Problem says what is wrong, naming what was found.
	Problem string
	// Remedy says what to do instead.
	Remedy string
}

// String renders the violation so that an editor can jump to the place.
func (v Violation) String() string {
	return fmt.Sprintf("%s:%d: [%s] %s\n\tremedy: %s", v.File, v.Line, v.Rule, v.Problem, v.Remedy)
}

// sorted orders violations by place, so that two runs print the same list.
func sorted(vs []Violation) []Violation {
	slices.SortFunc(vs, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Problem, b.Problem))
	})
	return vs
}

// Check runs every rule over the tree and returns what the allow-list does not excuse, followed by the entries of the
// allow-list that excuse nothing.
func Check(t *Tree, allowed []Allowance) []Violation {
	var all []Violation
	for _, rule := range []func(*Tree) []Violation{
		checkArrows, checkNever, checkLibraries, checkRoot, checkPure, checkReferences, checkHabits, checkSizes, checkDocs,
	} {
		all = append(all, rule(t)...)
	}
	return sorted(excuse(all, allowed))
}
