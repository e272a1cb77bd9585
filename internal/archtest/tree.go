package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Tree is the parsed source of one module. All files are in it whatever their build constraints, so that a rule holds
// on every platform and not only on the one that runs the test.
type Tree struct {
	// Module is the module path, e.g. autoheal.dev/autoheal.
	Module string
	// Files are ordered by path.
	Files []*File
	fset  *token.FileSet
}

// File is one Go source file.
type File struct {
	// Path is relative to the root of the module.
	Path string
	// Package is the folder, "." for the root package.
	Package string
	// Test says that the name ends in _test.go.
	Test bool
	// Generated says that the file carries the standard mark of generated code.
	Generated bool
	// Lines counts the lines of the file.
	Lines int
	// AST has comments and resolved file-scope objects.
	AST *ast.File
}

// Load parses every Go file below fsys. Folders that the go command ignores (testdata, and names that start with a dot
// or an underscore), vendored code, JavaScript modules and build output are left out.
func Load(fsys fs.FS, module string) (*Tree, error) {
	t := &Tree{Module: module, fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && ignoredDir(d.Name()):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go" || strings.HasPrefix(d.Name(), "_"):
			return nil
		}
		return t.add(fsys, name)
	})
	if err != nil {
		return nil, fmt.Errorf("load tree: %w", err)
	}
	return t, nil
}

func ignoredDir(base string) bool {
	return strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") ||
		slices.Contains([]string{"testdata", "vendor", "node_modules", "bin"}, base)
}

func (t *Tree) add(fsys fs.FS, name string) error {
	src, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	// The objects that the parser resolves tell a package name from a local variable of the same name.
	f, err := parser.ParseFile(t.fset, name, src, parser.ParseComments)
	if err != nil {
		return err
	}
	t.Files = append(t.Files, &File{
		Path: name, Package: path.Dir(name), Test: strings.HasSuffix(name, "_test.go"),
		Generated: ast.IsGenerated(f), Lines: bytes.Count(src, []byte("\n")), AST: f,
	})
	return nil
}

// line returns the line of a node.
func (t *Tree) line(n ast.Node) int { return t.fset.Position(n.Pos()).Line }

// packages returns the folders that hold Go files, in order.
func (t *Tree) packages() []string {
	var out []string
	for _, f := range t.Files {
		out = append(out, f.Package)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// local returns the folder of an import path of this module, and false for any other import path.
func (t *Tree) local(importPath string) (string, bool) {
	if importPath == t.Module {
		return ".", true
	}
	return strings.CutPrefix(importPath, t.Module+"/")
}

// importOf is one import declaration.
type importOf struct {
	path, name string // name is how the file calls the package
	spec       *ast.ImportSpec
}

// imports lists the imports of a file in the order of the file.
func (f *File) imports() []importOf {
	var out []importOf
	for _, s := range f.AST.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			continue // the parser has already refused such a file
		}
		name := path.Base(p)
		if s.Name != nil {
			name = s.Name.Name
		} else if isMajorVersion(name) {
			name = path.Base(path.Dir(p))
		}
		out = append(out, importOf{path: p, name: name, spec: s})
	}
	return out
}

// isMajorVersion recognises the last element of paths such as math/rand/v2, which is not the package's name.
func isMajorVersion(s string) bool {
	rest, ok := strings.CutPrefix(s, "v")
	if !ok {
		return false
	}
	_, err := strconv.Atoi(rest)
	return err == nil
}

// under says whether folder pkg is dir or lies below it.
func under(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

func underAny(pkg string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return under(pkg, d) })
}
