package archtest

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// checkHabits finds the shapes that hide state or leave work undone.
func checkHabits(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.Files {
		if f.Generated {
			continue
		}
		out = append(out, t.checkImportNames(f)...)
		out = append(out, t.checkDeclarations(f)...)
		out = append(out, t.checkComments(f)...)
		out = append(out, t.checkRealTests(f)...)
	}
	return out
}

func (t *Tree) checkImportNames(f *File) []Violation {
	var out []Violation
	for _, imp := range f.imports() {
		if imp.name == "." {
			out = append(out, Violation{
				File: f.Path, Line: t.line(imp.spec), Rule: "dotimport", Problem: "dot import of " + imp.path,
				Remedy: "name the package, so that a reader and this test see where a name comes from",
			})
		}
	}
	return out
}

func (t *Tree) checkDeclarations(f *File) []Violation {
	var out []Violation
	for _, d := range f.AST.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == "init" && d.Recv == nil {
				out = append(out, Violation{
					File: f.Path, Line: t.line(d), Rule: "init", Problem: "func init runs before main and cannot be ordered or tested",
					Remedy: "call it from the constructor, or list it in all.go",
				})
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR && !f.Test {
				out = append(out, t.checkGlobals(f, d)...)
			}
		}
	}
	return out
}

// checkGlobals reports package variables whose type shows that they are shared and changed.
func (t *Tree) checkGlobals(f *File, d *ast.GenDecl) []Violation {
	var out []Violation
	for _, s := range d.Specs {
		v, ok := s.(*ast.ValueSpec)
		if !ok || !isShared(v.Type) {
			continue
		}
		out = append(out, Violation{
			File: f.Path, Line: t.line(v), Rule: "global",
			Problem: "package variable " + v.Names[0].Name + " is shared, changing state",
			Remedy:  "make it a field of the type that owns it; nothing of this program is global",
		})
	}
	return out
}

func isShared(typ ast.Expr) bool {
	if idx, ok := typ.(*ast.IndexExpr); ok { // atomic.Pointer[T]
		typ = idx.X
	}
	sel, ok := typ.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && slices.Contains([]string{"sync", "atomic"}, pkg.Name)
}

// unfinished matches the words by which code admits that it is not done. They are put together from halves so that this
// file does not report itself.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b|(?i:not ` + `implemented)\b`)

// places matches paths and numbers that mean something only to whoever wrote them down: folders of one machine, and
// threads of one tracker. The project explains itself by its own documents.
var places = regexp.MustCompile(`(^|[\s"'(=])/(work|home/[a-z]+|Users/[a-z]+)/|\b[Ii]ssue #?[0-9]+\b`)

func (t *Tree) checkComments(f *File) []Violation {
	var out []Violation
	for _, g := range f.AST.Comments {
		for _, c := range g.List {
			for i, text := range strings.Split(c.Text, "\n") {
				line := t.line(c) + i
				if w := unfinished.FindString(text); w != "" {
					out = append(out, Violation{
						File: f.Path, Line: line, Rule: "unfinished", Problem: "the comment says " + w,
						Remedy: "finish it, or return a clear error and say so in SCOPE.md",
					})
				}
				if p := places.FindString(text); p != "" {
					out = append(out, Violation{
						File: f.Path, Line: line, Rule: "selfcontained", Problem: "the comment names " + strings.TrimSpace(p),
						Remedy: "cite a document of this repository: docs/design.md, docs/behaviour.md (\"behaviour C1\"), docs/adr",
					})
				}
			}
		}
	}
	return out
}

// checkRealTests keeps the name by which scripts/check tells the tests that use this machine's processes and control
// groups: it runs those alone and one after another, and leaves them out under the race detector.
func (t *Tree) checkRealTests(f *File) []Violation {
	if !f.Test || !strings.HasSuffix(f.Path, "real_test.go") {
		return nil
	}
	var out []Violation
	for _, d := range f.AST.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || fn.Name.Name == "TestMain" || !strings.HasPrefix(fn.Name.Name, "Test") ||
			strings.HasPrefix(fn.Name.Name, "TestReal") {
			continue
		}
		out = append(out, Violation{
			File: f.Path, Line: t.line(fn), Rule: "realtest", Problem: fn.Name.Name + " stands among real tests under another name",
			Remedy: "call it TestReal" + strings.TrimPrefix(fn.Name.Name, "Test") + ", so that make check runs it alone",
		})
	}
	return out
}
