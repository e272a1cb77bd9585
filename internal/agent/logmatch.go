package agent

import (
	"bytes"
	"strings"
)

// level is a severity, guessed from a line's own words.
type level int

const (
	levelDebug level = iota
	levelInfo
	levelWarn
	levelError
)

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

// parseQuery understands words and "phrases", all of which must occur in any case, and OR between groups of them. An
// empty query matches everything.
func parseQuery(q string) func([]byte) bool {
	groups := [][][]byte{nil}
	for _, term := range queryTerms(q) {
		if term == "OR" {
			groups = append(groups, nil)
			continue
		}
		term = strings.ToLower(strings.Trim(term, `"`))
		if term != "" {
			groups[len(groups)-1] = append(groups[len(groups)-1], []byte(term))
		}
	}
	return func(line []byte) bool {
		lower := bytes.ToLower(line)
		for _, g := range groups {
			if containsAll(lower, g) {
				return true
			}
		}
		return false
	}
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
