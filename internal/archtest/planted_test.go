package archtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestPlanted runs the rules over small trees in which violations were planted. Each file of testdata/planted is a list
// of sections: "-- path --" begins a source file, "-- want --" the complete list of what must be found, one violation a
// line as "path:line rule: words of the problem". A tree with an empty list must be clean.
func TestPlanted(t *testing.T) {
	archives, err := filepath.Glob("testdata/planted/*.txt")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no planted trees (%v)", err)
	}
	rules := map[string]bool{}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			files, want := readArchive(t, name)
			tree, err := Load(files, "example.org/x")
			if err != nil {
				t.Fatal(err)
			}
			got := Check(tree, nil)
			for _, v := range got {
				rules[v.Rule] = true
				if v.Remedy == "" {
					t.Errorf("%s:%d: the message of %s has no remedy", v.File, v.Line, v.Rule)
				}
			}
			compare(t, got, want)
		})
	}
	for _, rule := range everyRule() {
		if !rules[rule] {
			t.Errorf("no planted tree breaks rule %q, so nothing shows that it can fail", rule)
		}
	}
}

// everyRule names each rule once, by what the tables and checks of this package can report.
func everyRule() []string {
	rules := []string{
		"arrow", "never", "library", "root", "pure", "dotimport", "init", "global", "unfinished", "selfcontained", "realtest",
		"filelength", "funclength", "packagedoc", "doc",
	}
	for _, r := range References {
		rules = append(rules, r.Rule)
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

func compare(t *testing.T, got []Violation, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			t.Errorf("not wanted: %s", got[i])
		case i >= len(got):
			t.Errorf("not found: %s", want[i])
		default:
			place, words, _ := strings.Cut(want[i], ": ")
			if place != fmt.Sprintf("%s:%d %s", got[i].File, got[i].Line, got[i].Rule) || !strings.Contains(got[i].Problem, words) {
				t.Errorf("found  %s\nwanted %s", got[i], want[i])
			}
		}
	}
}

// readArchive splits a planted tree. LONG(n) in a source stands for n statements and VARS(n) for n declarations, a line
// each, so that the limits on length need no long files.
func readArchive(t *testing.T, name string) (fstest.MapFS, []string) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]*strings.Builder{}
	var current *strings.Builder
	for line := range strings.Lines(string(raw)) {
		if title, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(title, " --") {
			current = &strings.Builder{}
			sections[strings.TrimSuffix(title, " --")] = current
			continue
		}
		if current != nil {
			current.WriteString(expand(t, line))
		}
	}
	want := sections["want"]
	if want == nil {
		t.Fatalf("%s has no want section", name)
	}
	delete(sections, "want")
	files := fstest.MapFS{}
	for _, path := range slices.Sorted(maps.Keys(sections)) {
		files[path] = &fstest.MapFile{Data: []byte(sections[path].String())}
	}
	return files, strings.FieldsFunc(want.String(), func(r rune) bool { return r == '\n' })
}

func expand(t *testing.T, line string) string {
	t.Helper()
	for format, with := range map[string]string{"LONG(%d)": "\t_ = 0\n", "VARS(%d)": "\t_ int\n"} {
		var n int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), format, &n); err == nil {
			return strings.Repeat(with, n)
		}
	}
	return line
}

// TestAllowances shows that an exception excuses exactly its rule in its file, and that neither a stale exception nor
// one without a reason passes.
func TestAllowances(t *testing.T) {
	found := []Violation{{File: "a.go", Line: 3, Rule: "sleep"}, {File: "a.go", Line: 9, Rule: "clock"}}
	for _, c := range []struct {
		name    string
		allowed []Allowance
		want    []string
	}{
		{"none", nil, []string{"a.go sleep", "a.go clock"}},
		{"one rule", []Allowance{{"sleep", "a.go", "why"}}, []string{"a.go clock"}},
		{"other file", []Allowance{{"sleep", "b.go", "why"}}, []string{"a.go sleep", "a.go clock", "b.go allow"}},
		{"no reason", []Allowance{{"sleep", "a.go", ""}}, []string{"a.go clock", "a.go allow"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, v := range excuse(found, c.allowed) {
				got = append(got, v.File+" "+v.Rule)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("left %q, want %q", got, c.want)
			}
		})
	}
}

// TestTableIsWhole checks the table itself: no package twice, and every name in it is a package of the table, so that a
// misspelt arrow cannot stand for a forbidden one.
func TestTableIsWhole(t *testing.T) {
	known := map[string]bool{}
	for _, a := range Arrows {
		if known[a.Package] {
			t.Errorf("%s is listed twice", a.Package)
		}
		known[a.Package] = true
		if !a.All && a.Remedy == "" {
			t.Errorf("%s has no remedy", a.Package)
		}
	}
	for _, a := range Arrows {
		for _, to := range slices.Concat(a.May, a.Tests) {
			if !known[to] {
				t.Errorf("%s may import %s, which is not in the table", a.Package, to)
			}
			if _, never := forbidden(a.Package, to); never {
				t.Errorf("%s may import %s, which Never forbids", a.Package, to)
			}
		}
	}
}

func forbidden(from, to string) (string, bool) {
	for _, n := range Never {
		if underAny(from, n.From) && underAny(to, n.To) {
			return n.Why, true
		}
	}
	return "", false
}
