package agent

import (
	"bytes"
	"slices"
	"strings"

	"autoheal.dev/autoheal/internal/signal"
)

// level is a severity, guessed from a line's own words.
type level int

const (
	levelDebug level = iota
	levelInfo
	levelWarn
	levelError
)

// said names a level that a line states; info is also what a line without one is taken for, and none is made up for it.
func (l level) said() string { return [...]string{"debug", "", "warn", "error"}[l] }

// parseLevel reads a level name; "" asks for all.
func parseLevel(s string) (level, bool) {
	switch strings.ToLower(s) {
	case "", "debug", "trace":
		return levelDebug, true
	case "info":
		return levelInfo, true
	case "warn", "warning":
		return levelWarn, true
	case "error":
		return levelError, true
	}
	return 0, false
}

// levelWords are looked for as whole words near the start of a line; the first one found decides. Lower-case "error"
// in running text is weaker than a level written as such, but a wrong "error" costs less than a missed one.
var levelWords = map[string]level{
	"fatal": levelError, "error": levelError, "critical": levelError, "crit": levelError, "panic": levelError,
	"traceback": levelError, "exception": levelError, "emerg": levelError, "alert": levelError, "err": levelError,
	"warn": levelWarn, "warning": levelWarn, "info": levelInfo, "notice": levelInfo, "debug": levelDebug, "trace": levelDebug,
}

// levelWindow is how much of a line is searched for its level.
const levelWindow = 160

// guessLevel is info where the line says nothing.
func guessLevel(line []byte) level {
	head := line[:min(len(line), levelWindow)]
	if l, ok := glogLevel(head); ok {
		return l
	}
	for word := range bytes.FieldsFuncSeq(head, func(r rune) bool { return !isLetter(r) }) {
		if len(word) > 9 {
			if bytes.HasSuffix(word, []byte("Error")) || bytes.HasSuffix(word, []byte("Exception")) {
				return levelError // RuntimeError, OutOfMemoryError
			}
			continue
		}
		if l, ok := levelWords[strings.ToLower(string(word))]; ok {
			return l
		}
	}
	return levelInfo
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

// glogLevel knows E1123 21:08:44.123 and the like.
func glogLevel(line []byte) (level, bool) {
	if len(line) < 6 || line[5] != ' ' {
		return 0, false
	}
	for _, c := range line[1:5] {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	switch line[0] {
	case 'E', 'F':
		return levelError, true
	case 'W':
		return levelWarn, true
	case 'I':
		return levelInfo, true
	}
	return 0, false
}

// query is what lines are searched by: one of its groups has to match.
type query []queryGroup

// queryGroup matches a line that contains all of its terms, in any case; or, where the terms together name a failure, a
// line that is recognised as that failure.
type queryGroup struct {
	terms   [][]byte
	failure string
}

// parseQuery understands words and "phrases", all of which must occur, and OR between groups of them. An empty query
// matches everything. Words without quotes that name a failure, such as Xid error, mean the recognised lines.
func parseQuery(q string) query {
	var out query
	var g queryGroup
	var plain []string
	end := func() {
		if name := strings.Join(plain, " "); len(plain) == len(g.terms) && signal.NamesFailure(name) {
			g.failure = name
		}
		out, g, plain = append(out, g), queryGroup{}, nil
	}
	for _, term := range queryTerms(q) {
		if term == "OR" {
			end()
			continue
		}
		bare := strings.ToLower(strings.Trim(term, `"`))
		if bare == "" {
			continue
		}
		g.terms = append(g.terms, []byte(bare))
		if term[0] != '"' {
			plain = append(plain, bare)
		}
	}
	end()
	return out
}

func (q query) matches(line []byte, words []string) bool {
	lower := bytes.ToLower(line)
	for _, g := range q {
		if g.failure != "" {
			if slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, g.failure) }) {
				return true
			}
			continue
		}
		if containsAll(lower, g.terms) {
			return true
		}
	}
	return false
}

// queryTerms splits at blanks outside quotes; the quotes stay, so that "OR" can be searched for.
func queryTerms(q string) []string {
	quoted := false
	return strings.FieldsFunc(q, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t')
	})
}

func containsAll(line []byte, terms [][]byte) bool {
	for _, t := range terms {
		if !bytes.Contains(line, t) {
			return false
		}
	}
	return true
}
