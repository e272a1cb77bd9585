package archtest

import (
	"errors"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// rulesDocument is the page whose numbered rules code and documents may cite.
const rulesDocument = "docs/behaviour.md"

var (
	ruleHeading = regexp.MustCompile(`^\*\*([A-H][0-9]+[a-z]?)\.`)
	ruleCited   = regexp.MustCompile(`\b[Bb]ehaviour ([A-H][0-9]+[a-z]?)\b`)
	foreignCite = regexp.MustCompile(`\b(RULES|DESIGN|CONTRACT) [A-H0-9][0-9.]*\b|\b(RULES|DESIGN|CONTRACT)\.md\b`)
	relativeTo  = regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)\s]*)?\)`)
)

// CheckDocuments holds the Markdown pages below fsys, and the comments of the tree, to what a reader relies on: links
// lead somewhere, cited rules exist, every package of the arrows is on the design page, and nothing refers to a place
// outside of the repository.
func CheckDocuments(fsys fs.FS, t *Tree) ([]Violation, error) {
	pages, err := readPages(fsys)
	if err != nil {
		return nil, err
	}
	rules := map[string]bool{}
	for line := range strings.Lines(pages[rulesDocument]) {
		if m := ruleHeading.FindStringSubmatch(line); m != nil {
			rules[m[1]] = true
		}
	}
	var out []Violation
	for name, text := range pages {
		n := 0
		for line := range strings.Lines(text) {
			n++
			out = append(out, checkText(name, n, line, rules)...)
			out = append(out, checkLinks(fsys, name, n, line)...)
		}
	}
	out = append(out, t.checkCites(rules)...)
	return sorted(append(out, t.checkDesignPage(pages["docs/design.md"])...)), nil
}

func readPages(fsys fs.FS) (map[string]string, error) {
	pages := map[string]string{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && ignoredDir(d.Name()):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		raw, err := fs.ReadFile(fsys, name)
		pages[name] = string(raw)
		return err
	})
	return pages, err
}

// checkText looks at one line of a page or a comment.
func checkText(file string, line int, text string, rules map[string]bool) []Violation {
	var out []Violation
	for _, m := range ruleCited.FindAllStringSubmatch(text, -1) {
		if !rules[m[1]] {
			out = append(out, Violation{
				File: file, Line: line, Rule: "cite", Problem: "behaviour " + m[1] + " is not a rule",
				Remedy: "cite a rule of " + rulesDocument + ", or add it there by an ADR",
			})
		}
	}
	if m := foreignCite.FindString(text); m != "" {
		out = append(out, Violation{
			File: file, Line: line, Rule: "cite", Problem: m + " is not a document of this repository",
			Remedy: "cite \"behaviour C1\" (" + rulesDocument + ") or docs/design.md",
		})
	}
	if m := places.FindString(text); m != "" && path.Ext(file) == ".md" { // comments are judged by checkHabits
		out = append(out, Violation{
			File: file, Line: line, Rule: "selfcontained", Problem: "the page names " + strings.TrimSpace(m),
			Remedy: "say what a reader needs here; they have neither that machine nor that tracker",
		})
	}
	return out
}

func checkLinks(fsys fs.FS, file string, line int, text string) []Violation {
	var out []Violation
	for _, m := range relativeTo.FindAllStringSubmatch(text, -1) {
		if _, err := fs.Stat(fsys, path.Join(path.Dir(file), m[1])); errors.Is(err, fs.ErrNotExist) {
			out = append(out, Violation{
				File: file, Line: line, Rule: "link", Problem: "the link to " + m[1] + " leads nowhere",
				Remedy: "correct it or write the page",
			})
		}
	}
	return out
}

func (t *Tree) checkCites(rules map[string]bool) []Violation {
	var out []Violation
	for _, f := range t.Files {
		for _, g := range f.AST.Comments {
			for _, c := range g.List {
				for i, text := range strings.Split(c.Text, "\n") {
					out = append(out, checkText(f.Path, t.line(c)+i, text, rules)...)
				}
			}
		}
	}
	return out
}

// checkDesignPage wants each package of the tree on the page that explains the arrows. Surfaces share a row.
func (t *Tree) checkDesignPage(page string) []Violation {
	var out []Violation
	for _, pkg := range t.packages() {
		if pkg == "." || under(pkg, "internal/surface") || strings.Contains(page, "`"+pkg+"`") {
			continue
		}
		out = append(out, Violation{
			File: "docs/design.md", Line: 1, Rule: "design", Problem: "package " + pkg + " is not on the page",
			Remedy: "add its row: what it owns and what it may import, as in internal/archtest/arrows.go",
		})
	}
	return out
}
