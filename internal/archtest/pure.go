package archtest

import (
	"go/ast"
	"slices"
	"strings"
)

// rootImports is all that the root package may import: words, values and their encoding. Nothing in it runs by itself,
// reads a clock or touches the world outside, as long as the references that checkReferences forbids stay out too.
var rootImports = []string{
	"bytes", "cmp", "context", "encoding", "encoding/json", "errors", "fmt", "iter", "maps", "math", "regexp", "slices",
	"sort", "strconv", "strings", "time", "unicode", "unicode/utf8",
}

// pure lists the packages whose result may depend on nothing but their arguments: same input, same output. Folders below
// them are not meant; internal/signal/source, for one, reads files. internal/policy parses bytes that its caller read.
var pure = []string{".", "internal/detect", "internal/place", "internal/policy", "internal/signal", "internal/nodeproto"}

// impureImports are what a pure package cannot want, with all that lies below them.
var impureImports = []string{
	"os", "io/ioutil", "net", "log", "math/rand", "crypto/rand", "syscall", "golang.org/x/sys", "database/sql", "plugin",
	"runtime/debug",
}

// pureParts are the names of an impure package that only compute; pure code may import it for these.
var pureParts = map[string][]string{
	"net": {
		"IP", "IPMask", "IPNet", "IPv4", "HardwareAddr", "ParseIP", "ParseCIDR", "ParseMAC", "SplitHostPort", "JoinHostPort",
		"AddrError", "ParseError",
	},
	"net/url":       nil, // as a whole
	"net/netip":     nil,
	"net/mail":      nil,
	"net/textproto": nil,
}

// shellFiles own the goroutines, timers and queues of internal/heal; every other file of it is the pure core.
var shellFiles = []string{"blocked.go", "engine.go", "healer.go", "watch.go", "watchdog.go", "worker.go"}

// checkRoot enforces "nouns and ports only" on the imports of the root package.
func checkRoot(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.Files {
		if f.Package != "." || f.Test {
			continue
		}
		for _, imp := range f.imports() {
			if _, local := t.local(imp.path); local || slices.Contains(rootImports, imp.path) {
				continue // imports of this module are the business of the arrows
			}
			out = append(out, Violation{
				File: f.Path, Line: t.line(imp.spec), Rule: "root",
				Problem: "the root package imports " + imp.path + "; it holds nouns and ports only",
				Remedy:  "move what needs it to the package that does the work; the root imports only " + strings.Join(rootImports, ", "),
			})
		}
	}
	return out
}

// isPure says whether a file must be free of goroutines, channels' machinery, clocks and I/O.
func isPure(f *File) bool {
	if f.Test || f.Generated {
		return false
	}
	return slices.Contains(pure, f.Package) || isCore(f)
}

// isCore says whether a file belongs to the pure core of the engine.
func isCore(f *File) bool {
	if f.Package != "internal/heal" || f.Test {
		return false
	}
	base := strings.TrimPrefix(f.Path, "internal/heal/")
	return !slices.Contains(shellFiles, base)
}

// checkPure keeps goroutines, waiting and I/O out of the pure packages and of the engine's core.
func checkPure(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.Files {
		if !isPure(f) {
			continue
		}
		out = append(out, t.checkPureImports(f)...)
		out = append(out, t.checkPureBody(f)...)
	}
	return out
}

func (t *Tree) checkPureImports(f *File) []Violation {
	banned := impureImports
	if isCore(f) {
		banned = append(slices.Clone(banned), t.Module+"/internal/clock")
	}
	var out []Violation
	for _, imp := range f.imports() {
		if !slices.ContainsFunc(banned, func(b string) bool {
			return under(imp.path, b)
		}) {
			continue
		}
		if names, ok := pureParts[imp.path]; ok && (names == nil || t.onlyMentions(f, imp.name, names)) {
			continue
		}
		out = append(out, Violation{
			File: f.Path, Line: t.line(imp.spec), Rule: "pure",
			Problem: "pure code imports " + imp.path,
			Remedy:  passValue,
		})
	}
	return out
}

// onlyMentions says whether a file uses nothing of an imported package but the given names.
func (t *Tree) onlyMentions(f *File, pkg string, names []string) bool {
	only := true
	ast.Inspect(f.AST, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Obj == nil && id.Name == pkg {
				only = only && slices.Contains(names, sel.Sel.Name)
			}
		}
		return only
	})
	return only
}

func (t *Tree) checkPureBody(f *File) []Violation {
	var out []Violation
	ast.Inspect(f.AST, func(n ast.Node) bool {
		what := ""
		switch n.(type) {
		case *ast.GoStmt:
			what = "starts a goroutine"
		case *ast.SelectStmt:
			what = "waits in a select"
		case *ast.SendStmt:
			what = "sends on a channel"
		default:
			return true
		}
		out = append(out, Violation{
			File: f.Path, Line: t.line(n), Rule: "pure", Problem: "pure code " + what,
			Remedy: "return the data and let the shell that owns goroutines act on it (a driver, an agent; in internal/heal a file of shellFiles)",
		})
		return true
	})
	return out
}
