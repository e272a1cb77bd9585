package heal

import (
	"strconv"
	"strings"
	"unicode"
)

// This file lets no text that came from a log, a driver or a person act as Markdown or HTML: what is not plain words stands
// in a code span, in which nothing has a meaning.

// oneLine makes any white space a blank.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// plain reports whether a text can stand in a paragraph as it is: it holds no character with a meaning for Markdown or
// HTML, and nothing that a reader's program would make a link of.
func plain(s string) bool {
	if strings.Contains(s, "://") || strings.Contains(strings.ToLower(s), "www.") {
		return false
	}
	for n, r := range s {
		switch {
		case r == '_': // inside a word it is a letter
			if n == 0 || n == len(s)-1 || !wordByte(s[n-1]) || !wordByte(s[n+1]) {
				return false
			}
		case r < unicode.MaxASCII && wordByte(byte(r)):
		case n == 0 && r != '"' && r != '(': // it could begin a block
			return false
		case !strings.ContainsRune(" .,:;'\"()/=+%?->×…", r):
			return false
		}
	}
	return true
}

func wordByte(ch byte) bool {
	return ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9'
}

// said puts a text that may quote strangers into a paragraph.
func said(s string) string {
	if s = oneLine(s); plain(s) {
		return s
	}
	return code(s)
}

// cell is said for a table, in which a bar would end the cell even within code.
func cell(s string) string {
	if s = oneLine(s); s == "" {
		return "-"
	}
	return strings.ReplaceAll(said(s), "|", "¦")
}

// code puts a text into a code span: its fence is longer than any run of backticks within, and what cannot be seen is
// written out.
func code(s string) string {
	s = visible(oneLine(s))
	if s == "" {
		return ""
	}
	longest, run := 0, 0
	for _, r := range s {
		if run++; r != '`' {
			run = 0
		}
		longest = max(longest, run)
	}
	fence, pad := strings.Repeat("`", longest+1), ""
	if s[0] == '`' || s[len(s)-1] == '`' {
		pad = " "
	}
	return fence + pad + s + pad + fence
}

// visible writes out control characters, marks that reorder text, and all else that cannot be seen.
func visible(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRune(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}
