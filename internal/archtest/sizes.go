package archtest

import (
	"fmt"
	"go/ast"
)

// Limits on length, in lines. Tests get more room for a function, because their tables stand inside it.
const (
	maxFile     = 500
	maxFunc     = 70
	maxTestFunc = 120
)

// checkSizes bounds the length of functions and files; generated code is exempt.
func checkSizes(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.Files {
		if f.Generated {
			continue
		}
		if f.Lines > maxFile {
			out = append(out, Violation{
				File: f.Path, Line: 1, Rule: "filelength",
				Problem: fmt.Sprintf("the file has %d lines, the limit is %d", f.Lines, maxFile),
				Remedy:  "split it by what its parts own; a table that reads best whole gets an entry in internal/archtest/allow.go",
			})
		}
		out = append(out, t.checkFuncs(f)...)
	}
	return out
}

func (t *Tree) checkFuncs(f *File) []Violation {
	limit := maxFunc
	if f.Test {
		limit = maxTestFunc
	}
	var out []Violation
	for _, d := range f.AST.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		n := t.fset.Position(fn.End()).Line - t.line(fn) + 1
		if n <= limit {
			continue
		}
		out = append(out, Violation{
			File: f.Path, Line: t.line(fn), Rule: "funclength",
			Problem: fmt.Sprintf("func %s has %d lines, the limit is %d", fn.Name.Name, n, limit),
			Remedy:  "name its steps: one function per step, called in a row",
		})
	}
	return out
}
