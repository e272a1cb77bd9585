package heal

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
)

// TestGoldenPostMortem plays testdata/postmortem/*.txt, commands as in a transcript, and compares the post-mortem of the
// incident that a file's first line names ("# inc-000001") with the .md beside it, and what people were told with the
// .alerts. Each kind that is detected has one (behaviour F3); a name may go on after the kind, as in node_offline_domain.txt.
func TestGoldenPostMortem(t *testing.T) {
	files, err := filepath.Glob("testdata/postmortem/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	told := map[autoheal.FailureKind]bool{}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		t.Run(name, func(t *testing.T) {
			i, alerts := play(t, f)
			told[i.Kind] = true
			if !strings.HasPrefix(name, string(i.Kind)) {
				t.Errorf("%s is about a %s", f, i.Kind)
			}
			golden(t, strings.TrimSuffix(f, ".txt")+".md", postMortem(i))
			golden(t, strings.TrimSuffix(f, ".txt")+".alerts", alerts)
		})
	}
	for _, d := range detect.All() {
		if !told[d.Kind()] {
			t.Errorf("%s is detected: add testdata/postmortem/%s.txt", d.Kind(), d.Kind())
		}
	}
}

// golden compares a text with a file, or writes it with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := readText(t, file); got != want {
		t.Errorf("%s is not what is written now; -update rewrites it.\n%s", file, firstDiff(want, got))
	}
}

// play runs the commands of a scenario and returns the incident that its first line names, and its alerts.
func play(t *testing.T, file string) (*incident, string) {
	t.Helper()
	lines := strings.Split(readText(t, file), "\n")
	w := newWorld(t)
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			w.do(line)
		}
	}
	id := autoheal.IncidentID(strings.Trim(strings.Fields(lines[0] + " ? ?")[1], ":"))
	i := w.core.d.Incidents[id]
	if i == nil {
		t.Fatalf("%s: no incident %s; there are %v", file, id, w.core.d.incidentIDs())
	}
	var alerts strings.Builder
	for _, a := range w.core.d.find.alertsOf[id] {
		fmt.Fprintf(&alerts, "%s %s %s: %s\n", a.FiredAt.UTC().Format("15:04:05.000"), a.Severity, a.Name, a.Message)
	}
	return i, alerts.String()
}

// names are what differs from one incident to the next: two sentences that are alike but for them are one sentence.
var names = regexp.MustCompile(`\b(wl-[a-z0-9]+|n[0-9]+|inc-[0-9]+|app-[0-9]+|GPU-[-a-z0-9]+|rack/r[0-9]+|gang [a-z]+|node [a-z0-9]+)\b|[0-9][0-9:.]*m?s?\b`)

// TestNoSentenceFitsTwoKinds: no sentence of one kind, of the table and of the golden post-mortems, stands with another
// (behaviour F3).
func TestNoSentenceFitsTwoKinds(t *testing.T) {
	of := map[string]autoheal.FailureKind{}
	say := func(kind autoheal.FailureKind, sentence string) {
		if sentence = strings.TrimSpace(names.ReplaceAllString(sentence, "X")); sentence == "" || sentence == "X" {
			return
		}
		if other, said := of[sentence]; said && other != kind {
			t.Errorf("%q fits %s and %s", sentence, other, kind)
		}
		of[sentence] = kind
	}
	for _, kind := range autoheal.FailureKinds() {
		for _, subject := range []autoheal.RefKind{autoheal.RefNode, autoheal.RefDomain, autoheal.RefCluster, autoheal.RefWorkload, autoheal.RefGang, autoheal.RefGPU, autoheal.RefImage} {
			i := &incident{Kind: kind, Subject: autoheal.Ref{Kind: subject, ID: "n1"}, Phase: autoheal.Escalated}
			w := wordsOf(i)
			for _, s := range []string{happened(i), w.work, w.idle, w.persists, w.passed, w.often, w.again, w.fine, w.watch, w.deal, w.purpose, w.look, w.retry} {
				if s == "" {
					t.Errorf("%s lacks a sentence", kind)
				}
				say(kind, s)
			}
			for _, s := range w.steps(i) {
				say(kind, s.Do)
			}
		}
	}
	files, _ := filepath.Glob("testdata/postmortem/*.txt")
	for _, f := range files {
		i, _ := play(t, f)
		a := account(i)
		for _, text := range append([]string{a.Summary, a.Nature}, recommend(i)...) {
			for s := range strings.SplitSeq(text, ". ") {
				say(i.Kind, s)
			}
		}
	}
	if len(of) < 13*len(autoheal.FailureKinds()) {
		t.Errorf("only %d sentences were compared", len(of))
	}
}

