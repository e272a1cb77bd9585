package heal

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
)

// elsewhere are rules whose decision is not made in the core: FILE:TEST shows each.
var elsewhere = map[string]string{
	"A1":  "../policy/decide_test.go:TestClassify",
	"G1":  "blocked_test.go:TestJournalUnwritable",
	"G2":  "watchdog_test.go:TestWatchdog",
	"G3":  "../archtest/archtest_test.go:TestRepository", // no package that decides may import what sees the host
	"F6":  "../tool/golden_test.go:TestSecretsInErrors",
	"E10": "../policy/decide_test.go:TestLadders",
}

// notBuilt are rules that nothing here can show yet, with the reason. One with a kind is due when that kind is detected; any
// other when a transcript is named after it.
var notBuilt = map[string]struct {
	kind autoheal.FailureKind
	why  string
}{
	"B8": {why: "no driver declares that it can replace a node"},
	"H2": {why: "the index of logs is no part of the core"},
}

var (
	ruleHead = regexp.MustCompile(`(?m)^\*\*([A-H][0-9]+h?)[. ]`)
	ruleName = regexp.MustCompile(`\b[A-H][0-9]+h?\b`)
	ruleFile = regexp.MustCompile(`^([A-H][0-9]+h?)_`)
)

// TestRules: each rule of docs/behaviour.md has a transcript that is named after it, or a test elsewhere, or a reason why
// not, and none of these is out of date.
func TestRules(t *testing.T) {
	known := map[string]bool{}
	for _, m := range ruleHead.FindAllStringSubmatch(readText(t, "../../docs/behaviour.md"), -1) {
		known[m[1]] = true
	}
	if len(known) < 40 {
		t.Fatalf("docs/behaviour.md has %d rules: they are not found any more", len(known))
	}
	named := transcribed(t, known)
	for _, rule := range sortedKeys(known) {
		_, isElsewhere := elsewhere[rule]
		_, isNotBuilt := notBuilt[rule]
		switch {
		case named[rule] && (isElsewhere || isNotBuilt):
			t.Errorf("rule %s has a transcript now: take it off the list", rule)
		case isElsewhere && isNotBuilt:
			t.Errorf("rule %s is shown elsewhere and not built: which?", rule)
		case !named[rule] && !isElsewhere && !isNotBuilt:
			t.Errorf("no transcript is named after rule %s: add testdata/transcripts/%s_….txt", rule, rule)
		}
	}
	checkElsewhere(t, known)
	checkNotBuilt(t, known)
}

// transcribed returns the rules that a transcript is named after, and holds that each tells of it in its prose.
func transcribed(t *testing.T, known map[string]bool) map[string]bool {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	named := map[string]bool{}
	for _, f := range files {
		var told []string
		for line := range strings.SplitSeq(readText(t, f), "\n") {
			if strings.HasPrefix(line, "#") {
				told = append(told, ruleName.FindAllString(line, -1)...)
			}
		}
		for _, rule := range told {
			if !known[rule] {
				t.Errorf("%s names rule %s, which docs/behaviour.md does not have", f, rule)
			}
		}
		if m := ruleFile.FindStringSubmatch(filepath.Base(f)); m != nil {
			named[m[1]] = true
			if !slices.Contains(told, m[1]) {
				t.Errorf("%s is named after rule %s and does not speak of it", f, m[1])
			}
		}
	}
	return named
}

func checkElsewhere(t *testing.T, known map[string]bool) {
	for _, rule := range sortedKeys(elsewhere) {
		file, test, _ := strings.Cut(elsewhere[rule], ":")
		if !known[rule] {
			t.Errorf("rule %s is not in docs/behaviour.md", rule)
		}
		if !strings.Contains(readText(t, file), "\nfunc "+test+"(") {
			t.Errorf("rule %s is to be shown by %s, which %s does not have", rule, test, file)
		}
	}
}

func checkNotBuilt(t *testing.T, known map[string]bool) {
	for _, rule := range sortedKeys(notBuilt) {
		n := notBuilt[rule]
		if !known[rule] || n.why == "" {
			t.Errorf("rule %s: not in docs/behaviour.md, or without a reason", rule)
		}
		if n.kind != "" && slices.ContainsFunc(detect.All(), func(d detect.Detector) bool { return d.Kind() == n.kind }) {
			t.Errorf("rule %s: %s is detected now, so it needs a transcript", rule, n.kind)
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
