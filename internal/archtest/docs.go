package archtest

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// packageSays is what the documentation of each package must answer, with the words that show an answer: who may import a
// package is said in so many words, or by naming the packages that do.
var packageSays = []struct {
	question string
	words    []string
}{
	{"what it owns", []string{"own"}},
	{importers, []string{"import", "internal/", "cmd/"}},
	{"what it never does", []string{"never"}},
}

const importers = "who may import it"

// selfEvident are methods whose meaning an interface of the standard library fixes.
var selfEvident = []string{
	"Error", "Unwrap", "Is", "As", "String", "Len", "Less", "Swap", "MarshalJSON", "UnmarshalJSON", "MarshalText",
	"UnmarshalText", "MarshalYAML", "UnmarshalYAML", "LogValue",
}

// checkDocs demands a package comment that says its three things, and a sentence on every exported name.
func checkDocs(t *Tree) []Violation {
	var out []Violation
	for _, pkg := range t.packages() {
		out = append(out, t.checkPackageDoc(pkg)...)
	}
	for _, f := range t.Files {
		if f.Test || f.Generated || f.AST.Name.Name == "main" {
			continue
		}
		for _, d := range f.AST.Decls {
			out = append(out, t.checkDeclDoc(f, d)...)
		}
	}
	return out
}

func (t *Tree) checkPackageDoc(pkg string) []Violation {
	var first *File
	var doc *ast.CommentGroup
	var docFile *File
	for _, f := range t.Files {
		if f.Package != pkg || (f.Test && !t.onlyTests(pkg)) {
			continue
		}
		if first == nil {
			first = f
		}
		if f.AST.Doc != nil && doc == nil {
			doc, docFile = f.AST.Doc, f
		}
	}
	if doc == nil {
		return []Violation{{
			File: first.Path, Line: t.line(first.AST), Rule: "packagedoc", Problem: "package " + folder(pkg) + " has no package comment",
			Remedy: "say in one what it owns, who may import it and what it never does",
		}}
	}
	var missing []string
	for _, q := range packageSays {
		if q.question == importers && first.AST.Name.Name == "main" {
			continue // nothing can import a command
		}
		text := strings.ToLower(doc.Text())
		if !slices.ContainsFunc(q.words, func(w string) bool { return strings.Contains(text, w) }) {
			missing = append(missing, q.question+" (\""+q.words[0]+"\")")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []Violation{{
		File: docFile.Path, Line: t.line(doc), Rule: "packagedoc",
		Problem: "the package comment does not say " + strings.Join(missing, ", nor "),
		Remedy:  "add the sentence; a reader decides by it whether code belongs here",
	}}
}

func (t *Tree) onlyTests(pkg string) bool {
	return !slices.ContainsFunc(t.Files, func(f *File) bool { return f.Package == pkg && !f.Test })
}

func (t *Tree) checkDeclDoc(f *File, d ast.Decl) []Violation {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return t.checkFuncDoc(f, d)
	case *ast.GenDecl:
		if d.Tok == token.IMPORT {
			return nil
		}
		var out []Violation
		for _, s := range d.Specs {
			out = append(out, t.checkSpecDoc(f, d, s)...)
		}
		return out
	}
	return nil
}

func (t *Tree) checkFuncDoc(f *File, d *ast.FuncDecl) []Violation {
	name := d.Name.Name
	if d.Recv != nil {
		recv := receiver(d.Recv.List[0].Type)
		if !ast.IsExported(recv) || slices.Contains(selfEvident, name) {
			return nil
		}
		name = recv + "." + name
	}
	if !d.Name.IsExported() {
		return nil
	}
	return t.sentence(f, d, name, d.Doc)
}

func (t *Tree) checkSpecDoc(f *File, d *ast.GenDecl, s ast.Spec) []Violation {
	switch s := s.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			return t.sentence(f, s, s.Name.Name, s.Doc, d.Doc)
		}
	case *ast.ValueSpec:
		// One sentence on a block of constants may speak for all of them; a note beside the value counts too.
		if i := slices.IndexFunc(s.Names, func(n *ast.Ident) bool { return n.IsExported() }); i >= 0 {
			if s.Doc == nil && d.Doc == nil && s.Comment == nil {
				return t.sentence(f, s, s.Names[i].Name)
			}
		}
	}
	return nil
}

// sentence demands that one of the comments exists and that its text ends as a sentence, a list or an example does.
func (t *Tree) sentence(f *File, n ast.Node, name string, docs ...*ast.CommentGroup) []Violation {
	for _, doc := range docs {
		if doc == nil {
			continue
		}
		text := strings.TrimSpace(doc.Text())
		last := text[strings.LastIndexByte(text, '\n')+1:]
		if text != "" && (strings.ContainsAny(last[len(last)-1:], ".:?!)") || last[0] == '\t' || last[0] == ' ') {
			return nil
		}
		return []Violation{{
			File: f.Path, Line: t.line(n), Rule: "doc", Problem: "the comment on " + name + " does not end as a sentence",
			Remedy: "write full sentences; godoc shows them as they are",
		}}
	}
	return []Violation{{
		File: f.Path, Line: t.line(n), Rule: "doc", Problem: name + " is exported and has no comment",
		Remedy: "say what it means, or unexport it",
	}}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
