package heal

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rules that node_offline and crash_loop rest on, and where else than in a transcript one of them is tested.
var rules = []struct{ rule, elsewhere string }{
	{"A2", ""},
	{"A3", ""},
	{"A4", ""},
	{"A5", ""},
	{"A6", ""},
	{"B1", ""},
	{"B2", ""},
	{"B3", ""},
	{"B4", ""},
	{"B6", ""},
	{"C1", ""},
	{"C2", ""},
	{"C3", ""},
	{"C4", ""},
	{"C5", ""},
	{"D0", ""},
	{"D1", ""},
	{"D2", ""},
	{"D3", ""},
	{"D4", ""},
	{"D5", ""},
	{"D6", ""},
	{"D7", ""},
	{"E3", ""},
	{"E5", ""},
	{"E8", ""},
	{"F1", ""},
	{"F2", ""},
	{"F3", ""},
	{"F4", "what is collected belongs to the agent: internal/agent"},
	{"F5", ""},
	{"G1", "the journal fails in the shell, not in the core: TestJournalUnwritable"},
	{"H1", ""},
}

var ruleName = regexp.MustCompile(`\b[A-H][0-9]h?\b`)

// TestRules fails for a rule that no transcript names in its prose, and for one that docs/behaviour.md does not have.
func TestRules(t *testing.T) {
	told := map[string]bool{}
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		for line := range strings.SplitSeq(readText(t, f), "\n") {
			if !strings.HasPrefix(line, "#") {
				continue
			}
			for _, r := range ruleName.FindAllString(line, -1) {
				told[r] = true
			}
		}
	}
	behaviour := readText(t, "../../docs/behaviour.md")
	for _, r := range rules {
		if !strings.Contains(behaviour, "**"+r.rule+". ") && !strings.Contains(behaviour, "**"+r.rule+".**") {
			t.Errorf("docs/behaviour.md has no rule %s", r.rule)
		}
		if !told[r.rule] && r.elsewhere == "" {
			t.Errorf("no transcript names rule %s in its prose", r.rule)
		}
	}
	for r := range told {
		if !strings.Contains(behaviour, "**"+r+".") && !slices.ContainsFunc(strings.Split(behaviour, "\n"), func(l string) bool { return strings.HasPrefix(l, "**"+r+" ") }) {
			t.Errorf("a transcript names rule %s, which docs/behaviour.md does not have", r)
		}
	}
}

func readText(t *testing.T, file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
