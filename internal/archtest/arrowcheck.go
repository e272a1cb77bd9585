package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// checkArrows compares every import of this module's packages with the table.
func checkArrows(t *Tree) []Violation {
	var out []Violation
	unknown := map[string]bool{}
	for _, f := range t.Files {
		arrow, ok := arrowOf(f.Package)
		if !ok {
			if !unknown[f.Package] {
				unknown[f.Package] = true
				out = append(out, Violation{
					File: f.Path, Line: 1, Rule: "arrow",
					Problem: "package " + f.Package + " is not in the table of import arrows",
					Remedy:  "add it to the table in internal/archtest/arrows.go and to docs/design.md, with the reason",
				})
			}
			continue
		}
		out = append(out, t.checkFileArrows(f, arrow)...)
	}
	return out
}

func (t *Tree) checkFileArrows(f *File, arrow Arrow) []Violation {
	var out []Violation
	for _, imp := range f.imports() {
		to, ok := t.local(imp.path)
		if !ok || to == f.Package || arrow.All || mayImport(arrow, f.Test, to) {
			continue
		}
		out = append(out, Violation{
			File: f.Path, Line: t.line(imp.spec), Rule: "arrow",
			Problem: fmt.Sprintf("%s imports %s; it may import %s", folder(f.Package), folder(to), arrowList(arrow, f.Test)),
			Remedy:  arrow.Remedy,
		})
	}
	return out
}

func arrowOf(pkg string) (Arrow, bool) {
	for _, a := range Arrows {
		if a.Package == pkg {
			return a, true
		}
	}
	return Arrow{}, false
}

func mayImport(a Arrow, test bool, to string) bool {
	if to == "." && !a.NoRoot {
		return true
	}
	return slices.Contains(allowedOf(a, test), to)
}

func allowedOf(a Arrow, test bool) []string {
	out := slices.Clone(a.May)
	if test {
		out = append(append(append(out, a.Tests...), testSupport...), "internal/clock")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func arrowList(a Arrow, test bool) string {
	list := allowedOf(a, test)
	if !a.NoRoot && a.Package != "." {
		list = append([]string{"the root package"}, list...)
	}
	if len(list) == 0 {
		return "nothing of this module"
	}
	return strings.Join(list, ", ")
}

func folder(pkg string) string {
	if pkg == "." {
		return "the root package"
	}
	return pkg
}

// checkNever follows the imports of the non-test code, whatever the table allows.
func checkNever(t *Tree) []Violation {
	graph := t.graph()
	var out []Violation
	for _, pkg := range t.packages() {
		for _, n := range Never {
			if !underAny(pkg, n.From) {
				continue
			}
			chain := graph.chain(pkg, func(e edge) bool { return underAny(e.to, n.To) })
			if chain == nil {
				continue
			}
			out = append(out, Violation{
				File: chain[0].file.Path, Line: chain[0].line, Rule: "never",
				Problem: pkg + " reaches " + chain[len(chain)-1].to + " by " + route(pkg, chain),
				Remedy:  "cut the chain: " + n.Why,
			})
		}
	}
	return out
}

// checkLibraries keeps the listed dependencies to their owners, and away from the agent along every chain.
func checkLibraries(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.Files {
		if f.Test {
			continue // a test may open what it checks
		}
		for _, imp := range f.imports() {
			for _, l := range Libraries {
				if !hasPrefix(imp.path, l.Prefixes) || underAny(f.Package, l.May) {
					continue
				}
				out = append(out, Violation{
					File: f.Path, Line: t.line(imp.spec), Rule: "library",
					Problem: folder(f.Package) + " imports " + imp.path,
					Remedy:  "use the package that owns it (" + owners(l.May) + "): " + l.Why,
				})
			}
		}
	}
	return append(out, t.checkAgentLibraries()...)
}

func (t *Tree) checkAgentLibraries() []Violation {
	graph := t.graph()
	var out []Violation
	for _, pkg := range t.packages() {
		if !under(pkg, "internal/agent") {
			continue
		}
		for _, l := range Libraries {
			chain := graph.chain(pkg, func(e edge) bool { return hasPrefix(e.to, l.Prefixes) })
			if len(chain) < 2 { // a direct import is reported above
				continue
			}
			out = append(out, Violation{
				File: chain[0].file.Path, Line: chain[0].line, Rule: "library",
				Problem: pkg + " reaches " + chain[len(chain)-1].to + " by " + route(pkg, chain),
				Remedy:  "cut the chain: the agent runs beside the user's workloads and must stay small",
			})
		}
	}
	return out
}

func hasPrefix(importPath string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool {
		return importPath == strings.TrimSuffix(p, "/") || strings.HasPrefix(importPath, strings.TrimSuffix(p, "/")+"/")
	})
}

func owners(pkgs []string) string {
	if len(pkgs) == 0 {
		return "none may"
	}
	return strings.Join(pkgs, ", ")
}