// TestPostMortemIsInert: whatever a log, a driver or a person writes ends up as text, never as Markdown or HTML.
func TestPostMortemIsInert(t *testing.T) {
	hostile := []string{
		"<script>alert(1)</script>", "![x](http://evil/y.png)", "[click](javascript:1)", "`` ` ``` code", "a | b | c", "line\n# heading\n\n- item",
		"see http://evil.example and www.evil.example", "\x1b[31mred\x07", "\u202egpj.exe", "*bold* _it_ ~~x~~", "&lt;b&gt;", `back\slash \| bar`, "`", "a`", "| x", `\`,
	}
	for _, h := range hostile {
		i := hostileIncident(h)
		for line := range strings.SplitSeq(postMortem(i), "\n") {
			rest := outsideCode(line)
			if strings.ContainsAny(rest, "<`[]~&\\\x1b\x07\u202e") || strings.Contains(rest, "://") || strings.Contains(rest, "www.") || strings.Contains(rest, "*bold") {
				t.Errorf("%q reaches the page:\n%s", h, line)
			}
			if n := strings.Count(line, "|"); strings.HasPrefix(line, "| inc-000001/1 ") && n != 8 {
				t.Errorf("%q breaks the table:\n%s", h, line)
			}
			if strings.HasPrefix(line, "# heading") || strings.HasPrefix(line, "- item") {
				t.Errorf("%q begins a block", h)
			}
		}
	}
}

func hostileIncident(h string) *incident {
	a := &action{Action: autoheal.Action{ID: "inc-000001/1", Verb: autoheal.Stop, Target: autoheal.Ref{Kind: autoheal.RefWorkload, ID: h}, Actor: h}, Outcome: autoheal.OutcomeNotSent, Detail: h}
	return &incident{
		ID: "inc-000001", Kind: autoheal.CrashLoop, Phase: autoheal.Escalated, Subject: autoheal.Ref{Kind: autoheal.RefWorkload, ID: h}, Cause: "exit code 1: " + h,
		Because: h, Evidence: []autoheal.Signal{{Rule: h, Source: h, Subject: autoheal.Ref{Kind: autoheal.RefNode, ID: h}, Excerpt: h}}, EvidenceN: 1, Actions: []*action{a},
		Timeline: []autoheal.Moment{{Type: "command", Text: h}}, Holds: []autoheal.Hold{{Target: autoheal.Ref{ID: h}, Verb: h, Gate: h, Detail: h}},
		Held: &autoheal.Held{Reason: autoheal.ReasonFenceUnproven, Detail: h, On: h}, Recoveries: map[autoheal.WorkloadID]*recovery{},
	}
}

// outsideCode returns a line without its code spans: a span ends at a run of as many backticks as began it.
func outsideCode(line string) string {
	var out strings.Builder
	for {
		at := strings.IndexByte(line, '`')
		if at < 0 {
			return out.String() + line
		}
		out.WriteString(line[:at])
		line = line[at:]
		fence := line[:len(line)-len(strings.TrimLeft(line, "`"))]
		end := slices.IndexFunc(backticks(line[len(fence):]), func(r [2]int) bool { return r[1] == len(fence) })
		if end < 0 {
			return out.String() + line // no span at all: what follows is read as Markdown
		}
		line = line[len(fence)+backticks(line[len(fence):])[end][0]+len(fence):]
	}
}

// backticks lists the runs of backticks: where, and how many.
func backticks(s string) [][2]int {
	var runs [][2]int
	for n := 0; n < len(s); n++ {
		if s[n] != '`' {
			continue
		}
		at := n
		for n < len(s) && s[n] == '`' {
			n++
		}
		runs = append(runs, [2]int{at, n - at})
	}
	return runs
}
