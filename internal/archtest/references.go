package archtest

import (
	"go/ast"
	"slices"
	"strings"
)

// Reference forbids names of a package outside the folders that own what they reach. A mention counts, not only a call:
// handing time.Now to a struct smuggles in the clock as well as calling it.
type Reference struct {
	// Rule is the name for messages and the allow-list.
	Rule string
	// Import is the import path; Names are the forbidden names in it, or, with Except, every function but these.
	Import string
	Names  []string
	Except []string
	// May lists the folders that may use them.
	May []string
	// Tests says what holds in tests.
	Tests testUse
	// Remedy says what to use instead.
	Remedy string
}

// testUse says whether a Reference binds tests.
type testUse int

const (
	testsFree    testUse = iota // tests may use it
	testsBound                  // tests are bound like other code
	testsVirtual                // tests may use it in files that import testing/synctest, where time is virtual
)

// edges are where the program meets the machine: they may read its clock and environment.
var edges = []string{"internal/clock", "internal/app", "cmd", "internal/driver"}

const useClock = "take a clock.Clock (shells) or a time.Time argument (pure code)"

// References is the table of what is kept to the edges.
var References = []Reference{
	{
		Rule: "clock", Import: "time", May: edges, Remedy: useClock,
		Names: []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
	},
	{
		Rule: "sleep", Import: "time", Names: []string{"Sleep"}, Tests: testsVirtual,
		Remedy: "wait for what you need by subscription, or for a timer of a clock.Clock; in a test run in a synctest bubble",
	},
	{
		Rule: "random", Import: "math/rand", Tests: testsBound, Names: []string{"*"},
		Remedy: "use math/rand/v2 with a seed that is passed in",
	},
	{
		Rule: "random", Import: "math/rand/v2", Tests: testsBound,
		Except: []string{"New", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"},
		Remedy: "take a seeded *rand.Rand, so that the run can be repeated; spread load by a hash of the ID",
	},
	{
		Rule: "environment", Import: "os", May: edges, Remedy: "take the value from the caller; internal/app reads the environment once",
		Names: []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"},
	},
	{
		Rule: "environment", Import: "os", Names: []string{"Setenv", "Unsetenv", "Clearenv"}, Tests: testsBound,
		Remedy: "pass the value; in a test use t.Setenv, which undoes it",
	},
	{
		Rule: "stdio", Import: "os", Names: []string{"Stdin", "Stdout", "Stderr"}, May: []string{"cmd"},
		Remedy: "write to the io.Writer that run(ctx, args, stdio) passes down",
	},
	{
		Rule: "stdio", Import: "fmt", Names: []string{"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
		Remedy: "use Fprintf on the writer that was passed in, or the injected *slog.Logger",
	},
	{
		Rule: "exit", Import: "os", Names: []string{"Exit"}, May: []string{"cmd"},
		Remedy: "return an error or an exit code; only main ends the process, after the deferred stops ran",
	},
	{
		Rule: "log", Import: "log", Names: []string{"*"}, Tests: testsBound,
		Remedy: "use the injected *slog.Logger",
	},
	{
		Rule: "log", Import: "log/slog", May: []string{"cmd", "internal/app"},
		Names: []string{
			"Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext", "Error", "ErrorContext", "Log",
			"LogAttrs", "Default", "SetDefault",
		},
		Remedy: "use the injected *slog.Logger, so that a test can read what was logged",
	},
}

// checkReferences looks for forbidden names wherever they are mentioned.
func checkReferences(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.Files {
		if f.Generated {
			continue
		}
		names := map[string]string{} // as the file calls a package -> import path
		for _, imp := range f.imports() {
			names[imp.name] = imp.path
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			id, ok := sel.X.(*ast.Ident)
			if !ok || id.Obj != nil { // a variable that hides the package
				return true
			}
			for _, r := range References {
				if names[id.Name] == r.Import && r.forbids(f, sel.Sel.Name) {
					out = append(out, Violation{
						File: f.Path, Line: t.line(sel), Rule: r.Rule,
						Problem: id.Name + "." + sel.Sel.Name + " in " + folder(f.Package) + "; " + r.where(),
						Remedy:  r.Remedy,
					})
				}
			}
			return true
		})
	}
	return out
}

func (r Reference) forbids(f *File, name string) bool {
	if underAny(f.Package, r.May) {
		return false
	}
	if f.Test && (r.Tests == testsFree || r.Tests == testsVirtual && importsSynctest(f)) {
		return false
	}
	if r.Except != nil {
		return !slices.Contains(r.Except, name)
	}
	return slices.Contains(r.Names, name) || slices.Contains(r.Names, "*")
}

func (r Reference) where() string {
	if len(r.May) == 0 {
		return "nothing may use it"
	}
	return "only " + strings.Join(r.May, ", ") + " may use it"
}

func importsSynctest(f *File) bool {
	return slices.ContainsFunc(f.imports(), func(i importOf) bool { return i.path == "testing/synctest" })
}
